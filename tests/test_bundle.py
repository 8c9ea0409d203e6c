"""Layer bundles: run layer by layer they compute what the whole network does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_graphs import MODELS, Graph, chain, decoded_weight, depthwise, fire, two_ways

from edgesched.bridge.bundles.bundle import Bundle, BundleError

onnx = pytest.importorskip("onnx", reason="needs the extra edgesched[bridge]")
ort = pytest.importorskip("onnxruntime", reason="needs the extra edgesched[bridge]")
from edgesched.bridge.bundles.cache import bundle_of  # noqa: E402

Arrays = dict[str, np.ndarray]

CANARY = np.full(64, 0xA5, np.uint8)


def bind(binding: Callable[..., None], tensor: Any, address: int) -> None:
    binding(tensor.name, "cpu", 0, np.dtype(tensor.dtype), list(tensor.shape), address)


def session(path: Path) -> Any:
    """The model in a file as it stands: nothing optimised, so 8-bit weights are not approximated further."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(bundle: Bundle, inputs: Arrays) -> Arrays:
    """Execute a bundle layer by layer in one arena, as its plan says; weights from the flat file."""
    weights = np.fromfile(bundle.weights_path, np.uint8)
    memory = np.zeros(bundle.arena_bytes + 64, np.uint8)
    arena = memory[-memory.ctypes.data % 64 :]
    for name, value in inputs.items():
        at = bundle.tensors[name]
        arena[at.offset : at.offset + at.bytes] = np.frombuffer(value.tobytes(), np.uint8)
    for index, layer in enumerate(bundle.layers):
        runner = session(bundle.model_path(index))
        binding = runner.io_binding()
        part = np.empty(layer.weights_bytes + 64, np.uint8)[: layer.weights_bytes]
        part[:] = weights[layer.weights_offset :][: layer.weights_bytes]
        for weight in layer.weights:
            bind(binding.bind_input, weight, part.ctypes.data + weight.offset)
        for name in layer.inputs:
            bind(binding.bind_input, bundle.tensors[name], arena.ctypes.data + bundle.tensors[name].offset)
        fresh = {
            name: np.concatenate([np.zeros(bundle.tensors[name].bytes, np.uint8), CANARY])
            for name in layer.outputs
        }
        for name, buffer in fresh.items():
            bind(binding.bind_output, bundle.tensors[name], buffer.ctypes.data)
        runner.run_with_iobinding(binding)
        for name, buffer in fresh.items():
            at = bundle.tensors[name]
            assert (buffer[at.bytes :] == CANARY).all(), f"{layer.name} writes behind {name}"
            arena[at.offset : at.offset + at.bytes] = buffer[: at.bytes]
    found = {}
    for name in bundle.outputs:
        at = bundle.tensors[name]
        flat = arena[at.offset : at.offset + at.bytes].tobytes()
        found[name] = np.frombuffer(flat, at.dtype).reshape(at.shape)
    return found


@pytest.mark.parametrize("build", MODELS, ids=lambda f: f.__name__)
def test_computes_what_the_whole_network_does(build: Any, made: Any, tmp_path: Path) -> None:
    bundle = made(build())
    rng = np.random.default_rng(1)
    inputs = {
        name: rng.standard_normal(bundle.tensors[name].shape).astype(np.float32) for name in bundle.inputs
    }
    whole = session(tmp_path / "small.onnx")
    expected = dict(zip([o.name for o in whole.get_outputs()], whole.run(None, inputs), strict=True))
    found = run(bundle, inputs)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert np.abs(found[name] - value).max() <= 1e-5 * np.abs(value).max()


@pytest.mark.parametrize("build", MODELS, ids=lambda f: f.__name__)
def test_weights_lie_in_one_flat_file(build: Any, made: Any) -> None:
    bundle = made(build())
    end = 0
    for layer in bundle.layers:
        if layer.weights_bytes:
            assert layer.weights_offset == end
            end += layer.weights_bytes
        assert layer.weights_offset % 4096 == layer.weights_bytes % 4096 == 0
        last = 0
        for weight in layer.weights:
            assert weight.offset % 64 == 0
            assert weight.offset >= last
            last = weight.offset + weight.bytes
        assert layer.weights_bytes - 4096 < last <= layer.weights_bytes
        assert bool(layer.weights) == bool(layer.weights_bytes)
    assert bundle.weights_path.stat().st_size == end == bundle.weights_bytes
    for index in range(len(bundle.layers)):
        assert bundle.model_path(index).stat().st_size < 4096


@pytest.mark.parametrize("build", MODELS, ids=lambda f: f.__name__)
def test_lives_of_activations(build: Any, made: Any) -> None:
    bundle = made(build())
    tensors = list(bundle.tensors.values())
    for tensor in tensors:
        readers = [i for i, layer in enumerate(bundle.layers) if tensor.name in layer.inputs]
        assert all(tensor.producer < reader for reader in readers)
        if tensor.name in bundle.outputs:
            assert tensor.last_use == len(bundle.layers) - 1
        else:
            assert tensor.last_use == max(readers)
        for other in tensors:
            if (
                other is not tensor
                and tensor.producer <= other.last_use
                and other.producer <= tensor.last_use
            ):
                apart = tensor.offset + tensor.bytes <= other.offset
                assert apart or other.offset + other.bytes <= tensor.offset
    assert bundle.max_live_bytes <= bundle.arena_bytes


