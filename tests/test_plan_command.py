"""``edgesched primitives``, ``plan`` and ``frontier`` as a user meets them, and the frontier's figure."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edgesched.cli.main import main
from edgesched.cli.plan import Objective
from edgesched.cli.planned import Memory, abbreviated, family
from edgesched.cli.primitives import EXAMPLES, PROBES, parse_shape
from edgesched.devices import boards
from edgesched.devices.implementing import options_from_profile
from edgesched.devices.reading import InputError
from edgesched.policies.planning.memory import MEMORIES
from edgesched.policies.planning.partition import OBJECTIVES
from edgesched.policies.planning.pricing import price
from edgesched.primitives.catalogue import LIBRARY, candidates, primitive
from edgesched.primitives.layouts import LAYOUTS, transform_name
from edgesched.primitives.published import PUBLISHED
from edgesched.primitives.shape import CONVOLUTIONS, ConvShape, conv_shape, layer_key, tensor_key
from edgesched.sim.plots import save, time_against_memory
from edgesched.sim.plots.frontier import FAMILIES, PlottedPlan
from edgesched.traces.primitives import PrimitiveProfile, PrimitiveRow, read_primitives, write_primitives
from edgesched.workloads import catalogue

NETWORKS = ("AlexNet", "SqueezeNet 1.1")
RATES = {"direct-sum2d": 4e9, "direct-hwc": 3e9, "im2row-scan-ab-ik": 3e10, "im2col-strip-4-ab-ki": 2e10}


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up times of a few primitives for all layers of ``NETWORKS``."""
    rows: dict[tuple[str, str], PrimitiveRow] = {}

    def add(row: PrimitiveRow) -> None:
        rows[row.layer, row.primitive] = row

    for name in NETWORKS:
        network = catalogue.build(name)
        for index, layer in enumerate(network.layers):
            if layer.op in CONVOLUTIONS:
                shape = conv_shape(network, index)
                for own in (primitive(each) for each in RATES):
                    time_s = shape.macs / RATES[own.name] + 1e-5
                    sizes = own.workspace_bytes(shape), own.weight_bytes(shape)
                    add(
                        PrimitiveRow(
                            layer_key(network, index),
                            own.name,
                            own.in_layout,
                            own.out_layout,
                            time_s,
                            workspace_bytes=sizes[0],
                            weight_bytes=sizes[1],
                        )
                    )
            elif layer.op != "input":
                image = len(layer.output_shape) == 4 and layer.op != "fully-connected"
                for layout in ("chw", "hwc") if image else ("chw",):
                    time_s = math.prod(layer.output_shape) / 1e9
                    key = layer_key(network, index)
                    bytes_kept = layer.weight_bytes
                    own_name = f"{layer.op}-{layout}"
                    add(PrimitiveRow(key, own_name, layout, layout, time_s, weight_bytes=bytes_kept))
            if len(layer.output_shape) == 4:
                for before in LAYOUTS:
                    for after in LAYOUTS:
                        if before != after:
                            key = tensor_key(layer.output_shape[1:])
                            time_s = math.prod(layer.output_shape) / 2e9
                            add(PrimitiveRow(key, transform_name(before, after), before, after, time_s))
    path = tmp_path_factory.mktemp("profile") / "made-up.csv"
    write_primitives(PrimitiveProfile(tuple(rows.values()), {"source": "made up"}), path)
    return path


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


# -- primitives -------------------------------------------------------------------------------------------


def test_all_primitives_are_listed(call: Call) -> None:
    code, out, _ = call("primitives", "list")
    assert code == 0
    names = [line.split()[0] for line in out.splitlines()[1 : len(LIBRARY) + 1]]
    assert names == list(LIBRARY)


@pytest.mark.parametrize("text", [*EXAMPLES, *PROBES.values()])
def test_those_that_compute_a_shape_are_listed_with_their_bytes(call: Call, text: str) -> None:
    code, out, _ = call("primitives", "list", "--shape", text)
    assert code == 0
    shape = parse_shape(text)
    found = {own.name for own in candidates(shape)}
    listed = {line.split()[0] for line in out.split("do not compute it")[0].splitlines() if line.strip()}
    assert listed & set(LIBRARY) == found
    assert f"{len(found)} of {len(LIBRARY)}" in out
    for own in LIBRARY.values():
        if (why := own.refuses(shape)) is not None:
            assert why in " ".join(out.split())


