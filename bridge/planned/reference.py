"""A network computed plainly, one layer after the other in chw: what a plan's outputs are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...primitives.arena import Arena
from ...primitives.layers.catalogue import LIBRARY
from ...primitives.layers.layer import LayerShape, layer_shape
from ...primitives.primitive import FLOAT, Array
from ...primitives.shape import CONVOLUTIONS, ConvShape, conv_shape
from .weights import layer_weights

if TYPE_CHECKING:
    from .program import PlannedProgram


def reference_outputs(program: PlannedProgram) -> dict[str, Array]:
    """The outputs of the program's network, weights and image, by layer; all tensors are kept meanwhile."""
    network = program.network
    found: list[Array] = []
    for index, layer in enumerate(network.layers):
        inputs = [found[source] for source in layer.inputs] or [program.own.images[index]]
        weights = layer_weights(network, index, program.seed)
        if layer.op in CONVOLUTIONS:
            found.append(_convolution(inputs[0], weights, conv_shape(network, index)))
        else:
            found.append(_other(inputs, weights, layer_shape(network, index)))
    return {
        network.layers[index].name: found[index]
        for index, readers in enumerate(network.consumers)
        if not readers
    }


def _convolution(image: Array, weights: dict[str, Array], shape: ConvShape) -> Array:
    pad, stride = shape.pad, shape.stride
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (shape.kernel, shape.kernel), (1, 2))
    windows = windows[:, ::stride, ::stride]
    parts = zip(np.split(windows, shape.groups), np.split(weights["weight"], shape.groups), strict=True)
    out = np.concatenate([np.einsum("chwij,mcij->mhw", seen, own, optimize=True) for seen, own in parts])
    return out + weights["bias"].reshape(-1, 1, 1) if "bias" in weights else out


def _other(inputs: list[Array], weights: dict[str, Array], shape: LayerShape) -> Array:
    primitive = LIBRARY[f"{shape.op}-chw"]
    out = np.empty(shape.output, FLOAT)
    arena = Arena(primitive.workspace_bytes(shape))
    primitive.run(inputs, primitive.prepare(weights, shape), out, shape, arena)
    return out
