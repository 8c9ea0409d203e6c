"""Tasks of a whole network cost what the profile says of all layers at a stretch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from edgesched.devices.cost import NetworkCost
from edgesched.devices.costing import CostModel
from edgesched.devices.model import Cost, Device, Memory, OpRates, Processor, Runtime, Storage
from edgesched.policies import registry
from edgesched.policies.contract import Policy
from edgesched.policies.graph import WHOLE_NETWORK, Kind, NetworkGraph, partial
from edgesched.runs.records import Records
from edgesched.sim.overheads import OverheadEngine
from edgesched.traces.profile import Profile, ProfileRow, write_profile
from edgesched.workloads.mix import together
from edgesched.workloads.network import Layer, Network
from edgesched.workloads.workload import RequestPlan

NETWORK = Network(
    "N",
    (
        Layer("a", "convolution", (), macs=1000, weight_bytes=400, output_bytes=40),
        Layer("b", "relu", (0,), output_bytes=40),
        Layer("c", "fully-connected", (1,), macs=100, weight_bytes=600, output_bytes=4),
    ),
    conv_layers=2,
)
LAYERS = [
    ProfileRow("N", 0, load_s=0.1, cold_load_s=1.0, execute_s=3.0),
    ProfileRow("N", 1, load_s=0.0, cold_load_s=0.0, execute_s=1.0),
    ProfileRow("N", 2, load_s=0.3, cold_load_s=3.0, execute_s=4.0),
]


def model(
    folder: Path,
    rows: list[ProfileRow],
    storage: Storage | None = None,
    runtime: Runtime | None = None,
    **cost: Any,
) -> CostModel:
    path = folder / "profile.csv"
    write_profile(Profile(tuple(rows)), path)
    return CostModel(
        Device(
            name="test",
            processors=(Processor(name="cpu"), Processor(name="gpu")),
            memory=Memory(total_bytes=1 << 30),
            storage=storage or Storage(reads="direct"),
            runtime=runtime or Runtime(dispatch_s=0.5),
            cost=Cost(profile=str(path), **cost),
        )
    )


def test_a_whole_network_takes_what_was_measured_of_it(tmp_path: Path) -> None:
    costs = model(tmp_path, [ProfileRow("N", None, cold_load_s=3.0, execute_s=6.0), *LAYERS])
    cost = costs.cost(NETWORK)
    assert cost.bulk_execute_s == pytest.approx(6.5)  # with what dispatching a task takes
    assert cost.bulk_load_s == pytest.approx(3.5)
    assert cost.execute_s == (3.5, 1.5, 4.5)
    assert cost.load_s == (1.5, 0.5, 3.5)
    fifo = registry.make("fifo", {}).expand(cost, costs.device)
    assert {(task.kind, task.layer): task.duration_s for task in fifo.tasks} == {
        (Kind.INIT, WHOLE_NETWORK): cost.init_s,
        (Kind.LOAD, WHOLE_NETWORK): cost.bulk_load_s,
        (Kind.EXECUTE, WHOLE_NETWORK): cost.bulk_execute_s,
    }


def test_without_it_a_whole_network_takes_the_sum_of_its_layers(tmp_path: Path) -> None:
    for rows in (LAYERS, [ProfileRow("N", None, init_s=1.0), *LAYERS]):
        cost = model(tmp_path, rows).cost(NETWORK)
        assert cost.bulk_execute_s == pytest.approx(8.5)
        assert cost.bulk_load_s == pytest.approx(4.5)


def test_a_layer_that_was_not_measured_makes_the_sum_no_comparison(tmp_path: Path) -> None:
    rows = [ProfileRow("N", None, execute_s=6.0), *LAYERS[:2]]
    cost = model(tmp_path, rows, execute={"other": OpRates(call_s=2.0)}).cost(NETWORK)
    assert cost.bulk_execute_s == pytest.approx(math.fsum(cost.execute_s) - 3 * 0.5 + 0.5)


def test_scales_and_other_processors_hold_for_it_too(tmp_path: Path) -> None:
    rows = [ProfileRow("N", None, execute_s=6.0), *LAYERS]
    costs = model(tmp_path, rows, gemm_scale=2.0, on={"gpu": {"gemm_scale": 0.5, "other_scale": 3.0}})
    assert costs.cost(NETWORK).bulk_execute_s == pytest.approx(0.5 + (6 + 1 + 8) * 6 / 8)
    assert costs.cost(NETWORK, "gpu").bulk_execute_s == pytest.approx(0.5 + (3 + 3 + 4) * 6 / 8)


def test_loading_follows_how_storage_is_read(tmp_path: Path) -> None:
    rows = [ProfileRow("N", None, cold_load_s=3.0), *LAYERS]
    assert model(tmp_path, rows, Storage(reads="cached")).cost(NETWORK).bulk_load_s == pytest.approx(0.9)
    slow = Storage(reads="direct", pace_bytes_per_s=100.0)
    assert model(tmp_path, rows, slow).cost(NETWORK).bulk_load_s == pytest.approx(0.5 + 1000 / 100)


def test_layers_that_read_share_what_is_saved_at_a_stretch(tmp_path: Path) -> None:
    rows = [ProfileRow("N", None, execute_s=6.0), *LAYERS]
    saving = model(tmp_path, rows).cost(NETWORK).stretch_saving_s
    assert saving == pytest.approx((3.0 * 2 / 7, 0.0, 4.0 * 2 / 7))
    assert model(tmp_path, LAYERS).cost(NETWORK).stretch_saving_s == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("policy", "saved_s"),
    [
        # Worker 0 executes a and b, worker 1 c: each has just read, and b has nothing to read.
        ("deepeye", 0.0),
        # Read, execute, read, execute ...
        ("linear", 0.0),
        # All in one task.
        ("fifo", 2.0),
        # Reads all, then executes a, b, c one by one: c follows b.
        ("reads-first", 4.0 * 2 / 7),
    ],
)
def test_an_execution_after_an_execution_finds_its_caches_warm(
    policy: str, saved_s: float, tmp_path: Path
) -> None:
    class ReadsFirst(Policy):
        def expand(self, network: NetworkCost, device: Device) -> NetworkGraph:
            graph = partial(network, device.runtime)
            for task in graph.tasks:
                task.rank = task.kind == Kind.EXECUTE
            return graph

    makespans = []
    for rows in ([ProfileRow("N", None, cold_load_s=4.0, execute_s=6.0), *LAYERS], LAYERS):
        costs = model(tmp_path, rows)
        cost = costs.cost(NETWORK)
        plan = RequestPlan(streams=("image",), deadline_s=[None], compositions=[together(("N",))])
        for column in (plan.gap_s, plan.stream, plan.composition):
            column.append(0)
        made = ReadsFirst() if policy == "reads-first" else registry.make(policy, {})
        engine = OverheadEngine(made, costs.device, plan, lambda s, c=cost: [s.composition([c])], Records())
        engine.run()
        makespans.append(max(engine.records.job_finish_s))
    assert makespans[1] - makespans[0] == pytest.approx(saved_s)
