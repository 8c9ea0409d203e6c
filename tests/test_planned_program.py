"""Planned networks, executed: right whatever is chosen, and in the memory that the plan says."""

from __future__ import annotations

import gc
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planning_options import at_random, every_option, named
from threadpoolctl import threadpool_info, threadpool_limits

from edgesched.bridge.bundles.generate import _ModelWriter, generate
from edgesched.bridge.planned.concurrent import execute_together
from edgesched.bridge.planned.program import (
    PlannedError,
    PlannedProgram,
    PlannedPrograms,
    one_blas_thread,
)
from edgesched.bridge.planned.weights import expected_mean_squares, random_tensors
from edgesched.policies.graph import WHOLE_NETWORK
from edgesched.policies.planning.pricing import price
from edgesched.workloads import catalogue
from edgesched.workloads.builder import GraphBuilder
from edgesched.workloads.network import Network


def network() -> Network:
    """Branches, layers in place, every kind of layer."""
    graph = GraphBuilder("little")
    x = graph.input("data", (1, 3, 19, 17)).conv("conv1", 8, 3, stride=2, pad=1).relu("relu1").lrn("norm")
    x = x.pool("pool1", 3, stride=2, pad=1)
    a = x.conv("a", 8, 3, pad=1, bias=False).batch_norm("a/bn").scale("a/scale").relu("a/relu")
    b = x.depthwise("b", 3, pad=1).relu("b/relu").conv("b2", 8, 1).dropout("b/drop")
    x = a.add("sum", b)
    x = graph.concat("both", [x, b, x.pool("mean", 3, stride=1, pad=1, average=True)])
    x = x.conv("conv2", 6, 5, pad=2, groups=2).relu("relu2")
    x = x.pool("pool2", 2, stride=2, ceil=True).fc("fc1", 20).relu("relu3").fc("fc2", 10).softmax("prob")
    return graph.build()


