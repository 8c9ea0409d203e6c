"""A layer bundle: a network as files that a device can load and execute layer by layer.

    bundle.json   the description (``Description``)
    weights.raw   the weights of all layers, one part each, parts at multiples of 4096 bytes
    layers/       one small onnxruntime model per layer, weights and activations its graph inputs

Weights and activations are plain buffers in onnxruntime's own layout for one kind of machine (channels may
lie in blocks and be padded to them), so a bundle is made on the device that executes it. ``cache.bundle_of``
makes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from ...workloads.builder import leading_conv_layers
from ...workloads.network import Layer, Network
from .arena import ALIGNMENT_BYTES, Span, aligned, live_bytes
from .description import (
    DESCRIPTION,
    FORMAT,
    FORMAT_VERSION,
    NETWORK_INPUT,
    PAGE_BYTES,
    WEIGHTS,
    Activation,
    BundleError,
    Description,
    LayerPart,
    TensorPart,
    content_key,
    machine,
    runtime,
)

__all__ = ["Bundle", "BundleError", "open_bundle"]


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; ``name`` is the network's."""

    folder: Path
    description: Description
    name: str

    @property
    def layers(self) -> tuple[LayerPart, ...]:
        """In execution order: every layer after those that it reads."""
        return self.description.layers

    @cached_property
    def tensors(self) -> Mapping[str, Activation]:
        """Activations by name."""
        return {tensor.name: tensor for tensor in self.description.tensors}

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the network's inputs."""
        return self.description.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's outputs."""
        return self.description.outputs

    @property
    def arena_bytes(self) -> int:
        """Bytes for all activations of one job, a multiple of 4096."""
        return self.description.arena_bytes

    @property
    def max_live_bytes(self) -> int:
        """Most activation bytes that are needed at one time: no arena could be smaller."""
        return live_bytes(_spans(self.description.tensors))

    @property
    def weights_path(self) -> Path:
        """The file of all weights."""
        return self.folder / WEIGHTS

    @property
    def weights_bytes(self) -> int:
        """Bytes of that file."""
        return sum(layer.weights_bytes for layer in self.layers)

    def model_path(self, layer: int) -> Path:
        """The model of one layer."""
        return self.folder / self.layers[layer].model

    @property
    def sha256(self) -> str:
        """What the bundle was made from, by which it is cached."""
        made = self.description
        return content_key(made.source_sha256, made.dims, made.runtime, made.machine)

    def network(self) -> Network:
        """The network as the simulator needs it: the bytes that a replay really reads and writes."""
        layers = [
            Layer(
                name=layer.name,
                op=layer.op,
                inputs=layer.reads,
                output_shape=self.tensors[layer.outputs[0]].shape,
                macs=layer.macs,
                weight_bytes=layer.weights_bytes,
                output_bytes=sum(self.tensors[name].bytes for name in layer.outputs),
            )
            for layer in self.layers
        ]
        return Network(
            name=self.name,
            layers=tuple(layers),
            input_shape=self.tensors[self.inputs[0]].shape if self.inputs else (),
            conv_layers=leading_conv_layers(layers),
            arena_bytes=self.arena_bytes,
            description=f"layer bundle for {self.description.runtime} on {self.description.machine}",
            source=f"layer bundle {self.sha256[:12]}",
        )


def open_bundle(folder: Path, *, name: str | None = None, elsewhere: bool = False) -> Bundle:
    """Open and check a bundle: its format, every file and every offset; file contents are not read.

    ``name`` is another name for the network. ``elsewhere`` accepts a bundle that this machine or this runtime
    cannot execute, for looking at it. Raises ``BundleError``.
    """
    path = folder / DESCRIPTION
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); not a layer bundle") from None
    except ValueError as error:
        raise BundleError(f"{path}: is damaged, not JSON ({error})") from None
    _check_version(path, data)
    try:
        description = Description.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path}: is damaged: {where}: {first['msg']}") from None
    _Checker(folder, description).check()
    if not elsewhere and (description.runtime, description.machine) != (runtime(), machine()):
        raise BundleError(
            f"{folder}: was made for {description.runtime} on {description.machine}, "
            f"this is {runtime()} on {machine()}; make it again here"
        )
    return Bundle(folder, description, name or description.network)


def _check_version(path: Path, data: object) -> None:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BundleError(f"{path}: is not the description of a layer bundle (format {FORMAT!r})")
    if data.get("format_version") != FORMAT_VERSION:
        raise BundleError(
            f"{path}: has format version {data.get('format_version')!r}, "
            f"this edgesched reads {FORMAT_VERSION}; make the bundle again"
        )


