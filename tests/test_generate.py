"""Models with random weights: the shapes, work and weight bytes of the catalogue, and they run."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesched.workloads.builder import GraphBuilder
from edgesched.workloads.catalogue import build, names
from edgesched.workloads.network import Layer, Network
from edgesched.workloads.onnx_import import load_with_report

onnx = pytest.importorskip("onnx", reason="needs the extra edgesched[bridge]")
ort = pytest.importorskip("onnxruntime", reason="needs the extra edgesched[bridge]")

from edgesched.bridge.bundles.generate import GenerateError, generate  # noqa: E402

SMALL = (
    "SqueezeNet 1.0@96",
    "SqueezeNet 1.1@64#2",
    "MobileNet v1@64",
    "MobileNet v2@64#3",
    "ResNet-18@64",
    "GoogLeNet",
    "SoS_GoogleNet#1",
    "TinyYolo@96",
    "AgeNet",
    "GenderNet#2",
    "ResNet-8",
    "MobileNet v1 0.25",
    "DS-CNN",
    "ToyADMOS autoencoder",
)
LARGE = tuple(
    f"{name}#1"
    for name in names()
    if name not in ("GoogLeNet", "SoS_GoogleNet", "AgeNet") and build(name).weight_bytes > 50e6
)
LARGEST = tuple(name for name in LARGE if build(name).weight_bytes > 400e6)
"""These take 20 seconds each: with ``pytest -m evidence``."""


def made(network: Network, folder: Path, seed: int = 0) -> Path:
    path = folder / "made.onnx"
    generate(network, path, seed=seed)
    return path


def with_values(path: Path) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(path: Path, network: Network) -> np.ndarray:
    image = np.random.default_rng(1).standard_normal(network.input_shape, dtype=np.float32)
    return session(path).run(None, {network.layers[0].name: image})[0]


def extra_bytes(network: Network) -> int:
    """What a BatchNormalization holds (4 C values) beyond what the layer counts."""
    return sum(
        16 * layer.output_shape[1] - layer.weight_bytes
        for layer in network.layers
        if layer.op in ("batch-norm", "scale")
    )


def check(name: str, folder: Path) -> None:
    network = build(name)
    path = made(network, folder)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)

    nodes = {node.name: node for node in model.graph.node}
    assert len(nodes) == len(model.graph.node)
    for layer in network.layers:
        if layer.op not in ("input", "dropout", "split"):
            assert list(nodes.pop(layer.name).output) == [layer.name]
    assert all(node.op_type == "Flatten" for node in nodes.values())
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    for layer in network.layers:
        if layer.op not in ("dropout", "split"):
            assert shapes[layer.name] == layer.output_shape, layer.name

    again, report = load_with_report(path)
    assert again.macs == network.macs
    assert again.weight_bytes == network.weight_bytes + extra_bytes(network)
    assert report.message == ""
    macs = {layer.name: layer.macs for layer in again.layers}
    assert all(macs[layer.name] == layer.macs for layer in network.layers if layer.macs)

    out = run(path, network)
    assert [value.name for value in model.graph.output] == [network.layers[-1].name]
    assert out.shape == network.layers[-1].output_shape
    assert np.isfinite(out).all()
    if network.layers[-1].op == "softmax":
        assert np.allclose(out.sum(axis=1), 1, atol=1e-4)
        # as far apart as what softmax read, which has a mean square of 2 for an expected input
        spread = np.log(out.astype(float)).std(axis=1).mean()
        assert 0.2 < spread < 4  # neither all classes alike nor one class alone
    else:
        assert 0.01 < (out.astype(float) ** 2).mean() < 100


@pytest.mark.parametrize("name", SMALL)
def test_a_small_network_runs_and_is_the_catalogues(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.evidence) if n in LARGEST else n for n in LARGE]
)
def test_a_large_network_runs_and_is_the_catalogues(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


def test_the_two_lists_cover_the_catalogue() -> None:
    assert {name.split("@")[0].split("#")[0] for name in (*SMALL, *LARGE)} == set(names())


def test_only_caffes_normalisation_has_other_weight_bytes() -> None:
    assert extra_bytes(build("ResNet-18")) == extra_bytes(build("MobileNet v2")) == 0
    assert extra_bytes(build("TinyYolo")) == 48864  # 16 C - 4 for each of 8 pairs, C of 3056 channels


def test_every_activation_keeps_its_size_through_many_layers(tmp_path: Path) -> None:
    network = build("ResNet-50@64")
    model = onnx.load(made(network, tmp_path))
    rectified = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in rectified
    )
    onnx.save(model, tmp_path / "watched.onnx")
    image = np.random.default_rng(1).standard_normal(network.input_shape, dtype=np.float32)
    values = session(tmp_path / "watched.onnx").run(rectified, {"data": image})
    squares = {name: float((v**2).mean()) for name, v in zip(rectified, values, strict=True)}
    assert min(squares.values()) > 0.01, squares
    assert max(squares.values()) < 100, squares


def test_onnxruntime_folds_normalisation_and_rectifiers_into_convolutions(tmp_path: Path) -> None:
    for name in ("TinyYolo@96", "MobileNet v1@64"):
        network = build(name)
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 3
        ort.InferenceSession(str(made(network, tmp_path)), options, providers=["CPUExecutionProvider"])
        kinds = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
        assert not kinds & {"BatchNormalization", "Relu", "Mul", "Add"}, name


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_weights(tmp_path: Path) -> None:
    network = build("SqueezeNet 1.1@64")
    first = made(network, tmp_path).read_bytes()
    assert made(network, tmp_path).read_bytes() == first
    other = made(network, tmp_path, seed=1).read_bytes()
    assert other != first
    assert len(other) == len(first)


def test_weights_do_not_depend_on_the_order_of_layers(tmp_path: Path) -> None:
    def branches(order: str) -> Network:
        graph = GraphBuilder("branches")
        x = graph.input("data", (1, 3, 8, 8))
        out = {name: x.conv(name, 4, 3, pad=1) for name in order}
        graph.concat("join", (out["a"], out["b"]))
        return graph.build()

    one, two = (with_values(made(branches(order), tmp_path)) for order in ("ab", "ba"))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(one["a/weight"], one["b/weight"])


def test_weights_that_take_several_pieces_are_normal(tmp_path: Path) -> None:
    graph = GraphBuilder("wide")
    graph.input("data", (1, 1500)).fc("fc", 1500)
    values = with_values(made(graph.build(), tmp_path))["fc/weight"]
    assert values.std() == pytest.approx((2 / 1500) ** 0.5, rel=0.01)
    assert abs(values.mean()) < 1e-4
    assert len(np.unique(values.ravel())) > 0.9 * values.size


def test_writing_needs_little_memory(tmp_path: Path) -> None:
    network = build("AgeNet")
    made(build("SqueezeNet 1.1@64"), tmp_path)  # what is imported once does not count
    tracemalloc.start()
    made(network, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < network.weight_bytes / 4


def test_dropout_and_split_have_no_node_unless_they_are_the_result(tmp_path: Path) -> None:
    graph = GraphBuilder("views", caffe=True)
    x = graph.input("data", (1, 4, 8, 8)).conv("conv", 4, 1).split()
    x.relu("relu").dropout("drop").conv("last", 2, 1).dropout("result")
    nodes = {node.name: node for node in onnx.load(made(graph.build(), tmp_path)).graph.node}
    assert list(nodes) == ["conv", "relu", "last", "result"]
    assert list(nodes["relu"].input) == ["conv"]
    assert list(nodes["last"].input)[:1] == ["relu"]
    assert nodes["result"].op_type == "Identity"


def test_pooling_is_of_the_kind_and_size_of_the_layer(tmp_path: Path) -> None:
    graph = GraphBuilder("pools")
    x = graph.input("data", (1, 2, 12, 12))
    x.pool("max", 3, stride=2)
    x.pool("max up", 3, stride=2, ceil=True)
    x.pool("padded up", 3, stride=2, pad=1, ceil=True)
    x.pool("short", 2, stride=5)
    x.pool("mean", 3, stride=2, average=True)
    x.pool("mean of all", 12, average=True)
    x.global_average_pool("global")
    network = graph.build()
    path = made(network, tmp_path)
    kinds = {node.name: node.op_type for node in onnx.load(path).graph.node}
    assert [name for name, kind in kinds.items() if kind == "MaxPool"] == [
        "max",
        "max up",
        "padded up",
        "short",
    ]
    assert kinds["mean"] == "AveragePool"
    assert kinds["global"] == kinds["mean of all"] == "GlobalAveragePool"
    image = np.arange(288, dtype=np.float32).reshape(1, 2, 12, 12)
    out = dict(zip(kinds, session(path).run(list(kinds), {"data": image}), strict=True))
    for layer in network.layers[1:]:
        assert out[layer.name].shape == layer.output_shape
    assert out["max up"][0, 0, -1, -1] == 143  # the last window lies on the last corner
    assert out["max"][0, 0, -1, -1] == image[0, 0, 10, 10]
    assert out["global"][0, 1, 0, 0] == image[0, 1].mean()


def test_reshape_and_flatten_run(tmp_path: Path) -> None:
    graph = GraphBuilder("shapes")
    x = graph.input("data", (2, 4, 6, 6))
    x = graph.append("square", "reshape", (x,), (2, 9, 4, 4), in_place=True)
    graph.append("flat", "flatten", (x,), (2, 144), in_place=True)
    network = graph.build()
    assert run(made(network, tmp_path), network).shape == (2, 144)


def layers(*more: Layer) -> Network:
    return Network("odd", (Layer("data", "input", (), (1, 4, 8, 8)), *more))


WINDOW = {"kernel_h": 3, "kernel_w": 3, "stride": 1, "pad": 1}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (layers(Layer("up", "Resize", (0,), (1, 4, 16, 16))), r"'up' \(Resize\) has no counterpart"),
        (layers(Layer("relu", "relu", (0,), (1, 4, 8, 9))), r"'relu'"),
        (layers(Layer("relu", "relu", (0,), (1, 4, 8, 8), weight_bytes=16)), r"'relu'.* 16 bytes .* need 0"),
        (layers(Layer("relu", "relu", (0,))), r"'relu'.* has the output shape \(\)"),
        (layers(Layer("sum", "add", (0,), (1, 4, 8, 8))), r"'sum' \(add\) reads 1 layers, must read 2"),
        (
            layers(Layer("conv", "convolution", (0,), (1, 2, 8, 8), weight_bytes=300, attributes=WINDOW)),
            r"'conv'.* 300 bytes of weights, its shapes need 296",
        ),
        (
            layers(Layer("conv", "convolution", (0,), (1, 2, 7, 8), weight_bytes=288, attributes=WINDOW)),
            r"conv.* (7|8)",
        ),
        (
            layers(Layer("pool", "pooling", (0,), (1, 4, 8, 8), attributes=WINDOW | {"dilation": 2})),
            r"'pool' .*'dilation'.* may have \['average', 'in_channels'\]",
        ),
        (layers(Layer("pool", "pooling", (0,), (1, 4, 8, 8))), r"'pool'.* must have \['kernel_h'"),
        (
            layers(
                Layer("same", "softmax", (0,), (1, 4, 8, 8)), Layer("same", "softmax", (1,), (1, 4, 8, 8))
            ),
            r"'same' names two tensors",
        ),
        (
            layers(Layer("drop", "dropout", (0,), (1, 5)), Layer("relu", "relu", (1,), (1, 4, 8, 8))),
            r"'drop'",
        ),
    ],
)
def test_what_cannot_be_expressed_is_refused_with_the_layer(
    network: Network, message: str, tmp_path: Path
) -> None:
    with pytest.raises(GenerateError, match=f"network 'odd': .*{message}"):
        made(network, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_more_than_two_gigabytes_are_refused_at_once(tmp_path: Path) -> None:
    graph = GraphBuilder("huge")
    graph.input("data", (1, 30_000)).fc("fc", 20_000)
    with pytest.raises(GenerateError, match=r"'huge': .* 2400\d{6} bytes, .* 2147483647; layer 'fc' alone"):
        made(graph.build(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seed is -1"):
        made(build("SqueezeNet 1.1@64"), tmp_path, seed=-1)