def test_a_networks_convolutions_are_counted(call: Call) -> None:
    code, out, _ = call("primitives", "list", "--network", "alexnet")
    assert code == 0
    network = catalogue.build("AlexNet")
    for index, layer in enumerate(network.layers):
        if layer.op in CONVOLUTIONS:
            shape = conv_shape(network, index)
            (line,) = (line for line in out.splitlines() if line.startswith(f"{layer.name} "))
            assert shape.key in line
            assert str(len(candidates(shape))) in line.split()


def test_one_primitive_is_shown(call: Call) -> None:
    code, out, _ = call("primitives", "show", "im2row-scan-ab-ik", "--shape", "64x56x56 m128 k3")
    assert code == 0
    own, shape = primitive("im2row-scan-ab-ik"), ConvShape(64, 56, 56, 128, 3, 1, 1)
    for part in (
        "im2row",
        own.in_layout,
        own.out_layout,
        shape.key,
        f"{own.workspace_bytes(shape):,}",
        *own.packages,
    ):
        assert part in out


def test_why_a_primitive_does_not_compute_a_shape(call: Call) -> None:
    _, out, _ = call("primitives", "show", "kn2row", "--shape", "8x8x8 m8 k3 s2")
    why = LIBRARY["kn2row"].refuses(ConvShape(8, 8, 8, 8, 3, 2, 1))
    assert why is not None
    assert why in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--shape", "64x56"),
        ("list", "--shape", "64x56x56 m8"),
        ("list", "--shape", "64x56x56 m8 k3 k5"),
        ("list", "--shape", "8x2x2 m8 k9 p0"),
        ("list", "--shape", "8x8x8 m8 k3 g3"),
        ("list", "--shape", "8x8x8 m8 k3", "--network", "AlexNet"),
        ("list", "--network", "AlexNt"),
        ("show", "im2row"),
    ],
)
def test_a_wrong_shape_or_name_is_one_message(call: Call, arguments: tuple[str, ...]) -> None:
    code, out, err = call("primitives", *arguments)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1


def test_what_goes_without_saying_in_a_shape() -> None:
    assert parse_shape(" 3x4X5, M6 k3 ") == ConvShape(3, 4, 5, 6, 3, 1, 1, 1)
    assert parse_shape("6x9x9 m6 k5 s2 p0 g3") == ConvShape(6, 9, 9, 6, 5, 2, 0, 3)
    with pytest.raises(InputError):
        parse_shape("3x4x5 m6 k3 q1")


def test_every_family_has_a_colour_and_every_name_a_short_one() -> None:
    assert {family(name) for name in (*LIBRARY, *PUBLISHED)} <= set(FAMILIES)
    assert family("no-such-primitive") == "other"
    assert abbreviated("winograd-2x2-3x3-vec-4") == "wino-2x2"
    assert abbreviated("winograd-chw-4x4-5x5-rows-4") == "wino-4x4-rows-4"
    assert abbreviated("conv-1x1-gemm-atb-ik") == "1x1"
    assert abbreviated("im2row-copy-short-abt-ki") == "im2row"
    assert abbreviated("kn2row-aa-ab") == "kn2row-aa"
    assert abbreviated("im2row-strip-4-scan-ab-ik") == "im2row-strip-4"


def test_the_commands_offer_what_the_planner_knows() -> None:
    assert {each.value for each in Memory} == set(MEMORIES)
    assert all(each.words for each in Memory)
    assert {each.value for each in Objective} == set(OBJECTIVES)


# -- plan -------------------------------------------------------------------------------------------------


