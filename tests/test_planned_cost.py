"""What a network costs under a plan of its primitives: seconds and bytes by hand."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from typing import Any

import pytest
from planning_cases import random_case

from edgesched.devices.cost import NetworkCost, network_cost
from edgesched.devices.model import Runtime
from edgesched.devices.options import NetworkOptions, Option
from edgesched.devices.planned import planned_cost
from edgesched.policies.planning.pricing import InfeasiblePlanError, price
from edgesched.workloads.builder import GraphBuilder
from edgesched.workloads.network import Network

DATA, CONV, OUT = 4 * 36 * 4, 8 * 36 * 4, 10 * 4
"""Bytes of the outputs: the image, the convolution's, ten features."""
CONV_WEIGHTS, FC_WEIGHTS = (8 * 4 * 9 + 8) * 4, (10 * 8 * 36 + 10) * 4
EXPANDED, WORKSPACE = 5000, 1000
SCRATCH = 4
"""What the fully-connected layer holds while it executes, whatever its primitive."""
OWN, PLANNED = (0, 0, 0), (0, 1, 0)


def network() -> Network:
    x = GraphBuilder("small").input("data", (1, 4, 6, 6)).conv("conv", 8, 3, pad=1)
    built = x.fc("fc", 10).graph.build()
    *before, last = built.layers
    return replace(built, layers=(*before, replace(last, scratch_bytes=SCRATCH)))


def options() -> NetworkOptions:
    """The image gets into hwc by way of hcw only, the convolution's output back directly."""
    return NetworkOptions(
        network(),
        (
            (Option("input", "chw", "chw", 0.0),),
            (
                Option("im2col", "chw", "chw", 4.0, 4 * 9 * 36 * 4, CONV_WEIGHTS),
                Option("winograd", "hwc", "hwc", 1.0, WORKSPACE, EXPANDED),
            ),
            (Option("fully-connected-chw", "chw", "chw", 2.0, 0, FC_WEIGHTS),),
        ),
        (
            {("chw", "hcw"): 0.125, ("hcw", "hwc"): 0.25},
            {("hwc", "chw"): 0.5},
            {},
        ),
        live_bytes=network().live_bytes,
        tensor_bytes=(DATA, CONV, OUT),
    )


def runtime(**changes: Any) -> Runtime:
    return Runtime.model_validate({"load_copies": False, **changes})


def own_cost(told: Runtime) -> NetworkCost:
    return network_cost(network(), told, init_s=10.0, load_s=(0.0, 1.184, 3.0), execute_s=(0.0, 4.0, 2.0))


def planned(told: Runtime, choice: tuple[int, ...] = PLANNED) -> NetworkCost:
    return planned_cost(own_cost(told), options(), choice, told)


CONV_SCRATCH = max(2 * DATA, DATA + WORKSPACE)
"""On the way two copies of the image; then one beside the workspace."""
FC_SCRATCH = CONV


def test_the_sizes_are_those_of_the_network() -> None:
    assert [layer.output_bytes for layer in network().layers] == [DATA, CONV, OUT]
    assert [layer.weight_bytes for layer in network().layers] == [0, CONV_WEIGHTS, FC_WEIGHTS]
    assert [layer.scratch_bytes for layer in network().layers] == [0, 0, SCRATCH]
    assert CONV_SCRATCH == 1576


@pytest.mark.parametrize("dispatch_s", [0.0, 0.5])
def test_seconds_are_the_options_and_their_transforms(dispatch_s: float) -> None:
    cost = planned(runtime(dispatch_s=dispatch_s))
    assert cost.execute_s == pytest.approx([dispatch_s, 1.375 + dispatch_s, 2.5 + dispatch_s])
    assert cost.load_s == pytest.approx([dispatch_s, 5.0 + dispatch_s, 3.0 + dispatch_s])
    assert cost.init_s == pytest.approx(10.0 + dispatch_s)
    assert cost.bulk_load_s == pytest.approx(8.0 + dispatch_s)
    assert cost.bulk_execute_s == pytest.approx(3.875 + dispatch_s)
    assert cost.expected_s == pytest.approx(10.0 + 8.0 + 3.875)


