"""Response time against load: one line per policy, one panel per memory limit and arrival process."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import (
    GREY,
    ONE_COLUMN_IN,
    TWO_COLUMNS_IN,
    Look,
    bytes_label,
    legend,
    literal,
    log_ticks,
    looks,
    new_figure,
    shorten,
    styled,
    time_unit,
)

MARKS = {"out of memory": "x", "failed": "+", "incomplete": "|"}
"""How a point without a value is marked, by the reason given for it; any other reason by a bar across."""
MARK_ROW = 0.075
"""Height that a series' marks take at the top of a panel, as a share of it."""
MOST_MARKS = 0.35
"""All series' marks together take no more."""
GAPS: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)))
"""Lines of the first, second, ... series: through the gaps of each one sees those under it."""

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled
def response_curves(
    points: pd.DataFrame,
    *,
    x: str = "rate_per_s",
    y: str = "mean_s",
    lo: str | None = "lo_s",
    hi: str | None = "hi_s",
    series: str = "policy",
    panel_row: str | None = "memory_limit_bytes",
    panel_col: str | None = "arrivals",
    saturated: str | None = "saturated",
    unusable: str | None = None,
    x_label: str = "arrival rate (requests/s)",
    y_label: str = "mean response time",
    log_y: bool = True,
    order: Sequence[str] | None = None,
    labels: Mapping[Any, str] | None = None,
) -> Figure:
    """Lines with confidence bands over ``x``, from a tidy table of one row per point.

    ``x``, ``y``, ``lo``, ``hi``, ``series``, ``panel_row``, ``panel_col``, ``saturated`` and ``unusable``
    name columns; those that may be None are left out then. A ``y`` ending in ``_s`` is seconds, shown in a
    fitting unit; a panel column ending in ``_bytes`` is labelled as a size (nan: no limit). A saturated point
    is open and stands for a response time that grows as long as the run lasts. Bands are drawn where both
    bounds are there. A row without ``y`` is marked at the top of its panel where ``unusable`` holds the
    reason (see ``MARKS``), else left out. Lines have gaps and later markers are smaller, so that of equal
    series each is seen. ``order`` fixes the order of the series, hence their looks (default: first
    appearance); ``labels`` gives series other names in the legend. All panels share both axes. Raises
    ValueError for missing columns, no points, and values that a logarithm cannot show.
    """
    used = [n for n in (x, y, lo, hi, series, panel_row, panel_col, saturated, unusable) if n is not None]
    missing = [name for name in used if name not in points.columns]
    if missing:
        raise ValueError(f"points has no column {', '.join(missing)}; it has {', '.join(points.columns)}")
    has_value = np.isfinite(points[y].to_numpy(dtype=float))
    if not has_value.any():
        raise ValueError(f"no point has a finite {y}")
    lost = points[~has_value & points[unusable].notna().to_numpy()] if unusable is not None else points[:0]
    shown_points = points[has_value | points.index.isin(lost.index)]
    points = points[has_value]
    values = points[y].to_numpy(dtype=float)
    if log_y and values.min() <= 0:
        raise ValueError(f"{y} has {values.min():g}; a logarithmic axis needs positive values")
    names = list(dict.fromkeys([*(order or ()), *shown_points[series]]))
    names = [name for name in names if (shown_points[series] == name).any()]
    look = looks([*(order or ()), *names])
    styles = {name: _style(each, place, len(look)) for place, (name, each) in enumerate(look.items())}
    rows, columns = _levels(shown_points, panel_row), _levels(shown_points, panel_col)
    unit, unit_name = time_unit(float(np.median(values))) if y.endswith("_s") else (1.0, "")

    wide = len(columns) > 1
    width = TWO_COLUMNS_IN if wide else ONE_COLUMN_IN
    height = 0.55 + len(rows) * (1.45 if wide else 1.75 if len(rows) > 1 else 2.1)
    figure = new_figure(width, height)
    grid = figure.subplots(len(rows), len(columns), sharex=True, sharey=True, squeeze=False)
    marked = [name for name in names if (lost[series] == name).any()]
    step = min(MARK_ROW, MOST_MARKS / len(marked)) if marked else 0.0
    for r, row in enumerate(rows):
        for c, column in enumerate(columns):
            axes = grid[r][c]
            here = _select(_select(points, panel_row, row), panel_col, column)
            if log_y:
                axes.set_yscale("log")
            gone = _select(_select(lost, panel_row, row), panel_col, column)
            if here.empty and gone.empty:
                where = {"transform": axes.transAxes, "ha": "center", "va": "center"}
                axes.text(0.5, 0.5, "no points", **where, color=GREY)
            for name in names:
                mine = here[here[series] == name].sort_values(x, kind="stable")
                if not mine.empty:
                    _line(axes, mine, styles[name], x, (y, lo, hi), saturated, unit, log_y)
            for place, name in enumerate(marked):
                mine = gone[gone[series] == name]
                height = 1 - (place + 0.6) * step
                for reason, part in mine.groupby(unusable, sort=False):
                    _marks(axes, part[x].to_numpy(dtype=float), height, str(reason), look[name].color)
            if r == 0 and panel_col is not None:
                axes.set_title(_panel_label(panel_col, column, 26 if len(columns) > 2 else 40))
            if c == len(columns) - 1 and panel_row is not None:
                axes.annotate(
                    _panel_label(panel_row, row, 22),
                    (1.0, 0.5),
                    xytext=(4, 0),
                    xycoords="axes fraction",
                    textcoords="offset points",
                    rotation=270,
                    ha="left",
                    va="center",
                )
    _limits(grid[0][0], values / unit, shown_points[x].to_numpy(dtype=float), log_y, step * len(marked))
    y_label = f"{y_label} ({unit_name})" if unit_name else y_label
    for axes in grid[-1]:
        axes.set_xlabel(textwrap.fill(x_label, 30 if wide else 45))
    for axes in grid[:, 0]:
        axes.set_ylabel(textwrap.fill(y_label, 14 if len(rows) > 1 else 30))
    shown = [str((labels or {}).get(name, name)) for name in names]
    from matplotlib.lines import Line2D

    marks = [Line2D([], [], **styles[name]) for name in names]
    if saturated is not None and points[saturated].astype(bool).any():
        marks.append(_grey("o", markerfacecolor="white"))
        shown.append("saturated")
    for reason in dict.fromkeys(lost[unusable] if unusable is not None else ()):
        marks.append(_grey(MARKS.get(reason, "_"), markersize=5))
        shown.append(str(reason))
    legend(figure, marks, shown)
    return figure