def planned(call: Call, tmp_path: Path, *arguments: object) -> tuple[int, str, dict[str, Any]]:
    path = tmp_path / "plan.json"
    code, out, err = call(*arguments, "--json", path)
    assert err == ""
    return code, out, json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_plan_is_the_fastest_within_the_budget(
    call: Call, tmp_path: Path, profile: Path, memory: str
) -> None:
    _, _, free = planned(call, tmp_path, "plan", "AlexNet", "--profile", profile, "--memory", memory)
    points = free["points"]
    assert len(points) > 2
    assert free["plan"]["time_s"] == points[-1]["time_s"]
    budget = points[1]["memory_bytes"]
    code, out, found = planned(
        call, tmp_path, "plan", "AlexNet", "--profile", profile, "--memory", memory, "--budget", budget
    )
    plan = found["plan"]
    assert code == 0
    assert out.startswith("Verdict: AlexNet takes")
    assert {key: plan[key] for key in ("memory_bytes", "time_s")} == points[1]
    options = options_from_profile(catalogue.build("AlexNet"), read_primitives(profile))
    choice = [
        [own.primitive for own in options.layers[at]].index(layer["primitive"])
        for at, layer in enumerate(plan["layers"])
    ]
    priced = price(options, choice)
    assert plan["memory"] == {each: priced.memory_bytes(each) for each in MEMORIES}
    assert plan["memory"][memory] == plan["memory_bytes"] <= budget
    total_s = math.fsum(layer["execute_s"] + layer["transform_s"] for layer in plan["layers"])
    assert total_s == pytest.approx(plan["time_s"], abs=1e-10)
    assert all(bool(layer["transforms"]) == bool(layer["transform_s"]) for layer in plan["layers"])
    for layer in plan["layers"]:
        assert layer["primitive"] in out


def test_a_network_that_does_not_fit_says_what_would(call: Call, tmp_path: Path, profile: Path) -> None:
    arguments = ("plan", "AlexNet", "--profile", profile, "--memory", "peak-live")
    code, out, found = planned(call, tmp_path, *arguments, "--budget", "64KB")
    least = found["points"][0]["memory_bytes"]
    assert (code, found["fits"], found["plan"], found["demand_bytes"]) == (1, False, None, least)
    assert "does not fit" in out
    assert f"{least:,}" in out
    assert f"{least - 64_000:,} too few" in out
    assert call(*arguments, "--budget", least)[0] == 0
    assert call(*arguments, "--budget", least - 1)[0] == 1


def test_several_networks_share_the_budget(call: Call, tmp_path: Path, profile: Path) -> None:
    code, out, found = planned(call, tmp_path, "plan", *NETWORKS, "--profile", profile, "--budget", "300kB")
    assert (code, found["fits"]) == (0, True)
    first, second = ([(p["memory_bytes"], p["time_s"]) for p in points] for points in found["points"])
    best = min(a[1] + b[1] for a in first for b in second if a[0] + b[0] <= 300_000)
    assert found["value"] == pytest.approx(best, rel=1e-9)
    shares = found["partition"]
    assert [each["network"] for each in shares] == list(NETWORKS)
    assert sum(each["budget_bytes"] for each in shares) == found["memory_bytes"] <= 300_000
    assert all(each["plan"]["memory_bytes"] == each["budget_bytes"] for each in shares)
    half = sum(min(time for size, time in own if size <= 150_000) for own in (first, second))
    assert found["baselines"]["equal split"]["value"] == pytest.approx(half, rel=1e-9)
    whole = sum(min(time for size, time in own if size <= 300_000) for own in (first, second))
    assert found["baselines"]["shared arena"]["value"] == pytest.approx(whole, rel=1e-9)
    for name in found["baselines"]:
        assert name in out


def test_networks_that_do_not_fit_together_may_take_turns(call: Call, tmp_path: Path, profile: Path) -> None:
    arguments = ("plan", *NETWORKS, "--profile", profile, "--memory", "peak-live")
    _, _, free = planned(call, tmp_path, *arguments)
    least = [points[0]["memory_bytes"] for points in free["points"]]
    code, out, found = planned(call, tmp_path, *arguments, "--budget", sum(least) - 1)
    assert (code, found["fits"], found["demand_bytes"]) == (1, False, sum(least))
    assert "shared arena" in out
    assert found["baselines"]["shared arena"] is not None
    code, out, found = planned(call, tmp_path, *arguments, "--budget", max(least) - 1)
    assert code == 1
    assert "shared arena" not in out
    assert found["baselines"]["shared arena"] is None


