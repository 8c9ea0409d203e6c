"""Distributions of response times: the share of requests answered within a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from .style import GREY, ONE_COLUMN_IN, legend, log_ticks, looks, new_figure, styled, time_unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEFT_OUT = 0.005
"""Share of the shortest times that may lie left of a logarithmic axis."""
MEAN = (0, (1, 1))
"""Line of a mean."""
MOST_STEPS = 2000
"""Steps drawn per run; beyond, quantiles are drawn, which look the same and keep the PDF small."""


@styled
def response_cdfs(
    runs: Mapping[str, ArrayLike],
    *,
    percentiles: tuple[float, ...] = (0.5, 0.95),
    log_x: bool | None = None,
    means: bool = False,
    x_label: str = "response time",
) -> Figure:
    """Empirical distribution functions of several runs in one panel.

    ``runs`` maps a name to response times in seconds (one-dimensional, nan for unfinished: left out).
    ``percentiles`` are marked by lines across. ``log_x`` None: logarithmic where the times span more than a
    factor of 30. ``means`` draws a line at each mean. Raises ValueError for no run, a run without times, or
    negative times.
    """
    if not runs:
        raise ValueError("response_cdfs: no runs")
    columns = {}
    for name, times in runs.items():
        column = np.sort(np.asarray(times, dtype=np.float64))
        column = column[~np.isnan(column)]
        if not len(column):
            raise ValueError(f"response_cdfs: run {name!r} has no finished request")
        if column[0] < 0 or not np.isfinite(column[-1]):
            raise ValueError(f"response_cdfs: run {name!r} has {column[0]:g} to {column[-1]:g} s")
        columns[name] = column
    # A few lucky requests must not stretch the axis.
    lowest = min(float(np.quantile(column, LEFT_OUT, method="lower")) for column in columns.values())
    highest = max(column[-1] for column in columns.values())
    unit, unit_name = time_unit(float(np.median([np.quantile(column, 0.95) for column in columns.values()])))
    if log_x is None:
        log_x = all(column[0] > 0 for column in columns.values()) and highest > 30 * lowest
    elif log_x and min(column[0] for column in columns.values()) <= 0:
        raise ValueError("response_cdfs: a time of 0 s does not go on a logarithmic axis")

    from matplotlib.lines import Line2D

    figure = new_figure(ONE_COLUMN_IN, 2.3)
    axes = figure.subplots()
    handles = []
    # Later curves are thinner, so that of equal ones each is seen.
    widths = 1.0 + 0.2 * np.arange(len(columns))[::-1]
    for column, look, width in zip(columns.values(), looks(columns).values(), widths, strict=True):
        at, share = _steps(column)
        left = at[0] if log_x else 0.0
        right = highest
        axes.step(
            np.concatenate(([left], at, [right])) / unit,
            np.concatenate(([0.0], share, [1.0])),
            where="post",
            color=look.color,
            linestyle=look.linestyle,
            linewidth=width,
        )
        marks = np.array(percentiles)
        axes.plot(
            np.quantile(column, marks, method="inverted_cdf") / unit,
            marks,
            color=look.color,
            marker=look.marker,
            markersize=2.5 + 1.5 * width,
            linestyle="",
        )
        if means:
            axes.axvline(float(column.mean()) / unit, color=look.color, linestyle=MEAN, linewidth=0.9 * width)
        handles.append(Line2D([], [], color=look.color, linestyle=look.linestyle, marker=look.marker))
    for percentile in percentiles:
        axes.axhline(percentile, color=GREY, linewidth=0.6, linestyle=(0, (2, 2)), zorder=0.5)
        axes.annotate(
            f"p{100 * percentile:g}",
            (1.0, percentile),
            xycoords=("axes fraction", "data"),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            color=GREY,
        )
    low, high = lowest / unit, highest / unit
    if log_x:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.15, high * 1.15)
        log_ticks(axes.xaxis, low, high)
    else:
        axes.set_xlim(0, high * 1.04 or 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(f"{x_label} ({unit_name})")
    axes.set_ylabel("share of requests")
    labels = [str(name) for name in columns]
    if means:
        handles.append(Line2D([], [], color=GREY, linestyle=MEAN))
        labels.append("mean")
    legend(figure, handles, labels)
    return figure


def _steps(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the distribution function steps, and its value from there on."""
    if len(column) <= MOST_STEPS:
        return column, np.arange(1, len(column) + 1) / len(column)
    # Both ends are kept exactly: the tail is what percentiles are about.
    rank = np.unique(np.linspace(1, len(column), MOST_STEPS).round().astype(int))
    rank = np.union1d(rank, np.arange(len(column) - 50, len(column) + 1))
    return column[rank - 1], rank / len(column)
