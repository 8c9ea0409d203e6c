"""``edgesched profile primitives``: everything is measured, interrupted runs go on, the profile says how."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info, threadpool_limits
from typer.testing import CliRunner

from edgesched.bridge.bundles.generate import generate
from edgesched.bridge.measuring import primitives as measuring
from edgesched.bridge.measuring.bench import Bench
from edgesched.bridge.measuring.candidates import items_of
from edgesched.bridge.measuring.passes import Timed
from edgesched.bridge.measuring.primitivebench import PrimitiveBench, PrimitiveBenchError
from edgesched.bridge.measuring.primitives import PrimitiveProfilingError, profile_primitives
from edgesched.bridge.measuring.samples import Config, Pass, Samples
from edgesched.cli.main import app
from edgesched.primitives import catalogue as library
from edgesched.primitives.shape import conv_shape, layer_key, tensor_key
from edgesched.traces.primitives import read_primitives
from edgesched.workloads.builder import GraphBuilder
from edgesched.workloads.network import Layer, Network
from edgesched.workloads.onnx_import import load


def network() -> Network:
    graph = GraphBuilder("small")
    x = graph.input("data", (1, 3, 12, 12)).conv("conv1", 4, 3, pad=1).relu("relu1")
    y = x.conv("conv2", 4, 3, pad=1).relu("relu2")
    y = y.conv("conv3", 4, 3, pad=1)  # the same layer as conv2
    y.add("sum", x).pool("pool", 2, stride=2).fc("fc", 5).softmax("prob")
    return graph.build()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx")
    path = tmp_path_factory.mktemp("models") / "small.onnx"
    generate(network(), path)
    return path


def test_items_are_distinct_layers_and_tensors() -> None:
    told: list[str] = []
    built = network()
    items = items_of([("a", built), ("b", built)], told.append)
    assert not told
    layers = [item for item in items if item.tensor is None]
    assert len(layers) == len({layer_key(built, index) for index in range(len(built.layers))})
    assert {item.network for item in items} == {"a"}
    tensors = {item.key for item in items if item.tensor is not None}
    assert tensors == {tensor_key(s) for s in ((3, 12, 12), (4, 12, 12), (4, 6, 6))}
    by_key = {item.key: [each.name for each in item.candidates] for item in items}
    wanted = [each.name for each in library.candidates(conv_shape(built, 3))]
    assert by_key[layer_key(built, 3)] == wanted
    assert by_key["softmax 5"] == ["softmax-chw"]
    assert len(by_key["transform 4x6x6"]) == 6


def test_layers_that_nothing_computes_are_named() -> None:
    layers = (
        Layer("data", "input", (), (1, 3, 4, 4), output_bytes=192),
        Layer("odd", "NonZero", (0,), (1, 3, 4, 4), output_bytes=192),
        Layer("flat", "convolution", (0,), (1, 3), attributes={"kernel_h": 1, "kernel_w": 2}),
    )
    told: list[str] = []
    items = items_of([("x", Network("x", layers))], told.append)
    assert {item.key for item in items} == {"input 3x4x4", "transform 3x4x4"}
    assert told == ["warning: no primitive computes x odd (NonZero), x flat (convolution)"]


def test_profile_of_a_model(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.csv"
    result = CliRunner().invoke(
        app, ["profile", "primitives", str(model), "--out", str(out), "--rounds", "2"]
    )
    assert result.exit_code == 0, result.output
    assert not out.with_name("small.csv.samples").exists()
    profile = read_primitives(out)
    built = load(model)
    for index in range(len(built.layers)):
        assert profile.of(layer_key(built, index)), layer_key(built, index)
    for row in profile.of("convolution 4x12x12 m4 k3 s1 p1 g1"):
        chosen = library.primitive(row.primitive)
        shape = conv_shape(network(), 3)
        assert (row.in_layout, row.out_layout) == (chosen.in_layout, chosen.out_layout)
        assert row.workspace_bytes == chosen.workspace_bytes(shape)
        assert row.weight_bytes == chosen.weight_bytes(shape)
        assert row.execute_s > 0
        assert row.samples is not None
        assert row.samples >= 2
        assert row.even_s is not None
        assert row.odd_s is not None
    assert {row.primitive for row in profile.of("transform 4x6x6")} >= {"chw-to-hwc", "hcw-to-chw"}
    assert profile.metadata["role"] == "measured"
    assert "then the input are read before each sample" in profile.metadata["conditions"]
    assert "cpu" in profile.metadata


class _Stopped(Exception):
    pass


def test_interrupted_it_goes_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "small.csv"
    asked: list[tuple[str, ...]] = []
    ask = Bench.ask

    def counted(self: Bench, question: str, /, **arguments: object) -> object:
        if question == "samples":
            asked.append(tuple(sorted(arguments["names"])))  # type: ignore[call-overload]
            if len(asked) == 4 and not resumed:
                raise _Stopped
        return ask(self, question, **arguments)

    resumed = False
    monkeypatch.setattr(Bench, "ask", counted)
    monkeypatch.setattr(measuring, "MOST", 1)
    with pytest.raises(_Stopped):
        profile_primitives([str(model)], None, out, rounds=1)
    kept = out.with_name("small.csv.samples").read_text().splitlines()
    assert len({json.loads(line)["network"] for line in kept[1:]}) == 3
    resumed = True
    profile_primitives([str(model)], None, out, rounds=1)
    layers = read_primitives(out).layers
    assert len(asked) == len(layers) + 1  # what was interrupted is asked for again, the three before are not
    with pytest.raises(PrimitiveProfilingError, match=r"ends in \.csv"):
        profile_primitives([str(model)], None, tmp_path / "small.txt")


def test_slow_candidates_are_measured_less_often() -> None:
    (item, *_) = [each for each in items_of([("a", network())], print) if each.key.startswith("convolution")]
    names = [each.name for each in item.candidates]

    class Fixed(measuring._Measuring):
        def ready(self, item: measuring.Item) -> dict[str, float]:
            return {name: 0.5 if name == names[2] else 0.02 for name in names}

    some = Fixed([0], 0)
    config = Config(item.key, 1, "primitive")
    samples = Samples()
    assert measuring._chosen(item, 2, 11, samples, some) == names
    assert measuring._chosen(item, 3, 11, samples, some) == [n for n in names if n != names[2]]
    # After the rounds asked for: what has fewer than three clean samples.
    for number in range(3):
        switches = int(number == 1)
        tasks = tuple(Timed(n, 0, 0.1, 0.1, switches if n == names[1] else 0) for n in names)
        samples.add(Pass(number, config, "", tasks))
    assert measuring._chosen(item, 11, 11, samples, some) == [names[1]]


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_linear_algebra_has_one_thread_while_it_is_measured() -> None:
    with threadpool_limits(2, "blas"), closing(PrimitiveBench()):
        assert blas_threads() == {1}


def test_the_measuring_process_keeps_to_one_thread(model: Path) -> None:
    """Had linear algebra more threads, they would run beside the one that is timed."""
    with Bench() as bench:
        cpus = [min(os.sched_getaffinity(0))]
        shape = conv_shape(network(), 1)
        workspace = {each.name: each.workspace_bytes(shape) for each in library.candidates(shape)[:3]}
        bench.ask(
            "primitives", cpus=cpus, network=str(model), layer=1, tensor=None, workspace=workspace, seed=0
        )
        bench.ask("samples", cpus=cpus, names=list(workspace))
        threads = bench.ask("blas_threads")
    assert threads == [1] * len(threads)
    assert threads


def test_a_formula_that_is_wrong_is_found() -> None:
    bench = PrimitiveBench()
    built = network()
    right = library.primitive("im2col-scan-ab-ki").workspace_bytes(conv_shape(built, 1))
    seconds = bench.layer(built, 1, {"im2col-scan-ab-ki": right, "direct-sum2d": 0}, 0)
    assert seconds.keys() == {"im2col-scan-ab-ki", "direct-sum2d"}
    found = bench.samples(["direct-sum2d", "im2col-scan-ab-ki", "direct-sum2d"])
    assert [task.task for _, group in found for task in group] == [
        "direct-sum2d",
        "im2col-scan-ab-ki",
        "direct-sum2d",
    ]
    with pytest.raises(PrimitiveBenchError, match=f"took {right} bytes"):
        bench.layer(built, 1, {"im2col-scan-ab-ki": right + 4}, 0)
    bench.close()
