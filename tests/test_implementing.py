"""Options of boards without a primitive profile: the device's own times, and ratios measured elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from primitive_boards import write_profile

from edgesched.devices import boards, implementing
from edgesched.devices.cost import moved_bytes
from edgesched.devices.costing import CostModel
from edgesched.devices.implementing import ImplementingError, network_options, options_by_ratios
from edgesched.devices.model import Device
from edgesched.devices.options import NetworkOptions, Option
from edgesched.devices.transfer import Ratios, TransferError
from edgesched.primitives.catalogue import LIBRARY
from edgesched.primitives.shape import ConvShape, conv_shape
from edgesched.runs.load import scenario_of
from edgesched.runs.result import RunResult
from edgesched.sim.run import simulate
from edgesched.traces.primitives import PrimitiveProfile, PrimitiveRow, read_primitives
from edgesched.workloads import catalogue
from edgesched.workloads.builder import GraphBuilder
from edgesched.workloads.network import Network

IM2COL = "im2col-scan-ab-ki"
DIRECT = "direct-sum2d"
WINOGRAD = "winograd-2x2-3x3"
POINTWISE = "conv-1x1-gemm-ab-ki"


def profile(times: Mapping[str, Mapping[str, float]], threads: int | None = None) -> PrimitiveProfile:
    """A primitive profile of convolutions: key (without the operation) to seconds of each primitive."""
    rows = [
        PrimitiveRow(
            f"{'depthwise' if int(key.rpartition(' g')[2]) > 4 else 'convolution'} {key}",
            name,
            LIBRARY[name].in_layout,
            LIBRARY[name].out_layout,
            seconds,
            threads=threads,
        )
        for key, own in times.items()
        for name, seconds in own.items()
    ]
    return PrimitiveProfile(tuple(rows))


def small(batch: int = 1) -> Network:
    """3x3 convolution of 4 to 8 channels on 6 x 6, its rectifier in place, a 1x1 one, 10 features."""
    x = GraphBuilder("small").input("data", (batch, 4, 6, 6)).conv("conv", 8, 3, pad=1).relu("relu")
    return x.conv("pw", 8, 1).fc("fc", 10).softmax("prob").graph.build()


def device(**cost: Any) -> Device:
    return Device.model_validate(
        {
            "name": "toy",
            "processors": [{"name": "big"}, {"name": "little"}],
            "memory": {"total_bytes": 1 << 30},
            "cost": {
                "execute": {
                    "convolution": {"mac_s": 1e-6},
                    "relu": {"call_s": 5.0, "byte_s": 1e-3},
                    "other": {"call_s": 0.5},
                },
                **cost,
            },
        }
    )


KNOWN = {
    "4x6x6 m8 k3 s1 p1 g1": {IM2COL: 2.0, DIRECT: 8.0, WINOGRAD: 1.0},
    "8x6x6 m8 k1 s1 p0 g1": {POINTWISE: 4.0, DIRECT: 10.0, IM2COL: 5.0},
}


def of(options: NetworkOptions, layer: str) -> dict[str, Option]:
    index = [each.name for each in options.network.layers].index(layer)
    return {option.primitive: option for option in options.layers[index]}


# -- by hand ----------------------------------------------------------------------------------------------


def test_a_primitive_takes_its_ratio_of_the_devices_own_time() -> None:
    network = small()
    options = options_by_ratios(network, device(), Ratios(profile(KNOWN)))
    conv_s = 36 * 8 * 4 * 9 * 1e-6
    pw_s = 36 * 8 * 8 * 1e-6
    times = {name: each.execute_s for name, each in of(options, "conv").items()}
    assert times == pytest.approx({IM2COL: conv_s, DIRECT: 4 * conv_s, WINOGRAD: conv_s / 2})
    times = {name: each.execute_s for name, each in of(options, "pw").items()}
    assert times == pytest.approx({POINTWISE: pw_s, DIRECT: 2.5 * pw_s, IM2COL: 1.25 * pw_s})


def test_bytes_are_the_librarys_and_the_bias() -> None:
    network = small()
    found = of(options_by_ratios(network, device(), Ratios(profile(KNOWN))), "conv")
    assert {name: each.workspace_bytes for name, each in found.items()} == {
        IM2COL: 4 * 9 * 36 * 4,
        DIRECT: 0,
        WINOGRAD: LIBRARY[WINOGRAD].workspace_bytes(conv_shape(network, 1)),
    }
    assert found[IM2COL].weight_bytes == (8 * 4 * 9 + 8) * 4 == network.layers[1].weight_bytes
    assert found[WINOGRAD].weight_bytes == (8 * 4 * 16 + 8) * 4
    assert (found[WINOGRAD].in_layout, found[WINOGRAD].out_layout) == (
        LIBRARY[WINOGRAD].in_layout,
        LIBRARY[WINOGRAD].out_layout,
    )


def test_other_layers_cost_the_same_in_every_layout_they_have() -> None:
    options = options_by_ratios(small(), device(), Ratios(profile(KNOWN)))
    relu = of(options, "relu")
    assert set(relu) == {"relu-chw", "relu-hwc", "relu-hcw"}
    assert {each.execute_s for each in relu.values()} == {5 + 1e-3 * moved_bytes(small(), 2)}
    assert set(of(options, "fc")) == {"fully-connected-chw"}
    assert of(options, "fc")["fully-connected-chw"].weight_bytes == (8 * 36 * 10 + 10) * 4
    assert set(of(options, "prob")) == {"softmax-chw"}
    assert {
        each.workspace_bytes for name in ("relu", "fc", "prob") for each in of(options, name).values()
    } == {0}


def test_a_transform_moves_every_byte_twice_at_the_rate_of_a_rectifier() -> None:
    options = options_by_ratios(small(), device(other_scale=3.0), Ratios(profile(KNOWN)))
    assert list(options.transform_s[1].values()) == pytest.approx([2 * 8 * 36 * 4 * 1e-3 * 3] * 6)
    assert options.transform_s[4] == {}


def test_without_rates_transforms_go_by_the_networks_own_measured_layers(tmp_path: Path) -> None:
    laptop = boards.load("edgecaffe-laptop")
    bare = laptop.model_copy(update={"cost": laptop.cost.model_copy(update={"execute": {}})})
    network = catalogue.build("AgeNet")
    reference = Ratios(
        profile({"3x227x227 m96 k7 s4 p0 g1": {IM2COL: 1.0}, "96x28x28 m256 k5 s1 p2 g1": {IM2COL: 1.0},
                 "256x14x14 m384 k3 s1 p1 g1": {IM2COL: 1.0}})
    )  # fmt: skip
    options = options_by_ratios(network, bare, reference)
    model = CostModel(bare)
    rates = [
        model.execute_s(network, index) / moved_bytes(network, index)
        for index, layer in enumerate(network.layers)
        if layer.op == "relu"
    ]
    per_byte = options.transform_s[1]["chw", "hwc"] / (2 * options.tensor_bytes[1])
    assert min(rates) <= per_byte <= max(rates)


def test_of_a_batch_times_and_tensors_are_of_all_images_the_workspace_of_one() -> None:
    one = options_by_ratios(small(), device(), Ratios(profile(KNOWN)))
    ten = options_by_ratios(small(10), device(), Ratios(profile(KNOWN)))
    for name in (IM2COL, WINOGRAD):
        alone, all_of_them = of(one, "conv")[name], of(ten, "conv")[name]
        assert all_of_them.execute_s == pytest.approx(10 * alone.execute_s)
        assert all_of_them.workspace_bytes == alone.workspace_bytes
        assert all_of_them.weight_bytes == alone.weight_bytes
    assert ten.tensor_bytes == tuple(10 * each for each in one.tensor_bytes)
    assert ten.live_bytes == tuple(10 * each for each in one.live_bytes)


def test_each_processor_has_its_own_times() -> None:
    two = device(on={"little": {"gemm_scale": 3.0, "other_scale": 7.0}})
    ratios = Ratios(profile(KNOWN))
    big, little = (options_by_ratios(small(), two, ratios, name) for name in ("big", "little"))
    assert of(little, "conv")[DIRECT].execute_s == pytest.approx(3 * of(big, "conv")[DIRECT].execute_s)
    assert of(little, "relu")["relu-hwc"].execute_s == pytest.approx(
        7 * of(big, "relu")["relu-hwc"].execute_s
    )
    assert little.transform_s[1]["chw", "hwc"] == pytest.approx(7 * big.transform_s[1]["chw", "hwc"])


# -- the nearest layer ------------------------------------------------------------------------------------


def test_the_nearest_layer_of_the_same_kernel_stride_and_kind_counts() -> None:
    found = Ratios(
        profile(
            {
                "64x14x14 m64 k3 s1 p1 g1": {IM2COL: 1.0, DIRECT: 2.0},
                "256x14x14 m256 k3 s1 p1 g1": {IM2COL: 1.0, DIRECT: 3.0},
                "100x14x14 m100 k5 s1 p2 g1": {IM2COL: 1.0, DIRECT: 4.0},
                "100x28x28 m100 k3 s2 p1 g1": {IM2COL: 1.0, DIRECT: 5.0},
                "200x14x14 m200 k3 s1 p1 g2": {IM2COL: 1.0, DIRECT: 6.0},
            }
        )
    )
    # In logarithms 127 is nearer to 64 than to 256, in numbers it is, too; 150 only in logarithms is not.
    assert found.of(ConvShape(127, 14, 14, 127, 3, 1, 1))[DIRECT] == 2.0
    assert found.of(ConvShape(150, 14, 14, 150, 3, 1, 1))[DIRECT] == 3.0
    assert found.of(ConvShape(100, 14, 14, 100, 5, 1, 2))[DIRECT] == 4.0
    assert found.of(ConvShape(64, 56, 56, 64, 3, 2, 1))[DIRECT] == 5.0
    assert found.of(ConvShape(512, 14, 14, 512, 3, 1, 1, 2))[DIRECT] == 6.0


def test_a_kernel_that_was_not_measured_takes_the_nearest_one_at_a_stride_of_its_kind() -> None:
    found = Ratios(
        profile(
            {
                "3x227x227 m96 k11 s4 p0 g1": {IM2COL: 1.0, DIRECT: 2.0},
                "64x14x14 m64 k3 s1 p1 g1": {IM2COL: 1.0, DIRECT: 3.0, WINOGRAD: 0.5},
            }
        )
    )
    assert found.of(ConvShape(3, 227, 227, 96, 7, 4)) == {DIRECT: 2.0, IM2COL: 1.0}
    assert found.of(ConvShape(256, 6, 6, 64, 6, 1)) == {DIRECT: 3.0, IM2COL: 1.0}


def test_a_primitive_that_the_nearest_layer_lacks_comes_from_the_next() -> None:
    found = Ratios(
        profile(
            {
                "64x14x14 m64 k3 s1 p1 g1": {IM2COL: 2.0},
                "256x14x14 m256 k3 s1 p1 g1": {IM2COL: 1.0, WINOGRAD: 0.25},
            }
        )
    )
    assert found.of(ConvShape(64, 14, 14, 64, 3, 1, 1)) == {IM2COL: 1.0, WINOGRAD: 0.25}


def test_depthwise_layers_have_a_reference_of_their_own() -> None:
    found = Ratios(
        profile({"32x14x14 m32 k3 s1 p1 g32": {"depthwise-direct-chw": 2.0, "depthwise-direct-hwc": 1.0}})
    )
    assert found.of(ConvShape(64, 28, 28, 64, 3, 1, 1, 64)) == {
        "depthwise-direct-chw": 1.0,
        "depthwise-direct-hwc": 0.5,
    }


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (ConvShape(32, 14, 14, 32, 3, 2, 1), "dense KxK stride above 1"),
        (ConvShape(32, 14, 14, 32, 3, 1, 1, 2), "grouped KxK stride 1"),
        (ConvShape(32, 14, 14, 32, 3, 1, 1, 32), "depthwise KxK stride 1"),
        (ConvShape(32, 14, 14, 32, 1, 2), "dense 1x1 stride above 1"),
    ],
)
def test_without_a_layer_of_the_kind_the_message_names_it(shape: ConvShape, text: str) -> None:
    with pytest.raises(TransferError, match=text) as error:
        Ratios(profile(KNOWN)).of(shape)
    assert shape.key in str(error.value)


def test_rows_of_the_devices_number_of_threads_count() -> None:
    key = "4x6x6 m8 k3 s1 p1 g1"
    rows = (
        *profile({key: {IM2COL: 2.0, DIRECT: 4.0}}, threads=1).rows,
        *profile({key: {IM2COL: 1.0, DIRECT: 3.0}}, threads=4).rows,
    )
    shape = ConvShape(4, 6, 6, 8, 3, 1, 1)
    assert Ratios(PrimitiveProfile(rows), threads=4).of(shape)[DIRECT] == 3.0
    assert Ratios(PrimitiveProfile(rows), threads=2).of(shape)[DIRECT] == 2.0


# -- devices ----------------------------------------------------------------------------------------------


def test_a_layer_that_ratios_do_not_know_is_named() -> None:
    with pytest.raises(ImplementingError, match="'small': layer 'pw'"):
        options_by_ratios(small(), device(), Ratios(profile(dict(list(KNOWN.items())[:1]))))


def test_what_primitives_do_not_compute_is_named() -> None:
    with pytest.raises(ImplementingError, match="'DS-CNN': layer 'conv1' has a kernel of 10 x 4"):
        options_by_ratios(catalogue.build("DS-CNN"), device(), Ratios(profile(KNOWN)))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ("AlexNet", "SqueezeNet 1.1", "MobileNet v1", "ResNet-18")
    return write_profile(names, tmp_path_factory.mktemp("reference") / "reference.csv")


def test_the_first_embedded_profile_is_the_default(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(implementing, "primitive_profile_names", lambda: [str(reference)])
    pi = boards.load("raspberry-pi-4-2gb")
    assert (pi.cost.primitives, pi.cost.primitive_ratios) == (None, None)
    found = of(network_options(catalogue.build("TinyYolo"), pi), "conv2")
    assert {WINOGRAD, IM2COL} <= set(found)


def test_with_no_profile_at_all_the_message_says_which_keys_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(implementing, "primitive_profile_names", list)
    with pytest.raises(ImplementingError, match=r"cost\.primitives .*cost\.primitive_ratios"):
        network_options(catalogue.build("AlexNet"), boards.load("raspberry-pi-4-2gb"))


def test_networks_of_another_kind_are_known_by_similar_layers(reference: Path) -> None:
    ratios = Ratios(read_primitives(reference))
    pi = boards.load("raspberry-pi-4-2gb")
    model = CostModel(pi)
    for name in ("GenderNet", "FaceNet", "GoogLeNet", "ResNet-50", "MobileNet v2"):
        network = catalogue.build(name)
        options = options_by_ratios(network, pi, ratios)
        for index, (layer, own) in enumerate(zip(network.layers, options.layers, strict=True)):
            if layer.op == "convolution":
                by_runtime = [each for each in own if each.primitive in (POINTWISE, IM2COL)][-1]
                assert by_runtime.execute_s == pytest.approx(model.execute_s(network, index), rel=0.5)
                assert all(math.isfinite(each.execute_s) and each.execute_s > 0 for each in own)


def test_a_scenario_of_edgecaffes_networks_is_planned_on_a_raspberry_pi(reference: Path) -> None:
    (reference.parent / "board.yaml").write_text(
        "like: raspberry-pi-4-2gb\nname: pi\ncost: {primitive_ratios: reference.csv}\n", encoding="utf-8"
    )
    names = ["AgeNet", "GenderNet", "TinyYolo"]

    def run(**policy: Any) -> RunResult:
        return simulate(
            scenario_of(
                {
                    "device": {"board": "board.yaml"},
                    "workload": {
                        "arrivals": {"process": "deterministic", "rate_per_s": 0.05},
                        "networks": names,
                    },
                    "policy": policy,
                    "run": {"requests": 2},
                }
            ),
            folder=reference.parent,
        )

    planned, linear = run(name="pareto", workers=1), run(name="linear")
    assert planned.infeasible is None
    assert max(planned.records.job_finish_s) < max(linear.records.job_finish_s)
    budget = 250_000_000
    assert planned.peak_bytes > planned.base_bytes + budget
    tight = run(name="pareto", workers=1, budget=budget)
    assert tight.infeasible is None
    assert tight.peak_bytes <= tight.base_bytes + budget
