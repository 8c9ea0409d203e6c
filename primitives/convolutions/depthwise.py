"""Depthwise convolutions: every channel has its own kernels."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..arena import Arena
from ..primitive import FLOAT, Array, Primitive, add_bias
from ..shape import ConvShape


class Depthwise(Primitive):
    """What the family has in common: as many groups as channels."""

    family: ClassVar[str] = "depthwise"
    packages: ClassVar[tuple[str, ...]] = ("numba",)

    def refuses(self, shape: ConvShape) -> str | None:
        """What is not depthwise."""
        return None if shape.depthwise else "it computes depthwise convolutions"

    def workspace_elements(self, shape: ConvShape) -> int:
        """None."""
        return 0


class Planes(Depthwise):
    """chw: plane by plane, along the rows."""

    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """Sum the taps of each row."""
        from ..kernels.depthwise import planes

        planes(image, weights.reshape(-1, shape.kernel, shape.kernel), out, shape.stride, shape.pad)
        add_bias(out, bias, "chw")


class BufferedPlanes(Depthwise):
    """chw: the rows of the image that an output row reads are held in a ring with their padding."""

    def workspace_elements(self, shape: ConvShape) -> int:
        """K (W + 2 P)."""
        return shape.kernel * (shape.width + 2 * shape.pad)

    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """Fill the ring, sum the taps of each row."""
        from ..kernels.depthwise import buffered_planes

        stored = weights.reshape(-1, shape.kernel, shape.kernel)
        with arena.frame():
            ring = arena.take((shape.kernel, shape.width + 2 * shape.pad))
            buffered_planes(image, stored, out, ring, shape.stride, shape.pad)
        add_bias(out, bias, "chw")


class Pixels(Depthwise):
    """hwc: pixel by pixel, along the channels."""

    def refuses(self, shape: ConvShape) -> str | None:
        """More than one kernel a channel: they would not lie beside the channels."""
        why = super().refuses(shape)
        return why or (None if shape.kernels == shape.channels else "it computes one kernel a channel")

    def prepare(self, weights: Array, shape: ConvShape) -> Array:
        """(K, K, C)."""
        return np.ascontiguousarray(weights[:, 0].transpose(1, 2, 0), FLOAT).reshape(-1)

    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """Sum the taps of each pixel."""
        from ..kernels.depthwise import pixels

        stored = weights.reshape(shape.kernel, shape.kernel, -1)
        pixels(image, stored, out, shape.stride, shape.pad)
        add_bias(out, bias, "hwc")


PRIMITIVES: tuple[Primitive, ...] = (
    Planes("depthwise-direct-chw", "chw", "chw"),
    BufferedPlanes("depthwise-rows-chw", "chw", "chw"),
    Pixels("depthwise-direct-hwc", "hwc", "hwc"),
)
