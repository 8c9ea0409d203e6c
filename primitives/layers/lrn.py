"""Local response normalisation across channels, with the constants that ONNX gives by default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..arena import Arena
from ..layouts import LAYOUTS
from ..primitive import Array
from .layer import LayerPrimitive, LayerShape, pixels, planes

ALPHA = 1e-4
"""y = x / (1 + ALPHA / n * sum of x^2 over n channels)^0.75; the bias 1 and the power are in the kernels."""


class Normalisation(LayerPrimitive):
    """Sums of squares are collected in the output: no workspace."""

    packages: ClassVar[tuple[str, ...]] = ("numba",)

    def run(
        self, inputs: Sequence[Array], weights: Array, out: Array, shape: LayerShape, arena: Arena
    ) -> None:
        """Compute one image."""
        from ..kernels.lrn import normalise_pixels, normalise_planes

        size = shape.attribute("local_size", 5)
        if self.in_layout == "hwc":
            normalise_pixels(pixels(inputs[0]), pixels(out), size, ALPHA)
        else:
            normalise_planes(planes(inputs[0], self.in_layout), planes(out, self.in_layout), size, ALPHA)


PRIMITIVES = tuple(Normalisation("lrn", layout) for layout in LAYOUTS)
