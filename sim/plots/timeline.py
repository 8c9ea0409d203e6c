"""Who ran what when: a lane per worker, a colour per network, a texture per kind of task."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .style import TWO_COLUMNS_IN, legend, looks, new_figure, shortened, styled, time_unit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS: dict[str, tuple[float, str]] = {"init": (0.75, "...."), "load": (0.5, "/////"), "execute": (0.0, "")}
"""Per kind of task: how far its colour goes towards white, and its hatch."""
TICK: dict[str, Any] = {"marker": 7, "color": "black", "linestyle": "", "markersize": 4}
THIN_TICK: dict[str, Any] = {**TICK, "marker": "|", "markeredgewidth": 0.3}
MOST_TRIANGLES = 150
LANE = 0.8
MOST_OUTLINED = 400
"""Tasks; with more of them outlines and hatches would cover the colours and are left out."""


@styled
def timeline(
    tasks: pd.DataFrame,
    arrivals_s: ArrayLike | None = None,
    *,
    workers: Sequence[str] | None = None,
    window_s: tuple[float, float] | None = None,
    outlines: bool | None = None,
) -> Figure:
    """A Gantt chart of the tasks that overlap the window.

    ``tasks`` is a table as ``tables.tasks`` gives it (columns worker, network, kind, start_s, end_s);
    ``arrivals_s`` are the requests' arrivals, drawn as ticks above the lanes. ``workers`` fixes the lanes,
    first on top (default: by name, 2 before 10). ``outlines`` None: up to ``MOST_OUTLINED`` tasks in view
    are outlined and hatched. Raises ValueError for an empty window or table, a worker that is not among
    ``workers``, and an unknown kind.
    """
    if window_s is not None and not window_s[0] < window_s[1]:
        raise ValueError(f"timeline: window_s is {window_s}; it must begin before it ends")
    if tasks.empty:
        raise ValueError("timeline: no tasks")
    unknown = sorted(set(tasks["kind"]) - set(KINDS))
    if unknown:
        raise ValueError(f"timeline: kind {unknown[0]!r}; must be one of {', '.join(KINDS)}")
    lanes = list(workers) if workers is not None else sorted(set(tasks["worker"]), key=natural)
    strangers = sorted(set(tasks["worker"]) - set(lanes))
    if strangers:
        raise ValueError(f"timeline: worker {strangers[0]!r} is not among {', '.join(lanes)}")
    look = looks(sorted(set(tasks["network"]), key=natural))
    arrival = np.sort(np.asarray([] if arrivals_s is None else arrivals_s, dtype=np.float64))
    if window_s is None:
        begin_s = min([float(tasks["start_s"].min()), *arrival[:1]])
        window_s = (begin_s, max(float(tasks["end_s"].max()), begin_s + 1e-9))
    begin_s, end_s = window_s
    shown = tasks[(tasks["end_s"] > begin_s) & (tasks["start_s"] < end_s)]
    unit, unit_name = time_unit(end_s)
    outlines = len(shown) <= MOST_OUTLINED if outlines is None else outlines

    figure = new_figure(TWO_COLUMNS_IN, 0.65 + 0.34 * len(lanes))
    axes = figure.subplots()
    for (worker, network, kind), group in shown.groupby(["worker", "network", "kind"], sort=True):
        start = group["start_s"].to_numpy() / unit
        length = group["end_s"].to_numpy() / unit - start
        axes.broken_barh(
            list(zip(start, length, strict=True)),
            (lanes.index(worker) - LANE / 2, LANE),
            **_fill(look[network].color, str(kind), outlines),
        )
    inside = arrival[(arrival >= begin_s) & (arrival <= end_s)]
    if arrivals_s is not None:
        few = len(inside) <= MOST_TRIANGLES
        axes.plot(inside / unit, np.full(len(inside), -0.62), **(TICK if few else THIN_TICK), clip_on=False)
    _finish(axes, lanes, (begin_s / unit, end_s / unit), unit_name, arrivals_s is not None)
    _legend(figure, shown, look, outlines, arrivals_s is not None)
    return figure


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts worker 2 before worker 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _fill(color: str, kind: str, outlines: bool) -> dict[str, Any]:
    towards_white, hatch = KINDS[kind]
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    face = colorsys.hls_to_rgb(hue, light + (1 - light) * towards_white, saturation)
    if not outlines:
        return {"facecolor": face, "edgecolor": "none", "linewidth": 0}
    edge = color if towards_white else "white"
    return {"facecolor": face, "edgecolor": edge, "linewidth": 0.4, "hatch": hatch}


def _finish(
    axes: Axes, lanes: Sequence[str], window: tuple[float, float], unit_name: str, arrivals: bool
) -> None:
    axes.set_xlim(*window)
    axes.set_ylim(len(lanes) - 0.5, -0.85 if arrivals else -0.5)
    axes.set_yticks(range(len(lanes)), shortened(lanes, 24))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"time ({unit_name})")


def _legend(figure: Figure, tasks: pd.DataFrame, look: Any, outlines: bool, arrivals: bool) -> None:
    """Networks as colours, kinds as textures of grey, arrivals as their tick."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    here = set(tasks["network"])
    handles: list[Any] = [Patch(facecolor=look[name].color) for name in look if name in here]
    labels = shortened([name for name in look if name in here], 40)
    kinds = set(tasks["kind"])
    for kind in KINDS:
        if kind in kinds:
            handles.append(Patch(**_fill("#666666", kind, outlines)))
            labels.append(kind)
    if arrivals:
        handles.append(Line2D([], [], **TICK))
        labels.append("arrival")
    if handles:
        legend(figure, handles, labels)
