"""Boards of two clusters: what a network costs on each, and that policies use both."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path
from typing import Any

import pytest

from edgesched.devices import boards
from edgesched.devices.costing import GEMM_OPS, CostError, CostModel
from edgesched.devices.model import Device
from edgesched.devices.transfer import reference
from edgesched.policies.graph import Kind
from edgesched.primitives.catalogue import LIBRARY
from edgesched.primitives.shape import CONVOLUTIONS, conv_shape, layer_key
from edgesched.runs.load import scenario_of
from edgesched.runs.tasks import Trace
from edgesched.sim.run import simulate
from edgesched.traces.primitives import PrimitiveProfile, PrimitiveRow, write_primitives
from edgesched.workloads import catalogue

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "primitives"
CLUSTERS = {"firefly-rk3399": ("a72", "a53"), "odroid-xu4": ("a15", "a7")}
NETWORK = catalogue.build("SqueezeNet 1.1@64")
CAFFE = {
    "bvlc-alexnet": "AlexNet",
    "bvlc-googlenet": "GoogLeNet",
    "deepscale-squeezenet-1.1": "SqueezeNet 1.1",
}


def two(**on: Any) -> Device:
    return Device.model_validate(
        {
            "name": "toy",
            "processors": [{"name": "big"}, {"name": "little"}],
            "memory": {"total_bytes": 1 << 30},
            "cost": {
                "gemm_scale": 2.0,
                "other_scale": 3.0,
                "execute": {"convolution": {"mac_s": 1e-9}, "other": {"byte_s": 1e-9}},
                "on": on,
            },
        }
    )


# -- costs ------------------------------------------------------------------------------------------------


def test_factors_are_against_the_first_processor() -> None:
    model = CostModel(two(little={"gemm_scale": 5.0, "other_scale": 7.0}))
    first, little = model.cost(NETWORK), model.cost(NETWORK, "little")
    assert model.cost(NETWORK, "big").execute_s == first.execute_s
    for layer, big_s, little_s in zip(NETWORK.layers, first.execute_s, little.execute_s, strict=True):
        assert little_s == pytest.approx(big_s * (5 if layer.op in GEMM_OPS else 7))
    assert little.load_s == first.load_s
    assert little.init_s == first.init_s


def test_rates_of_its_own_replace_those_of_the_first() -> None:
    model = CostModel(two(little={"execute": {"other": {"call_s": 4.0}}, "gemm_scale": 5.0}))
    for index, layer in enumerate(NETWORK.layers):
        expected = 4.0 * (2 * 5 if layer.op in GEMM_OPS else 3)
        assert model.execute_s(NETWORK, index, "little") == expected
    assert model.execute_s(NETWORK, 1) == pytest.approx(2e-9 * NETWORK.layers[1].macs)


def test_its_own_rates_go_before_the_profile() -> None:
    laptop = boards.load("edgecaffe-laptop").model_dump()
    laptop["processors"] = [*laptop["processors"], {"name": "other"}]
    laptop["cost"]["on"] = {"other": {"execute": {"other": {"call_s": 1.0}}}}
    model = CostModel(Device.model_validate(laptop))
    network = catalogue.build("AgeNet")
    assert model.execute_s(network, 2, "other") == 1.0
    assert model.execute_s(network, 2) == CostModel(boards.load("edgecaffe-laptop")).execute_s(network, 2)


def test_a_processor_without_costs_of_its_own_costs_what_the_first_does() -> None:
    model = CostModel(two())
    assert model.cost(NETWORK, "little").execute_s == model.cost(NETWORK).execute_s


def test_an_unknown_processor_is_refused() -> None:
    with pytest.raises(CostError, match="no processor 'gpu'; it has big, little"):
        CostModel(two()).cost(NETWORK, "gpu")
    with pytest.raises(ValueError, match=r"cost\.on names the processor 'gpu', there are: big, little"):
        two(gpu={})


# -- policies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("board", CLUSTERS)
@pytest.mark.parametrize("mapped", [False, True])
def test_pareto_runs_a_network_on_each_cluster_at_its_speed(board: str, mapped: bool, tmp_path: Path) -> None:
    """With the runtime's own primitives alone, an execution takes what the cluster's cost model says."""
    names = ["SqueezeNet 1.1@64", "AlexNet"] if mapped else ["AlexNet", "SqueezeNet 1.1"]
    networks = {name: catalogue.build(name) for name in names}
    shapes = {
        layer_key(network, index): conv_shape(network, index)
        for network in networks.values()
        for index, layer in enumerate(network.layers)
        if layer.op in CONVOLUTIONS
    }
    rows = []
    for key, shape in shapes.items():
        name = reference(shape)
        assert name is not None
        rows.append(PrimitiveRow(key, name, LIBRARY[name].in_layout, LIBRARY[name].out_layout, 1.0))
    write_primitives(PrimitiveProfile(tuple(rows), {"source": "made up"}), tmp_path / "ratios.csv")
    (tmp_path / "board.yaml").write_text(
        f"like: {board}\nname: two\ncost: {{primitive_ratios: ratios.csv}}\n", encoding="utf-8"
    )
    big, little = CLUSTERS[board]
    policy: dict[str, Any] = {"name": "pareto"}
    wanted = {"AlexNet": big, names[names[0] == "AlexNet"]: little}
    if mapped:  # against their inclination
        wanted = {names[0]: big, names[1]: little}
        policy["processors"] = wanted
    trace = Trace()
    result = simulate(
        scenario_of(
            {
                "device": {"board": "board.yaml"},
                "workload": {
                    "arrivals": {"process": "deterministic", "rate_per_s": 0.01},
                    "networks": names,
                },
                "policy": policy,
                "run": {"requests": 2},
            }
        ),
        trace=trace,
        folder=tmp_path,
    )
    assert result.infeasible is None
    device = boards.load(board)
    model = CostModel(device)
    seen = set()
    for start, end, job, task, worker in zip(
        trace.start_s, trace.end_s, trace.job, trace.task, trace.worker, strict=True
    ):
        graph = result.graphs[0][job % len(names)]
        processor = wanted[graph.network.name]
        assert device.processors[worker].name == processor
        step = graph.tasks[task]
        if step.kind is Kind.EXECUTE:
            seen.add((graph.network.name, processor))
            expected = model.execute_s(networks[graph.network.name], step.layer, processor)
            assert end - start == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert seen == set(wanted.items())


# -- boards -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("board", CLUSTERS)
def test_the_board_holds_the_constants_it_says_it_was_fitted_to(board: str) -> None:
    device = boards.load(board)
    assert device.calibration is not None
    dump = device.model_dump()
    for group in device.calibration.fitted:
        for path, value in group.constants.items():
            place = dump
            for key in path.split("."):
                place = place[key]
            assert place == value, path
    assert dump["memory"]["swap"] is None
    assert tuple(p.name for p in device.processors) == CLUSTERS[board]


@pytest.mark.parametrize(
    ("board", "table", "threads", "batch"),
    [
        ("firefly-rk3399", "rk3399_caffe_libs_per_layer_minbatch.csv", 2, 2),
        ("odroid-xu4", "exynos_a15_openblas_threads_per_layer.csv", 4, 1),
    ],
)
def test_the_first_cluster_comes_out_as_measured(board: str, table: str, threads: int, batch: int) -> None:
    """The recorded errors of summed times, and convolutions one by one."""
    if not (DATA / table).exists():
        pytest.skip("the measurement data (../shared/data/primitives) is not here")
    measured: dict[tuple[str, str], list[float]] = {}
    with (DATA / table).open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if (row["unit"], row["openblas_threads"], row["batch"]) == ("cpu", str(threads), str(batch)):
                key = row["model"], row["layer"].replace("/", "_").lower()
                measured.setdefault(key, []).append(float(row["fw_time_ms_mean"]) / 1e3)
    device = boards.load(board)
    assert device.calibration is not None
    model = CostModel(device)
    errors = device.calibration.fitted[0].errors
    assert len(errors) == len(CAFFE)
    for source, name in CAFFE.items():
        network = catalogue.build(name if batch == 1 else f"{name}#{batch}")
        pairs = [
            (layer.op, model.execute_s(network, index), statistics.median(own))
            for index, layer in enumerate(network.layers)
            if (own := measured.get((source, layer.name.replace("/", "_").lower()))) and layer.op != "input"
        ]
        assert len(pairs) > len(network.layers) / 2
        total = sum(p for _, p, _ in pairs) / sum(m for *_, m in pairs) - 1
        assert total == pytest.approx(errors[network.name], abs=0.002)
        convolutions = [abs(p / m - 1) for op, p, m in pairs if op == "convolution"]
        assert statistics.median(convolutions) < 0.15
