"""The planner finds exactly what enumeration finds, and prices are what their definitions say."""

from __future__ import annotations

import pytest
from planning_cases import brute_force, random_case

from edgesched.devices.options import NetworkOptions, Option
from edgesched.policies.planning.frontier import DoesNotFitError, NoPlanError, frontier
from edgesched.policies.planning.memory import MEMORIES, Memory
from edgesched.policies.planning.pricing import InfeasiblePlanError, price
from edgesched.workloads.network import Layer, Network

CASES = 1000


def found(options: NetworkOptions, memory: Memory) -> list[tuple[int, int]]:
    return [
        (point.memory_bytes, price(options, point.choice).time_ps)
        for point in frontier(options, memory).points
    ]


@pytest.mark.parametrize("memory", MEMORIES)
def test_frontiers_equal_enumeration(memory: Memory) -> None:
    different, branching, without = [], 0, 0
    for seed in range(CASES):
        options = random_case(seed)
        branching += any(len(layer.inputs) > 1 for layer in options.network.layers)
        expected = brute_force(options, memory)
        if not expected:
            without += 1
            with pytest.raises(NoPlanError):
                frontier(options, memory)
        elif found(options, memory) != expected:
            different.append(seed)
    assert not different
    assert branching > CASES / 5
    assert without < CASES / 4
