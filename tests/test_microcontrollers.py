"""Microcontrollers: 8-bit networks, weights in flash, kernels as options, and what does not fit."""

from typing import Any

import pytest

from edgesched.bridge.replay import replay
from edgesched.bridge.watch import ReplayError
from edgesched.devices import boards
from edgesched.devices.costing import CostModel
from edgesched.devices.implementing import network_options
from edgesched.devices.model import Device
from edgesched.devices.stored import as_stored, lowered_bytes
from edgesched.runs.resolve import ScenarioError
from edgesched.runs.scenario import Scenario
from edgesched.sim.run import simulate
from edgesched.workloads.builder import GraphBuilder
from edgesched.workloads.catalogue import build
from edgesched.workloads.network import Network

BOARDS = ("samd21", "stm32f746", "stm32h743", "stm32l4r5")
PAIRS = (("DS-CNN", "MobileNet v1 0.25"), ("DS-CNN", "ResNet-8"))
ROOMY = [board for board in BOARDS if board != "samd21"]


def small() -> Network:
    """3x3 convolution of 4 to 8 channels on 6 x 6, its rectifier, a depthwise one, and 10 features."""
    x = GraphBuilder("small").input("data", (1, 4, 6, 6)).conv("conv", 8, 3, pad=1).relu("relu")
    x = x.depthwise("dw", 3, pad=1).conv("pw", 8, 1)
    return x.fc("fc", 10).graph.build()


def board(**storage: Any) -> Device:
    """One second a MAC in convolutions, nothing else takes time; 10 bytes a second out of flash."""
    return Device.model_validate(
        {
            "name": "toy",
            "processors": [{"name": "mcu", "kind": "mcu"}],
            "memory": {"total_bytes": 100_000, "base_bytes": 100},
            "storage": {"reads": "in-place", "read_bytes_per_s": 10, **storage},
            "runtime": {"element_bytes": 1, "outputs_lifetime": "arena", "load_copies": False},
            "cost": {"execute": {"convolution": {"mac_s": 1e-3}, "other": {}}},
        }
    )


def scenario(device: str, networks: tuple[str, ...], **policy: Any) -> Scenario:
    return Scenario.model_validate(
        {
            "device": {"board": device},
            "policy": {"name": "pareto", **policy},
            "workload": {
                "networks": list(networks),
                "arrivals": {"process": "deterministic", "period_s": 5.0},
            },
            "run": {"requests": 2},
        }
    )


def at_zero(network: Network, device: Device) -> dict[str, float]:
    return dict(
        zip([layer.name for layer in network.layers], CostModel(device).cost(network).execute_s, strict=True)
    )


def test_values_shrink_and_biases_do_not() -> None:
    stored = as_stored(small(), board().runtime)
    sizes = {layer.name: (layer.weight_bytes, layer.output_bytes) for layer in stored.layers}
    assert sizes == {
        "data": (0, 4 * 36),
        "conv": (8 * 4 * 9 + 8 * 4, 8 * 36),
        "relu": (0, 0),
        "dw": (8 * 9 + 8 * 4, 8 * 36),
        "pw": (8 * 8 + 8 * 4, 8 * 36),
        "fc": (10 * 288 + 10 * 4, 10),
    }
    assert stored.layers[1].workspace_bytes == 2 * 36 * 2  # two patches of 3 x 3 x 4 values of 16 bits
    assert stored.macs == small().macs
    assert as_stored(stored, board().runtime) is stored


def test_16_bits_halve_what_is_lowered_too() -> None:
    runtime = board().runtime.model_copy(update={"element_bytes": 2})
    conv = as_stored(small(), runtime).layers[1]
    assert (conv.output_bytes, conv.workspace_bytes) == (2 * 8 * 36, 2 * 36 * 36)
    assert conv.weight_bytes == 2 * 8 * 36 + 4 * 8


def test_float32_networks_stay_as_they_are() -> None:
    network = small()
    assert as_stored(network, boards.load("ideal").runtime) is network


@pytest.mark.parametrize("name", BOARDS)
def test_nothing_is_loaded_and_weights_take_no_memory(name: str) -> None:
    cost = CostModel(boards.load(name)).cost(build("DS-CNN"))
    assert set(cost.load_s) == {0.0}
    assert set(cost.load_start_bytes) == {0}
    assert cost.init_start_bytes == cost.arena_bytes == 16_000
    assert cost.network.weight_bytes == 22_604 + 3 * 588  # 588 biases keep 4 bytes


# conv: 8 * 36 * 36 MACs of 1 ms = 10.368 s, 320 bytes of weights at 10 bytes/s = 32 s; fc: nothing and 292 s
@pytest.mark.parametrize(("prefetch", "seconds"), [(True, 32.0), (False, 42.368)])
def test_executing_reads_the_weights_from_flash(prefetch: bool, seconds: float) -> None:
    device = board(prefetch=prefetch)
    times = at_zero(small(), device)
    assert times["conv"] == pytest.approx(seconds)
    assert times["fc"] == pytest.approx(292.0)
    assert times["relu"] == 0.0
    options = network_options(small(), device)
    assert {o.primitive: o.execute_s for o in options.layers[1]}["lowered-2"] == pytest.approx(seconds)


def test_fast_flash_is_hidden_behind_computing_only_with_prefetch() -> None:
    assert at_zero(small(), board(read_bytes_per_s=100))["conv"] == pytest.approx(10.368)
    assert at_zero(small(), board(read_bytes_per_s=100, prefetch=False))["conv"] == pytest.approx(13.568)


def test_weights_that_are_loaded_are_not_read_again() -> None:
    device = board(reads="direct")
    assert at_zero(small(), device)["conv"] == pytest.approx(10.368)
    assert CostModel(device).cost(small()).init_start_bytes > as_stored(small(), device.runtime).weight_bytes
    assert network_options(small(), device).layers[1][0].weight_bytes == 320


