"""ONNX models written down by hand, for tests of the import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("onnx", reason="needs the extra edgesched[onnx]")
from onnx import TensorProto, helper

FLOAT = TensorProto.FLOAT


def info(name: str, shape: Sequence[int | str | None] | None, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def stored(name: str, shape: Sequence[int], kind: int = FLOAT) -> Any:
    """An initializer without data, as in a file whose external weights are missing."""
    return TensorProto(name=name, dims=shape, data_type=kind)


def numbers(name: str, values: Sequence[int]) -> Any:
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def model(
    nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], weights: Sequence[Any] = (), **more
) -> Any:
    graph = helper.make_graph(
        nodes, "g", inputs, outputs, list(weights), value_info=more.pop("value_info", [])
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, **more)


def branching() -> Any:
    """x -> conv -> relu -> (depthwise, 1x1) -> concat -> global pool -> flatten -> gemm."""
    nodes = [
        helper.make_node(
            "Conv", ["x", "w1", "b1"], ["c1"], name="conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="dw", group=8, pads=[1] * 4),
        helper.make_node("Conv", ["r1", "w3"], ["c3"], name="pw"),
        helper.make_node("Concat", ["c2", "c3"], ["j"], name="join", axis=1),
        helper.make_node("GlobalAveragePool", ["j"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["y"], name="fc", transB=1),
    ]
    weights = [
        stored("w1", (8, 3, 3, 3)),
        stored("b1", (8,)),
        stored("w2", (8, 1, 3, 3)),
        stored("w3", (4, 8, 1, 1)),
        stored("w4", (10, 12)),
        stored("b4", (10,)),
    ]
    return model(nodes, [info("x", ["N", 3, 16, 16])], [info("y", ["N", 10])], weights)


def function(name: str, *calls: str) -> Any:
    values = ["in", *(f"v{i}" for i in range(len(calls) - 1)), "out"]
    nodes = [
        helper.make_node(call, [values[i]], [values[i + 1]], domain="" if call == "Relu" else "local")
        for i, call in enumerate(calls)
    ]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["in"], ["out"], nodes, imports)


def with_functions(*functions: Any) -> Any:
    node = helper.make_node("f0", ["x"], ["y"], domain="local")
    proto = model([node], [info("x", [2, 3])], [info("y", [2, 3])], functions=list(functions))
    proto.opset_import.append(helper.make_opsetid("local", 1))
    return proto
