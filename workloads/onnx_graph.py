"""Read an ONNX file into a checked graph: nodes in order, shapes of tensors, bytes of stored weights.

Nothing is computed and no weight is decoded. Whatever is wrong with the file is an ``OnnxImportError`` that
names the file and the fault; protobuf's and onnx's own exceptions do not leave this module.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_FILE_BYTES = 2**31 - 1
"""Protobuf's own limit; larger models keep their weights in external files."""
MAX_TENSOR_BYTES = 2**40
"""A single tensor of more than 1 TiB is taken for a damaged or hostile file."""
MAX_NODES = 100_000
KEPT_BYTES = 4096
"""Stored tensors up to this size keep their values, which shape inference may need (a Reshape's target)."""

DEFAULT_DOMAINS = ("", "ai.onnx")

SCALAR_VALUES = {
    "value_float": ("f", "FLOAT"),
    "value_floats": ("floats", "FLOAT"),
    "value_int": ("i", "INT64"),
    "value_ints": ("ints", "INT64"),
    "value_string": ("s", "STRING"),
    "value_strings": ("strings", "STRING"),
}
"""Attributes of a Constant node that are no tensor: the field that holds the value, and its data type."""


class OnnxImportError(ValueError):
    """The file is not a usable ONNX model; the message names the file and what is wrong."""


@dataclass(frozen=True)
class TensorType:
    """``shape`` is None where a side is unknown; ``element_bytes`` is None if unknown, 0.5 for 4 bits."""

    shape: tuple[int, ...] | None
    element_bytes: float | None

    @property
    def size_bytes(self) -> int | None:
        """Bytes of the tensor, None where unknown."""
        if self.shape is None or self.element_bytes is None:
            return None
        return math.ceil(math.prod(self.shape) * self.element_bytes)


UNKNOWN = TensorType(None, None)


@dataclass(frozen=True)
class OnnxGraph:
    """A checked graph; ``nodes`` are onnx NodeProto, every one after those it reads."""

    name: str
    inputs: tuple[str, ...]
    outputs: frozenset[str]
    nodes: tuple[Any, ...]
    types: Mapping[str, TensorType]
    stored_bytes: Mapping[str, int]
    """Initializer or Constant to its bytes in the file's own data type."""
    constant_nodes: int
    """How many Constant nodes the file has; none is among ``nodes``."""


def operator(node: Any) -> str:
    """``Conv``, or ``domain.Name`` for an operator outside ONNX's default domain."""
    return node.op_type if node.domain in DEFAULT_DOMAINS else f"{node.domain}.{node.op_type}"


def read_names(node: Any) -> list[str]:
    """The tensors a node reads, those that its subgraphs (If, Loop, Scan) take from outside included."""
    names = [name for name in node.input if name]
    for graph in subgraphs(node):
        inside = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        for inner in graph.node:
            names.extend(name for name in read_names(inner) if name not in inside)
            inside.update(inner.output)
        names.extend(value.name for value in graph.output if value.name not in inside)
    return names