def test_bytes_where_all_stays_until_the_network_dies() -> None:
    cost = planned(runtime())
    weights = EXPANDED + FC_WEIGHTS
    assert (cost.init_start_bytes, cost.init_end_bytes, cost.arena_bytes) == (weights, 0, 0)
    assert cost.load_start_bytes == cost.load_end_bytes == (0, 0, 0)
    assert cost.execute_start_bytes == (DATA, CONV + CONV_SCRATCH, OUT + FC_SCRATCH + SCRATCH)
    assert cost.execute_end_bytes == (0, CONV_SCRATCH, FC_SCRATCH + SCRATCH)
    assert cost.reservation_bytes == cost.layerwise_peak_bytes == weights + DATA + CONV + CONV_SCRATCH
    assert cost.bulk_execute_start_bytes == DATA + CONV + OUT + CONV_SCRATCH + FC_SCRATCH + SCRATCH
    assert cost.bulk_peak_bytes == weights + cost.bulk_execute_start_bytes


@pytest.mark.parametrize(
    ("workspace", "scratch"), [(0, 2 * DATA), (DATA, 2 * DATA), (DATA + 1, 2 * DATA + 1)]
)
def test_a_way_by_a_third_layout_holds_two_copies_before_the_workspace_is_taken(
    workspace: int, scratch: int
) -> None:
    known = options()
    im2col, winograd = known.layers[1]
    changed = replace(winograd, workspace_bytes=workspace)
    known = replace(known, layers=(known.layers[0], (im2col, changed), known.layers[2]))
    for outputs in ("network", "arena"):
        told = runtime(outputs_lifetime=outputs)
        cost = planned_cost(own_cost(told), known, PLANNED, told)
        held = cost.arena_bytes - DATA - CONV if outputs == "arena" else cost.execute_end_bytes[1]
        assert held == scratch


def test_loads_copy_the_weights_as_stored() -> None:
    cost = planned(runtime(load_copies=True))
    copies = network().load_copies
    assert copies > 0
    assert cost.load_start_bytes == (0, copies * EXPANDED, copies * FC_WEIGHTS)
    assert cost.load_end_bytes == cost.load_start_bytes
    assert cost.bulk_load_start_bytes == cost.bulk_load_end_bytes == copies * (EXPANDED + FC_WEIGHTS)


def test_bytes_where_everything_leaves_as_soon_as_it_may() -> None:
    cost = planned(runtime(weights_lifetime="layer", outputs_lifetime="liveness"))
    assert cost.init_start_bytes == 0
    assert cost.load_start_bytes == (0, EXPANDED, FC_WEIGHTS)
    assert cost.execute_end_bytes == (
        0,
        CONV_SCRATCH + DATA + EXPANDED,
        FC_SCRATCH + SCRATCH + CONV + OUT + FC_WEIGHTS,
    )
    most = max(DATA + EXPANDED + CONV + CONV_SCRATCH, CONV + FC_WEIGHTS + OUT + FC_SCRATCH + SCRATCH)
    assert cost.reservation_bytes == cost.layerwise_peak_bytes == most
    assert sum(cost.load_start_bytes) + sum(cost.execute_start_bytes) == sum(cost.execute_end_bytes)


def test_one_arena_holds_outputs_copies_and_workspace() -> None:
    cost = planned(runtime(outputs_lifetime="arena"))
    assert cost.arena_bytes == DATA + CONV + CONV_SCRATCH
    assert cost.init_start_bytes == EXPANDED + FC_WEIGHTS + cost.arena_bytes
    assert cost.execute_start_bytes == cost.execute_end_bytes == (0, 0, 0)
    assert cost.layerwise_peak_bytes == cost.bulk_peak_bytes == cost.init_start_bytes


@pytest.mark.parametrize("weights", ["network", "layer"])
@pytest.mark.parametrize("outputs", ["network", "liveness"])
def test_under_the_runtimes_own_choice_nothing_changes(weights: str, outputs: str) -> None:
    told = runtime(weights_lifetime=weights, outputs_lifetime=outputs, dispatch_s=0.25, load_copies=True)
    before, after = own_cost(told), planned(told, OWN)
    for field in fields(NetworkCost):
        if field.name != "network":
            assert getattr(after, field.name) == pytest.approx(getattr(before, field.name)), field.name


def test_seconds_are_those_that_a_planner_counts() -> None:
    compared = 0
    for seed in range(60):
        known = random_case(seed)
        zeros = (0.0,) * len(known.layers)
        own = network_cost(known.network, runtime(), init_s=0.0, load_s=zeros, execute_s=zeros)
        for choice in itertools.islice(itertools.product(*(range(len(each)) for each in known.layers)), 20):
            try:
                time_ps = price(known, choice).time_ps
            except InfeasiblePlanError:
                continue
            compared += 1
            seconds = sum(planned_cost(own, known, choice, runtime()).execute_s)
            assert seconds == pytest.approx(time_ps / 1e12, abs=1e-9), seed
    assert compared > 60
