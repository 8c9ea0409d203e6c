"""A simulation and its replay in one figure each: distributions, timelines, the layers that differ most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .distributions import response_cdfs
from .style import TWO_COLUMNS_IN, legend, looks, new_figure, shortened, styled, time_unit
from .timeline import natural, timeline

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ..comparing.errors import TaskError

RUNS = ("simulated", "replayed")
MOST_TASKS = 120
"""Tasks of one run in a window: among more of them single ones are not seen."""
MOST_REQUESTS = 3
MOST_LAYERS = 15


def compared_cdfs(simulated_s: ArrayLike, replayed_s: ArrayLike) -> Figure:
    """Distributions of both runs' response times (seconds, nan: unfinished) with their means.

    Raises ValueError for a run in which nothing was finished.
    """
    runs = dict(zip(RUNS, (simulated_s, replayed_s), strict=True))
    return response_cdfs(runs, means=True)


def compared_timelines(
    simulated: pd.DataFrame,
    replayed: pd.DataFrame,
    arrivals_s: ArrayLike,
    *,
    window_s: tuple[float, float] | None = None,
) -> Figure:
    """Both runs' timelines one above the other, from tables as ``tables.tasks`` gives them.

    ``arrivals_s`` are the replay's. ``window_s`` None: the first requests, so that tasks can be told apart.
    Raises ValueError where a run has no task.
    """
    import pandas as pd

    runs = dict(zip(RUNS, (simulated, replayed), strict=True))
    if window_s is None:
        window_s = first_requests(list(runs.values()))
    lanes, parts = [], []
    for name, tasks in runs.items():
        workers = sorted(set(tasks["worker"]), key=natural)
        lanes += [f"{name} {worker}" for worker in workers]
        parts.append(tasks.assign(worker=f"{name} " + tasks["worker"]))
    figure = timeline(pd.concat(parts), arrivals_s, workers=lanes, window_s=window_s)
    # The border between the two runs.
    above = len(set(simulated["worker"]))
    figure.axes[0].axhline(above - 0.5, color="black", linewidth=0.6)
    return figure


def first_requests(runs: Sequence[pd.DataFrame]) -> tuple[float, float]:
    """A window over the first few requests, up to ``MOST_TASKS`` tasks of each run. Raises ValueError."""
    if any(tasks.empty for tasks in runs):
        raise ValueError("compared_timelines: a run has no tasks")
    begin_s = min(float(tasks["start_s"].min()) for tasks in runs)
    ends_s = []
    for tasks in runs:
        few = tasks[tasks["request"] < tasks["request"].min() + MOST_REQUESTS]
        ends_s.append(float(np.sort(few["end_s"])[:MOST_TASKS].max()))
    return begin_s, max(*ends_s, begin_s + 1e-9)


@styled
def layer_bars(tasks: Sequence[TaskError]) -> Figure:
    """Mean durations of the tasks that contribute most to the difference, largest contribution on top.

    ``tasks`` are in that order (``Comparison.tasks``). Raises ValueError for none.
    """
    if not tasks:
        raise ValueError("layer_bars: no tasks")
    shown = tasks[:MOST_LAYERS]
    unit, unit_name = time_unit(max(max(task.simulated_s, task.replayed_mean_s) for task in shown))
    figure = new_figure(TWO_COLUMNS_IN, 0.6 + 0.24 * len(shown))
    axes = figure.subplots()
    place = np.arange(len(shown))
    values = ([task.simulated_s for task in shown], [task.replayed_mean_s for task in shown])
    handles: list[Any] = []
    for offset, seconds, look in zip((-0.2, 0.2), values, looks(RUNS).values(), strict=True):
        handles.append(axes.barh(place + offset, np.array(seconds) / unit, 0.38, color=look.color))
    for row, task in enumerate(shown):
        longest = max(task.simulated_s, task.replayed_mean_s) / unit
        text = f"{task.seconds_per_request / unit:+.3g}".replace("-", "\N{MINUS SIGN}")
        axes.annotate(text, (longest, row), xytext=(3, 0), textcoords="offset points", va="center")
    labels = [" ".join(part for part in (task.network, task.kind, task.layer) if part) for task in shown]
    axes.set_yticks(place, shortened(labels, 40))
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(0, 1.1 * max(map(max, values)) / unit or 1)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"mean duration; at the bars: simulated minus replayed per request ({unit_name})")
    legend(figure, handles, RUNS)
    return figure
