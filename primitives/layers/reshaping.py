"""Layers that only give values another shape, or bring them in: the order is that of chw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..arena import Arena
from ..primitive import Array
from .elementwise import copy_unless_same
from .layer import LayerPrimitive, LayerShape


class Reshape(LayerPrimitive):
    """A copy, unless both lie in the same place."""

    in_place: ClassVar[bool] = True

    def run(
        self, inputs: Sequence[Array], weights: Array, out: Array, shape: LayerShape, arena: Arena
    ) -> None:
        """Compute one image; an ``input`` reads the image that came."""
        copy_unless_same(inputs[0], out)


PRIMITIVES = tuple(Reshape(op, "chw") for op in ("input", "flatten", "reshape"))
