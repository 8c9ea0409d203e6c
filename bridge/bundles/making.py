"""Make a layer bundle: optimise the network as a whole, cut it, run every layer once.

onnxruntime optimises the whole network, so that fusions and memory layout are those of one session; each
layer's model is a piece of the result. A layer runs once while the bundle is made: that proves that it runs
alone, and says how large its outputs really are. Weights are read one tensor at a time from a file that
onnxruntime writes, so a large network needs about twice its size in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, get_args

import numpy as np

from ...workloads.onnx_graph import OnnxImportError, read_graph
from ..program import session
from . import description as form
from .arena import ALIGNMENT_BYTES, Span, aligned, place
from .description import Activation, BundleError, Description, DType, LayerPart, Weight
from .libraries import import_onnx, import_runtime
from .origins import Origins, classify
from .slicing import Piece, cut

Array = np.ndarray[Any, Any]
Progress = Callable[[str], object]

WEIGHT_TYPES = frozenset({"float16", "float32", "float64", "int8", "uint8"})
"""Stored tensors of other types stay in the layer's model (shapes, axes, indices), and so do scalars."""

CONSTANT_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}
"""Operator to the inputs that onnxruntime wants to know beforehand though they look like weights."""


@dataclass(frozen=True)
class Source:
    """A model file with what was asked of it: the network's name, numbers for symbolic sides."""

    model: Path
    sha256: str
    network: str
    dims: Mapping[str, int]


def make(source: Source, folder: Path, scratch: Path, progress: Progress) -> None:
    """Write a bundle into the empty ``folder``; large intermediate files go to ``scratch``.

    ``progress`` is called with a short text at every step. Raises ``BundleError``.
    """
    import_onnx()  # here, where an interrupt waits for it
    progress("reading the model")
    try:
        graph = read_graph(source.model, source.dims)
    except OnnxImportError as error:
        raise BundleError(str(error)) from None
    inputs = {name: graph.types[name].shape or () for name in graph.inputs}
    origins = Origins(graph)
    del graph  # protobuf keeps the whole file in memory as long as one node lives
    progress("optimising the network")
    optimised = _optimise(source, scratch)
    _Maker(source, folder, optimised, scratch, origins).make(inputs, progress)


def _symbols(source: Source) -> dict[str, int]:
    """A number for every named side of the inputs: as asked for, the batch 1."""
    model = import_onnx().load(source.model, load_external_data=False)
    sides = (side for value in model.graph.input for side in value.type.tensor_type.shape.dim)
    # read_graph has refused every open side that is neither the batch nor in dims
    return {side.dim_param: source.dims.get(side.dim_param, 1) for side in sides if side.dim_param}


