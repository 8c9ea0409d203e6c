"""Layers that compute each value from one value: rectifiers, normalisations that were learned, and none.

They work in place where input and output are the same array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from ..arena import Arena
from ..layouts import LAYOUTS
from ..primitive import FLOAT, Array
from .layer import LayerPrimitive, LayerShape, pixels, planes

VARIANCE_FLOOR = 1e-5
"""ONNX adds it to every variance."""


class Rectifier(LayerPrimitive):
    """Negative values become 0."""

    packages: ClassVar[tuple[str, ...]] = ("numba",)
    in_place: ClassVar[bool] = True

    def run(
        self, inputs: Sequence[Array], weights: Array, out: Array, shape: LayerShape, arena: Arena
    ) -> None:
        """Compute one image."""
        from ..kernels.elementwise import rectify, rectify_in_place

        if same(inputs[0], out):
            rectify_in_place(out.reshape(-1))
        else:
            rectify(inputs[0].reshape(-1), out.reshape(-1))


class Nothing(LayerPrimitive):
    """Dropout and split: at inference the output is the input, and a copy only where it lies elsewhere."""

    in_place: ClassVar[bool] = True

    def run(
        self, inputs: Sequence[Array], weights: Array, out: Array, shape: LayerShape, arena: Arena
    ) -> None:
        """Copy, unless the arrays are one."""
        copy_unless_same(inputs[0], out)


class ChannelScale(LayerPrimitive):
    """Batch normalisation and scale: a factor and a shift for every channel, folded when prepared."""

    packages: ClassVar[tuple[str, ...]] = ("numba",)
    in_place: ClassVar[bool] = True

    def weight_elements(self, shape: LayerShape) -> int:
        """2 C: mean and variance are part of factor and shift."""
        return 2 * shape.output[0]

    def prepare(self, weights: Mapping[str, Array], shape: LayerShape) -> Array:
        """Factor / sqrt(variance + 0.00001), and shift minus mean times that."""
        wide = {name: values.astype(np.float64) for name, values in weights.items()}
        factor = wide["factor"] / np.sqrt(wide["variance"] + VARIANCE_FLOOR)
        return np.concatenate([factor, wide["shift"] - wide["mean"] * factor]).astype(FLOAT)

    def run(
        self, inputs: Sequence[Array], weights: Array, out: Array, shape: LayerShape, arena: Arena
    ) -> None:
        """Compute one image."""
        from ..kernels import elementwise as loops

        channels = shape.output[0]
        factor, shift = weights[:channels], weights[channels:]
        if self.in_layout == "hwc":
            if same(inputs[0], out):
                loops.scale_pixels_in_place(pixels(out), factor, shift)
            else:
                loops.scale_pixels(pixels(inputs[0]), pixels(out), factor, shift)
        elif same(inputs[0], out):
            loops.scale_planes_in_place(planes(out, self.in_layout), factor, shift)
        else:
            loops.scale_planes(planes(inputs[0], self.in_layout), planes(out, self.in_layout), factor, shift)


def same(source: Array, out: Array) -> bool:
    """Whether two arrays of one size are the same memory."""
    return bool(source.__array_interface__["data"][0] == out.__array_interface__["data"][0])


def copy_unless_same(source: Array, out: Array) -> None:
    """Copy values in order of their place; the arrays may be one, but must not overlap otherwise."""
    if not same(source, out):
        np.copyto(out.reshape(-1), source.reshape(-1))


PRIMITIVES: tuple[LayerPrimitive, ...] = (
    *(Rectifier("relu", layout) for layout in LAYOUTS),
    *(ChannelScale(op, layout) for op in ("batch-norm", "scale") for layout in LAYOUTS),
    *(Nothing(op, layout) for op in ("dropout", "split") for layout in LAYOUTS),
)