def test_weights_and_deadlines_are_what_is_minimised(call: Call, tmp_path: Path, profile: Path) -> None:
    arguments = ("plan", *NETWORKS, "--profile", profile, "--budget", "300kB")
    _, _, weighted = planned(
        call, tmp_path, *arguments, "--objective", "weighted", "--weights", "alexnet=3,SqueezeNet1.1=0.5"
    )
    times = [each["plan"]["time_s"] for each in weighted["partition"]]
    assert weighted["value"] == pytest.approx(3 * times[0] + 0.5 * times[1])
    _, out, late = planned(
        call, tmp_path, *arguments, "--objective", "deadline", "--deadlines", "AlexNet=1ms", "--deadlines",
        "SqueezeNet 1.1=5s",
    )  # fmt: skip
    times = [each["plan"]["time_s"] for each in late["partition"]]
    assert late["value"] == pytest.approx(times[0] / 0.001)
    assert "late" in out.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("AlexNt",), "did you mean AlexNet"),
        (("AlexNet", "--budget", "3XB"), "--budget"),
        (("VGG-16",), "is not in the primitive profile"),
        (("AlexNet", "--weights", "AlexNet=2"), "--objective weighted"),
        (("AlexNet", "--objective", "deadline"), "--deadlines"),
        (("AlexNet", "--objective", "weighted", "--weights", "AlexNet"), "NETWORK=VALUE"),
        (("AlexNet", "--objective", "weighted", "--weights", "AlexNet=1ms"), "NETWORK=VALUE"),
        (("AlexNet", "--objective", "weighted", "--weights", "AlexNet=1,alexnet=2"), "twice"),
        (("AlexNet", "--objective", "weighted", "--weights", "VGG-16=1"), "is not planned"),
        (("AlexNet", *NETWORKS[1:], "--objective", "deadline", "--deadlines", "AlexNet=1"), "SqueezeNet 1.1"),
        (("AlexNet", "--objective", "deadline", "--deadlines", "AlexNet=0"), "above 0"),
        (("AlexNet", "--json", "no/such/folder/x.json"), "there is no folder"),
        (("AlexNet", "--device", "raspberry-pi-4-2gb"), "give one of them"),
    ],
)
def test_a_wrong_plan_is_one_message(
    call: Call, profile: Path, arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = call("plan", *arguments, "--profile", profile)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_plan_for_a_board(call: Call, tmp_path: Path, profile: Path) -> None:
    board = boards.load("ideal").model_dump(mode="json", exclude_none=True)
    board["cost"] = {"primitives": str(profile)}
    path = tmp_path / "board.yaml"
    path.write_text(json.dumps(board), encoding="utf-8")
    _, _, on_board = planned(call, tmp_path, "plan", "AlexNet", "--device", path)
    _, _, on_profile = planned(call, tmp_path, "plan", "AlexNet", "--profile", profile)
    assert on_board["plan"] == on_profile["plan"]
    code, _, err = call("plan", "AlexNet", "--device", "ideal")
    assert code == 2
    assert "no rate for operation" in err


def test_a_profile_that_is_not_there(call: Call, tmp_path: Path) -> None:
    code, _, err = call("plan", "AlexNet", "--profile", "no-such-machine")
    assert code == 2
    assert "there is none of that name" in err
    code, _, err = call("frontier", "AlexNet", "--profile", tmp_path / "no.csv")
    assert code == 2
    assert "there is no such file" in err


# -- frontier ---------------------------------------------------------------------------------------------


def test_a_frontier_falls_and_its_marks_are_on_it(call: Call, tmp_path: Path, profile: Path) -> None:
    code, out, found = planned(
        call, tmp_path, "frontier", "AlexNet", "--profile", profile, "--budget", "300kB"
    )
    points = [(p["memory_bytes"], p["time_s"]) for p in found["points"]]
    assert code == 0
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(points))
    marks = {
        key: (found[key]["memory_bytes"], found[key]["time_s"])
        for key in ("knee", "within_15_percent", "within_budget")
    }
    assert set(marks.values()) <= set(points)
    fastest = points[-1][1]
    assert marks["within_15_percent"] == next(point for point in points if point[1] <= 1.15 * fastest)
    assert marks["within_budget"] == max(point for point in points if point[0] <= 300_000)
    for size, _ in points:
        assert f"{size:,}" in out
    layers = len(catalogue.build("AlexNet").layers)
    assert all(len(point["primitives"]) == layers == len(found["layers"]) for point in found["points"])