def _optimise(source: Source, scratch: Path) -> Any:
    """The optimised graph; its large tensors are in a file in ``scratch``."""
    ort = import_runtime()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    options.optimized_model_filepath = str(scratch / "optimised.onnx")
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", "optimised.raw"
    )
    options.add_session_config_entry("session.disable_prepacking", "1")  # nothing is executed here
    for name, number in _symbols(source).items():
        options.add_free_dimension_override_by_name(name, number)
    try:
        ort.InferenceSession(str(source.model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common public base
        raise BundleError(f"{source.model}: onnxruntime cannot read it ({_short(error)})") from None
    return import_onnx().load(scratch / "optimised.onnx", load_external_data=False)


class _Maker:
    def __init__(self, source: Source, folder: Path, optimised: Any, scratch: Path, origins: Origins) -> None:
        self.onnx = import_onnx()
        self.source = source
        self.folder = folder
        self.optimised = optimised
        self.scratch = scratch
        self.origins = origins
        self.stored = {tensor.name: tensor for tensor in optimised.graph.initializer}
        self.shapes = {name: tuple(tensor.dims) for name, tensor in self.stored.items()}
        self.values: dict[str, Array] = {}
        """Activations that a later layer reads."""
        self.tensors: dict[str, Array] = {}
        """Every activation's shape and data type, as an array without memory of its own."""
        self.producer: dict[str, int] = {}
        self.last_use: dict[str, int] = {}
        self.names: set[str] = set()
        self.layers: list[LayerPart] = []

    def make(self, inputs: Mapping[str, tuple[int, ...]], progress: Progress) -> None:
        graph = self.optimised.graph
        outputs = tuple(value.name for value in graph.output)
        pieces = cut(graph.node, self.stored, outputs)
        computed = {name for piece in pieces for name in piece.outputs}
        lost = [name for name in outputs if name not in computed]
        if lost or not pieces:
            what = f"output {lost[0]!r} does" if lost else "its outputs do"
            raise BundleError(f"{self.source.model}: {what} not depend on any input")
        for value in graph.input:
            if value.name not in self.stored:
                self.note(value.name, self.image(value, inputs), form.NETWORK_INPUT)
        for index, piece in enumerate(pieces):
            self.last_use.update(dict.fromkeys((*piece.inputs, *piece.outputs), index))
        self.last_use.update(dict.fromkeys(outputs, len(pieces) - 1))
        (self.folder / "layers").mkdir()
        with (self.folder / form.WEIGHTS).open("wb") as weights:
            for index, piece in enumerate(pieces):
                progress(f"layer {index + 1} of {len(pieces)}")
                self.layer(index, piece, weights)
        self.describe(tuple(name for name in self.tensors if self.producer[name] < 0), outputs)

    def image(self, value: Any, inputs: Mapping[str, tuple[int, ...]]) -> Array:
        """Something to run the layers with: noise, or zeros where the input holds no fractions."""
        kind = np.dtype(self.onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        shape = inputs[value.name]
        if kind.kind != "f":
            return np.zeros(shape, kind)
        return np.random.default_rng(0).standard_normal(shape).astype(kind)

    def note(self, name: str, value: Any, producer: int) -> None:
        if not isinstance(value, np.ndarray) or value.dtype.name not in get_args(DType):
            kind = value.dtype.name if isinstance(value, np.ndarray) else type(value).__name__
            raise BundleError(f"{self.source.model}: {name!r} is no tensor of numbers ({kind})")
        self.values[name] = value
        self.tensors[name] = np.broadcast_to(np.empty((), value.dtype), value.shape)
        self.producer[name] = producer
        self.shapes[name] = value.shape

    def layer(self, index: int, piece: Piece, weights: BinaryIO) -> None:
        inline = [name for name in piece.constants if not self.is_weight(piece, name)]
        stored = {name: self.read(name) for name in piece.constants if name not in inline}
        feeds = {name: self.values[name] for name in piece.inputs} | stored
        file = f"layers/{index:03d}.onnx"
        self.write_model(self.folder / file, piece, feeds, inline)
        for name, value in self.run(index, piece, feeds).items():
            self.note(name, value, index)
        offset = weights.tell()
        parts = tuple(_write(weights, offset, stored))
        size_bytes = _pad(weights) - offset
        name, op, macs = self.identity(piece)
        self.layers.append(
            LayerPart(
                name=name,
                op=op,
                model=file,
                inputs=piece.inputs,
                outputs=piece.outputs,
                weights=parts,
                weights_offset=offset if size_bytes else 0,
                weights_bytes=size_bytes,
                macs=macs,
                reads=tuple(sorted({self.producer[name] for name in piece.inputs} - {form.NETWORK_INPUT})),
            )
        )
        for name in [name for name in self.values if self.last_use.get(name, index) <= index]:
            del self.values[name]

    def is_weight(self, piece: Piece, name: str) -> bool:
        tensor = self.stored[name]
        kind = np.dtype(self.onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).name
        if not tensor.dims or kind not in WEIGHT_TYPES:
            return False
        return not any(
            name in (node.input[position] for position in positions if position < len(node.input))
            for node in piece.nodes
            if (positions := CONSTANT_INPUTS.get(node.op_type))
        )

    def read(self, name: str) -> Array:
        return self.onnx.numpy_helper.to_array(self.stored[name], base_dir=str(self.scratch))

    def write_model(self, path: Path, piece: Piece, feeds: Mapping[str, Array], inline: list[str]) -> None:
        helper = self.onnx.helper
        graph = helper.make_graph(
            list(piece.nodes),
            path.stem,
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
                for name, value in feeds.items()
            ],
            [helper.make_empty_tensor_value_info(name) for name in piece.outputs],
            [self.onnx.numpy_helper.from_array(self.read(name), name) for name in inline],
        )
        model = helper.make_model(
            graph, opset_imports=self.optimised.opset_import, ir_version=self.optimised.ir_version
        )
        path.write_bytes(model.SerializeToString())

    def run(self, index: int, piece: Piece, feeds: Mapping[str, Array]) -> dict[str, Array]:
        try:
            runner = session(self.folder / f"layers/{index:03d}.onnx", 1)
            return dict(zip(piece.outputs, runner.run(list(piece.outputs), feeds), strict=True))
        except Exception as error:  # onnxruntime's exceptions have no common public base
            what = f"layer {index} ({piece.main.name or piece.outputs[0]!r})"
            raise BundleError(f"{self.source.model}: {what} cannot run alone ({_short(error)})") from None

    def identity(self, piece: Piece) -> tuple[str, str, int]:
        """A layer's name (unique), operation class and work: the original node's where it is known."""
        op, macs = classify(piece.main, self.shapes.get, self.stored)
        origin = self.origins.of(piece.main, op)
        name = piece.outputs[0]
        if origin is not None:
            op = origin.op
            macs = origin.macs or macs
            name = origin.name if origin.name not in self.names else name
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name, op, macs

    def describe(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        """Plan the arena and write the description."""
        spans = [
            Span(value.nbytes, max(self.producer[name], 0), self.last_use.get(name, 0))
            for name, value in self.tensors.items()
        ]
        offsets, end = place(spans)
        description = Description(
            network=self.source.network,
            source_sha256=self.source.sha256,
            dims=dict(self.source.dims),
            runtime=form.runtime(),
            machine=form.machine(),
            inputs=inputs,
            outputs=outputs,
            arena_bytes=aligned(end, form.PAGE_BYTES),
            tensors=tuple(
                Activation(
                    name=name,
                    dtype=value.dtype.name,
                    shape=value.shape,
                    bytes=value.nbytes,
                    offset=offset,
                    producer=self.producer[name],
                    last_use=span.last,
                )
                for (name, value), offset, span in zip(self.tensors.items(), offsets, spans, strict=True)
            ),
            layers=tuple(self.layers),
        )
        text = description.model_dump_json(indent=1)
        (self.folder / form.DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def _write(file: BinaryIO, start: int, tensors: Mapping[str, Array]) -> Iterator[Weight]:
    """Write tensors one after the other, each at a multiple of 64 bytes."""
    for name, value in tensors.items():
        offset = _pad(file, ALIGNMENT_BYTES) - start
        file.write(np.ascontiguousarray(value).data)
        yield Weight(name=name, dtype=value.dtype.name, shape=value.shape, bytes=value.nbytes, offset=offset)


def _pad(file: BinaryIO, alignment_bytes: int = form.PAGE_BYTES) -> int:
    """Write zeros up to the next multiple; where the file then ends."""
    end = file.tell()
    file.write(bytes(aligned(end, alignment_bytes) - end))
    return file.tell()


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + "..."