def _style(look: Look, place: int, count: int) -> dict[str, Any]:
    """Line and markers of the series drawn at that place among ``count``."""
    return {
        "color": look.color,
        "marker": look.marker,
        "markersize": 3.4 + 3.0 * (count - 1 - place) / max(count, 4),
        "linestyle": GAPS[place % len(GAPS)],
    }


def _grey(marker: str, **style: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=GREY, marker=marker, linestyle="", **style)


def _marks(axes: Axes, at: Any, height: float, reason: str, color: str) -> None:
    """Points of one series without a value, at a share of the panel's height."""
    axes.plot(
        at,
        np.full(len(at), height),
        transform=axes.get_xaxis_transform(),
        marker=MARKS.get(reason, "_"),
        markersize=4.5,
        markeredgewidth=1.3,
        linestyle="",
        color=color,
    )


def _line(
    axes: Axes,
    points: pd.DataFrame,
    style: dict[str, Any],
    x: str,
    columns: tuple[str, str | None, str | None],
    saturated: str | None,
    unit: float,
    log_y: bool,
) -> None:
    """One series in one panel."""
    y, lo, hi = columns
    at = points[x].to_numpy(dtype=float)
    value = points[y].to_numpy(dtype=float) / unit
    axes.plot(at, value, color=style["color"], linestyle=style["linestyle"])
    if lo is not None and hi is not None:
        low, high = points[lo].to_numpy(dtype=float) / unit, points[hi].to_numpy(dtype=float) / unit
        bounded = np.isfinite(low) & np.isfinite(high)
        if log_y:
            low = np.maximum(low, value / 100)
        axes.fill_between(at, low, high, where=bounded, color=style["color"], alpha=0.18, linewidth=0)
    full = np.ones(len(at), dtype=bool)
    if saturated is not None:
        full = ~points[saturated].to_numpy(dtype=bool)
    marker = {**style, "linestyle": ""}
    axes.plot(at[full], value[full], **marker)
    axes.plot(at[~full], value[~full], **marker, markerfacecolor="white")


def _levels(points: pd.DataFrame, column: str | None) -> list[Any]:
    """Numbers in order (nan, no limit, last); names in order of appearance."""
    if column is None:
        return [None]
    found = list(points[column].drop_duplicates())
    if points[column].dtype.kind in "iuf":
        return sorted(found, key=lambda level: (level != level, level))
    return found


def _select(points: pd.DataFrame, column: str | None, level: Any) -> pd.DataFrame:
    if column is None:
        return points
    return points[points[column].isna() if level != level else points[column] == level]


def _panel_label(column: str, level: Any, length: int) -> str:
    is_size = column.endswith("_bytes") and not isinstance(level, str)
    return literal(shorten(bytes_label(float(level)) if is_size else str(level), length))


def _limits(axes: Axes, value: Any, at: Any, log_y: bool, head: float) -> None:
    """Limits from the points, not from their bands, which may reach far at heavy load.

    The share ``head`` of the height is left free above them.
    """
    low, high = float(value.min()), float(value.max())
    if log_y:
        low, high = low / 1.25, high * 1.25
        high = low * (high / low) ** (1 / (1 - head))
        axes.set_ylim(low, high)
        log_ticks(axes.yaxis, low, high)
    else:
        axes.set_ylim(0, (high * 1.08 or 1) / (1 - head))
    margin = 0.04 * (at.max() - at.min()) or 0.05 * abs(at.max()) or 1
    axes.set_xlim(at.min() - margin, at.max() + margin)
