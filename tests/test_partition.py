"""Partitions are exactly what enumeration finds, and no baseline beats them by the same rule."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_cases import random_frontier, unbeaten

from edgesched.policies.planning.baselines import BASELINES, greedy_slope, no_limit, shared_arena
from edgesched.policies.planning.frontier import Frontier, Point
from edgesched.policies.planning.memory import DoesNotFitError
from edgesched.policies.planning.partition import (
    OBJECTIVES,
    Goal,
    PartitionError,
    partition,
    partition_frontier,
    picked,
)

CASES = 150


def case(seed: int, objective: str) -> tuple[list[Frontier], Goal]:
    """Two to four networks and a goal; factors are powers of two, so that sums of floats are exact."""
    rng = random.Random(seed)
    fronts = [random_frontier(seed * 10 + at, f"net {at}") for at in range(rng.randint(2, 4))]
    names = [front.network for front in fronts]
    weights = {name: rng.choice((0.25, 1.0, 4.0)) for name in names[1:]}
    deadlines_s = {name: rng.choice((2.0**-20, 2.0**-18, 2.0**-17)) for name in names}
    return fronts, Goal(objective, weights, deadlines_s)


def every(fronts: list[Frontier], goal: Goal) -> list[tuple[int, float]]:
    """(bytes, value) of every unbeaten combination; values as the definitions say, in picoseconds."""
    pairs = []
    for points in itertools.product(*(front.points for front in fronts)):
        times = [round(point.time_s * 1e12) for point in points]
        names = [front.network for front in fronts]
        if goal.objective == "sum":
            value: float = sum(times)
        elif goal.objective == "weighted":
            value = sum(goal.weights.get(name, 1.0) * time for name, time in zip(names, times, strict=True))
        else:
            value = max(time / goal.deadlines_s[name] for name, time in zip(names, times, strict=True))
        pairs.append((sum(point.memory_bytes for point in points), value))
    return unbeaten(pairs)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_partitions_equal_enumeration(objective: str) -> None:
    for seed in range(CASES):
        fronts, goal = case(seed, objective)
        expected = every(fronts, goal)
        whole = partition_frontier(fronts, goal)
        assert [found.memory_bytes for found in whole] == [memory for memory, _ in expected]
        assert [found.value * 1e12 for found in whole] == pytest.approx([value for _, value in expected])
        least, most = expected[0][0], expected[-1][0]
        for budget in range(least, most + 3, 1 + (most - least) // 7):
            found = partition(fronts, budget, goal)
            memory, value = [pair for pair in expected if pair[0] <= budget][-1]
            assert found.memory_bytes == memory
            assert found.value * 1e12 == pytest.approx(value, rel=1e-12)
            assert found == picked(fronts, goal, found.indices)
            assert sum(found.budgets.values()) == memory
        with pytest.raises(DoesNotFitError) as caught:
            partition(fronts, least - 1, goal)
        assert (caught.value.demand_bytes, caught.value.budget_bytes) == (least, least - 1)


def test_the_trade_off_can_be_cut() -> None:
    fronts, goal = case(3, "sum")
    whole = partition_frontier(fronts, goal)
    limit = whole[len(whole) // 2].memory_bytes
    cut = partition_frontier(fronts, goal, at_most_bytes=limit)
    assert len(whole) > len(cut) > 0
    assert cut == tuple(found for found in whole if found.memory_bytes <= limit)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(OBJECTIVES), st.integers(0, 130))
def test_no_baseline_beats_the_exact_partition(seed: int, objective: str, budget: int) -> None:
    fronts, goal = case(seed, objective)
    try:
        exact = partition(fronts, budget, goal)
    except DoesNotFitError:
        for name in ("equal split", "proportional", "greedy slope", "all minimum"):
            assert BASELINES[name](fronts, budget, goal) is None
        return
    for name in ("equal split", "proportional", "greedy slope", "all minimum"):
        found = BASELINES[name](fronts, budget, goal)
        if found is not None:
            assert found.memory_bytes <= budget
            assert found.value >= exact.value * (1 - 1e-12)
    assert BASELINES["all minimum"](fronts, budget, goal) is not None
    greedily = greedy_slope(fronts, budget, goal)
    assert greedily is not None
    free = no_limit(fronts, budget, goal)
    assert free.value <= exact.value * (1 + 1e-12)
    together = shared_arena(fronts, budget, goal)
    assert together is not None
    assert together.memory_bytes == max(point.memory_bytes for point in together.points) <= budget
    assert all(point == front.best(budget) for point, front in zip(together.points, fronts, strict=True))
    if objective != "deadline":  # where networks wait for one another, deadlines may be worse
        assert free.value * (1 - 1e-12) <= together.value <= exact.value * (1 + 1e-12)


def front(name: str, *pairs: tuple[int, float]) -> Frontier:
    return Frontier(name, "peak-workspace", tuple(Point(m, t, (at,)) for at, (m, t) in enumerate(pairs)))


A = front("a", (0, 10.0), (10, 6.0))
B = front("b", (0, 10.0), (6, 8.0), (8, 7.5))


def test_baselines_by_hand() -> None:
    found = {name: rule([A, B], 16, None) for name, rule in BASELINES.items()}
    assert {name: own and own.indices for name, own in found.items()} == {
        "equal split": (0, 2),
        "proportional": (0, 1),  # 8 and 7 of 16: needs are 10 and 8
        "greedy slope": (1, 1),
        "all minimum": (0, 0),
        "shared arena": (1, 2),
        "no limit": (1, 2),
    }
    assert found["shared arena"] is not None
    assert (found["shared arena"].memory_bytes, found["shared arena"].value) == (10, 13.5)
    assert partition([A, B], 16).indices == (1, 1)


def test_greedy_is_not_exact() -> None:
    steep = front("steep", (0, 10.0), (1, 8.0))
    large = front("large", (0, 10.0), (10, 1.0))
    greedily = greedy_slope([steep, large], 10)
    assert greedily is not None
    assert (greedily.value, partition([steep, large], 10).value) == (18.0, 11.0)


def test_serial_runs_in_one_arena_wait_for_one_another() -> None:
    goal = Goal("deadline", deadlines_s={"a": 20.0, "b": 10.0})
    found = shared_arena([A, B], 100, goal)
    assert found is not None
    assert found.value == pytest.approx(max(7.5 / 10, (7.5 + 6) / 20))
    assert shared_arena([front("c", (5, 1.0))], 4, goal) is None


def test_deadlines_leave_the_rest_of_the_budget_alone() -> None:
    found = partition([A, B], 100, Goal("deadline", deadlines_s={"a": 6.0, "b": 10.0}))
    assert found.indices == (1, 0)
    assert (found.memory_bytes, found.value) == (10, 1.0)


def test_many_points_and_networks_within_a_budget() -> None:
    rng = random.Random(7)
    fronts = []
    for at in range(6):
        memory = sorted(rng.sample(range(10**7), 200))
        times = sorted((rng.random() for _ in range(200)), reverse=True)
        fronts.append(front(f"net {at}", *zip(memory, times, strict=True)))
    exact = partition(fronts, 2 * 10**7)
    others = [rule(fronts, 2 * 10**7, None) for name, rule in BASELINES.items() if "arena" not in name]
    assert all(own is None or own.memory_bytes > 2 * 10**7 or own.value >= exact.value for own in others)
    assert exact.memory_bytes <= 2 * 10**7


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Goal("fastest"), "objective is 'fastest', allowed: sum, weighted, deadline"),
        (lambda: Goal("weighted", {"a": -1.0}), "weights: a has -1.0"),
        (lambda: Goal("deadline", deadlines_s={"a": 0.0}), "deadlines_s: a has 0.0 s"),
        (lambda: partition([A, B], 9, Goal("deadline", deadlines_s={"a": 1.0})), "'b' has none; given: a"),
    ],
)
def test_goals_that_are_none_are_refused(build: object, message: str) -> None:
    with pytest.raises(PartitionError, match=message):
        build()  # type: ignore[operator]


def test_nothing_to_partition() -> None:
    assert partition([], 0).points == ()
