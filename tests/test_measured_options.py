"""Options of devices with a primitive profile of their own: rows by hand, processors, threads, flash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgesched.devices import boards
from edgesched.devices.costing import CostError, CostModel
from edgesched.devices.implementing import ImplementingError, network_options, options_from_profile
from edgesched.devices.measured import measured_on
from edgesched.devices.model import Device
from edgesched.devices.options import NetworkOptions, Option
from edgesched.devices.planned import planned_cost
from edgesched.primitives.catalogue import LIBRARY
from edgesched.primitives.shape import conv_shape
from edgesched.traces.primitives import PrimitiveProfile, PrimitiveRow, write_primitives
from edgesched.workloads.builder import GraphBuilder
from edgesched.workloads.network import Network

IM2COL = "im2col-scan-ab-ki"
DIRECT = "direct-sum2d"
WINOGRAD = "winograd-2x2-3x3"
CONV = "convolution 4x6x6 m8 k3 s1 p1 g1"
WEIGHT_BYTES, BIAS_BYTES = 8 * 4 * 9 * 4, 8 * 4


def small(batch: int = 1) -> Network:
    """3x3 convolution of 4 to 8 channels on 6 x 6, its rectifier and its dropout in place, 10 features."""
    x = GraphBuilder("small").input("data", (batch, 4, 6, 6)).conv("conv", 8, 3, pad=1).relu("relu")
    return x.dropout("drop").fc("fc", 10).graph.build()


def row(primitive: str, seconds: float, **told: Any) -> PrimitiveRow:
    each = LIBRARY[primitive]
    shape = conv_shape(small(), 1)
    return PrimitiveRow(
        CONV,
        primitive,
        each.in_layout,
        each.out_layout,
        seconds,
        workspace_bytes=each.workspace_bytes(shape),
        weight_bytes=each.weight_bytes(shape),
        **told,
    )


def others(**told: Any) -> list[PrimitiveRow]:
    """The rectifier, the features and a transform of the image between them."""
    weights = (8 * 36 * 10 + 10) * 4
    return [
        PrimitiveRow("relu 8x6x6", "relu-chw", "chw", "chw", 0.25, **told),
        PrimitiveRow(
            "fully-connected 8x6x6 -> 10",
            "fully-connected-chw",
            "chw",
            "chw",
            3.0,
            weight_bytes=weights,
            **told,
        ),
        PrimitiveRow("transform 8x6x6", "hwc-to-chw", "hwc", "chw", 0.5, **told),
    ]


def profile(*rows: PrimitiveRow) -> PrimitiveProfile:
    return PrimitiveProfile((*rows, *others()), {"source": "made up"})


def device(tmp_path: Path, *rows: PrimitiveRow, **parts: Any) -> Device:
    path = tmp_path / "own.csv"
    write_primitives(PrimitiveProfile(rows, {"source": "made up"}), path)
    return Device.model_validate(
        {
            "name": "toy",
            "processors": [{"name": "big"}, {"name": "little"}],
            "memory": {"total_bytes": 1 << 30},
            **parts,
            "cost": {"primitives": str(path), **parts.get("cost", {})},
        }
    )


def of(options: NetworkOptions, layer: str) -> dict[str, Option]:
    index = [each.name for each in options.network.layers].index(layer)
    assert len({each.primitive for each in options.layers[index]}) == len(options.layers[index])
    return {option.primitive: option for option in options.layers[index]}


# -- rows -------------------------------------------------------------------------------------------------


def test_rows_become_options_with_the_bias_beside_their_weights() -> None:
    options = options_from_profile(small(), profile(row(IM2COL, 2.0), row(WINOGRAD, 1.0)))
    assert of(options, "conv") == {
        IM2COL: Option(IM2COL, "chw", "chw", 2.0, 4 * 9 * 36 * 4, WEIGHT_BYTES + BIAS_BYTES),
        WINOGRAD: Option(
            WINOGRAD,
            "hwc",
            "hwc",
            1.0,
            16 * (4 + 8) * 9 * 4,
            8 * 4 * 16 * 4 + BIAS_BYTES,
        ),
    }
    assert of(options, "relu") == {"relu-chw": Option("relu-chw", "chw", "chw", 0.25)}
    assert of(options, "fc")["fully-connected-chw"].weight_bytes == (8 * 36 * 10 + 10) * 4
    assert options.transform_s[1] == {("hwc", "chw"): 0.5}
    assert options.transform_s[4] == {}
    assert options.live_bytes == small().live_bytes
    assert options.tensor_bytes == (4 * 36 * 4, 8 * 36 * 4, 8 * 36 * 4, 8 * 36 * 4, 40)


def test_what_does_nothing_is_free_in_every_layout() -> None:
    options = options_from_profile(small(), profile(row(DIRECT, 1.0)))
    assert {(o.in_layout, o.out_layout, o.execute_s) for o in of(options, "drop").values()} == {
        (layout, layout, 0.0) for layout in ("chw", "hwc", "hcw")
    }
    assert [(o.in_layout, o.execute_s, o.weight_bytes) for o in options.layers[0]] == [("chw", 0.0, 0)]


def test_a_layer_that_the_profile_lacks_is_named_with_what_would_measure_it() -> None:
    with pytest.raises(ImplementingError) as error:
        options_from_profile(small(), PrimitiveProfile(tuple(others())))
    message = str(error.value)
    assert "network 'small': layer 'conv'" in message
    assert CONV in message
    assert "edgesched profile primitives 'small' --out FILE" in message


def test_several_images_and_other_values_are_refused() -> None:
    known = profile(row(DIRECT, 1.0))
    with pytest.raises(ImplementingError, match="computes 2 images at once"):
        options_from_profile(small(2), known)
    stored = CostModel(boards.load("stm32h743")).cost(small()).network
    with pytest.raises(ImplementingError, match="values of 1 bytes"):
        options_from_profile(stored, known)


def test_values_of_16_bits_are_refused_whatever_network_is_asked_for(tmp_path: Path) -> None:
    half = device(tmp_path, row(DIRECT, 1.0), *others(), runtime={"element_bytes": 2})
    with pytest.raises(ImplementingError, match=r"runtime\.element_bytes is 2"):
        network_options(small(), half)


# -- processors and threads -------------------------------------------------------------------------------


def test_a_processor_that_the_profile_does_not_name_takes_its_factors(tmp_path: Path) -> None:
    on = {"little": {"gemm_scale": 5.0, "other_scale": 7.0}}
    two = device(tmp_path, row(IM2COL, 2.0), row(DIRECT, 8.0), *others(), cost={"on": on})
    big, little = (network_options(small(), two, processor=name) for name in ("big", "little"))
    assert {name: each.execute_s for name, each in of(big, "conv").items()} == {IM2COL: 2.0, DIRECT: 8.0}
    assert {name: each.execute_s for name, each in of(little, "conv").items()} == {IM2COL: 10.0, DIRECT: 40.0}
    assert of(little, "fc")["fully-connected-chw"].execute_s == 15.0
    assert of(little, "relu")["relu-chw"].execute_s == 7 * 0.25
    assert little.transform_s[1] == {("hwc", "chw"): 3.5}
    assert network_options(small(), two) == big


@pytest.mark.parametrize("processor", ["big", "little"])
def test_what_the_runtime_takes_is_the_fastest_option_on_every_processor(
    processor: str, tmp_path: Path
) -> None:
    on = {"little": {"gemm_scale": 5.0, "other_scale": 7.0}}
    two = device(tmp_path, row(IM2COL, 2.0), row(DIRECT, 8.0), *others(), cost={"on": on})
    options = network_options(small(), two, processor=processor)
    costs = CostModel(two).cost(small(), processor).execute_s
    assert costs == tuple(min(each.execute_s for each in own) for own in options.layers)


def test_a_processor_that_the_profile_names_takes_what_was_measured_there(tmp_path: Path) -> None:
    rows = [row(DIRECT, 8.0, processor="big"), row(DIRECT, 9.0, processor="little"), *others()]
    two = device(tmp_path, *rows, cost={"on": {"little": {"gemm_scale": 5.0}}})
    for name, seconds in (("big", 8.0), ("little", 9.0)):
        assert of(network_options(small(), two, processor=name), "conv")[DIRECT].execute_s == seconds
        assert CostModel(two).execute_s(small(), 1, name) == seconds


def test_a_processor_with_rates_of_its_own_takes_ratios_of_them(tmp_path: Path) -> None:
    on = {"little": {"execute": {"convolution": {"call_s": 100.0}, "other": {"call_s": 1.0}}}}
    two = device(tmp_path, row(IM2COL, 2.0), row(DIRECT, 8.0), *others(), cost={"on": on})
    found = of(network_options(small(), two, processor="little"), "conv")
    assert {name: each.execute_s for name, each in found.items()} == {IM2COL: 100.0, DIRECT: 400.0}


@pytest.mark.parametrize("board", ["own", "stm32h743"])
def test_an_unknown_processor_is_refused(board: str, tmp_path: Path) -> None:
    own = device(tmp_path, row(DIRECT, 1.0), *others())
    with pytest.raises(CostError, match="no processor 'gpu'"):
        network_options(small(), own if board == "own" else boards.load(board), processor="gpu")


@pytest.mark.parametrize(("threads", "seconds"), [(1, 2.0), (2, 2.0), (4, 1.0)])
def test_of_several_numbers_of_threads_the_devices_own_counts(
    threads: int, seconds: float, tmp_path: Path
) -> None:
    rows = [row(IM2COL, 2.0, threads=1), row(IM2COL, 1.0, threads=4), *others()]
    board = device(tmp_path, *rows, runtime={"threads": threads})
    assert of(network_options(small(), board), "conv")[IM2COL].execute_s == seconds
    assert CostModel(board).execute_s(small(), 1) == seconds


def test_a_profile_alone_counts_by_its_first_processor_and_fewest_threads() -> None:
    rows = (row(IM2COL, 3.0, processor="b", threads=4), row(IM2COL, 2.0, processor="b", threads=2),
            row(IM2COL, 1.0, processor="a", threads=1))  # fmt: skip
    assert of(options_from_profile(small(), profile(*rows)), "conv")[IM2COL].execute_s == 2.0


def test_a_row_that_states_more_goes_before_one_that_states_less() -> None:
    rows = (row(IM2COL, 3.0), row(IM2COL, 2.0, threads=2), row(DIRECT, 5.0))
    found = measured_on(PrimitiveProfile(rows), "any", 2)
    assert [each.execute_s for each in found.of(CONV)] == [2.0, 5.0]


def test_a_profile_with_one_row_of_each_stays_as_it_is() -> None:
    known = profile(row(IM2COL, 3.0, threads=1), row(DIRECT, 2.0, threads=1))
    assert measured_on(known, "any", 4) is known


# -- weights in flash -------------------------------------------------------------------------------------


def in_flash(**cost: Any) -> dict[str, Any]:
    return {"storage": {"reads": "in-place", "read_bytes_per_s": 10.0}, "cost": cost}


def test_weights_that_stay_in_flash_take_no_memory_under_a_plan(tmp_path: Path) -> None:
    board = device(tmp_path, row(IM2COL, 2.0), row(WINOGRAD, 1.0), *others(), **in_flash())
    options = network_options(small(), board)
    assert {each.weight_bytes for own in options.layers for each in own} == {0}
    assert of(options, "conv")[IM2COL].execute_s == 2.0  # as measured
    cost = CostModel(board).cost(small())
    plan = planned_cost(cost, options, (0,) * len(options.layers), board.runtime)
    assert (cost.init_start_bytes, plan.init_start_bytes, plan.bulk_load_start_bytes) == (0, 0, 0)


# im2col computes 100 s, Winograd 50 s; the weights of 1184 and 2080 bytes take 118.4 s and 208 s to read
@pytest.mark.parametrize(
    ("prefetch", "im2col_s", "winograd_s"), [(True, 118.4, 208.0), (False, 218.4, 258.0)]
)
def test_a_primitive_by_ratio_waits_for_its_own_weights(
    prefetch: bool, im2col_s: float, winograd_s: float, tmp_path: Path
) -> None:
    board = device(tmp_path, row(IM2COL, 2.0), row(WINOGRAD, 1.0), *others(), **in_flash(
        execute={"convolution": {"call_s": 100.0}, "other": {}}, primitive_ratios=str(tmp_path / "own.csv"),
        primitives=None,
    ))  # fmt: skip
    storage = board.storage.model_copy(update={"prefetch": prefetch})
    board = board.model_copy(update={"storage": storage})
    options = network_options(small(), board)
    times = {name: each.execute_s for name, each in of(options, "conv").items()}
    assert times == pytest.approx({IM2COL: im2col_s, WINOGRAD: winograd_s})
    assert times[IM2COL] == pytest.approx(CostModel(board).execute_s(small(), 1))
    assert {each.weight_bytes for own in options.layers for each in own} == {0}