IMAGE = np.random.default_rng(3).standard_normal((3, 19, 17), dtype=np.float32)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """What onnxruntime computes of the model that the generator writes."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model = tmp_path_factory.mktemp("models") / "little.onnx"
    generate(network(), model, seed=4)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["prob"], {"data": IMAGE[None]})[0]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("seed", range(12))
def test_any_plan_computes_what_onnxruntime_does(reference: np.ndarray, cache: Path, seed: int) -> None:
    options = every_option(network(), chw_to_hwc_directly=seed % 2 == 0)
    choice = at_random(options, seed)
    program = PlannedProgram(options, choice, seed=4, cache=cache)
    with one_blas_thread():
        found = program.run(IMAGE)["prob"]
        again = program.run(IMAGE)["prob"]
    np.testing.assert_allclose(found, reference[0], rtol=1e-4)
    np.testing.assert_array_equal(found, again)
    priced = price(options, choice)
    assert program.own.workspace_high_water_bytes == program.workspace_bytes == priced.workspace_bytes
    assert program.live_bytes == priced.live_bytes <= program.area_bytes
    for arena, step in zip(program.own.arenas, program.steps, strict=True):
        assert arena.high_water_bytes == step.arena_bytes == arena.size_bytes
    assert program.weight_bytes == sum(
        own[at].weight_bytes
        for layer, own, at in zip(options.network.layers, options.layers, choice, strict=True)
    )
    program.close()


def test_plans_of_one_layout_transform_nothing(cache: Path) -> None:
    options = every_option(network())
    choice = named(options, "direct-sum2d", "depthwise-chw", "-chw")
    program = PlannedProgram(options, choice, cache=cache)
    assert program.workspace_bytes == 0
    assert {s.scratch_bytes for s in program.steps} == {0}
    assert program.live_bytes == max(options.network.live_bytes)
    program.close()


@pytest.mark.parametrize("name", ["AlexNet", "GoogLeNet", "ResNet-18", "MobileNet v2", "SqueezeNet 1.1"])
def test_weights_are_those_of_the_generated_model(name: str) -> None:
    pytest.importorskip("onnx")
    built = catalogue.build(name)
    squares = expected_mean_squares(built)
    assert squares == pytest.approx(_ModelWriter(built).mean_squares)
    mine = {}
    for index, layer in enumerate(built.layers):
        if layer.inputs:
            found = random_tensors(built, index, squares[layer.inputs[0]])
            mine |= {tensor.name: tensor for tensor in found.values()}
    assert mine == {tensor.name: tensor for tensor in _ModelWriter(built).weights}


def test_jobs_of_one_network_do_not_disturb_each_other(reference: np.ndarray, cache: Path) -> None:
    """Two jobs in step, layer by layer, with loading and freeing as a replay does it."""
    options = every_option(network())
    program = PlannedProgram(options, at_random(options, 5), seed=4, cache=cache)
    backend = PlannedPrograms({"little": program})
    jobs = [backend.begin("little") for _ in range(2)]
    for job, image in zip(jobs, (IMAGE, -IMAGE), strict=True):
        job.init()
        job.put(image)
    for index, job in itertools.product(range(len(options.network.layers)), jobs):
        job.load(index)
        job.execute(index)
        job.free_weights(index)
    assert all(job.weights.resident_bytes() == 0 for job in jobs)
    last = len(options.network.layers) - 1
    found = [job.output(last) for job in jobs]
    np.testing.assert_allclose(found[0], reference[0], rtol=1e-4)
    assert np.abs(found[0] - found[1]).max() > 1e-3
    for job in jobs:
        assert job.area.resident_bytes() > 0
        job.close()
        assert job.area.resident_bytes() == 0
    assert backend.begin("little") in jobs
    program.close()


def test_weights_are_stored_once_and_shared_by_plans(tmp_path: Path) -> None:
    options = every_option(network())
    first = PlannedProgram(options, named(options, "im2col-scan-ab", "-chw"), cache=tmp_path)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "planned").iterdir()}
    assert len(files) == sum(layer.weight_bytes > 0 for layer in options.network.layers)
    assert all(path.stat().st_size % 4096 == 0 for path in files)
    second = PlannedProgram(options, named(options, "direct-sum2d", "-chw"), cache=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    shared = [a.path for a, b in zip(first.stored, second.stored, strict=True) if a.path and a.path == b.path]
    assert len(shared) == 4  # fully-connected layers and normalisations
    first.close()
    second.close()


def test_what_cannot_be_executed_says_why(cache: Path) -> None:
    options = every_option(network())
    with pytest.raises(PlannedError, match="has 3 layers, the network 2"):
        PlannedProgram(options, (0, 0, 0), cache=cache)
    with pytest.raises(PlannedError, match="mapped"):
        PlannedProgram(options, (0,) * len(options.layers), cache=cache, reads="mapped")
    graph = GraphBuilder("batch")
    graph.input("data", (2, 3, 8, 8)).conv("conv", 4, 3)
    with pytest.raises(PlannedError, match="the batch must be 1"):
        PlannedProgram(every_option(graph.build()), (0, 0), cache=cache)
    none = replace(options, transform_s=tuple({} for _ in options.layers))
    with pytest.raises(PlannedError, match="no transform"):
        PlannedProgram(none, named(none, "-hwc"), cache=cache)
    unknown = replace(
        options,
        layers=(options.layers[0], (replace(options.layers[1][0], primitive="magic"),), *options.layers[2:]),
    )
    with pytest.raises(PlannedError, match=r"'conv1'.*unknown primitive 'magic'"):
        PlannedProgram(unknown, (0,) * len(options.layers), cache=cache)


def test_one_thread_for_linear_algebra_stays_or_ends() -> None:
    def threads() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    with threadpool_limits(2, "blas"):
        with one_blas_thread():
            assert threads() == {1}
        assert 2 in threads()
        one_blas_thread()
        gc.collect()
        assert threads() == {1}


def test_networks_executed_together(reference: np.ndarray, cache: Path) -> None:
    options = every_option(network())
    programs = [PlannedProgram(options, at_random(options, seed), seed=4, cache=cache) for seed in (1, 2)]
    found = execute_together(programs, rounds=3)
    assert [each.network for each in found.networks] == ["little", "little"]
    for each, program in zip(found.networks, programs, strict=True):
        assert len(each.solo_s) == 3
        assert len(each.together_s) >= 3
        assert each.solo_median_s > 0
        assert each.together_median_s > 0
        assert each.workspace_high_water_bytes == program.workspace_bytes
        assert each.arena_high_water_bytes == program.arena_bytes
        assert each.relative_error < 1e-4
    job = programs[0].begin()
    job.init()
    job.load(WHOLE_NETWORK)
    job.put(IMAGE)
    job.execute(WHOLE_NETWORK)
    np.testing.assert_allclose(job.output(len(options.layers) - 1), reference[0], rtol=1e-4)