def subgraphs(node: Any) -> Iterator[Any]:
    """The graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def import_onnx() -> Any:
    """The onnx package, or ImportError that says how to install it."""
    try:
        import onnx
        import onnx.inliner
        import onnx.shape_inference
    except ImportError as error:
        raise ImportError(
            "reading ONNX files needs the onnx package: pip install 'edgesched[onnx]'"
        ) from error
    return onnx


class _Reader:
    """Carries the file's name into every message."""

    def __init__(self, path: Path, dims: Mapping[str, int]) -> None:
        self.onnx = import_onnx()
        self.path = path
        self.dims = dict(dims)

    def fault(self, what: str) -> OnnxImportError:
        return OnnxImportError(f"{self.path}: {' '.join(what.split())}")

    def read(self) -> OnnxGraph:
        for name, value in self.dims.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"dims: {name!r} is {value!r}, must be a whole number of at least 1")
        model = self.flatten(self.parse())
        graph = model.graph
        if not graph.node:
            raise self.fault("the model has no nodes, so there is nothing to run")
        removed = self.hoist_constants(graph)
        stored = self.weigh(graph)
        # Before IR version 4 every initializer was listed among the inputs too.
        real_inputs = [value for value in graph.input if value.name not in stored]
        del graph.input[:]
        graph.input.extend(real_inputs)
        model.ir_version = max(model.ir_version, 4)
        inputs = tuple(value.name for value in graph.input)
        order = self.sort(graph, set(inputs) | stored.keys())
        if order != sorted(order):
            self.replace_nodes(graph, [graph.node[index] for index in order])
        self.fix_dims(graph)
        types = self.infer(model)
        for name in inputs:
            size = types.get(name, UNKNOWN).size_bytes
            if size is None:
                raise self.fault(f"input {name!r} is not a tensor of numbers with a known shape")
        outputs = frozenset(value.name for value in graph.output)
        return OnnxGraph(graph.name, inputs, outputs, tuple(graph.node), types, stored, removed)

    def parse(self) -> Any:
        try:
            if self.path.is_dir():
                raise self.fault("is a directory, not an ONNX file")
            size = self.path.stat().st_size
            if size > MAX_FILE_BYTES:
                raise self.fault(
                    f"has {size} bytes, more than the {MAX_FILE_BYTES} that an ONNX file can have; "
                    f"store the weights as external data"
                )
            data = self.path.read_bytes()
        except FileNotFoundError:
            raise self.fault("no such file") from None
        except OSError as error:
            raise self.fault(f"cannot be read ({error.strerror})") from None
        if not data:
            raise self.fault("is empty")
        try:
            model = self.onnx.ModelProto.FromString(data)
        except Exception as error:  # protobuf's DecodeError is no part of its public interface
            raise self.fault(f"is not an ONNX file, or is damaged or cut short ({error})") from None
        if not model.ir_version or not model.HasField("graph"):
            raise self.fault("is not an ONNX model: it has no IR version or no graph")
        if not model.opset_import:
            raise self.fault("is not an ONNX model: it does not say which operator set it uses")
        damaged = next(_undecodable(model), None)
        if damaged is not None:
            raise self.fault(f"is damaged: the text {_short(damaged)} is not UTF-8")
        return model

    def flatten(self, model: Any) -> Any:
        """Expand local functions, after checking that they end and stay small."""
        if not model.functions:
            return self.limited(model, len(model.graph.node))
        functions = {(f.domain, f.name): f for f in model.functions}
        sizes: dict[tuple[str, str], int] = {}

        def size_of(nodes: Iterable[Any], calling: tuple[tuple[str, str], ...]) -> int:
            total = 0
            for node in nodes:
                key = (node.domain, node.op_type)
                total += 1 + sum(size_of(graph.node, calling) for graph in subgraphs(node))
                if key not in functions:
                    continue
                if key in calling or len(calling) > 50:
                    raise self.fault(f"function {node.op_type!r} calls itself or is nested too deeply")
                if key not in sizes:
                    sizes[key] = size_of(functions[key].node, (*calling, key))
                total += sizes[key]
            return total

        self.limited(model, size_of(model.graph.node, ()))
        try:
            return self.onnx.inliner.inline_local_functions(model)
        except Exception as error:
            raise self.fault(f"its local functions cannot be expanded ({_short(error)})") from None

    def limited(self, model: Any, nodes: int) -> Any:
        if nodes > MAX_NODES:
            raise self.fault(f"has {nodes} nodes, more than the limit of {MAX_NODES}")
        return model

    def hoist_constants(self, graph: Any) -> int:
        """Make every Constant node an initializer; the number of nodes that this removes."""
        rest = []
        for node in graph.node:
            if operator(node) != "Constant":
                rest.append(node)
                continue
            if len(node.output) != 1 or not node.output[0] or len(node.attribute) != 1:
                raise self.fault(f"node {label(node)} needs one output and one value")
            name, attribute = node.output[0], node.attribute[0]
            if attribute.name == "value":
                graph.initializer.append(attribute.t)
                graph.initializer[-1].name = name
            elif attribute.name == "sparse_value":
                graph.sparse_initializer.append(attribute.sparse_tensor)
                graph.sparse_initializer[-1].values.name = name
            elif attribute.name in SCALAR_VALUES:
                field, kind = SCALAR_VALUES[attribute.name]
                value = getattr(attribute, field)
                sides, values = ([], [value]) if len(field) == 1 else ([len(value)], list(value))
                data_type = self.onnx.TensorProto.DataType.Value(kind)
                graph.initializer.append(self.onnx.helper.make_tensor(name, data_type, sides, values))
            else:
                raise self.fault(f"node {label(node)} has no value that ONNX knows ({attribute.name!r})")
        removed = len(graph.node) - len(rest)
        if removed:
            self.replace_nodes(graph, rest)
        return removed

    def replace_nodes(self, graph: Any, nodes: list[Any]) -> None:
        copies = [self.onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)

    def weigh(self, graph: Any) -> dict[str, int]:
        """Bytes of every initializer by dimensions and data type; large values are dropped."""
        stored: dict[str, int] = {}
        for sparse in graph.sparse_initializer:
            name = sparse.values.name
            what = f"sparse initializer {name!r}"
            self.size_of(sparse.dims, sparse.values.data_type, what)
            values = self.size_of(sparse.values.dims, sparse.values.data_type, what)
            stored[name] = values + self.size_of(sparse.indices.dims, sparse.indices.data_type, what)
        for tensor in graph.initializer:
            name = tensor.name
            if not name:
                raise self.fault("an initializer has no name")
            if name in stored:
                raise self.fault(f"tensor {name!r} is defined twice")
            size = self.size_of(tensor.dims, tensor.data_type, f"initializer {name!r}")
            stored[name] = size
            if tensor.data_location == self.onnx.TensorProto.EXTERNAL:
                continue
            if tensor.raw_data and len(tensor.raw_data) != size:
                raise self.fault(
                    f"initializer {name!r} of dimensions {_short(list(tensor.dims))} needs {size} bytes, "
                    f"but holds {len(tensor.raw_data)}"
                )
            if tensor.float_data and 4 * len(tensor.float_data) != size:
                raise self.fault(
                    f"initializer {name!r} of dimensions {_short(list(tensor.dims))} needs {size} bytes, "
                    f"but holds {4 * len(tensor.float_data)}"
                )
            if size > KEPT_BYTES:
                for field in (
                    "raw_data",
                    "float_data",
                    "int32_data",
                    "int64_data",
                    "double_data",
                    "uint64_data",
                ):
                    tensor.ClearField(field)
        return stored

    def size_of(self, dims: Iterable[int], data_type: int, what: str) -> int:
        sides = list(dims)
        if any(side < 0 for side in sides):
            raise self.fault(f"{what} has dimensions {sides}; none may be negative")
        width = self.element_bytes(data_type)
        if width is None:
            if data_type == self.onnx.TensorProto.STRING:
                return 0
            raise self.fault(f"{what} has the unknown data type {data_type}")
        size = math.ceil(math.prod(sides) * width) if len(sides) <= 64 else MAX_TENSOR_BYTES + 1
        if size > MAX_TENSOR_BYTES:
            raise self.fault(f"{what} has dimensions {_short(sides)}, more than {MAX_TENSOR_BYTES} bytes")
        return size

    def element_bytes(self, data_type: int) -> float | None:
        try:
            name = self.onnx.TensorProto.DataType.Name(data_type)
        except ValueError:
            return None
        return ELEMENT_BYTES.get(name)

    def sort(self, graph: Any, known: set[str]) -> list[int]:
        """Node indices with every producer before its readers; a sorted file keeps its order."""
        producer: dict[str, int] = {}
        for index, node in enumerate(graph.node):
            for name in filter(None, node.output):
                if name in producer or name in known:
                    raise self.fault(f"tensor {name!r} is defined twice")
                producer[name] = index
        silent = [node for node in graph.node if not any(node.output)]
        if silent:
            raise self.fault(f"node {label(silent[0])} has no output")
        waiting = Counter[int]()
        readers: dict[int, list[int]] = {}
        for index, node in enumerate(graph.node):
            for name in set(read_names(node)):
                if name in producer:
                    waiting[index] += 1
                    readers.setdefault(producer[name], []).append(index)
                elif name not in known:
                    raise self.fault(
                        f"node {label(node)} reads {name!r}, which no input, initializer or node provides"
                    )
        ready = [index for index in range(len(graph.node)) if not waiting[index]]
        order: list[int] = []
        heapq.heapify(ready)
        while ready:
            index = heapq.heappop(ready)
            order.append(index)
            for reader in readers.get(index, ()):
                waiting[reader] -= 1
                if not waiting[reader]:
                    heapq.heappush(ready, reader)
        if len(order) < len(graph.node):
            stuck = next(index for index in range(len(graph.node)) if waiting[index] > 0)
            raise self.fault(f"the graph has a cycle through node {label(graph.node[stuck])}")
        missing = [v.name for v in graph.output if v.name not in producer and v.name not in known]
        if missing:
            raise self.fault(f"output {missing[0]!r} is produced by no node")
        return order

    def fix_dims(self, graph: Any) -> None:
        """Give every symbolic side of the inputs a number: the batch 1, the others as ``dims`` says."""
        numbers = dict(self.dims)
        used: set[str] = set()
        seen: set[str] = set()
        for value in graph.input:
            if value.name in seen:
                raise self.fault(f"tensor {value.name!r} is defined twice")
            seen.add(value.name)
            if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
                raise self.fault(f"input {value.name!r} is not a tensor of numbers with a known shape")
            sides = value.type.tensor_type.shape.dim
            for axis, side in enumerate(sides):
                if side.HasField("dim_value"):
                    if side.dim_value < 1:
                        shape = [
                            d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in sides
                        ]
                        raise self.fault(
                            f"input {value.name!r} has shape {_short(shape)}; sides must be at least 1"
                        )
                    continue
                symbol = side.dim_param
                used.add(symbol)
                if axis == 0:
                    numbers.setdefault(symbol, 1)
                if symbol not in numbers:
                    hint = f"dims={{{symbol!r}: ...}}" if symbol else "write a number or a name into the file"
                    raise self.fault(
                        f"side {axis} of input {value.name!r} ({symbol or 'unnamed'}) is open; give {hint}"
                    )
                side.dim_value = numbers[symbol]
            self.size_of(
                [side.dim_value for side in sides], value.type.tensor_type.elem_type, f"input {value.name!r}"
            )
        unused = self.dims.keys() - used
        if unused:
            known = ", ".join(sorted(filter(None, used))) or "none"
            raise self.fault(
                f"dims names {sorted(unused)}, but the symbolic sides of the inputs are: {known}"
            )
        for value in (*graph.value_info, *graph.output):
            for side in value.type.tensor_type.shape.dim:
                if side.dim_param and side.dim_param in numbers:
                    side.dim_value = numbers[side.dim_param]

    def infer(self, model: Any) -> dict[str, TensorType]:
        try:
            inferred = self.onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True).graph
        except Exception as error:
            raise self.fault(f"its shapes cannot be inferred ({_short(error)})") from None
        types: dict[str, TensorType] = {}
        for tensor in (*inferred.initializer, *(sparse.values for sparse in inferred.sparse_initializer)):
            types[tensor.name] = TensorType(tuple(tensor.dims), self.element_bytes(tensor.data_type))
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            types.setdefault(value.name, self.type_of(value))
        return types

    def type_of(self, value: Any) -> TensorType:
        if not value.type.HasField("tensor_type"):
            return UNKNOWN
        tensor = value.type.tensor_type
        width = self.element_bytes(tensor.elem_type)
        if not tensor.HasField("shape") or not all(d.HasField("dim_value") for d in tensor.shape.dim):
            return TensorType(None, width)
        shape = tuple(d.dim_value for d in tensor.shape.dim)
        if width is not None:
            self.size_of(shape, tensor.elem_type, f"tensor {value.name!r}")
        return TensorType(shape, width)


