"""A neural network as a graph of layers: what each layer computes, reads, writes and needs.

Nothing here depends on a device: bytes, shapes and multiply-accumulates only. What a layer costs in seconds
is the business of ``devices/cost.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a network.

    A layer that computes in place (ReLU after a convolution) has ``output_bytes`` 0: it writes into its
    producer's buffer.
    """

    name: str
    op: str
    """Operation class, one of ``OPS``, or the foreign operator's own name where an import kept it."""
    inputs: tuple[int, ...] = ()
    """Indices of the layers whose outputs it reads; empty for the network's input."""
    output_shape: tuple[int, ...] = ()
    """Shape of the (first) output with the batch first, e.g. (1, 96, 56, 56)."""
    macs: int = 0
    """Multiply-accumulates of one inference of the whole batch."""
    weight_bytes: int = 0
    """Parameters, biases included, float32 unless the builder says otherwise."""
    output_bytes: int = 0
    """Newly allocated output; 0 where the layer works in place."""
    workspace_bytes: int = 0
    """The im2col buffer of one image, all groups: it lives while the layer executes."""
    scratch_bytes: int = 0
    """Other buffers of the layer: pooling masks, LRN scales, bias multipliers."""
    attributes: Mapping[str, int] = field(default_factory=dict, hash=False)
    """What formulas need beyond shapes: kernel_h, kernel_w, stride, pad, groups, in_channels."""


OPS = (
    "input",
    "convolution",
    "depthwise",
    "fully-connected",
    "pooling",
    "lrn",
    "relu",
    "batch-norm",
    "scale",
    "dropout",
    "softmax",
    "concat",
    "add",
    "split",
    "flatten",
    "reshape",
)


@dataclass(frozen=True)
class Network:
    """A network: its layers in execution order (every layer after its inputs).

    ``conv_layers`` counts the leading layers of the convolutional part; the rest is the fully-connected part
    (DeepEye's split). ``load_copies`` is the number of transient extra copies that loading a layer's weights
    makes (Caffe: 3 for models in the old V1 format, else 1).
    """

    name: str
    layers: tuple[Layer, ...]
    input_shape: tuple[int, ...] = ()
    conv_layers: int = 0
    load_copies: int = 1
    arena_bytes: int = 0
    """Planned arena that all outputs of one inference share; 0: none is planned."""
    element_bytes: int = FLOAT32_BYTES
    """Bytes of a value of weights and outputs; what a device stores in fewer is scaled once."""
    description: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError(f"network {self.name!r}: a network needs at least one layer")
        if not 0 <= self.conv_layers <= len(self.layers):
            raise ValueError(
                f"network {self.name!r}: conv_layers is {self.conv_layers}, must lie in 0..{len(self.layers)}"
            )
        for index, layer in enumerate(self.layers):
            for producer in layer.inputs:
                if not 0 <= producer < index:
                    raise ValueError(
                        f"network {self.name!r}: layer {index} ({layer.name!r}) reads layer {producer}; "
                        f"inputs must come before it"
                    )

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(layer.macs for layer in self.layers)

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(layer.weight_bytes for layer in self.layers)

    @cached_property
    def output_bytes(self) -> int:
        """Bytes of all outputs together (what a runtime holds that frees none of them)."""
        return sum(layer.output_bytes for layer in self.layers)

    @cached_property
    def buffer_of(self) -> tuple[int, ...]:
        """For each layer the layer that owns the buffer its output lies in (itself unless in place)."""
        owners: list[int] = []
        for index, layer in enumerate(self.layers):
            in_place = layer.output_bytes == 0 and layer.inputs
            owners.append(owners[layer.inputs[0]] if in_place else index)
        return tuple(owners)

    @cached_property
    def last_use(self) -> tuple[int, ...]:
        """For each layer the index of the last layer that needs its buffer.

        A buffer that nothing reads (the network's result) is needed until the last layer.
        """
        last = list(range(len(self.layers)))
        read = [False] * len(self.layers)
        for index, layer in enumerate(self.layers):
            for producer in layer.inputs:
                owner = self.buffer_of[producer]
                last[owner] = index
                read[owner] = read[owner] or self.buffer_of[index] != owner
        end = len(self.layers) - 1
        for index, owner in enumerate(self.buffer_of):
            if owner == index and not read[index]:
                last[index] = end
        return tuple(last)

    @cached_property
    def live_bytes(self) -> tuple[int, ...]:
        """Bytes of live outputs while each layer executes, from producer to last consumer (shape: layers)."""
        live = [0] * len(self.layers)
        for index, layer in enumerate(self.layers):
            for at in range(index, self.last_use[index] + 1):
                live[at] += layer.output_bytes
        return tuple(live)

    @cached_property
    def consumers(self) -> tuple[tuple[int, ...], ...]:
        """For each layer the layers that read its output."""
        readers: list[list[int]] = [[] for _ in self.layers]
        for index, layer in enumerate(self.layers):
            for producer in layer.inputs:
                readers[producer].append(index)
        return tuple(tuple(r) for r in readers)


def shape_bytes(shape: Sequence[int], element_bytes: int = FLOAT32_BYTES) -> int:
    """Bytes of a dense tensor."""
    return math.prod(shape) * element_bytes