def test_the_options_of_a_layer_trade_memory_for_time() -> None:
    options = network_options(small(), board(read_bytes_per_s=1e9))
    conv = {option.primitive: option for option in options.layers[1]}
    assert {name: each.workspace_bytes for name, each in conv.items()} == {
        "lowered-2": 144,
        "lowered-row": 6 * 72,
        "lowered-all": 36 * 72,
        "direct": 0,
    }
    times = [conv[name].execute_s for name in ("direct", "lowered-2", "lowered-row", "lowered-all")]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 4
    # a tenth of the time reads weights: a third of them with 6 patches instead of 2
    assert conv["lowered-row"].execute_s == pytest.approx(10.368 * (0.9 + 0.1 / 3))
    assert [[o.primitive for o in own] for own in options.layers[3:5]] == [
        ["depthwise-lowered", "direct"],
        ["pointwise"],
    ]
    assert options.layers[3][0].workspace_bytes == 8 * 9 * 2
    assert {(o.in_layout, o.out_layout, o.weight_bytes) for own in options.layers for o in own} == {
        ("hwc", "hwc", 0)
    }


def test_patches_are_a_multiple_of_four_values_long() -> None:
    assert [lowered_bytes(values) for values in (27, 28, 29)] == [112, 112, 128]


@pytest.mark.parametrize("networks", PAIRS)
@pytest.mark.parametrize("name", ROOMY)
def test_two_networks_are_planned_within_the_memory(name: str, networks: tuple[str, str]) -> None:
    roomy = simulate(scenario(name, networks))
    tight = simulate(scenario(name, networks, budget="76KB"))
    base = boards.load(name).memory.base_bytes
    for result in (roomy, tight):
        assert result.infeasible is None
        assert result.limit_bytes is not None
        assert base < result.peak_bytes <= result.limit_bytes
        assert len(result.records.job_finish_s) == 4
    assert tight.peak_bytes <= base + 76_000 < roomy.peak_bytes
    assert tight.busy_s[0] > roomy.busy_s[0]


@pytest.mark.parametrize("network", ["ResNet-8", "MobileNet v1 0.25"])
def test_what_does_not_fit_32_kilobytes_is_told_with_what_would(network: str) -> None:
    result = simulate(scenario("samd21", ("DS-CNN", network)))
    found = result.infeasible
    assert found is not None
    assert found.network == network
    assert found.limit_bytes == 32_768
    # the least of any plan: live activations alone, by direct loops where the peak is
    least = max(as_stored(build(network), boards.load("samd21").runtime).live_bytes) + 4096
    assert found.demand_bytes == least
    assert found.fits_with == [
        f"a memory limit of at least {least} bytes",
        f"a smaller network: {network} alone needs {least} bytes",
    ]
    enough = scenario("samd21", ("DS-CNN", network)).model_dump()
    enough["device"]["memory"] = {"total_bytes": least}
    assert simulate(Scenario.model_validate(enough)).infeasible is None


def test_the_limit_that_is_told_is_enough_for_every_later_task() -> None:
    data = scenario("samd21", ("ResNet-8",)).model_dump() | {"policy": {"name": "linear"}}
    found = simulate(Scenario.model_validate(data)).infeasible
    assert found is not None
    assert found.fits_with[0] == "a memory limit of at least 55552 bytes"
    data["device"]["memory"] = {"total_bytes": 55_552}
    assert simulate(Scenario.model_validate(data)).infeasible is None
    data["device"]["memory"] = {"total_bytes": 55_551}
    assert simulate(Scenario.model_validate(data)).infeasible is not None


def test_a_small_network_runs_in_32_kilobytes() -> None:
    result = simulate(scenario("samd21", ("DS-CNN",)))
    assert result.infeasible is None
    assert result.peak_bytes <= 32_768


def test_weights_beyond_the_flash_are_refused_with_what_would_fit() -> None:
    with pytest.raises(ScenarioError, match=r"take 270880 bytes .* holds 262144; .* at least 270880"):
        simulate(scenario("samd21", ("ToyADMOS autoencoder",)))
    both = ("DS-CNN", "MobileNet v1 0.25")
    data = scenario("samd21", both).model_dump()
    data["device"]["storage"] = {"total_bytes": 243_431}
    with pytest.raises(ScenarioError, match=r"take 243432 bytes \(DS-CNN 24368, MobileNet v1 0.25 219064\)"):
        simulate(Scenario.model_validate(data))


def test_a_replay_refuses_such_a_board() -> None:
    with pytest.raises(ReplayError, match="only simulated"):
        replay(scenario("stm32h743", ("DS-CNN",)), {})


@pytest.mark.parametrize("name", BOARDS)
def test_errors_that_boards_state_are_those_of_their_rates(name: str) -> None:
    """A board's own time of ResNet-8, put to the clock of the measured one, against that measurement."""
    device = boards.load(name)
    frequency_hz = device.processors[0].operating_points[0].frequency_hz
    measured = {
        "samd21": (64e6, 1.52207),
        "stm32f746": (216e6, 62.8773e-3),
        "stm32h743": (280e6, 51.9481e-3),
        "stm32l4r5": (120e6, 213.995e-3),
    }
    clock_hz, seconds = measured[name]
    assert device.calibration is not None
    stated = {
        row: error
        for fit in device.calibration.fitted
        for row, error in (fit.errors | fit.left_out_errors).items()
        if "ResNet-8" in row
    }
    own_s = CostModel(device).cost(build("ResNet-8")).solo_s * frequency_hz / clock_hz
    assert own_s / seconds - 1 == pytest.approx(next(iter(stated.values())), abs=0.005)