def test_a_budget_that_nothing_fits(call: Call, tmp_path: Path, profile: Path) -> None:
    code, out, found = planned(
        call, tmp_path, "frontier", "AlexNet", "--profile", profile, "--memory", "total", "--budget", "1MB"
    )
    assert (code, found["within_budget"]) == (1, None)
    assert "no plan fits 1 MB" in out


def test_the_figure_is_written(call: Call, tmp_path: Path, profile: Path) -> None:
    out = tmp_path / "new" / "figures"
    code, said, _ = call("frontier", "SqueezeNet 1.1", "--profile", profile, "--plot", "--out", out)
    assert code == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == [f"frontier-squeezenet-1.1-peak-workspace.{kind}" for kind in ("pdf", "png")]
    assert all(str(out / name) in said for name in names)


# -- the figure -------------------------------------------------------------------------------------------

PLANS = [
    PlottedPlan(0, 0.34, ("direct",) * 3, ("direct",) * 3),
    PlottedPlan(500, 0.1, ("direct", "kn2", "kn2"), ("direct", "kn2row-aa", "kn2row-aa")),
    PlottedPlan(2_400_000, 0.04, ("mec", "winograd2d", "odd"), ("mec-col", "wino-2x2", "odd")),
]
LAYERS = ["conv1", "conv2", "conv$3"]


def drawn_inside(figure: Any) -> bool:
    """Whether nothing visible reaches beyond the figure."""
    figure.canvas.draw()
    box = figure.get_tightbbox(figure.canvas.get_renderer())
    width, height = figure.get_size_inches()
    return bool(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height)


@pytest.mark.parametrize("chosen", range(len(PLANS)))
@pytest.mark.parametrize("budget", [None, 600, 3_000_000])
def test_every_plan_is_a_point_and_nothing_is_cut_off(chosen: int, budget: int | None) -> None:
    figure = time_against_memory(PLANS, LAYERS, chosen=chosen, budget_bytes=budget, title="A $5 network")
    upper, lower = figure.axes
    assert any(list(line.get_xdata()) == [plan.memory_bytes for plan in PLANS] for line in upper.lines)
    limits = upper.get_xlim()
    assert limits[0] < 0 < PLANS[-1].memory_bytes < limits[1]
    shown = {0, chosen, len(PLANS) - 1}
    assert len(lower.patches) == len(LAYERS) * len(shown)
    texts = [text.get_text() for text in upper.texts]
    assert any(text.startswith("knee: ") for text in texts)
    assert any(text.startswith("budget ") for text in texts) == (budget is not None)
    assert drawn_inside(figure)


@pytest.mark.parametrize(
    "sizes", [[0], [7], [10, 11], [0, 5], [1, 10**9], [5 * 10**6, 6 * 10**6, 9 * 10**6], [0, 4, 5, 6]]
)
def test_any_span_of_memory_is_shown(tmp_path: Path, sizes: list[int]) -> None:
    plans = [
        dataclasses.replace(PLANS[0], memory_bytes=size, time_s=1 / (1 + at)) for at, size in enumerate(sizes)
    ]
    figure = time_against_memory(plans, LAYERS, chosen=len(plans) - 1)
    left, right = figure.axes[0].get_xlim()
    assert left <= sizes[0] <= sizes[-1] < right
    assert drawn_inside(figure)
    assert all(path.stat().st_size > 1000 for path in save(figure, tmp_path / "figure"))


def test_many_convolutions_lose_their_names_but_keep_their_cells() -> None:
    count = 60
    plans = [dataclasses.replace(plan, families=plan.families * 20, names=plan.names * 20) for plan in PLANS]
    figure = time_against_memory(plans, [f"layer{at}" for at in range(count)], chosen=1)
    lower = figure.axes[1]
    assert len(lower.patches) == count * 3
    assert "60 convolutions" in lower.get_xlabel()
    assert drawn_inside(figure)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be marked"):
        time_against_memory([], LAYERS, chosen=0)
    with pytest.raises(ValueError, match="cannot be marked"):
        time_against_memory(PLANS, LAYERS, chosen=3)
    with pytest.raises(ValueError, match="each of 2 layers"):
        time_against_memory(PLANS, LAYERS[:2], chosen=0)
