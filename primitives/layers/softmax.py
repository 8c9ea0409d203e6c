"""Softmax over the channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..arena import Arena
from ..layouts import LAYOUTS
from ..primitive import Array
from .layer import LayerPrimitive, LayerShape, pixels, planes


class Softmax(LayerPrimitive):
    """Every pixel on its own; a vector is one pixel."""

    packages: ClassVar[tuple[str, ...]] = ("numba",)

    def run(
        self, inputs: Sequence[Array], weights: Array, out: Array, shape: LayerShape, arena: Arena
    ) -> None:
        """Compute one image."""
        from ..kernels.elementwise import softmax

        if self.in_layout == "hwc":
            softmax(pixels(inputs[0])[..., None], pixels(out)[..., None])
        else:
            softmax(planes(inputs[0], self.in_layout), planes(out, self.in_layout))


PRIMITIVES = tuple(Softmax("softmax", layout) for layout in LAYOUTS)
