"""Memory over time: bytes in use as steps (on swap or not), the limit, and the peak."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .style import GREY, TWO_COLUMNS_IN, bytes_label, bytes_unit, legend, looks, new_figure, styled, time_unit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

DENSE = 1000
"""Steps; with more of them the line is drawn thin."""
MOST_STEPS = 4000
"""Steps drawn; beyond, each bin of time shows its largest and smallest value, so no peak is lost."""


@styled
def memory_over_time(
    runs: Mapping[str, pd.DataFrame],
    *,
    limit_bytes: int | None = None,
    window_s: tuple[float, float] | None = None,
) -> Figure:
    """Resident bytes of one or several runs, the limit as a dashed line, each run's peak marked.

    ``runs`` maps a name to a table as ``tables.memory`` gives it: ``time_s`` not decreasing, and
    ``resident_bytes`` from then on. ``window_s`` shows a part; the peak is then that of the part. Raises
    ValueError for no run, an empty table, or a window that is empty or holds nothing.
    """
    if not runs:
        raise ValueError("memory_over_time: no runs")
    if window_s is not None and not window_s[0] < window_s[1]:
        raise ValueError(f"memory_over_time: window_s is {window_s}; it must begin before it ends")
    steps = {name: _window(name, table, window_s) for name, table in runs.items()}
    begin_s = min(time[0] for time, _ in steps.values())
    end_s = max(time[-1] for time, _ in steps.values())
    top = max(level.max() for _, level in steps.values())
    unit, unit_name = time_unit(end_s)
    size, size_name = bytes_unit(max(top, limit_bytes or 0), limit_bytes)

    from matplotlib.lines import Line2D

    figure = new_figure(TWO_COLUMNS_IN, 2.1)
    axes = figure.subplots()
    handles, labels = [], []
    for (name, (time, level)), look in zip(steps.items(), looks(steps).values(), strict=True):
        drawn = _thin(time, level)
        alone = len(steps) == 1
        line = 0.8 if len(drawn[0]) <= DENSE else 0.3
        at, height = drawn[0] / unit, drawn[1] / size
        axes.step(at, height, where="post", color=look.color, linestyle=look.linestyle, linewidth=line)
        if alone:
            axes.fill_between(at, height, step="post", color=look.color, alpha=0.15, linewidth=0)
        peak = int(np.argmax(level))
        axes.plot(
            [time[peak] / unit],
            [level[peak] / size],
            marker=look.marker,
            color=look.color,
            linestyle="",
            markeredgecolor="white",
            markeredgewidth=0.6,
            markersize=5.5,
            clip_on=False,
            zorder=3,
        )
        handles.append(
            Line2D([], [], color=look.color, linestyle=look.linestyle, marker=look.marker, linewidth=0.8)
        )
        labels.append(f"{name}, peak {level[peak] / size:.4g} {size_name}")
    if limit_bytes is not None:
        handles.append(axes.axhline(limit_bytes / size, color=GREY, linewidth=1, linestyle=(0, (4, 2))))
        labels.append(f"limit {bytes_label(limit_bytes)}")
    span = (end_s - begin_s) / unit
    axes.set_xlim(begin_s / unit, end_s / unit + (0 if span else 1))
    axes.set_ylim(0, 1.08 * max(top, limit_bytes or 0) / size or 1)
    axes.set_xlabel(f"time ({unit_name})")
    axes.set_ylabel(f"memory in use ({size_name})")
    legend(figure, handles, labels)
    return figure


def _window(
    name: str, table: pd.DataFrame, window_s: tuple[float, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """The steps inside the window, with the level at its begin and end."""
    time = table["time_s"].to_numpy(dtype=np.float64)
    level = table["resident_bytes"].to_numpy(dtype=np.float64)
    if not len(time):
        raise ValueError(f"memory_over_time: run {name!r} has no rows")
    if window_s is None:
        return time, level
    first = np.searchsorted(time, window_s[0], side="right")
    last = np.searchsorted(time, window_s[1], side="left")
    if last == 0:
        raise ValueError(f"memory_over_time: run {name!r} begins at {time[0]:g} s, after the window")
    inside, held = time[first:last], level[first:last]
    if first:
        inside, held = np.concatenate(([window_s[0]], inside)), np.concatenate(([level[first - 1]], held))
    return np.concatenate((inside, [window_s[1]])), np.concatenate((held, [held[-1]]))


def _thin(time: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most about ``MOST_STEPS`` steps: of each bin of time its first, lowest, highest and last."""
    if len(time) <= MOST_STEPS:
        return time, level
    edges = np.linspace(time[0], time[-1], MOST_STEPS // 4 + 1)[1:-1]
    starts = np.unique(np.concatenate(([0], np.searchsorted(time, edges))))
    starts = starts[starts < len(time)]
    ends = np.append(starts[1:], len(time))
    keep = [starts, ends - 1]
    bins = np.repeat(np.arange(len(starts)), ends - starts)
    by_level = np.lexsort((level, bins))
    keep += [by_level[starts], by_level[ends - 1]]
    index = np.unique(np.concatenate(keep))
    return time[index], level[index]
