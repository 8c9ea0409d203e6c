"""What a planner counts as a network's footprint is what the simulator's ledger will hold."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from planning_cases import random_case

from edgesched.devices.cost import NetworkCost, network_cost
from edgesched.devices.model import Runtime
from edgesched.devices.options import NetworkOptions
from edgesched.devices.planned import planned_cost
from edgesched.policies.planning.footprint import footprint_frontier
from edgesched.policies.planning.pricing import InfeasiblePlanError, price
from edgesched.policies.planning.transforms import NoPlanError
from edgesched.primitives.layouts import LAYOUTS

RUNTIMES = [
    Runtime(weights_lifetime=weights, outputs_lifetime=outputs)  # type: ignore[arg-type]
    for weights in ("network", "layer")
    for outputs in ("network", "liveness", "arena")
]
CASES = 60


def with_copies(seed: int, copies: int, runtime: Runtime) -> NetworkOptions:
    """A random case whose network has weights, buffers of its own beside workspaces, and loading copies.

    Where weights leave with their layer and outputs are buffers of their own, without ways by a third layout.
    """
    options = random_case(seed)
    if runtime.weights_lifetime == "layer" and runtime.outputs_lifetime != "arena":
        direct = dict.fromkeys(itertools.permutations(LAYOUTS, 2), 1e-3)
        options = replace(options, transform_s=(direct,) * len(options.layers))
    layers = tuple(
        replace(layer, weight_bytes=own[0].weight_bytes, scratch_bytes=index % 3)
        for index, (layer, own) in enumerate(zip(options.network.layers, options.layers, strict=True))
    )
    return replace(options, network=replace(options.network, layers=layers, load_copies=copies))


def own_cost(options: NetworkOptions, runtime: Runtime) -> NetworkCost:
    count = len(options.layers)
    return network_cost(options.network, runtime, init_s=0.0, load_s=(0.0,) * count, execute_s=(0.0,) * count)


def every_footprint(options: NetworkOptions, runtime: Runtime) -> list[tuple[int, int]]:
    """(bytes, picoseconds) of all plans that none beats, by the simulator's own account."""
    cost, found = own_cost(options, runtime), []
    for choice in itertools.product(*(range(len(own)) for own in options.layers)):
        try:
            time_ps = price(options, choice).time_ps
        except InfeasiblePlanError:
            continue
        found.append((planned_cost(cost, options, choice, runtime).layerwise_peak_bytes, time_ps))
    kept: list[tuple[int, int]] = []
    for pair in sorted(found):
        if not kept or pair[1] < kept[-1][1]:
            kept.append(pair)
    return kept


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda r: f"{r.weights_lifetime}-{r.outputs_lifetime}")
def test_footprints_are_those_of_the_ledger(runtime: Runtime) -> None:
    compared = 0
    for seed in range(CASES):
        options = with_copies(seed, 0, runtime)
        expected = every_footprint(options, runtime)
        try:
            points = footprint_frontier(options, runtime).points
        except NoPlanError:
            assert not expected
            continue
        compared += 1
        assert [(p.memory_bytes, price(options, p.choice).time_ps) for p in points] == expected, seed
    assert compared > CASES / 2


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda r: f"{r.weights_lifetime}-{r.outputs_lifetime}")
def test_loading_copies_count_and_are_never_forgotten(runtime: Runtime) -> None:
    for seed in range(CASES):
        options = with_copies(seed, 2, runtime)
        cost = own_cost(options, runtime)
        try:
            points = footprint_frontier(options, runtime).points
        except NoPlanError:
            continue
        for point in points:
            real = planned_cost(cost, options, point.choice, runtime).layerwise_peak_bytes
            assert real <= point.memory_bytes
