"""Import a network from an ONNX file.

Layers are the nodes that depend on an input. What depends on none (Constant nodes, dequantised weights, shape
arithmetic) is folded: its stored bytes count, in the file's own data type, as weights of the layer that first
uses them. Rules as in ``builder.py``: the same multiply-accumulates, the same im2col workspace, rectifiers
and batch normalisation in place where nobody else reads their input; reshapes, flattening, dropout and
identity share their input's buffer. A transposed convolution is a ``convolution`` with attribute
``transposed`` 1 (its workspace is the column buffer that it scatters from); every matrix product is
``fully-connected``.

An operator that this table lacks keeps its own name and costs only bytes. All such operators are named in one
warning.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .builder import im2col_bytes, leading_conv_layers
from .network import Layer, Network
from .onnx_graph import (
    UNKNOWN,
    OnnxGraph,
    OnnxImportError,
    TensorType,
    label,
    operator,
    read_graph,
    read_names,
    subgraphs,
)

__all__ = ["ImportReport", "OnnxImportError", "OnnxImportWarning", "load", "load_with_report"]

# operator: positions of the data and the filter among its inputs
CONVOLUTIONS = {"Conv": (0, 1), "ConvInteger": (0, 1), "QLinearConv": (0, 3), "ConvTranspose": (0, 1)}
PRODUCTS = {"MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3), "Gemm": (0, 1)}
OTHER_OPS = {
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), "pooling"),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), "pooling"),
    **dict.fromkeys(("Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Clip"), "relu"),
    **dict.fromkeys(("Softmax", "LogSoftmax"), "softmax"),
    **dict.fromkeys(("Add", "Sum"), "add"),
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Identity"), "reshape"),
    "LRN": "lrn",
    "BatchNormalization": "batch-norm",
    "Dropout": "dropout",
    "Concat": "concat",
    "Split": "split",
    "Flatten": "flatten",
}
IN_PLACE = frozenset({"relu", "batch-norm"})
VIEWS = frozenset({"reshape", "flatten", "dropout"})
RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


class OnnxImportWarning(UserWarning):
    """Part of an imported network is costed by bytes only, or not at all."""


@dataclass(frozen=True)
class ImportReport:
    """What an import could not express.

    ``unknown_operators``: operator to its number of layers, costed by bytes only. ``unsized``: layers with an
    output whose size the file does not determine; those outputs count no bytes. ``folded_nodes``: nodes that
    depend on no input and so are no layers.
    """

    path: Path
    unknown_operators: Mapping[str, int]
    unsized: tuple[str, ...]
    folded_nodes: int

    @property
    def message(self) -> str:
        """One sentence for each shortcoming; empty where there is none."""
        parts = []
        if self.unknown_operators:
            listed = ", ".join(f"{name} ({count})" for name, count in sorted(self.unknown_operators.items()))
            parts.append(f"operators costed by bytes only: {listed}")
        if self.unsized:
            listed = ", ".join(self.unsized[:10]) + (", ..." if len(self.unsized) > 10 else "")
            parts.append(f"layers with outputs of unknown size, counted as 0 bytes: {listed}")
        return " ".join(f"{self.path}: {'; '.join(parts)}".splitlines()) if parts else ""


def load(path: str | Path, *, dims: Mapping[str, int] | None = None) -> Network:
    """The network in an ONNX file.

    ``dims`` numbers the symbolic sides of the inputs (``{"height": 224}``); a symbolic batch is 1
    unless named there. Issues one ``OnnxImportWarning`` where something could not be costed in full. Raises
    OnnxImportError (a ValueError) for a file that is no usable model, ImportError without the onnx package.
    """
    network, report = load_with_report(path, dims=dims)
    if report.message:
        warnings.warn(report.message, OnnxImportWarning, stacklevel=2)
    return network


def load_with_report(
    path: str | Path, *, dims: Mapping[str, int] | None = None
) -> tuple[Network, ImportReport]:
    """As :func:`load`, with the report returned instead of a warning."""
    file = Path(path)
    return _Importer(file, read_graph(file, dims)).convert()


class _Importer:
    def __init__(self, path: Path, graph: OnnxGraph) -> None:
        self.path = path
        self.graph = graph
        self.layers: list[Layer] = []
        self.layer_of: dict[str, int] = {}
        self.constants: dict[str, frozenset[str]] = {name: frozenset((name,)) for name in graph.stored_bytes}
        """Folded tensor to the stored tensors it was computed from."""
        self.charged: set[str] = set()
        self.shared: set[str] = set()
        """Tensors whose buffer somebody else reads too (through a view as well)."""
        self.readers = Counter(name for node in graph.nodes for name in set(read_names(node)))
        self.readers.update(graph.outputs)
        self.unknown = Counter[str]()
        self.unsized: list[str] = []
        self.folded = graph.constant_nodes
        self.names: set[str] = set()

    def fault(self, node: Any, what: str) -> OnnxImportError:
        return OnnxImportError(f"{self.path}: {' '.join(f'node {label(node)} {what}'.split())}")

    def type_of(self, name: str) -> TensorType:
        return self.graph.types.get(name, UNKNOWN)

    def convert(self) -> tuple[Network, ImportReport]:
        for name in self.graph.inputs:
            kind = self.type_of(name)
            self.add(Layer(name, "input", (), kind.shape or (), output_bytes=kind.size_bytes or 0), (name,))
            self.shared.add(name)  # the caller's own buffer: nothing may overwrite it
        for node in self.graph.nodes:
            if self.is_constant(node):
                self.fold(node)
            else:
                self.add_node(node)
        if len(self.layers) == len(self.graph.inputs):
            raise OnnxImportError(f"{self.path}: no node depends on an input, so there is nothing to run")
        network = Network(
            name=self.path.stem,
            layers=tuple(self.layers),
            input_shape=self.layers[0].output_shape if self.graph.inputs else (),
            conv_layers=leading_conv_layers(self.layers),
            description=f"imported graph {self.graph.name!r}",
            source=f"ONNX file {self.path.name}",
        )
        return network, ImportReport(self.path, dict(self.unknown), tuple(self.unsized), self.folded)

    def add(self, layer: Layer, outputs: tuple[str, ...]) -> None:
        for name in outputs:
            self.layer_of[name] = len(self.layers)
            if self.readers[name] > 1:
                self.shared.add(name)
        self.layers.append(layer)
        self.names.add(layer.name)

    def is_constant(self, node: Any) -> bool:
        if operator(node) in ("Shape", "Size"):
            return self.input_type(node, 0).shape is not None
        names = read_names(node)
        if operator(node) in RANDOM or any(subgraphs(node)):
            return False
        return bool(names) and all(name in self.constants for name in names)

    def fold(self, node: Any) -> None:
        self.folded += 1
        for name in filter(None, node.output):
            self.constants[name] = self.sources(node)

    def sources(self, node: Any) -> frozenset[str]:
        """The stored tensors that a node's constant inputs come from."""
        return frozenset().union(*(self.constants.get(name, frozenset()) for name in read_names(node)))

    def weight_bytes(self, node: Any) -> int:
        """Stored bytes that no earlier layer was charged with."""
        fresh = self.sources(node) - self.charged
        self.charged |= fresh
        return sum(self.graph.stored_bytes[name] for name in fresh)

    def add_node(self, node: Any) -> None:
        kind = operator(node)
        name = self.name_of(node)
        producers = [n for n in dict.fromkeys(read_names(node)) if n in self.layer_of]
        outputs = tuple(filter(None, node.output))
        macs = workspace = 0
        attributes: dict[str, int] = {}
        if kind in CONVOLUTIONS:
            op, macs, workspace, attributes = self.convolution(node, *CONVOLUTIONS[kind])
        elif kind in PRODUCTS:
            op, macs, attributes = self.product(node, *PRODUCTS[kind])
        else:
            op = self.plain_op(node, kind)
        if op == "pooling":
            attributes = self.pooling(node, kind)
        sizes = [self.type_of(output).size_bytes for output in outputs]
        if self.works_in_place(node, op, producers):
            sizes = [0] * len(outputs)
            if producers[0] in self.shared:
                self.shared.update(outputs)
        elif None in sizes:
            self.unsized.append(name)
        layer = Layer(
            name=name,
            op=op,
            inputs=tuple(dict.fromkeys(self.layer_of[n] for n in producers)),
            output_shape=(self.type_of(outputs[0]).shape or ()) if outputs else (),
            macs=macs,
            weight_bytes=self.weight_bytes(node),
            output_bytes=sum(size or 0 for size in sizes),
            workspace_bytes=workspace,
            attributes=attributes,
        )
        self.add(layer, outputs)

    def name_of(self, node: Any) -> str:
        """The node's name where no layer has it yet, else its first output, made unique where it must be."""
        first = next(filter(None, node.output))
        name = node.name if node.name and node.name not in self.names else first
        while name in self.names:
            name += "_"
        return name

    def input_type(self, node: Any, position: int) -> TensorType:
        if len(node.input) <= position or not node.input[position]:
            raise self.fault(node, f"lacks input {position}")
        return self.type_of(node.input[position])

    def shapes(self, node: Any, *positions: int) -> list[tuple[int, ...]]:
        """Shapes of inputs and, last, of the first output; all must be known."""
        kinds = [self.input_type(node, position) for position in positions]
        kinds.append(self.type_of(node.output[0]) if node.output else UNKNOWN)
        known = [kind.shape for kind in kinds if kind.shape is not None]
        if len(known) < len(kinds):
            raise self.fault(
                node, "cannot be costed: the shape of one of its tensors does not follow from the file"
            )
        if 0 in known[-1]:
            raise self.fault(node, f"has an output {known[-1]} without any value; its input is too small")
        return known

    def convolution(self, node: Any, data: int, weights: int) -> tuple[str, int, int, dict[str, int]]:
        x, w, y = self.shapes(node, data, weights)
        groups = _integer(node, "group", 1)
        transposed = node.op_type == "ConvTranspose"
        if not len(x) == len(w) == len(y) >= 3:
            raise self.fault(
                node, f"has input {x}, filter {w} and output {y}; their ranks must be equal and at least 3"
            )
        inner = w[0] if transposed else w[1] * groups
        outer = w[1] * groups if transposed else w[0]
        if groups < 1 or inner != x[1] or outer != y[1] or x[1] % groups or y[1] % groups:
            raise self.fault(
                node, f"has input {x}, filter {w}, output {y} and {groups} groups, which do not fit together"
            )
        window = _window(node, w[2:], x[2:], y[2:])
        pointwise = set(w[2:]) == {1} and window["pointwise"] == 1
        del window["pointwise"]
        grid, channels = (x, outer) if transposed else (y, inner)
        workspace = im2col_bytes(
            channels,
            w[2:],
            grid[2:],
            pointwise=pointwise,
            element_bytes=self.input_type(node, data).element_bytes or 0,
        )
        attributes = window | {"groups": groups, "in_channels": x[1]}
        if transposed:
            attributes["transposed"] = 1
        op = "depthwise" if groups == x[1] > 1 else "convolution"
        return op, math.prod(grid) * math.prod(w[1:]), workspace, attributes

    def product(self, node: Any, left: int, right: int) -> tuple[str, int, dict[str, int]]:
        a, b, y = self.shapes(node, left, right)
        if not a or not b or (node.op_type == "Gemm" and not len(a) == len(b) == 2):
            raise self.fault(node, f"multiplies {a} and {b}, which are no matrices")
        inner = a[0] if _integer(node, "transA", 0) else a[-1]
        other = b[-1] if len(b) == 1 or _integer(node, "transB", 0) else b[-2]
        if inner != other:
            raise self.fault(node, f"multiplies {a} and {b}, which do not fit together")
        return "fully-connected", math.prod(y) * inner, {"in_features": inner}

    def plain_op(self, node: Any, kind: str) -> str:
        if kind in OTHER_OPS:
            self.input_type(node, 0)  # an operator that computes something from nothing is a fault
            return OTHER_OPS[kind]
        if kind == "Mul" and any(name in self.constants for name in node.input):
            return "scale"
        if kind == "ReduceMean":
            x, y = self.input_type(node, 0).shape, self.type_of(node.output[0]).shape
            if x is not None and y is not None and len(x) == 4 and math.prod(y) == x[0] * x[1]:
                return "pooling"
        self.unknown[kind] += 1
        return kind

    def pooling(self, node: Any, kind: str) -> dict[str, int]:
        x, y = self.shapes(node, 0)
        average = {"average": int(kind in ("AveragePool", "GlobalAveragePool", "ReduceMean"))}
        if len(x) < 3:
            raise self.fault(node, f"pools {x}, which has no sides to pool")
        if kind == "ReduceMean" or kind.startswith("Global"):
            window = {"kernel_h": x[2], "kernel_w": x[3] if len(x) > 3 else 1, "stride": 1, "pad": 0}
            return window | {"in_channels": x[1]} | average
        kernel = _integers(node, "kernel_shape")
        if len(kernel) != len(x) - 2 or len(y) != len(x) or min(kernel, default=0) < 1:
            raise self.fault(node, f"pools {x} by windows of {list(kernel)}, which do not fit together")
        window = _window(node, kernel, x[2:], y[2:])
        del window["pointwise"]
        return window | {"in_channels": x[1]} | average

    def works_in_place(self, node: Any, op: str, producers: list[str]) -> bool:
        if not producers or producers[0] != node.input[0]:
            return False
        if op in VIEWS:
            return True
        before, after = self.type_of(producers[0]).size_bytes, self.type_of(node.output[0]).size_bytes
        return op in IN_PLACE and producers[0] not in self.shared and before is not None and before == after


