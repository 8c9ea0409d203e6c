"""Layer bundles: run layer by layer they compute what the whole network does; damaged ones are refused."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesched.bridge.bundles.arena import Span, live_bytes, place
from edgesched.bridge.bundles.bundle import Bundle, BundleError, open_bundle

onnx = pytest.importorskip("onnx", reason="needs the extra edgesched[bridge]")
ort = pytest.importorskip("onnxruntime", reason="needs the extra edgesched[bridge]")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edgesched.bridge.bundles.cache import bundle_of, cache_folder  # noqa: E402
from edgesched.bridge.bundles.slicing import cut  # noqa: E402

Arrays = dict[str, np.ndarray]


class Graph:
    """A small model with random weights; every method returns the name of its output."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.stored: list[Any] = []

    def keep(self, value: Any, name: str | None = None) -> str:
        name = name or f"w{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, *shape: int) -> str:
        return self.keep(
            self.rng.standard_normal(shape, dtype=np.float32) / np.float32(math.prod(shape[1:]) ** 0.5)
        )

    def op(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        name = name or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def conv(
        self, x: str, c: int, m: int, k: int, *, groups: int = 1, relu: bool = True, name: str = ""
    ) -> str:
        w, b = self.weight(m, c // groups, k, k), self.weight(m)
        y = self.op("Conv", x, w, b, name=name, kernel_shape=[k, k], pads=[k // 2] * 4, group=groups)
        return self.op("Relu", y) if relu else y

    def gemm(self, x: str, inputs: int, outputs: int) -> str:
        return self.op("Gemm", x, self.weight(outputs, inputs), self.weight(outputs), transB=1)

    def model(self, inputs: dict[str, list[Any]], *outputs: str, kind: int = TensorProto.FLOAT) -> Any:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.stored,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def chain() -> Any:
    """Pooling, LRN, a fully-connected part, channels that fill no block; a symbolic batch."""
    g = Graph()
    x = g.op("LRN", g.conv("x", 3, 20, 5, name="first"), size=5, alpha=1e-2, name="norm")
    x = g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], name="pool")
    x = g.conv(x, 20, 36, 3, name="second")
    x = g.op("Reshape", x, g.keep(np.array([0, -1], np.int64)))
    x = g.op("Relu", g.gemm(x, 36 * 8 * 8, 24))
    return g.model({"x": ["batch", 3, 16, 16]}, g.op("Softmax", g.gemm(x, 24, 10), name="answer"))


def residual() -> Any:
    g = Graph()
    x = g.conv("x", 3, 32, 3)
    for _ in range(2):
        y = g.conv(g.conv(x, 32, 32, 3), 32, 32, 3, relu=False)
        ones, zeros = (g.keep(f((32,), np.float32)) for f in (np.ones, np.zeros))
        y = g.op("BatchNormalization", y, g.weight(32), zeros, zeros, ones)
        x = g.op("Relu", g.op("Add", y, x))
    return g.model({"x": [1, 3, 12, 12]}, g.op("GlobalAveragePool", x))


def fire() -> Any:
    g = Graph()
    x = g.conv("x", 3, 16, 3)
    for i in range(2):
        squeezed = g.conv(x, 16 if i == 0 else 64, 8, 1)
        x = g.op("Concat", g.conv(squeezed, 8, 32, 1), g.conv(squeezed, 8, 32, 3), axis=1)
    return g.model({"x": [1, 3, 16, 16]}, g.op("Flatten", g.op("GlobalAveragePool", x)))


def depthwise() -> Any:
    g = Graph()
    x = g.conv("x", 3, 24, 3)
    x = g.op("Clip", g.conv(x, 24, 24, 3, groups=24, relu=False, name="dw"), *map(g.keep, np.float32([0, 6])))
    x = g.conv(x, 24, 48, 1, name="pw")
    return g.model({"x": [1, 3, 16, 16]}, g.conv(x, 48, 32, 3, groups=2, name="grouped"))


def two_ways() -> Any:
    """Two inputs, two outputs, one of which is read again; a weight that two layers share."""
    g = Graph()
    g.stored.append(numpy_helper.from_array(g.rng.standard_normal((16, 16), dtype=np.float32), "shared"))
    left, right = g.op("MatMul", "a", "shared", name="left"), g.op("MatMul", "b", "shared", name="right")
    both = g.op("Sub", left, right, name="both")
    return g.model({"a": [4, 16], "b": [4, 16]}, both, g.op("Tanh", both, name="end"))


def image_first() -> Any:
    """The image is re-ordered and pooled before anything is computed."""
    g = Graph()
    x = g.op("MaxPool", g.op("Reshape", "x", g.keep(np.array([1, 16, 8, 8], np.int64))), kernel_shape=[2, 2])
    return g.model({"x": [1, 16 * 64]}, g.conv(x, 16, 16, 3), g.op("Sigmoid", x))


def decoded_weight() -> Any:
    """A weight in 8 bits, decoded by a node that reads no activation."""
    g = Graph()
    w = g.keep(g.rng.integers(-100, 100, (32, 16)).astype(np.int8))
    w = g.op("DequantizeLinear", w, g.keep(np.float32(0.01)), g.keep(np.int8(0)))
    return g.model({"x": [4, 32]}, g.op("Tanh", g.op("MatMul", "x", w, name="product")))


def recurrent() -> Any:
    g = Graph()
    g.nodes.append(
        helper.make_node(
            "LSTM", ["x", g.weight(1, 32, 6), g.weight(1, 32, 8)], ["all", "last", ""], "lstm", hidden_size=8
        )
    )
    return g.model({"x": [5, 1, 6]}, g.op("Squeeze", "all"), g.op("Tanh", "last"))


def subgraph() -> Any:
    """Both branches of an If read a tensor and a weight from outside."""
    g = Graph()
    w = g.weight(6, 6)
    branches = {}
    for branch, kind in (("then_branch", "Add"), ("else_branch", "Mul")):
        node = helper.make_node(kind, ["t", w], [f"{kind}_in"])
        out = helper.make_tensor_value_info(f"{kind}_in", TensorProto.FLOAT, [6, 6])
        branches[branch] = helper.make_graph([node], branch, [], [out])
    g.nodes.append(helper.make_node("MatMul", ["x", w], ["t"], "product"))
    mean = g.op("ReduceMean", "t", keepdims=0)
    decision = g.op("Greater", mean, g.keep(np.float32(0)))
    g.nodes.append(helper.make_node("If", [decision], ["y"], "choice", **branches))
    return g.model({"x": [6, 6]}, "y")


def resized() -> Any:
    g = Graph()
    x = g.conv("x", 3, 16, 3)
    x = g.op("Resize", x, "", g.keep(np.float32([1, 1, 2, 2])), mode="nearest")
    return g.model({"x": [1, 3, 8, 8]}, g.op("ConvTranspose", x, g.weight(16, 4, 2, 2), name="up"))


MODELS = (
    chain,
    residual,
    fire,
    depthwise,
    two_ways,
    image_first,
    decoded_weight,
    recurrent,
    subgraph,
    resized,
)

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


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any], Path]:
    def save(proto: Any) -> Path:
        path = tmp_path / "small.onnx"
        path.write_bytes(proto.SerializeToString())
        return path

    return save