ELEMENT_BYTES: dict[str, float] = {
    **dict.fromkeys(("COMPLEX128",), 16.0),
    **dict.fromkeys(("DOUBLE", "INT64", "UINT64", "COMPLEX64"), 8.0),
    **dict.fromkeys(("FLOAT", "INT32", "UINT32"), 4.0),
    **dict.fromkeys(("FLOAT16", "BFLOAT16", "INT16", "UINT16"), 2.0),
    **dict.fromkeys(("INT8", "UINT8", "BOOL"), 1.0),
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"), 1.0),
    **dict.fromkeys(("INT4", "UINT4", "FLOAT4E2M1"), 0.5),
    **dict.fromkeys(("INT2", "UINT2"), 0.25),
}
"""Bytes of one value by the name of its ONNX data type; packed types are fractions of a byte."""


def label(node: Any) -> str:
    """A node in a message: its operator and its name or first output."""
    name = node.name or next(filter(None, node.output), "without a name")
    return f"{name!r} ({operator(node)})"


def _undecodable(message: Any) -> Iterator[bytes]:
    """Texts that are not UTF-8, which protobuf hands over as bytes."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            texts = [value] if isinstance(value, str | bytes) else value
            yield from (text for text in texts if isinstance(text, bytes))
        elif field.type == field.TYPE_MESSAGE:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from _undecodable(part)


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else text[:200] + "..."


def read_graph(path: str | Path, dims: Mapping[str, int] | None = None) -> OnnxGraph:
    """Read and check ``path``.

    ``dims`` gives numbers to symbolic sides of the inputs; a symbolic batch (side 0) is 1 unless named there.
    External weight files need not be present: sizes follow from dimensions. Raises OnnxImportError for
    anything wrong with the file, ValueError for a ``dims`` that is not positive, ImportError without the onnx
    package.
    """
    return _Reader(Path(path), dims or {}).read()