def _integer(node: Any, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _integers(node: Any, name: str) -> tuple[int, ...]:
    return next((tuple(a.ints) for a in node.attribute if a.name == name), ())


def _window(
    node: Any, kernel: Sequence[int], in_size: Sequence[int], out_size: Sequence[int]
) -> dict[str, int]:
    """Kernel, stride and padding of the first side (``_w``: the second, where it differs).

    Also ``pointwise``: 1 where stride is 1 and padding 0 on all sides.
    """
    rank = len(kernel)
    strides = _integers(node, "strides") or (1,) * rank
    dilations = _integers(node, "dilations") or (1,) * rank
    pads = _integers(node, "pads") or (0,) * (2 * rank)
    automatic = next((a.s for a in node.attribute if a.name == "auto_pad"), b"NOTSET")
    if automatic in (b"SAME_UPPER", b"SAME_LOWER") and node.op_type != "ConvTranspose":
        totals = [
            max(0, (out - 1) * stride + (k - 1) * dilation + 1 - size)
            for k, size, out, stride, dilation in zip(
                kernel, in_size, out_size, strides, dilations, strict=False
            )
        ]
        pads = tuple(total // 2 for total in totals) + tuple(total - total // 2 for total in totals)
    window = {
        "kernel_h": kernel[0],
        "kernel_w": kernel[1] if rank > 1 else 1,
        "stride": strides[0],
        "pad": pads[0],
        "pointwise": int(set(strides) == {1} and set(pads) == {0}),
    }
    for name, values in (("stride", strides), ("pad", pads[:rank])):
        if rank > 1 and len(values) > 1 and values[1] != values[0]:
            window[f"{name}_w"] = values[1]
    if set(dilations) != {1}:
        window["dilation"] = dilations[0]
    return window
