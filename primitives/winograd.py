"""What Winograd's primitives on tiles and along rows have in common."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from .layouts import Layout
from .primitive import FLOAT, Array, Primitive
from .shape import ConvShape

NO_BIAS = np.empty(0, FLOAT)


class Image(NamedTuple):
    """A dense image as the kernels take it: flat, with the numbers that say where its elements lie."""

    flat: Array
    sides: tuple[int, int, int]
    """H, W and channels."""
    pitches: tuple[int, int, int]
    """Distances of rows, columns and channels, in elements."""


def laid_out(array: Array, layout: Layout, sides: tuple[int, int, int]) -> Image:
    """The image of these H, W and channels, in hwc or chw."""
    height, width, channels = sides
    pitches = (width * channels, channels, 1) if layout == "hwc" else (width, 1, height * width)
    return Image(array.reshape(-1), sides, pitches)


class Winograd(Primitive):
    """Stride 1, one group, a kernel of r x r; ``rows`` (of tiles, or of the output) are in memory at once."""

    packages: ClassVar[tuple[str, ...]] = ("numba",)
    both_ways: ClassVar[bool] = False
    """Whether tiles have t rows, or one."""

    def __init__(self, name: str, layout: Layout, m: int, r: int, rows: int | None) -> None:
        """F(m, r), from ``layout`` (hwc or chw) to the same; ``rows``: None for all of them."""
        super().__init__(name, layout, layout)
        self.m, self.r, self.t = m, r, m + r - 1
        self.rows = rows
        lengths = self.t if self.both_ways else 1, m, self.t, int(layout == "hwc")
        self.sized = tuple((0,) * length for length in lengths)
        """``down``, ``outputs``, ``order``, ``near`` of the kernels: tuples whose lengths count."""

    def refuses(self, shape: ConvShape) -> str | None:
        """Other kernels, strides and groups."""
        if shape.kernel != self.r:
            return f"its kernel is {self.r} x {self.r}"
        if shape.stride != 1:
            return "neighbouring outputs share what they read, so the stride is 1"
        return None if shape.groups == 1 else "it computes one group"

    def columns(self, shape: ConvShape) -> int:
        """ceil(Wo / m) tiles side by side."""
        return -(-shape.out_width // self.m)

    def images(self, image: Array, out: Array, shape: ConvShape) -> tuple[Image, Image]:
        """Input and output as the kernels take them."""
        return (
            laid_out(image, self.in_layout, (shape.height, shape.width, shape.channels)),
            laid_out(out, self.out_layout, (shape.out_height, shape.out_width, shape.kernels)),
        )
