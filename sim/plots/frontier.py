"""Time against memory: all plans of a network worth having, and which primitives some of them use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .style import (
    COLOURS,
    GREY,
    LETTER_IN,
    TWO_COLUMNS_IN,
    bytes_label,
    legend,
    literal,
    log_ticks,
    new_figure,
    shorten,
    styled,
    time_unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAMILIES: Mapping[str, tuple[str, str]] = {
    "direct": ("direct", "#BDBDBD"),
    "depthwise": ("depthwise", "#7D7D7D"),
    "kn2": ("kn2", "#009E73"),
    "mec": ("MEC", "#8FD3BC"),
    "strip": ("strips", "#A9D6F5"),
    "im2row": ("im2row", "#56B4E9"),
    "im2col": ("im2col", "#0072B2"),
    "conv1x1": ("1x1 product", "#CC79A7"),
    "winograd1d": ("Winograd 1D", "#F2C14E"),
    "winograd2d": ("Winograd 2D", "#D55E00"),
    "fft": ("FFT", "#5B3A8C"),
}
"""Label and colour of each family of primitives; kin have kindred colours. Others follow in grey."""
OTHER = ("other", "#E8E8E8")
DARK = frozenset({"depthwise", "kn2", "im2col", "winograd2d", "fft"})
"""Families on whose colour text is white."""
WIDE = 4.0
"""A span of times or bytes beyond this ratio is shown on a logarithmic axis."""
LETTERED = 18
"""With more convolutions than this the cells have no room for names."""
ROW_IN = 0.3
LABELS_IN = 1.0
"""Width that is left of the axes."""
MARK = "black"
"""The marked plan: no family's colour."""
CROWDED = 40
"""More points than this are drawn smaller."""


@dataclass(frozen=True, slots=True)
class PlottedPlan:
    """One plan: bytes, seconds, and for every convolution the family and a short name of its primitive."""

    memory_bytes: int
    time_s: float
    families: tuple[str, ...]
    names: tuple[str, ...]


@styled
def time_against_memory(
    plans: Sequence[PlottedPlan],
    layers: Sequence[str],
    *,
    chosen: int,
    chosen_label: str = "knee",
    memory_label: str = "memory",
    budget_bytes: int | None = None,
    title: str | None = None,
) -> Figure:
    """Plans as a staircase of points, and below it the primitives of the least, the chosen and the fastest.

    ``plans`` come with ascending memory and descending time; ``layers`` names the convolutions in order. The
    plan at index ``chosen`` is marked and called ``chosen_label``; a budget is a dashed line. Zero bytes have
    a place of their own at the left of a logarithmic axis. Raises ValueError for no plans, an index that is
    none, and plans that do not have one primitive for each layer.
    """
    if not plans or not 0 <= chosen < len(plans):
        raise ValueError(f"time_against_memory: plan {chosen} of {len(plans)} cannot be marked")
    if any(len(plan.families) != len(layers) or len(plan.names) != len(layers) for plan in plans):
        raise ValueError(f"time_against_memory: each plan needs a primitive for each of {len(layers)} layers")
    shown = _shown(plans, chosen, chosen_label)
    strip_in = 0.3 + ROW_IN * len(shown) if layers else 0.0
    figure = new_figure(TWO_COLUMNS_IN, 2.6 + strip_in)
    if layers:
        upper, lower = figure.subplots(2, 1, height_ratios=(2.6, strip_in))
        _strips(lower, [(label, plans[at]) for label, at in shown], layers, plans[chosen])
    else:
        upper = figure.subplots()
    if title:
        above = 6 if budget_bytes is None else 16  # the budget's label comes between
        upper.set_title(literal(title), loc="left", fontweight="bold", pad=above)
    _staircase(upper, plans, chosen, chosen_label, memory_label, budget_bytes)
    if layers:
        _families(figure, [plans[at] for _, at in shown])
    return figure


def _shown(plans: Sequence[PlottedPlan], chosen: int, label: str) -> list[tuple[str, int]]:
    """The plans whose primitives are shown, fastest first: label and index, each plan once."""
    found: dict[int, str] = {len(plans) - 1: "fastest", chosen: label, 0: "least memory"}
    found[chosen] = label
    return [(found[at], at) for at in sorted(found, reverse=True)]


# -- the staircase ----------------------------------------------------------------------------------------


