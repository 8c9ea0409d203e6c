"""The exact trade-off of a network: for every memory the fastest choice of primitives, layouts included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...devices.options import NetworkOptions
from .elimination import TooWideError
from .labels import MOST_PAIRS, LabelSearch, TooManyError, falls
from .memory import DoesNotFitError, Memory
from .milp import Programme
from .pricing import Pricer
from .problem import Found, Problem, problem
from .search import Search
from .transforms import NoPlanError, PlanningError

PEAKS: frozenset[Memory] = frozenset({"peak-workspace", "peak-live"})
"""Definitions by which memory is the largest of the layers' peaks; by the others something adds up."""
FEW_PAIRS = MOST_PAIRS // 10
"""Of labels, for a single budget, before HiGHS takes over."""


@dataclass(frozen=True, slots=True)
class Point:
    """One plan that no other beats in both memory and time."""

    memory_bytes: int
    time_s: float
    choice: tuple[int, ...]
    """For each layer the index of its option."""


@dataclass(frozen=True)
class Frontier:
    """All plans of a network worth having, ascending in memory and strictly descending in time."""

    network: str
    memory: Memory
    points: tuple[Point, ...]

    def best(self, budget_bytes: int) -> Point:
        """The fastest plan within the budget. Raises ``DoesNotFitError``."""
        fitting = [point for point in self.points if point.memory_bytes <= budget_bytes]
        if not fitting:
            raise DoesNotFitError(
                f"{self.network} ({self.memory})", self.points[0].memory_bytes, budget_bytes
            )
        return fitting[-1]

    def within(self, share: float) -> Point:
        """The least memory whose time is at most 1 + ``share`` times the fastest."""
        allowed_s = (1 + share) * self.points[-1].time_s
        return next(point for point in self.points if point.time_s <= allowed_s)

    @property
    def knee(self) -> Point:
        """The point furthest below the straight line between the two ends, both axes scaled to 0..1.

        The line is x + y = 1, so it is the point of the least x + y; on a tie (two points only) the one of
        less memory.
        """
        first, last = self.points[0], self.points[-1]
        width = (last.memory_bytes - first.memory_bytes) or 1
        height = (first.time_s - last.time_s) or 1.0
        return min(
            self.points,
            key=lambda p: (p.memory_bytes - first.memory_bytes) / width + (p.time_s - last.time_s) / height,
        )


def frontier(options: NetworkOptions, memory: Memory, *, at_most_bytes: int | None = None) -> Frontier:
    """Every plan of the network worth having, as far as its memory is at most ``at_most_bytes``.

    Exact: found by tables for every bound at once (``peak-workspace``, ``peak-live``) or by sets of labels
    (``total``, ``no-reuse``); where too many layouts hang together, by HiGHS, budget after budget. Raises
    ``NoPlanError`` where layouts cannot be connected, ``DoesNotFitError`` with the least demand where nothing
    fits, and ``PlanningError`` where the frontier is too large.
    """
    stated = problem(options, memory)
    try:
        found = _peaks(stated, at_most_bytes) if memory in PEAKS else _sums(stated, at_most_bytes)
    except TooWideError:
        found = Programme(stated).sweep(at_most_bytes)
    except TooManyError as error:
        raise PlanningError(str(error)) from None
    if not found:
        raise _nothing_fits(stated, at_most_bytes)
    return Frontier(options.network.name, memory, _priced(stated, found))


def solve(options: NetworkOptions, memory: Memory, budget_bytes: int) -> Point:
    """The fastest plan within one budget, and of those the one of least memory.

    As ``frontier(...).best(...)`` without the rest of the frontier: also for networks whose frontier is too
    large. Raises as that does.
    """
    stated = problem(options, memory)
    try:
        found = _fastest(stated, budget_bytes) if memory in PEAKS else _sums(stated, budget_bytes, FEW_PAIRS)
    except (TooWideError, TooManyError):
        found = [Programme(stated).best(budget_bytes)]
    if not found:
        raise _nothing_fits(stated, budget_bytes)
    return _priced(stated, found[-1:])[-1]


def _peaks(stated: Problem, at_most_bytes: int | None) -> list[Found]:
    search = Search(stated)
    return search.staircase(search.bounds(at_most_bytes))


def _fastest(stated: Problem, budget_bytes: int) -> list[Found]:
    """The last point of the staircase alone: the least bound at which the time is that of the budget."""
    search = Search(stated)
    bounds = search.bounds(budget_bytes)
    if not len(bounds):
        return []
    best = search.costs(bounds[-1:])[0]
    low, high = 0, len(bounds) - 1
    while low < high:
        trial = np.unique(np.linspace(low, high, 18).astype(int)[1:-1])
        good = search.costs(bounds[trial]) == best
        first = int(good.argmax()) if good.any() else len(trial)
        low, high = (
            int(trial[first - 1]) + 1 if first else low,
            int(trial[first]) if first < len(trial) else high,
        )
    return search.staircase(bounds[low : low + 1])


def _sums(stated: Problem, at_most_bytes: int | None, most_pairs: int = MOST_PAIRS) -> list[Found]:
    search = LabelSearch(stated, at_most_bytes, most_pairs)
    labels = search.labels
    if labels is None:
        return []
    memory = labels.added_bytes + labels.peak_bytes
    order = np.lexsort((labels.time_ps, memory))
    if at_most_bytes is not None:
        order = order[memory[order] <= at_most_bytes]
    rows = order[falls(labels.time_ps[order])]
    return list(map(Found, memory[rows].tolist(), labels.time_ps[rows].tolist(), search.choices(rows)))


def _priced(stated: Problem, found: Sequence[Found]) -> tuple[Point, ...]:
    """The plans at the prices that pricing says. Raises ``RuntimeError`` where a search counted otherwise."""
    pricer = Pricer(stated.options)
    points = []
    for memory_bytes, time_ps, choice in found:
        own = pricer.price(choice)
        priced = own.memory_bytes(stated.memory), own.time_ps
        if priced != (memory_bytes, time_ps):
            raise RuntimeError(
                f"{stated.options.network.name} ({stated.memory}), {choice}: the search counted "
                f"{memory_bytes} bytes and {time_ps} ps, pricing {priced[0]} and {priced[1]}"
            )
        points.append(Point(memory_bytes, own.time_s, choice))
    return tuple(points)


def _nothing_fits(stated: Problem, at_most_bytes: int | None) -> ValueError:
    """The error for a problem without a plan: which of both it is."""
    name = stated.options.network.name
    demand = None if at_most_bytes is None else least_bytes(stated.options, stated.memory)
    if demand is None or at_most_bytes is None:
        return NoPlanError(f"{name}: no choice of primitives can be connected by transforms")
    return DoesNotFitError(f"{name} ({stated.memory})", demand, at_most_bytes)


def least_bytes(options: NetworkOptions, memory: Memory) -> int | None:
    """The least memory that any plan has; None where no choice of primitives can be connected."""
    stated = problem(options, memory)
    try:
        search = Search(stated)
    except TooWideError:
        smallest = Programme(stated).smallest()
        return None if smallest is None else smallest.memory_bytes
    bounds = search.bounds()
    added = search.costs(bounds, cost=lambda label: label.added_bytes, transforms=False)
    demand = float((added + bounds).min())
    return None if demand == np.inf else int(demand)