def _spans(tensors: Sequence[Activation]) -> list[Span]:
    return [Span(t.bytes, max(t.producer, 0), t.last_use) for t in tensors]


class _Checker:
    """What the schema cannot say: that parts fit together and into their files."""

    def __init__(self, folder: Path, description: Description) -> None:
        self.folder = folder
        self.description = description
        self.tensors = {tensor.name: tensor for tensor in description.tensors}

    def fault(self, what: str) -> BundleError:
        return BundleError(f"{self.folder / DESCRIPTION}: is damaged: {what}")

    def check(self) -> None:
        self.check_tensors()
        for index, layer in enumerate(self.description.layers):
            self.check_layer(index, layer)
            self.check_file(self.folder / layer.model)
        self.check_weights()

    def check_tensors(self) -> None:
        made, count = self.description, len(self.description.layers)
        for tensor in made.tensors:
            what = f"tensor {tensor.name!r}"
            self.check_size(tensor, what)
            if tensor.offset % ALIGNMENT_BYTES or tensor.offset + tensor.bytes > made.arena_bytes:
                raise self.fault(f"{what} lies outside the arena ({made.arena_bytes} bytes) or is unaligned")
            if not tensor.producer <= tensor.last_use < count:
                raise self.fault(f"{what} lives from layer {tensor.producer} to {tensor.last_use} of {count}")
        if len(self.tensors) < len(made.tensors):
            raise self.fault("two tensors have the same name")
        if made.arena_bytes % PAGE_BYTES:
            raise self.fault(f"the arena's {made.arena_bytes} bytes are not a multiple of {PAGE_BYTES}")
        missing = [name for name in (*made.inputs, *made.outputs) if name not in self.tensors]
        if missing:
            raise self.fault(f"{missing[0]!r} is not among the tensors")

    def check_size(self, tensor: TensorPart, what: str) -> None:
        needed = math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
        if tensor.bytes != needed:
            raise self.fault(f"{what} has {tensor.bytes} bytes, its shape needs {needed}")

    def check_layer(self, index: int, layer: LayerPart) -> None:
        what = f"layer {index} ({layer.name!r})"
        for name in (*layer.inputs, *layer.outputs):
            if name not in self.tensors:
                raise self.fault(f"{what} uses {name!r}, which is not among the tensors")
        if any(self.tensors[name].producer != index for name in layer.outputs):
            raise self.fault(f"{what} writes a tensor of another layer")
        read = {self.tensors[name].producer for name in layer.inputs} - {NETWORK_INPUT}
        if set(layer.reads) != read or max(read, default=NETWORK_INPUT) >= index:
            raise self.fault(f"{what} reads the layers {list(layer.reads)}, its inputs are of {sorted(read)}")
        if any(self.tensors[name].last_use < index for name in layer.inputs):
            raise self.fault(f"{what} reads a tensor after its last use")
        for weight in layer.weights:
            self.check_size(weight, f"{what}: weight {weight.name!r}")
            if weight.offset % ALIGNMENT_BYTES or weight.offset + weight.bytes > layer.weights_bytes:
                raise self.fault(
                    f"{what}: weight {weight.name!r} lies outside the layer's {layer.weights_bytes} bytes "
                    f"or is unaligned"
                )
        if layer.weights_offset % PAGE_BYTES or layer.weights_bytes % PAGE_BYTES:
            raise self.fault(f"{what}: its weights do not begin and end at multiples of {PAGE_BYTES}")

    def check_file(self, path: Path, size_bytes: int | None = None) -> None:
        if not path.is_file():
            raise BundleError(f"{path}: is missing; remove the folder and make the bundle again")
        found = path.stat().st_size
        if found != size_bytes and not (size_bytes is None and found):
            needed = "some" if size_bytes is None else size_bytes
            raise BundleError(f"{path}: has {found} bytes, needs {needed}; make the bundle again")

    def check_weights(self) -> None:
        end = 0
        for index, layer in enumerate(self.description.layers):
            if layer.weights_bytes and layer.weights_offset != end:
                raise self.fault(f"layer {index} ({layer.name!r}) has its weights at {layer.weights_offset}")
            end += layer.weights_bytes
        self.check_file(self.folder / WEIGHTS, aligned(end, PAGE_BYTES))