def test_layers_are_those_of_the_original(made: Any) -> None:
    layers = {layer.name: layer for layer in made(chain()).layers}
    assert list(layers) == ["first", "norm", "pool", "second", "gemm7", "gemm9", "answer"]
    ops = [layer.op for layer in layers.values()]
    assert ops == [
        *("convolution", "lrn", "pooling", "convolution", "fully-connected", "fully-connected", "softmax")
    ]
    assert layers["first"].macs == 16 * 16 * 20 * 3 * 25
    assert layers["second"].macs == 8 * 8 * 36 * 20 * 9
    assert layers["gemm7"].macs == 36 * 8 * 8 * 24
    assert [layer.reads for layer in layers.values()] == [(), (0,), (1,), (2,), (3,), (4,), (5,)]


def test_depthwise_and_grouped_convolutions(made: Any) -> None:
    layers = {layer.name: layer for layer in made(depthwise()).layers}
    assert (layers["dw"].op, layers["dw"].macs) == ("depthwise", 16 * 16 * 24 * 9)
    assert (layers["grouped"].op, layers["grouped"].macs) == ("convolution", 16 * 16 * 32 * 24 * 9)


def test_branches_read_the_same_layer(made: Any) -> None:
    bundle = made(fire())
    joins = [index for index, layer in enumerate(bundle.layers) if layer.op == "concat"]
    assert len(joins) == 2
    for join in joins:
        left, right = bundle.layers[join].reads
        assert bundle.layers[left].reads == bundle.layers[right].reads


def test_a_shared_weight_belongs_to_each_layer(made: Any) -> None:
    bundle = made(two_ways())
    parts = []
    for layer in bundle.layers[:2]:
        (weight,) = layer.weights
        assert weight.bytes == 16 * 16 * 4
        with bundle.weights_path.open("rb") as file:
            file.seek(layer.weights_offset + weight.offset)
            parts.append(file.read(weight.bytes))
    assert parts[0] == parts[1]
    assert bundle.layers[0].weights_offset != bundle.layers[1].weights_offset


def test_the_simulator_sees_the_same_bytes(made: Any) -> None:
    bundle = made(chain(), name="tiny")
    network = bundle.network()
    assert network.name == "tiny"
    assert network.input_shape == (1, 3, 16, 16)
    assert network.weight_bytes == bundle.weights_bytes
    assert network.conv_layers == 4
    assert [layer.inputs for layer in network.layers] == [layer.reads for layer in bundle.layers]
    written = sum(tensor.bytes for tensor in bundle.tensors.values() if tensor.producer >= 0)
    assert network.output_bytes == written


def test_a_weight_decoded_at_run_time_is_stored_small(made: Any) -> None:
    (weight, *_) = next(layer for layer in made(decoded_weight()).layers if layer.weights).weights
    assert weight.dtype in ("int8", "uint8")


def test_open_sides_need_a_number(made: Any) -> None:
    g = Graph()
    proto = g.model({"x": ["n", 3, "height", 8]}, g.conv("x", 3, 16, 3))
    with pytest.raises(BundleError, match="'height'"):
        made(proto)
    bundle = made(proto, dims={"height": 6})
    assert bundle.tensors["x"].shape == (1, 3, 6, 8)
    assert made(proto, dims={"height": 8}).folder != bundle.folder


def test_external_weights(tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    keep = {"save_as_external_data": True, "location": "big.bin", "size_threshold": 100}
    onnx.save(chain(), path, **keep)
    first = bundle_of(path, cache=tmp_path / "cache")
    whole = session(path)
    image = np.ones((1, 3, 16, 16), np.float32)
    assert np.allclose(run(first, {"x": image})["answer_out"], whole.run(None, {"x": image})[0], atol=1e-5)
    data = bytearray((tmp_path / "big.bin").read_bytes())
    data[:4] = np.float32(3).tobytes()
    (tmp_path / "big.bin").write_bytes(data)
    assert bundle_of(path, cache=tmp_path / "cache").folder != first.folder
    (tmp_path / "big.bin").unlink()
    with pytest.raises(BundleError, match=r"big\.bin: cannot be read"):
        bundle_of(path, cache=tmp_path / "cache")


def test_what_is_no_usable_model(saved: Any, made: Any, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.onnx: cannot be read"):
        bundle_of(tmp_path / "none.onnx", cache=tmp_path / "cache")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(BundleError, match=r"text\.onnx"):
        bundle_of(tmp_path / "text.onnx", cache=tmp_path / "cache")
    g = Graph()
    with pytest.raises(BundleError, match="onnxruntime cannot read it"):
        made(g.model({"x": [2, 2]}, g.op("Conv", "x", g.weight(3, 3))))
    g = Graph()
    with pytest.raises(BundleError, match="does not depend on any input"):
        made(g.model({"x": [2, 2]}, g.op("Relu", "x"), g.op("Relu", g.weight(3, 3))))
    assert not [p for p in (tmp_path / "cache" / "bundles").iterdir() if p.is_dir()]