def _staircase(
    axes: Axes,
    plans: Sequence[PlottedPlan],
    chosen: int,
    chosen_label: str,
    memory_label: str,
    budget_bytes: int | None,
) -> None:
    slowest, fastest = plans[0].time_s, plans[-1].time_s
    unit, unit_name = time_unit(slowest)
    memory: list[float] = [plan.memory_bytes for plan in plans]
    times = [plan.time_s / unit for plan in plans]
    right = _memory_axis(axes, [*memory, *([] if budget_bytes is None else [budget_bytes])])
    bottom = _time_axis(axes, fastest / unit, slowest / unit)
    steps = ([*memory, right], [*times, times[-1]])
    axes.fill_between(*steps, bottom, step="post", color=COLOURS[0], alpha=0.07, linewidth=0)
    axes.step(*steps, where="post", color=COLOURS[0], linewidth=1.1, zorder=2)
    axes.plot(
        memory,
        times,
        marker="o",
        linestyle="",
        color=COLOURS[0],
        markersize=4.5 if len(plans) <= CROWDED else 3,
        markeredgecolor="white",
        markeredgewidth=0.5 if len(plans) <= CROWDED else 0.2,
        clip_on=False,
        zorder=3,
    )
    if budget_bytes is not None:
        axes.axvline(budget_bytes, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
        axes.annotate(
            f"budget {bytes_label(budget_bytes)}",
            (budget_bytes, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=GREY,
        )
    axes.plot(
        [memory[chosen]],
        [times[chosen]],
        marker="o",
        color=MARK,
        markersize=8,
        markeredgecolor="white",
        markeredgewidth=0.8,
        linestyle="",
        clip_on=False,
        zorder=4,
    )
    axes.set_xlabel(memory_label)
    axes.set_ylabel(f"time of one inference ({unit_name})")
    _name(axes, plans[chosen], chosen_label, unit)


def _name(axes: Axes, plan: PlottedPlan, label: str, unit: float) -> None:
    """Name the marked plan where the staircase cannot be: below it on its left, or above it on its right."""
    text = f"{label}: {_amounts(plan)}"
    place = (plan.memory_bytes, plan.time_s / unit)
    at = axes.transAxes.inverted().transform(axes.transData.transform(place))
    left = at[0] < len(text) * LETTER_IN / (TWO_COLUMNS_IN - LABELS_IN)
    name = axes.annotate(
        text,
        place,
        xytext=(7, 5) if left else (-7, -5),
        textcoords="offset points",
        ha="left" if left else "right",
        va="bottom" if left else "top",
        color=MARK,
        fontweight="bold",
        zorder=5,
    )
    name.set_in_layout(False)
    if left:  # a budget's line may run through it
        name.set_bbox({"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 1})


def _amounts(plan: PlottedPlan) -> str:
    """1.78 MB, 44.3 ms."""
    unit, unit_name = time_unit(plan.time_s)
    return f"{_size(plan.memory_bytes)}, {_digits(plan.time_s / unit)} {unit_name}"


def _digits(value: float) -> str:
    """Three significant digits, all of those before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def _size(count: float) -> str:
    """Three digits in decimal units: 1.78 MB."""
    for power, name in ((9, "GB"), (6, "MB"), (3, "kB")):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {name}"
    return f"{count:.0f} B"


def _time_axis(axes: Axes, fastest: float, slowest: float) -> float:
    """Set the axis of times, logarithmic where they span much; its lower end."""
    if fastest > 0 and slowest / fastest > WIDE:
        axes.set_yscale("log")
        limits = (fastest / 1.6, slowest * 1.5)
        log_ticks(axes.yaxis, *limits)
    else:
        limits = (0.0, slowest * 1.2 or 1.0)
    axes.set_ylim(limits)
    return limits[0]


def _memory_axis(axes: Axes, memory: Sequence[float]) -> float:
    """Set the axis of bytes; its right end.

    Logarithmic where the bytes span much; zero then stands apart, left of a break.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

    positive = [count for count in memory if count > 0]
    largest, smallest = max(positive, default=1), min(positive, default=1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _size(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    if largest / smallest <= WIDE and (len(positive) == len(memory) or len(positive) < 2):
        room = (largest - min(memory)) * 0.06 or largest * 0.06
        limits = (max(0.0, min(memory) - room), largest + room)
        axes.set_xlim(limits)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        return limits[1]
    decades = math.log10(largest / smallest)
    first = 10.0 ** math.floor(math.log10(smallest))
    right = largest * 10 ** (0.04 * (decades + 1))
    ticks = [
        factor * 10.0**power
        for power in range(round(math.log10(first)), math.ceil(math.log10(right)) + 1)
        for factor in ((1,) if decades > 3 else (1, 3) if decades > 1.5 else (1, 2, 5))
    ]
    if len(positive) < len(memory):
        start = max(tick for tick in [first, *ticks] if tick <= smallest)
        axes.set_xscale("symlog", linthresh=start, linscale=0.12 * decades + 0.25)
        axes.set_xlim(-0.12 * start, right)
        ticks = [0.0, *(tick for tick in ticks if start <= tick <= right)]
        _break(axes, start)
    else:
        left = smallest / 10 ** (0.05 * (decades + 1))
        axes.set_xscale("log")
        axes.set_xlim(left, right)
        ticks = [tick for tick in ticks if left <= tick <= right]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _size(value)))
    return right


def _break(axes: Axes, start: float) -> None:
    """Two strokes across the axis between zero and where it becomes logarithmic."""
    from matplotlib.transforms import ScaledTranslation

    stroke: list[tuple[float, float]] = [(-0.5, -1.0), (0.5, 1.0)]
    for shift, colour, width in ((0.0, "white", 3.0), (-2.0, "black", 0.7), (2.0, "black", 0.7)):
        moved = ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
        axes.plot(
            [0.5 * start],
            [0],
            transform=axes.get_xaxis_transform() + moved,
            marker=stroke,
            markersize=7,
            markeredgewidth=width,
            color=colour,
            clip_on=False,
            zorder=6,
        )


# -- the primitives ---------------------------------------------------------------------------------------


def _strips(
    axes: Axes, shown: Sequence[tuple[str, PlottedPlan]], layers: Sequence[str], marked: PlottedPlan
) -> None:
    """One row of cells a plan, one cell a convolution."""
    from matplotlib.patches import Rectangle

    count = len(layers)
    gap = min(0.06, 0.004 * count)
    for row, (_, plan) in enumerate(shown):
        for at, (family, name) in enumerate(zip(plan.families, plan.names, strict=True)):
            colour = FAMILIES.get(family, OTHER)[1]
            axes.add_patch(
                Rectangle((at + gap / 2, row + 0.08), 1 - gap, 0.84, facecolor=colour, linewidth=0)
            )
            if count <= LETTERED:
                ink = "white" if family in DARK else "black"
                text = shorten(name, max(4, int(98 / count)))
                axes.text(at + 0.5, row + 0.5, literal(text), ha="center", va="center", color=ink, fontsize=7)
    axes.set_xlim(0, count)
    axes.set_ylim(len(shown), 0)
    axes.set_yticks([row + 0.5 for row in range(len(shown))], [""] * len(shown))
    for row, (label, plan) in enumerate(shown):
        beside: dict[str, Any] = {
            "xycoords": ("axes fraction", "data"),
            "ha": "right",
            "annotation_clip": False,
        }
        points: dict[str, Any] = {"textcoords": "offset points"}
        weight = "bold" if plan is marked else "normal"
        axes.annotate(
            label, (0, row + 0.5), xytext=(-5, 0.5), va="bottom", fontweight=weight, **points, **beside
        )
        axes.annotate(
            _amounts(plan),
            (0, row + 0.5),
            xytext=(-5, -0.5),
            va="top",
            color=GREY,
            fontsize=7,
            **points,
            **beside,
        )
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if count <= LETTERED:
        names = [literal(shorten(name, max(4, int(98 / count)))) for name in layers]
        axes.set_xticks([at + 0.5 for at in range(count)], names)
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"{count} convolutions, first to last")


def _families(figure: Figure, plans: Sequence[PlottedPlan]) -> None:
    from matplotlib.patches import Patch

    used = {family for plan in plans for family in plan.families}
    entries = [entry for family, entry in FAMILIES.items() if family in used]
    if not used <= set(FAMILIES):
        entries.append(OTHER)
    legend(figure, [Patch(facecolor=colour) for _, colour in entries], [label for label, _ in entries])
