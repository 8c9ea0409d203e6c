"""One memory budget shared out among networks: the point of each frontier that is best for all together.

Exact to the byte: the frontiers are merged one after the other, and of the combinations only those are kept
that no other beats in both memory and value. Where a budget is given, combinations that cannot become better
than a plan already known are left out as well (the bound is that of the frontiers' convex hulls).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from .frontier import Frontier, Point
from .memory import DoesNotFitError
from .transforms import PICO

Array = np.ndarray[Any, Any]
Objective = Literal["sum", "weighted", "deadline"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
MOST_COMBINATIONS = 4_000_000
"""Kept at a time while frontiers are merged."""
_BLOCK = 1 << 21


class PartitionError(ValueError):
    """What is to be partitioned cannot be; the message says why."""


@dataclass(frozen=True)
class Goal:
    """What a partition minimises.

    ``sum`` of the networks' times; ``weighted`` sum, with the ``weights`` by network name (those not named
    weigh 1); ``deadline``: the largest time / deadline, with ``deadlines_s`` for every network.
    """

    objective: str = "sum"
    weights: Mapping[str, float] = field(default_factory=dict)
    deadlines_s: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise PartitionError(f"objective is {self.objective!r}, allowed: {', '.join(OBJECTIVES)}")
        for name, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise PartitionError(f"weights: {name} has {weight}, must be a finite number of at least 0")
        for name, deadline_s in self.deadlines_s.items():
            if not (math.isfinite(deadline_s) and deadline_s > 0):
                raise PartitionError(f"deadlines_s: {name} has {deadline_s} s, must be a number above 0")

    @property
    def worst(self) -> bool:
        """Whether the worst network decides, not the sum."""
        return self.objective == "deadline"

    def factor(self, network: str) -> float:
        """What a network's time is multiplied by. Raises ``PartitionError`` where a deadline is missing."""
        if self.objective == "sum":
            return 1.0
        if self.objective == "weighted":
            return self.weights.get(network, 1.0)
        if network not in self.deadlines_s:
            raise PartitionError(
                f"deadlines_s: {network!r} has none; given: {', '.join(self.deadlines_s) or 'none'}"
            )
        return 1 / self.deadlines_s[network]

    def value(self, networks: Sequence[str], times_s: Sequence[float]) -> float:
        """What is minimised, for given times."""
        values = [time_s * self.factor(name) for name, time_s in zip(networks, times_s, strict=True)]
        return (max(values) if self.worst else math.fsum(values)) if values else 0.0


@dataclass(frozen=True)
class Partition:
    """A point for every network."""

    networks: tuple[str, ...]
    indices: tuple[int, ...]
    """Per network the index of its point on its frontier."""
    points: tuple[Point, ...]
    memory_bytes: int
    """All networks together."""
    value: float
    """What the goal minimises: seconds, weighted seconds, or the largest time / deadline."""

    @property
    def budgets(self) -> dict[str, int]:
        """Bytes for each network."""
        return {name: point.memory_bytes for name, point in zip(self.networks, self.points, strict=True)}


def partition(frontiers: Sequence[Frontier], budget_bytes: int, goal: Goal | None = None) -> Partition:
    """The best point of each network within the budget together; of equal values the least memory.

    Raises ``DoesNotFitError`` with the least demand where not even the smallest points fit, and
    ``PartitionError``.
    """
    goal = goal or Goal()
    demand = sum(frontier.points[0].memory_bytes for frontier in frontiers)
    if demand > budget_bytes:
        raise DoesNotFitError(" + ".join(frontier.network for frontier in frontiers), demand, budget_bytes)
    merged = _merge(frontiers, goal, budget_bytes)
    return picked(frontiers, goal, merged.picks(len(merged.memory_bytes) - 1))


def partition_frontier(
    frontiers: Sequence[Frontier], goal: Goal | None = None, *, at_most_bytes: int | None = None
) -> tuple[Partition, ...]:
    """The whole trade-off: every partition worth having, ascending in memory and descending in value."""
    goal = goal or Goal()
    merged = _merge(frontiers, goal, None)
    found = [picked(frontiers, goal, merged.picks(at)) for at in range(len(merged.memory_bytes))]
    return tuple(p for p in found if at_most_bytes is None or p.memory_bytes <= at_most_bytes)


def picked(frontiers: Sequence[Frontier], goal: Goal, indices: Sequence[int]) -> Partition:
    """The partition of these points, one index for each frontier."""
    networks = tuple(frontier.network for frontier in frontiers)
    points = tuple(frontier.points[at] for frontier, at in zip(frontiers, indices, strict=True))
    value = goal.value(networks, [point.time_s for point in points])
    memory = sum(point.memory_bytes for point in points)
    return Partition(networks, tuple(indices), points, memory, value)


@dataclass(frozen=True)
class _Merged:
    """Combinations of some networks that none beats: ascending in memory, strictly descending in value."""

    memory_bytes: Array
    values: Array
    steps: tuple[tuple[Array, Array], ...] = ()
    """For every network the position before it was added, and its own index."""

    def picks(self, at: int) -> tuple[int, ...]:
        """The networks' indices of one combination."""
        found = []
        for before, own in reversed(self.steps):
            found.append(int(own[at]))
            at = int(before[at])
        return tuple(reversed(found))


