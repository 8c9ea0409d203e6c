"""Import of ONNX files: small models made here, and exports of known networks."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from protos import FLOAT, branching, function, info, model, numbers, stored, with_functions

from edgesched.workloads.builder import GraphBuilder
from edgesched.workloads.catalogue import build
from edgesched.workloads.network import Layer, Network
from edgesched.workloads.onnx_import import OnnxImportError, OnnxImportWarning, load, load_with_report

onnx = pytest.importorskip("onnx", reason="needs the extra edgesched[onnx]")
from onnx import TensorProto, helper  # noqa: E402


def by_name(network: Network) -> dict[str, Layer]:
    return {layer.name: layer for layer in network.layers}


def test_a_branching_graph(saved: Callable[[Any], Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = load(saved(branching()))
    layers = by_name(network)
    assert [layer.name for layer in network.layers] == [
        "x", "conv", "relu", "dw", "pw", "join", "pool", "flat", "fc"
    ]  # fmt: skip
    assert [layer.op for layer in network.layers] == [
        "input",
        "convolution",
        "relu",
        "depthwise",
        "convolution",
        "concat",
        "pooling",
        "flatten",
        "fully-connected",
    ]
    assert network.name == "small"
    assert network.input_shape == (1, 3, 16, 16)
    assert network.conv_layers == 8
    assert layers["conv"].macs == 8 * 256 * 27
    assert layers["conv"].weight_bytes == (8 * 27 + 8) * 4
    assert layers["conv"].workspace_bytes == 27 * 256 * 4
    assert layers["conv"].attributes == {
        "kernel_h": 3, "kernel_w": 3, "stride": 1, "pad": 1, "groups": 1, "in_channels": 3
    }  # fmt: skip
    assert layers["dw"].macs == 8 * 256 * 9
    assert layers["dw"].attributes["groups"] == 8
    assert layers["pw"].workspace_bytes == 0
    assert layers["join"].inputs == (3, 4)
    assert layers["join"].output_shape == (1, 12, 16, 16)
    assert layers["fc"].macs == 120
    assert [layers[n].output_bytes for n in ("relu", "flat")] == [0, 0]
    assert network.last_use[1] == 4  # the relu's buffer is the convolution's; both branches read it


def test_equal_to_the_builder_on_the_same_graph(saved: Callable[[Any], Path]) -> None:
    graph = GraphBuilder("small")
    x = graph.input("x", (1, 3, 16, 16)).conv("conv", 8, 3, pad=1).relu("relu")
    branches = (x.depthwise("dw", 3, pad=1, bias=False), x.conv("pw", 4, 1, bias=False))
    graph.concat("join", branches).global_average_pool("pool").fc("fc", 10)
    imported = [layer for layer in load(saved(branching())).layers if layer.op != "flatten"]
    for ours, theirs in zip(graph.build().layers, imported, strict=True):
        for field in (
            "name",
            "op",
            "output_shape",
            "macs",
            "weight_bytes",
            "output_bytes",
            "workspace_bytes",
        ):
            assert getattr(ours, field) == getattr(theirs, field), (ours.name, field)


def exported(network: Network) -> Any:
    """The network as an exporter would write it, weights left out."""
    nodes, weights = [], []
    value = {0: network.layers[0].name}
    for index, layer in enumerate(network.layers[1:], start=1):
        inputs = [value[producer] for producer in layer.inputs]
        a, name, shape = layer.attributes, layer.name, network.layers[layer.inputs[0]].output_shape
        value[index] = out = f"{name}:0"

        def weight(*sides: int, inputs: list[str] = inputs, name: str = name) -> None:
            inputs.append(f"{name}.{len(inputs)}")
            weights.append(stored(inputs[-1], sides))

        match layer.op:
            case "convolution" | "depthwise":
                sides = (layer.output_shape[1], a["in_channels"] // a["groups"], a["kernel_h"], a["kernel_w"])
                weight(*sides)
                if layer.weight_bytes > 4 * sides[0] * sides[1] * sides[2] * sides[3]:
                    weight(sides[0])
                more = {"group": a["groups"], "strides": [a["stride"]] * 2, "pads": [a["pad"]] * 4}
                nodes.append(helper.make_node("Conv", inputs, [out], name=name, **more))
            case "batch-norm":
                for _ in range(4):
                    weight(shape[1])
                nodes.append(helper.make_node("BatchNormalization", inputs, [out], name=name))
            case "fully-connected":
                nodes.append(helper.make_node("Flatten", inputs, [f"{name}.flat"]))
                inputs[:] = [f"{name}.flat"]
                weight(layer.output_shape[1], a["in_features"])
                weight(layer.output_shape[1])
                nodes.append(helper.make_node("Gemm", inputs, [out], name=name, transB=1))
            case "pooling" if a["kernel_h"] == shape[2]:
                nodes.append(helper.make_node("GlobalAveragePool", inputs, [out], name=name))
            case "pooling":
                more = {"strides": [a["stride"]] * 2, "pads": [a["pad"]] * 4}
                kernel = [a["kernel_h"], a["kernel_w"]]
                kind = "AveragePool" if a["average"] else "MaxPool"
                ceil = int((shape[2] + 2 * a["pad"] - kernel[0]) // a["stride"] + 1 < layer.output_shape[2])
                nodes.append(
                    helper.make_node(
                        kind, inputs, [out], name=name, kernel_shape=kernel, ceil_mode=ceil, **more
                    )
                )
            case _:
                kinds = {
                    "relu": "Relu",
                    "add": "Add",
                    "softmax": "Softmax",
                    "dropout": "Dropout",
                    "concat": "Concat",
                }
                kinds["lrn"] = "LRN"
                more = {"LRN": {"size": 5}, "Concat": {"axis": 1}}.get(kinds[layer.op], {})
                nodes.append(helper.make_node(kinds[layer.op], inputs, [out], name=name, **more))
    last = value[len(network.layers) - 1]
    return model(nodes, [info(value[0], ("batch", *network.input_shape[1:]))], [info(last, None)], weights)


@pytest.mark.parametrize(
    "name", ["ResNet-50", "MobileNet v1", "MobileNet v2", "SqueezeNet 1.1", "GoogLeNet", "AlexNet", "VGG-16"]
)
def test_exports_of_known_networks_agree_with_the_builder(name: str, saved: Callable[[Any], Path]) -> None:
    network = build(name)
    imported, report = load_with_report(saved(exported(network)))
    assert report.message == ""
    theirs = by_name(imported)
    assert imported.macs == network.macs
    assert imported.weight_bytes == network.weight_bytes
    assert imported.output_bytes == network.output_bytes
    assert max(imported.live_bytes) == max(network.live_bytes)
    for ours in network.layers:
        other = theirs[ours.name]
        for field in ("op", "output_shape", "macs", "weight_bytes", "output_bytes", "workspace_bytes"):
            assert getattr(ours, field) == getattr(other, field), (ours.name, field)
        if ours.op in ("convolution", "depthwise", "pooling", "fully-connected"):
            assert ours.attributes == other.attributes


def test_unknown_operators_are_kept_and_named_in_one_warning(saved: Callable[[Any], Path]) -> None:
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["b"]),
        helper.make_node("Fancy", ["b"], ["c"], name="f", domain="my.ops"),
        helper.make_node("Strange", ["c"], ["d"], name="s", domain="my.ops"),
        helper.make_node("Relu", ["d"], ["y"], name="r"),
    ]
    proto = model(nodes, [info("x", [2, 5])], [info("y", [2, 5])], value_info=[info("c", [2, 7])])
    proto.opset_import.append(helper.make_opsetid("my.ops", 1))
    with pytest.warns(OnnxImportWarning) as caught:
        network = load(saved(proto))
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "operators costed by bytes only: Sigmoid (2), my.ops.Fancy (1), my.ops.Strange (1)" in message
    assert "layers with outputs of unknown size, counted as 0 bytes: s" in message
    layers = by_name(network)
    assert layers["f"].op == "my.ops.Fancy"
    assert layers["f"].output_bytes == 2 * 7 * 4
    assert layers["a"].output_bytes == 40
    _, report = load_with_report(saved(proto))
    assert report.unknown_operators == {"Sigmoid": 2, "my.ops.Fancy": 1, "my.ops.Strange": 1}
    assert report.unsized == ("s",)


def test_half_precision_halves_the_bytes(saved: Callable[[Any], Path]) -> None:
    half = TensorProto.FLOAT16
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c")
    proto = model(
        [node], [info("x", [1, 3, 9, 9], half)], [info("y", None, half)], [stored("w", (6, 3, 2, 2), half)]
    )
    layer = by_name(load(saved(proto)))["c"]
    assert (layer.weight_bytes, layer.output_bytes, layer.workspace_bytes) == (
        6 * 12 * 2,
        6 * 64 * 2,
        12 * 64 * 2,
    )
    assert layer.macs == 6 * 64 * 12


def test_quantised_weights_count_as_they_are_stored(saved: Callable[[Any], Path]) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w8", "scale", "zero"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["y"], name="c"),
    ]
    weights = [
        stored("w8", (6, 3, 3, 3), TensorProto.INT8),
        stored("scale", ()),
        stored("zero", (), TensorProto.INT8),
    ]
    network, report = load_with_report(
        saved(model(nodes, [info("x", [1, 3, 9, 9])], [info("y", None)], weights))
    )
    assert [layer.name for layer in network.layers] == ["x", "c"]
    assert network.weight_bytes == 6 * 27 + 4 + 1
    assert report.folded_nodes == 1
    assert not report.unknown_operators


def test_four_bit_weights_are_half_a_byte(saved: Callable[[Any], Path]) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w4", "scale"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="m"),
    ]
    weights = [stored("w4", (5, 3), TensorProto.INT4), stored("scale", ())]
    proto = model(nodes, [info("x", [2, 5])], [info("y", [2, 3])], weights)
    proto.opset_import[0].version = 21
    assert load(saved(proto)).weight_bytes == 8 + 4


def test_constants_are_folded_and_shape_arithmetic_followed(saved: Callable[[Any], Path]) -> None:
    nodes = [
        helper.make_node("Constant", [], ["zero"], value_int=0),
        helper.make_node("Constant", [], ["rest"], value_ints=[-1]),
        helper.make_node("Constant", [], ["factor"], value=helper.make_tensor("v", FLOAT, [4], [1.0] * 4)),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n0"]),
        helper.make_node("Constant", [], ["axis"], value_ints=[0]),
        helper.make_node("Unsqueeze", ["n0", "axis"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["target"], axis=0),
        helper.make_node("Mul", ["x", "factor"], ["m"], name="mul"),
        helper.make_node("Reshape", ["m", "target"], ["y"], name="reshape"),
    ]
    network, report = load_with_report(saved(model(nodes, [info("x", ["N", 3, 4])], [info("y", None)])))
    assert [(layer.name, layer.op) for layer in network.layers] == [
        ("x", "input"),
        ("mul", "scale"),
        ("reshape", "reshape"),
    ]
    assert network.layers[2].output_shape == (1, 12)
    assert network.layers[2].output_bytes == 0
    assert network.layers[1].weight_bytes == 16
    assert report.folded_nodes == 8
    assert report.message == ""


def test_shared_weights_are_charged_once(saved: Callable[[Any], Path]) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("MatMul", ["a", "w"], ["y"], name="second"),
    ]
    layers = by_name(
        load(saved(model(nodes, [info("x", [2, 5])], [info("y", [2, 5])], [stored("w", (5, 5))])))
    )
    assert (layers["first"].weight_bytes, layers["second"].weight_bytes) == (100, 0)
    assert layers["second"].macs == 2 * 5 * 5


def test_a_rectifier_is_in_place_only_where_nobody_else_reads_its_input(saved: Callable[[Any], Path]) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="c"),
        helper.make_node("Identity", ["c"], ["v"], name="view"),
        helper.make_node("Relu", ["v"], ["r"], name="r"),
        helper.make_node("Add", ["c", "r"], ["s"], name="s"),
        helper.make_node("Relu", ["s"], ["y"], name="last"),
    ]
    proto = model(nodes, [info("x", [1, 2, 4, 4])], [info("y", None)], [stored("w", (2, 2, 1, 1))])
    layers = by_name(load(saved(proto)))
    sizes = {name: layer.output_bytes for name, layer in layers.items()}
    assert sizes == {"x": 128, "c": 128, "view": 0, "r": 128, "s": 128, "last": 0}


def test_transposed_and_one_dimensional_convolutions_and_automatic_padding(
    saved: Callable[[Any], Path],
) -> None:
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["u"], name="up", strides=[2, 2]),
        helper.make_node("Conv", ["u", "v"], ["z"], name="same", strides=[2, 1], auto_pad="SAME_UPPER"),
        helper.make_node("Reshape", ["z", "to"], ["q"], name="q"),
        helper.make_node("Conv", ["q", "k"], ["y"], name="line", dilations=[2]),
    ]
    weights = [
        stored("w", (4, 6, 2, 2)),
        stored("v", (2, 6, 3, 3)),
        numbers("to", [1, 2, -1]),
        stored("k", (3, 2, 5)),
    ]
    layers = by_name(load(saved(model(nodes, [info("x", [1, 4, 5, 5])], [info("y", None)], weights))))
    assert layers["up"].output_shape == (1, 6, 10, 10)
    assert layers["up"].macs == 4 * 25 * 6 * 4
    assert layers["up"].workspace_bytes == 6 * 4 * 25 * 4
    assert layers["up"].attributes["transposed"] == 1
    assert layers["same"].output_shape == (1, 2, 5, 10)
    assert layers["same"].attributes == {
        "kernel_h": 3,
        "kernel_w": 3,
        "stride": 2,
        "stride_w": 1,
        "pad": 0,
        "pad_w": 1,
        "groups": 1,
        "in_channels": 6,
    }
    assert layers["line"].output_shape == (1, 3, 42)
    assert layers["line"].macs == 3 * 42 * 10
    assert layers["line"].attributes["dilation"] == 2


def test_open_sides_need_a_number(saved: Callable[[Any], Path]) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c")
    path = saved(model([node], [info("x", ["N", 3, "H", 8])], [info("y", None)], [stored("w", (2, 3, 1, 1))]))
    with pytest.raises(
        OnnxImportError, match=r"small.onnx: side 2 of input 'x' \(H\) is open; give dims=\{'H'"
    ):
        load(path)
    assert load(path, dims={"H": 6}).input_shape == (1, 3, 6, 8)
    assert load(path, dims={"H": 6, "N": 4}).layers[1].output_shape == (4, 2, 6, 8)
    with pytest.raises(
        OnnxImportError, match=r"dims names \['W'\], but the symbolic sides of the inputs are: H, N"
    ):
        load(path, dims={"H": 6, "W": 6})
    with pytest.raises(ValueError, match="dims: 'H' is 0, must be a whole number of at least 1"):
        load(path, dims={"H": 0})


def test_nodes_out_of_order_are_sorted(saved: Callable[[Any], Path]) -> None:
    proto = branching()
    nodes = list(reversed([onnx.NodeProto.FromString(n.SerializeToString()) for n in proto.graph.node]))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    network = load(saved(proto))
    assert network.macs == load(saved(branching())).macs


def test_inputs_that_are_initializers_are_weights(saved: Callable[[Any], Path]) -> None:
    proto = branching()
    proto.ir_version = 3
    proto.graph.input.extend(info(w.name, list(w.dims)) for w in proto.graph.initializer)
    assert [layer.op for layer in load(saved(proto)).layers].count("input") == 1


def test_external_weights_may_be_missing(saved: Callable[[Any], Path]) -> None:
    proto = branching()
    for tensor in proto.graph.initializer:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../nowhere/weights.bin")
    assert load(saved(proto)).weight_bytes == load(saved(branching())).weight_bytes


def test_equal_node_names_become_unique(saved: Callable[[Any], Path]) -> None:
    nodes = [
        helper.make_node("Sigmoid", [a], [b], name="same") for a, b in (("x", "a"), ("a", "b"), ("b", "y"))
    ]
    network, _ = load_with_report(saved(model(nodes, [info("x", [1])], [info("y", [1])])))
    assert [layer.name for layer in network.layers] == ["x", "same", "b", "y"]


def test_a_branch_of_control_flow_reads_from_outside(saved: Callable[[Any], Path]) -> None:
    inner = helper.make_graph([helper.make_node("Relu", ["a"], ["i"])], "then", [], [info("i", [2, 3])])
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["a"], name="a"),
        helper.make_node("If", ["flag"], ["y"], name="if", then_branch=inner, else_branch=inner),
    ]
    flag = helper.make_tensor("flag", TensorProto.BOOL, [], [True])
    network, report = load_with_report(saved(model(nodes, [info("x", [2, 3])], [info("y", [2, 3])], [flag])))
    assert by_name(network)["if"].inputs == (1,)
    assert report.unknown_operators == {"Sigmoid": 1, "If": 1}


def test_local_functions_are_expanded(saved: Callable[[Any], Path]) -> None:
    network = load(saved(with_functions(function("f0", "f1", "f1"), function("f1", "Relu"))))
    assert [layer.op for layer in network.layers] == ["input", "relu", "relu"]


def test_without_onnx_the_error_says_how_to_install_it(
    saved: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(branching())
    for name in [name for name in sys.modules if name.split(".")[0] == "onnx"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'edgesched\[onnx\]'"):
        load(path)


def test_the_module_imports_without_onnx() -> None:
    code = "import sys; sys.modules['onnx'] = None; import edgesched.workloads.onnx_import; print('imported')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "imported\n", done.stderr
