"""``edgesched validate primitives`` against a search of its own over triNNity's files."""

from __future__ import annotations

import csv
import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from edgesched.cli.main import main

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")
BUDGETS = [million * 10**6 for million in (1, 2, 4, 6, 8, 12)]
Plans = list[tuple[int, float]]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command writes."""
    if not (DATA / "primitives").is_dir():
        pytest.skip("the measurement data (../shared/data/primitives) is not here")
    path = tmp_path_factory.mktemp("validate") / "found.json"
    with pytest.raises(SystemExit) as ended:
        main(["validate", "primitives", "--data", str(DATA), "--json", str(path)])
    assert not ended.value.code
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def bytes_of(name: str, m: int, c: int, s: int, w: int, h: int, k: int, reading: str) -> int:
    """Workspace from the name, float32."""
    ho, wo, pad = math.ceil(h / s), math.ceil(w / s), k // 2
    elements: int
    if name.startswith(("im2col", "im2row")):
        elements = k * k * c * ho * wo
    elif name.startswith("mec"):
        elements = k * c * wo * (h + 2 * pad)
    elif name.startswith("kn2row-aa"):
        padded = c * ((h + 2 * pad) * (w + 2 * pad) + 2 * pad)
        elements = k * w if reading == "published" else m * h * 2 * pad + padded
    elif name.endswith("-as"):
        elements = m * h * w
    elif name.startswith("kn2"):
        elements = k * k * m * h * w
    elif name.startswith("winograd"):
        tile, kernel = name.split("-")[1:3]
        sides = [int(part) for part in (tile.split("x")[0], kernel.split("x")[0])]
        t = sum(sides) - 1
        rows = math.ceil(wo / sides[0])
        flat = t * (c + m) * ho * rows
        elements = t * t * (c + m) * math.ceil(ho / sides[0]) * rows if "x" in tile else flat
    else:
        assert name.startswith(("direct", "conv-1x1"))
        elements = 0
    return elements * 4


def brute_force(reading: str) -> Plans:
    """Least bytes first: of every threshold, the fastest of all combinations of layout pairs."""
    options: dict[str, list[tuple[str, str, int, float]]] = {layer: [] for layer in LAYERS}
    direct: dict[tuple[str, str, str], float] = {}
    folder = DATA / "primitives"
    with (folder / "trinnity_alexnet_i5-2500k_profile.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["applicable"] == "1":
                sides = [
                    int(row[key]) for key in ("kernels_m", "channels_c", "stride", "width", "height", "k")
                ]
                own = bytes_of(row["primitive"], *sides, reading)
                options[row["layer"]].append(
                    (row["in_layout"], row["out_layout"], own, float(row["time_ns_mean"]))
                )
    with (folder / "trinnity_alexnet_i5-2500k_transforms.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = row["tensor_of_layer_input"], row["from_layout"], row["to_layout"]
            direct[key] = float(row["time_ns_mean"]) if key[1] != key[2] else 0.0

    def moved(layer: str, before: str, after: str) -> list[float]:
        ways = [[direct[layer, before, after]]]
        ways += [[direct[layer, before, via], direct[layer, via, after]] for via in ("chw", "hwc", "hcw")]
        return min(ways, key=sum)

    best: dict[int, float] = {}
    for threshold in sorted({own for found in options.values() for _, _, own, _ in found}):
        reduced = []
        for layer in LAYERS:
            pairs: dict[tuple[str, str], tuple[float, int]] = {}
            for before, after, own, time in options[layer]:
                if own <= threshold:
                    known = pairs.get((before, after), (math.inf, 0))
                    pairs[before, after] = min(known, (time, own))
            reduced.append(list(pairs.items()))
        for plan in itertools.product(*reduced):
            layouts = ["chw", *(pair[1] for pair, _ in plan)]
            times = [time for _, (time, _) in plan]
            for layer, before, (pair, _) in zip(LAYERS, layouts, plan, strict=False):
                times += moved(layer, before, pair[0])
            size = max(own for _, (_, own) in plan)
            best[size] = min(best.get(size, math.inf), math.fsum(times))
    kept: Plans = []
    for size, time in sorted(best.items()):
        if not kept or time < kept[-1][1]:
            kept.append((size, time))
    return kept


@pytest.mark.parametrize("reading", ["published", "implementable"])
def test_the_frontier_is_that_of_all_combinations(said: dict[str, Any], reading: str) -> None:
    expected = brute_force(reading)
    found = said["frontier"][reading]
    assert [size for size, _ in found] == [size for size, _ in expected]
    assert [time for _, time in found] == pytest.approx([time for _, time in expected], rel=1e-13)


def test_partitions_are_the_best_of_all_pairs(said: dict[str, Any]) -> None:
    plans = [tuple(point) for point in said["frontier"]["published"]]
    assert [row["budget_bytes"] for row in said["partitions"]] == BUDGETS
    for row in said["partitions"]:
        budget = row["budget_bytes"]
        pairs = [a[1] + b[1] for a in plans for b in plans if a[0] + b[0] <= budget]
        half = min(time for size, time in plans if 2 * size <= budget)
        whole = min(time for size, time in plans if size <= budget)
        assert row["best_ns"] == pytest.approx(min(pairs), rel=1e-13)
        assert row["equal_split_ns"] == pytest.approx(2 * half, rel=1e-13)
        assert row["shared_arena_ns"] == pytest.approx(2 * whole, rel=1e-13)
        assert row["shared_arena_ns"] <= row["best_ns"] <= row["equal_split_ns"]


def test_some_budget_tells_the_three_apart(said: dict[str, Any]) -> None:
    rows = said["partitions"]
    assert any(row["shared_arena_ns"] < row["best_ns"] < row["equal_split_ns"] for row in rows)


def test_a_folder_without_the_files_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["validate", "primitives", "--data", str(tmp_path)])
    assert ended.value.code == 2
    assert "there is no such file" in capsys.readouterr().err