def _merge(frontiers: Sequence[Frontier], goal: Goal, budget_bytes: int | None) -> _Merged:
    tables = [_table(frontier, goal) for frontier in frontiers]
    rest = _Rest(tables, goal, budget_bytes)
    merged = _Merged(np.zeros(1, np.int64), np.zeros(1))
    for at, (memory, values) in enumerate(tables):
        merged = _add(merged, memory, values, goal, rest, at + 1)
        if len(merged.memory_bytes) > MOST_COMBINATIONS:
            raise PartitionError(
                f"more than {MOST_COMBINATIONS} combinations of {at + 1} networks are worth having; give a "
                f"budget, or frontiers of fewer points"
            )
    return merged


def _table(frontier: Frontier, goal: Goal) -> tuple[Array, Array]:
    """Memory and value of the points that are worth having: times in picoseconds, so that sums are exact."""
    memory = np.array([point.memory_bytes for point in frontier.points], np.int64)
    times = np.array([round(point.time_s * PICO) for point in frontier.points], float)
    return memory, times * goal.factor(frontier.network)


def _add(merged: _Merged, memory: Array, values: Array, goal: Goal, rest: _Rest, done: int) -> _Merged:
    kept: tuple[Array, Array, Array, Array] | None = None
    rows = max(1, _BLOCK // len(memory))
    for start in range(0, len(merged.memory_bytes), rows):
        block = slice(start, start + rows)
        total = np.add.outer(merged.memory_bytes[block], memory).ravel()
        join = np.maximum if goal.worst else np.add
        value = join.outer(merged.values[block], values).ravel()
        before, own = np.divmod(np.arange(len(total)), len(memory))
        new = (total, value, before + start, own)
        promising = rest.promising(total, value, done)
        new = tuple(each[promising] for each in new)  # type: ignore[assignment]
        if kept is not None:
            new = tuple(np.concatenate(pair) for pair in zip(kept, new, strict=True))  # type: ignore[assignment]
        order = np.lexsort((new[1], new[0]))
        ascending = new[1][order]
        falls = ascending < np.minimum.accumulate(np.concatenate([[np.inf], ascending[:-1]]))
        kept = tuple(each[order[falls]] for each in new)  # type: ignore[assignment]
    assert kept is not None
    return _Merged(kept[0], kept[1], (*merged.steps, (kept[2], kept[3])))


class _Rest:
    """What the networks that are not merged yet can still do at best, for leaving out what is hopeless."""

    def __init__(self, tables: Sequence[tuple[Array, Array]], goal: Goal, budget_bytes: int | None) -> None:
        self.budget, self.worst = budget_bytes, goal.worst
        if budget_bytes is None:
            return
        self._bounds = [_hull(tables[at:], self.worst) for at in range(len(tables) + 1)]
        self._known = _known(tables, budget_bytes, self.worst)

    def promising(self, memory: Array, values: Array, done: int) -> Array:
        """Which combinations of the first ``done`` networks fit and may still be as good as the known one."""
        if self.budget is None:
            return np.ones(len(memory), bool)
        at, least = self._bounds[done]
        room = self.budget - memory
        fits = room >= at[0]
        best = np.maximum(values, least[-1]) if self.worst else values + np.interp(room, at, least)
        result: Array = fits & (best <= self._known * (1 + 1e-9))
        return result


def _hull(tables: Sequence[tuple[Array, Array]], worst: bool) -> tuple[Array, Array]:
    """A lower bound of the value by the memory of these networks, as the corners of a polygon."""
    memory, value = float(sum(m[0] for m, _ in tables)), float(sum(v[0] for _, v in tables))
    if worst:
        return np.array([memory]), np.array([max((float(v[-1]) for _, v in tables), default=0.0)])
    sides = sorted((side for table in tables for side in _sides(*table)), key=lambda s: s[1] / s[0])
    corners = np.cumsum([(memory, value), *sides], axis=0)
    return corners[:, 0], corners[:, 1]


def _sides(memory: Array, values: Array) -> list[tuple[float, float]]:
    """The sides of the lower convex hull of a frontier: more memory, (negative) more value."""
    hull: list[int] = []
    for at in range(len(memory)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (values[b] - values[a]) * (memory[at] - memory[a]) < (values[at] - values[a]) * (
                memory[b] - memory[a]
            ):
                break
            hull.pop()
        hull.append(at)
    return [
        (float(memory[b] - memory[a]), float(values[b] - values[a]))
        for a, b in itertools.pairwise(hull)
        if values[b] < values[a]
    ]


def _known(tables: Sequence[tuple[Array, Array]], budget_bytes: int, worst: bool) -> float:
    """The value of some combination that fits: step by step the largest saving for each byte."""
    indices = greedy([m.tolist() for m, _ in tables], [v.tolist() for _, v in tables], budget_bytes)
    values = [v[at] for (_, v), at in zip(tables, indices, strict=True)]
    return float(max(values, default=0.0) if worst else sum(values))


def greedy(
    memory_bytes: Sequence[Sequence[int]], values: Sequence[Sequence[float]], budget_bytes: int
) -> list[int]:
    """The index of each network's point: from the smallest on, again and again the step (to any larger point
    of any network) that fits and saves most for each byte."""
    indices = [0] * len(memory_bytes)
    room = budget_bytes - sum(int(own[0]) for own in memory_bytes)
    while True:
        best = (0.0, 0, 0)
        for n, (memory, value) in enumerate(zip(memory_bytes, values, strict=True)):
            at = indices[n]
            for to in range(at + 1, len(memory)):
                step = int(memory[to] - memory[at])
                if step > room:
                    break
                slope = (value[at] - value[to]) / step
                if slope > best[0]:
                    best = (slope, n, to)
        if not best[0]:
            return indices
        _, n, to = best
        room -= int(memory_bytes[n][to] - memory_bytes[n][indices[n]])
        indices[n] = to