@pytest.fixture
def made(saved: Callable[[Any], Path], tmp_path: Path) -> Callable[..., Bundle]:
    def make(proto: Any, **more: Any) -> Bundle:
        return bundle_of(saved(proto), cache=tmp_path / "cache", **more)

    return make


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


def test_the_cache_is_used_again(made: Any, tmp_path: Path) -> None:
    steps: list[str] = []
    first = made(fire(), progress=steps.append)
    assert steps[0] == "reading the model"
    before = first.weights_path.stat().st_mtime_ns
    steps.clear()
    again = made(fire(), name="other", progress=steps.append)
    assert not steps
    assert (again.folder, again.sha256, again.name) == (first.folder, first.sha256, "other")
    assert again.weights_path.stat().st_mtime_ns == before
    assert made(residual()).folder != first.folder
    assert sorted(p.name for p in first.folder.iterdir()) == ["bundle.json", "layers", "weights.raw"]


def test_two_processes_make_the_same_bundle(saved: Any, tmp_path: Path) -> None:
    path = saved(fire())
    code = (
        "import sys; from pathlib import Path; from edgesched.bridge.bundles.cache import bundle_of; "
        "print(bundle_of(Path(sys.argv[1]), cache=Path(sys.argv[2])).folder)"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "cache")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert folders[0] == folders[1]


