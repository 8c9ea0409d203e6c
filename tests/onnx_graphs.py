"""Small ONNX graphs of every kind that layer bundles are made of, with random weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra edgesched[bridge]")
from onnx import TensorProto, helper, numpy_helper


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
