"""Layers with several inputs: concatenation along the channels, and sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arena import Arena
from ..layouts import LAYOUTS, Layout
from ..primitive import Array
from .layer import LayerPrimitive, LayerShape

CHANNEL_AXIS: dict[Layout, int] = {"chw": 0, "hcw": 1, "hwc": 2}


class Concatenation(LayerPrimitive):
    """Each input is copied to its channels."""

    def run(
        self, inputs: Sequence[Array], weights: Array, out: Array, shape: LayerShape, arena: Arena
    ) -> None:
        """Compute one image."""
        axis = CHANNEL_AXIS[self.in_layout]
        first = 0
        for each in inputs:
            last = first + each.shape[axis]
            np.copyto(out[(slice(None),) * axis + (slice(first, last),)], each)
            first = last


class Sum(LayerPrimitive):
    """The sum of two tensors."""

    def misfit(self, shape: LayerShape) -> str | None:
        """Two inputs of one shape."""
        return None if shape.inputs == (shape.output, shape.output) else "it must add two of one shape"

    def run(
        self, inputs: Sequence[Array], weights: Array, out: Array, shape: LayerShape, arena: Arena
    ) -> None:
        """Compute one image."""
        np.add(inputs[0], inputs[1], out=out)


PRIMITIVES: tuple[LayerPrimitive, ...] = (
    *(Concatenation("concat", layout) for layout in LAYOUTS),
    *(Sum("add", layout) for layout in LAYOUTS),
)
