"""Simpler ways to share a budget out, to be compared with the exact partition.

Each returns a ``Partition``, or None where it finds none that fits. None of them beats ``partition`` within
the same budget, except ``shared_arena`` and ``no_limit``, which keep another rule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from .frontier import Frontier
from .partition import Goal, Partition, greedy, picked


def equal_split(
    frontiers: Sequence[Frontier], budget_bytes: int, goal: Goal | None = None
) -> Partition | None:
    """Every network the same share."""
    return _shares(frontiers, [budget_bytes // len(frontiers)] * len(frontiers), goal)


def proportional_split(
    frontiers: Sequence[Frontier], budget_bytes: int, goal: Goal | None = None
) -> Partition | None:
    """Shares in proportion to what each network's fastest plan needs."""
    needs = [frontier.points[-1].memory_bytes for frontier in frontiers]
    whole = max(1, sum(needs))
    return _shares(frontiers, [budget_bytes * need // whole for need in needs], goal)


def greedy_slope(
    frontiers: Sequence[Frontier], budget_bytes: int, goal: Goal | None = None
) -> Partition | None:
    """From all minimum on, step by step the largest saving (as the goal weighs it) for each byte."""
    goal = goal or Goal()
    start = all_minimum(frontiers, budget_bytes, goal)
    if start is None:
        return None
    memory = [[point.memory_bytes for point in frontier.points] for frontier in frontiers]
    values = [
        [point.time_s * goal.factor(frontier.network) for point in frontier.points] for frontier in frontiers
    ]
    return picked(frontiers, goal, greedy(memory, values, budget_bytes))


def all_minimum(
    frontiers: Sequence[Frontier], budget_bytes: int, goal: Goal | None = None
) -> Partition | None:
    """Every network its plan of least memory."""
    found = picked(frontiers, goal or Goal(), [0] * len(frontiers))
    return found if found.memory_bytes <= budget_bytes else None


def shared_arena(
    frontiers: Sequence[Frontier], budget_bytes: int, goal: Goal | None = None
) -> Partition | None:
    """Every network may use the whole budget, because they run one after the other in one arena.

    ``memory_bytes`` is that of the largest. Where deadlines count, a network is done when those before it and
    itself are; earliest deadline first, which is the best order.
    """
    goal = goal or Goal()
    indices = [_index(frontier, budget_bytes) for frontier in frontiers]
    if None in indices:
        return None
    found = picked(frontiers, goal, [at for at in indices if at is not None])
    memory = max((point.memory_bytes for point in found.points), default=0)
    return dataclasses.replace(found, memory_bytes=memory, value=_serial_value(found, goal))


def no_limit(frontiers: Sequence[Frontier], budget_bytes: int, goal: Goal | None = None) -> Partition:
    """Every network its fastest plan, whatever it needs; ``budget_bytes`` is not looked at."""
    return picked(frontiers, goal or Goal(), [len(frontier.points) - 1 for frontier in frontiers])


BASELINES: Mapping[str, Callable[[Sequence[Frontier], int, Goal | None], Partition | None]] = {
    "equal split": equal_split,
    "proportional": proportional_split,
    "greedy slope": greedy_slope,
    "all minimum": all_minimum,
    "shared arena": shared_arena,
    "no limit": no_limit,
}


def _shares(frontiers: Sequence[Frontier], shares: Sequence[int], goal: Goal | None) -> Partition | None:
    indices = [_index(frontier, share) for frontier, share in zip(frontiers, shares, strict=True)]
    if None in indices:
        return None
    return picked(frontiers, goal or Goal(), [at for at in indices if at is not None])


def _index(frontier: Frontier, budget_bytes: int) -> int | None:
    """The fastest point within the budget."""
    fitting = sum(point.memory_bytes <= budget_bytes for point in frontier.points)
    return fitting - 1 if fitting else None


def _serial_value(found: Partition, goal: Goal) -> float:
    if goal.objective != "deadline":
        return found.value
    done_s, worst = 0.0, 0.0
    runs = zip(found.networks, found.points, strict=True)
    for network, point in sorted(runs, key=lambda run: goal.deadlines_s[run[0]]):
        done_s += point.time_s
        worst = max(worst, done_s / goal.deadlines_s[network])
    return worst