def test_what_killed_makers_left_is_swept(saved: Any, tmp_path: Path) -> None:
    path = saved(fire())
    code = (
        "import os, signal, sys; from pathlib import Path; "
        "from edgesched.bridge.bundles.cache import bundle_of; "
        "stop = lambda text: os.kill(os.getpid(), signal.SIGKILL) if text.startswith('layer 3') else None; "
        "bundle_of(Path(sys.argv[1]), cache=Path(sys.argv[2]), progress=stop)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path), str(tmp_path / "cache")], check=False)
    assert killed.returncode == -signal.SIGKILL
    bundles = tmp_path / "cache" / "bundles"
    assert list(bundles.glob(".*.making"))
    bundle = bundle_of(path, cache=tmp_path / "cache")
    assert not list(bundles.glob(".*.making"))
    assert [p for p in bundles.iterdir() if p.is_dir()] == [bundle.folder]


def test_a_maker_at_work_is_left_alone(made: Any, saved: Any, tmp_path: Path) -> None:
    drafts: list[list[Path]] = []

    def look(text: str) -> None:
        if text == "optimising the network" and not drafts:
            drafts.append(list((tmp_path / "cache" / "bundles").glob(".*.making")))
            other = tmp_path / "other.onnx"
            other.write_bytes(residual().SerializeToString())
            bundle_of(other, cache=tmp_path / "cache")
            assert all(draft.exists() for draft in drafts[0])

    assert made(fire(), progress=look).layers
    assert len(drafts[0]) == 1


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("EDGESCHED_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "edgesched"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/edgesched")
    monkeypatch.setenv("EDGESCHED_CACHE", "/y")
    assert cache_folder() == Path("/y")


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = json.loads((folder / "bundle.json").read_text())
        change(data)
        (folder / "bundle.json").write_text(json.dumps(data))

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no description": (lambda f: (f / "bundle.json").unlink(), "not a layer bundle"),
    "no folder": (shutil.rmtree, "not a layer bundle"),
    "no JSON": (lambda f: (f / "bundle.json").write_text("{"), "not JSON"),
    "no text": (lambda f: (f / "bundle.json").write_bytes(b"\xff\xfe"), "not JSON"),
    "a list": (lambda f: (f / "bundle.json").write_text("[]"), "not the description"),
    "another format": (edit(lambda d: d.update(format="zip")), "not the description"),
    "a later version": (edit(lambda d: d.update(format_version=2)), "format version 2"),
    "a field too many": (edit(lambda d: d.update(colour="red")), "colour"),
    "a field too few": (edit(lambda d: d.pop("arena_bytes")), "arena_bytes"),
    "no weights": (lambda f: (f / "weights.raw").unlink(), r"weights\.raw: is missing"),
    "weights cut short": (lambda f: os.truncate(f / "weights.raw", 4096), r"weights\.raw: has 4096 bytes"),
    "a model missing": (lambda f: (f / "layers/001.onnx").unlink(), r"001\.onnx: is missing"),
    "a model emptied": (lambda f: os.truncate(f / "layers/001.onnx", 0), r"001\.onnx: has 0 bytes"),
    "a model elsewhere": (edit(lambda d: d["layers"][0].update(model="../x.onnx")), r"layers\.0\.model"),
    "a weight outside": (edit(lambda d: d["layers"][0]["weights"][0].update(offset=1 << 20)), "outside the"),
    "a part elsewhere": (edit(lambda d: d["layers"][1].update(weights_offset=1 << 20)), "has its weights at"),
    "a tensor outside": (edit(lambda d: d["tensors"][1].update(offset=1 << 30)), "outside the arena"),
    "a tensor too small": (edit(lambda d: d["tensors"][1].update(bytes=4)), "its shape needs"),
    "a tensor unknown": (edit(lambda d: d["layers"][1].update(inputs=["nothing"])), "'nothing'"),
    "an unknown data type": (edit(lambda d: d["tensors"][0].update(dtype="text")), r"tensors\.0\.dtype"),
    "a layer that reads itself": (edit(lambda d: d["layers"][1].update(reads=[1])), "reads the layers"),
    "a life cut short": (edit(lambda d: d["tensors"][1].update(last_use=0)), "after its last use"),
    "another machine": (edit(lambda d: d.update(machine="vax")), "was made for .* on vax"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_bundles_are_refused(damage: str, made: Any) -> None:
    folder = made(fire()).folder
    harm, message = DAMAGES[damage]
    harm(folder)
    with pytest.raises(BundleError, match=message) as refused:
        open_bundle(folder)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_bundle_of_another_machine_can_be_looked_at(made: Any) -> None:
    folder = made(fire()).folder
    edit(lambda d: d.update(machine="vax"))(folder)
    assert open_bundle(folder, elsewhere=True).network().layers


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


def node(kind: str, inputs: str, output: str, domain: str = "") -> Any:
    return helper.make_node(kind, inputs.split(), [output], name=output, domain=domain)


def test_cutting() -> None:
    """Views join what they read; what reads only inputs or stored tensors joins its first reader."""
    nodes = [
        node("ReorderInput", "x", "blocked", "com.microsoft.nchwc"),
        node("Transpose", "stored", "turned"),
        node("Conv", "blocked stored", "c1"),
        node("Conv", "blocked turned", "c2"),
        node("Reshape", "c1 c2", "view"),
        node("Flatten", "view", "flat"),
        node("Add", "c1 flat", "sum"),
    ]
    pieces = cut(nodes, {"stored"}, {"sum"})
    assert [[n.name for n in piece.nodes] for piece in pieces] == [
        ["blocked", "c1"],
        ["turned", "c2", "view", "flat"],
        ["sum"],
    ]
    assert [piece.inputs for piece in pieces] == [("x",), ("blocked", "c1"), ("c1", "flat")]
    assert [piece.outputs for piece in pieces] == [("blocked", "c1"), ("flat",), ("sum",)]
    assert [piece.constants for piece in pieces] == [("stored",), ("stored",), ()]


SPANS = st.lists(
    st.builds(
        lambda size, first, length: Span(size, first, first + length),
        st.integers(0, 2000),
        st.integers(0, 30),
        st.integers(0, 8),
    ),
    max_size=40,
)


@given(SPANS)
def test_what_lives_together_never_overlaps(spans: list[Span]) -> None:
    offsets, end = place(spans)
    for i, span in enumerate(spans):
        assert offsets[i] % 64 == 0
        assert offsets[i] + span.size_bytes <= end
        for j in range(i):
            if span.meets(spans[j]) and span.size_bytes and spans[j].size_bytes:
                apart = offsets[i] + span.size_bytes <= offsets[j]
                assert apart or offsets[j] + spans[j].size_bytes <= offsets[i]
    assert live_bytes(spans) <= end


def test_a_chain_needs_two_buffers() -> None:
    spans = [Span(640, i, i + 1) for i in range(10)]
    assert place(spans)[1] == live_bytes(spans) == 1280
