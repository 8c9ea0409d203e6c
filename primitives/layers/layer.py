"""The contract of a primitive that computes a layer other than a convolution, and what it must know of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...workloads.network import FLOAT32_BYTES, Network
from ..layouts import Layout, in_layout
from ..primitive import ELEMENT_BYTES, FLOAT, Array, NotApplicable
from ..shape import CONVOLUTIONS, ShapeError, sides

if TYPE_CHECKING:
    from ..arena import Arena

Sides = tuple[int, ...]
"""(C, H, W) of an image, (F,) of a vector; without the batch, whatever the layout."""


@dataclass(frozen=True, slots=True)
class LayerShape:
    """One layer of one image, float32: what it reads, what it writes, how many values of weights it has."""

    op: str
    inputs: tuple[Sides, ...]
    output: Sides
    weights: int = 0
    """Values of weights as the network counts them, the bias included."""
    attributes: tuple[tuple[str, int], ...] = ()

    def attribute(self, name: str, otherwise: int = 0) -> int:
        """What the layer says, else ``otherwise``."""
        return dict(self.attributes).get(name, otherwise)

    @property
    def text(self) -> str:
        """``pooling 64x112x112 -> 64x56x56``."""
        return f"{self.op} {' + '.join(map(sides, self.inputs))} -> {sides(self.output)}"


def layer_shape(network: Network, index: int) -> LayerShape:
    """The shape of a layer that is no convolution; an ``input`` reads the image. Raises ``ShapeError``."""
    layer = network.layers[index]
    if layer.op in CONVOLUTIONS:
        raise ShapeError(f"network {network.name!r}: layer {layer.name!r} is a convolution")
    read = [network.layers[source].output_shape for source in layer.inputs] or [layer.output_shape]
    return LayerShape(
        layer.op,
        tuple(shape[1:] for shape in read),
        layer.output_shape[1:],
        layer.weight_bytes // FLOAT32_BYTES,
        tuple(sorted(layer.attributes.items())),
    )


def laid_out(shape: Sides, layout: Layout) -> Sides:
    """Shape of the array that holds a tensor: an image in the layout, anything else as it is."""
    return in_layout((shape[0], shape[1], shape[2]), layout) if len(shape) == 3 else shape


class LayerPrimitive(ABC):
    """One implementation of a layer, reading and writing one layout.

    ``run`` takes every byte of workspace from the arena and makes no other array.
    """

    packages: ClassVar[tuple[str, ...]] = ()
    """Packages beyond numpy that ``run`` needs: numba."""
    in_place: ClassVar[bool] = False
    """Whether the output may be the very array of the (only) input."""

    def __init__(self, op: str, layout: Layout) -> None:
        self.name = f"{op}-{layout}"
        self.op = op
        self.in_layout = self.out_layout = layout

    def refuses(self, shape: LayerShape) -> str | None:
        """Why the primitive does not compute the layer; None where it does."""
        if shape.op != self.op:
            return f"it is a {shape.op}"
        if self.in_layout != "chw" and any(len(each) != 3 for each in (*shape.inputs, shape.output)):
            return "only images have layouts"
        return self.misfit(shape)

    def misfit(self, shape: LayerShape) -> str | None:
        """Why a layer of the right operation cannot be computed; None where it can."""
        return None

    def workspace_elements(self, shape: LayerShape) -> int:
        """Elements of workspace while it runs."""
        return 0

    def weight_elements(self, shape: LayerShape) -> int:
        """Elements of the weights as stored for it."""
        return 0

    def prepare(self, weights: Mapping[str, Array], shape: LayerShape) -> Array:
        """The weights as stored: a flat dense array of ``weight_elements``.

        ``weights`` by name: ``weight`` (M, F) and, where there is one, ``bias`` (M,) of a fully-connected
        layer; ``factor``, ``shift``, ``mean`` and ``variance`` (C,) of a normalisation.
        """
        return np.empty(0, FLOAT)

    @abstractmethod
    def run(
        self, inputs: Sequence[Array], weights: Array, out: Array, shape: LayerShape, arena: Arena
    ) -> None:
        """Compute one image into ``out``; all arrays are dense and in the primitive's layout."""

    def check(self, shape: LayerShape) -> None:
        """Raise ``NotApplicable`` where the primitive refuses the layer."""
        why = self.refuses(shape)
        if why is not None:
            raise NotApplicable(f"{self.name} does not compute {shape.text}: {why}")

    def workspace_bytes(self, shape: LayerShape) -> int:
        """Bytes of workspace while it runs."""
        return self.workspace_elements(shape) * ELEMENT_BYTES

    def weight_bytes(self, shape: LayerShape) -> int:
        """Bytes of the weights as stored for it."""
        return self.weight_elements(shape) * ELEMENT_BYTES

    def __repr__(self) -> str:
        return f"<{self.name}>"


def planes(array: Array, layout: Layout) -> Array:
    """View (N, C, L) of a tensor in chw (N is 1), in hcw (N is H), or of a vector (N and L are 1)."""
    if array.ndim == 3 and layout == "hcw":
        return array
    return array.reshape(1, array.shape[0], -1)


def pixels(array: Array) -> Array:
    """View (L, C) of an image in hwc."""
    return array.reshape(-1, array.shape[-1])
