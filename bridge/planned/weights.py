"""Weights of a planned network: random, the very ones of ``bundles/generate.py``, stored for its primitives.

What a layer stores is made once and kept in the user's cache, a file a layer, so that plans share the layers
that they compute alike.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...primitives.layers.layer import LayerPrimitive, layer_shape
from ...primitives.primitive import FLOAT, Primitive
from ...primitives.shape import CONVOLUTIONS, ShapeError, conv_shape, layer_key
from ...traces.atomic import write_whole
from ...workloads.network import FLOAT32_BYTES, Network
from ..bundles.arena import aligned
from ..bundles.cache import cache_folder
from ..bundles.description import PAGE_BYTES
from ..bundles.generate import GENERATOR_VERSION, MAX_POOLING, NORMALISATIONS
from ..bundles.random_weights import RandomTensor

STORED_VERSION = 1
"""Goes up when a primitive begins to store its weights in another way."""

Array = np.ndarray[Any, Any]


def expected_mean_squares(network: Network) -> list[float]:
    """The expected mean square of every layer's output, by the rules of ``bundles/generate.py``."""
    found: list[float] = []
    for layer in network.layers:
        sizes = [math.prod(network.layers[source].output_shape) for source in layer.inputs]
        read = [found[source] for source in layer.inputs]
        mean = sum(s * m for s, m in zip(sizes, read, strict=True)) / sum(sizes) if read else 1.0
        match layer.op:
            case "convolution" | "depthwise" | "fully-connected":
                mean = 2.0
            case "relu":
                mean /= 1 if network.layers[layer.inputs[0]].op == "add" else 2
            case "pooling" if not layer.attributes.get("average", 0):
                mean *= MAX_POOLING
            case "add":
                mean *= 2
        found.append(mean)
    return found


def random_tensors(network: Network, index: int, mean_square: float) -> dict[str, RandomTensor]:
    """The weights of a layer by what they are; ``mean_square`` is that of its input."""
    layer = network.layers[index]
    if not layer.weight_bytes:
        return {}
    read = network.layers[layer.inputs[0]].output_shape

    def tensor(part: str, shape: tuple[int, ...], mean: float, deviation: float) -> RandomTensor:
        return RandomTensor(f"{layer.name}/{part}", shape, mean, deviation)

    if layer.op in NORMALISATIONS:
        channels = read[1:2]
        return {
            "factor": tensor("factor", channels, 1.0, 0.05),
            "variance": tensor("variance", channels, 1.0, 0.05),
            "shift": tensor("shift", channels, 0.0, 0.1),
            "mean": tensor("mean", channels, 0.0, 0.1),
        }
    if layer.op in CONVOLUTIONS:
        conv = conv_shape(network, index)
        shape: tuple[int, ...] = (
            conv.kernels,
            conv.channels // conv.groups,
            conv.kernel,
            conv.kernel,
        )
    elif layer.op == "fully-connected":
        shape = layer.output_shape[-1], math.prod(read[1:])
    else:
        raise ShapeError(f"network {network.name!r}: layer {layer.name!r} ({layer.op}) must have no weights")
    deviation = math.sqrt(2 / (math.prod(shape[1:]) * mean_square))
    found = {"weight": tensor("weight", shape, 0.0, deviation)}
    if layer.weight_bytes > math.prod(shape) * FLOAT32_BYTES:
        found["bias"] = tensor("bias", shape[:1], 0.0, 0.1)
    return found


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """What a layer's primitive stores, and the file that holds it; None where it has no weights."""

    path: Path | None
    weight_elements: int
    bias_elements: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of weights and bias."""
        return (self.weight_elements + self.bias_elements) * FLOAT32_BYTES

    @property
    def part_bytes(self) -> int:
        """Bytes of the file: whole pages, as direct reads need."""
        return aligned(self.size_bytes, PAGE_BYTES)


def stored_layers(
    network: Network,
    primitives: Mapping[int, Primitive | LayerPrimitive],
    *,
    seed: int = 0,
    cache: Path | None = None,
) -> tuple[StoredLayer, ...]:
    """Every layer's weights as its primitive stores them, from the cache or made now, layer by layer."""
    squares = expected_mean_squares(network)
    folder = (cache or cache_folder()) / "planned"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for index, layer in enumerate(network.layers):
        square = squares[layer.inputs[0]] if layer.inputs else 1.0
        tensors = random_tensors(network, index, square)
        found.append(_stored(network, index, primitives[index], tensors, seed, folder))
    return tuple(found)


def _stored(
    network: Network,
    index: int,
    primitive: Primitive | LayerPrimitive,
    tensors: Mapping[str, RandomTensor],
    seed: int,
    folder: Path,
) -> StoredLayer:
    if not tensors:
        return StoredLayer(None, 0)
    convolution = isinstance(primitive, Primitive)
    if isinstance(primitive, Primitive):
        elements = primitive.weight_elements(conv_shape(network, index))
    else:
        elements = primitive.weight_elements(layer_shape(network, index))
    bias = tensors["bias"].shape[0] if convolution and "bias" in tensors else 0
    what = {
        "versions": [STORED_VERSION, GENERATOR_VERSION],
        "layer": layer_key(network, index),
        "primitive": primitive.name,
        "elements": [elements, bias],
        "seed": seed,
        "tensors": [[t.name, t.shape, t.mean, t.deviation] for t in tensors.values()],
    }
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    stored = StoredLayer(folder / f"{digest[:32]}.raw", elements, bias)
    assert stored.path is not None
    if not stored.path.exists():
        values = prepared(network, index, primitive, {k: _drawn(t, seed) for k, t in tensors.items()})
        padding = bytes(stored.part_bytes - values.nbytes)

        def write(draft: Path) -> None:
            with draft.open("wb") as file:
                file.write(values.data.cast("B"))
                file.write(padding)

        write_whole(stored.path, write)
    return stored


def prepared(
    network: Network, index: int, primitive: Primitive | LayerPrimitive, weights: Mapping[str, Array]
) -> Array:
    """What a primitive stores of a layer's weights, flat; a convolution's bias behind its weights."""
    if isinstance(primitive, Primitive):
        own = primitive.prepare(weights["weight"], conv_shape(network, index)).reshape(-1)
        return np.concatenate([own, weights["bias"]]).astype(FLOAT) if "bias" in weights else own
    return primitive.prepare(weights, layer_shape(network, index))


def layer_weights(network: Network, index: int, seed: int) -> dict[str, Array]:
    """The random weights of one layer by what they are."""
    layer = network.layers[index]
    square = expected_mean_squares(network)[layer.inputs[0]] if layer.inputs else 1.0
    return {name: _drawn(t, seed) for name, t in random_tensors(network, index, square).items()}


def _drawn(tensor: RandomTensor, seed: int) -> Array:
    return np.concatenate(list(tensor.chunks(seed))).reshape(tensor.shape)
