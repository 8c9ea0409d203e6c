"""Tasks of a whole network cost what the profile says of all layers at a stretch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from edgesched.devices.costing import CostModel
from edgesched.devices.model import Cost, Device, Memory, OpRates, Processor, Runtime, Storage
from edgesched.policies import registry
from edgesched.policies.graph import WHOLE_NETWORK, Kind
from edgesched.traces.profile import Profile, ProfileRow, write_profile
from edgesched.workloads.network import Layer, Network

NETWORK = Network(
    "N",
    (
        Layer("a", "convolution", (), macs=1000, weight_bytes=400, output_bytes=40),
        Layer("b", "relu", (0,), output_bytes=40),
        Layer("c", "fully-connected", (1,), macs=100, weight_bytes=600, output_bytes=4),
    ),
)
LAYERS = [
    ProfileRow("N", 0, load_s=0.1, cold_load_s=1.0, execute_s=3.0),
    ProfileRow("N", 1, load_s=0.0, cold_load_s=0.0, execute_s=1.0),
    ProfileRow("N", 2, load_s=0.3, cold_load_s=3.0, execute_s=4.0),
]


def model(folder: Path, rows: list[ProfileRow], storage: Storage | None = None, **cost: Any) -> CostModel:
    path = folder / "profile.csv"
    write_profile(Profile(tuple(rows)), path)
    return CostModel(
        Device(
            name="test",
            processors=(Processor(name="cpu"), Processor(name="gpu")),
            memory=Memory(total_bytes=1 << 30),
            storage=storage or Storage(reads="direct"),
            runtime=Runtime(dispatch_s=0.5),
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
