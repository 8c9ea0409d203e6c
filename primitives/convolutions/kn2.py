"""kn2: a product for each tap of the kernel, summed after shifting; no patch matrix.

``kn2row`` and ``kn2col`` take the products of all taps at once, the ``as`` forms (accumulate by shifting) one
after the other, and the ``aa`` forms (accumulate by BLAS) add each product straight to the shifted output.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..arena import Arena
from ..blas import multiply_add
from ..gemm import multiply
from ..layouts import Layout
from ..primitive import FLOAT, Array, Primitive, add_bias
from ..shape import ConvShape


def tap_weights(weights: Array, transposed: bool) -> Array:
    """Weights (M, C, K, K) as K K matrices [M x C], or [C x M], flat."""
    taps = weights.transpose(2, 3, 1, 0) if transposed else weights.transpose(2, 3, 0, 1)
    return np.ascontiguousarray(taps, FLOAT).reshape(-1)


class Taps(Primitive):
    """What the family has in common: stride 1, one group, chw results."""

    family: ClassVar[str] = "kn2"
    packages: ClassVar[tuple[str, ...]] = ("numba",)

    def __init__(self, name: str, in_layout: Layout, transposed: bool) -> None:
        """``transposed``: the weights of a tap are stored [C x M]."""
        super().__init__(name, in_layout, "chw")
        self.transposed = transposed

    def refuses(self, shape: ConvShape) -> str | None:
        """Strides (most of each product would be thrown away) and groups."""
        if shape.stride != 1:
            return "it shifts whole products, so the stride is 1"
        return None if shape.groups == 1 else "it computes one group"

    def prepare(self, weights: Array, shape: ConvShape) -> Array:
        """One matrix a tap."""
        return tap_weights(weights, self.transposed)

    def tap(self, weights: Array, shape: ConvShape, i: int, j: int) -> Array:
        """View [M x C] of the weights of a tap."""
        taps = weights.reshape(shape.kernel**2, -1)[i * shape.kernel + j]
        if self.transposed:
            return taps.reshape(shape.channels, shape.kernels).T
        return taps.reshape(shape.kernels, shape.channels)

    def pixels(self, image: Array, shape: ConvShape) -> Array:
        """View [C x H W] of the image."""
        if self.in_layout == "chw":
            return image.reshape(shape.channels, -1)
        return image.reshape(-1, shape.channels).T


class AllTapRows(Taps):
    """One product [K K M x H W] of all taps, then K K shifted sums of planes."""

    def workspace_elements(self, shape: ConvShape) -> int:
        """K K M H W."""
        return shape.kernel**2 * shape.kernels * shape.height * shape.width

    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """Multiply, then add plane by plane."""
        from ..kernels.shifts import add_shifted

        side = shape.kernel
        with arena.frame():
            products = arena.take((side, side, shape.kernels, shape.height, shape.width))
            matrix = weights.reshape(-1, shape.channels)
            multiply(matrix, self.pixels(image, shape), products.reshape(matrix.shape[0], -1))
            for i in range(side):
                for j in range(side):
                    add_shifted(products[i, j], out, i, j, shape.pad, i == j == 0)
        add_bias(out, bias, "chw")


class AllTapColumns(Taps):
    """One product [H W x K K M] of all taps; the sum gathers from it and turns pixels into planes."""

    def workspace_elements(self, shape: ConvShape) -> int:
        """K K M H W."""
        return shape.kernel**2 * shape.kernels * shape.height * shape.width

    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """Multiply, then add pixel by pixel."""
        from ..kernels.shifts import add_shifted_pixels

        side = shape.kernel
        with arena.frame():
            products = arena.take((shape.height, shape.width, side, side, shape.kernels))
            matrix = weights.reshape(-1, shape.channels)
            multiply(matrix, self.pixels(image, shape), products.reshape(-1, matrix.shape[0]).T)
            add_shifted_pixels(products, out, shape.pad)
        add_bias(out, bias, "chw")


class TapByTap(Taps):
    """A product [M x H W] for each tap, each added to the shifted output."""

    def workspace_elements(self, shape: ConvShape) -> int:
        """M H W."""
        return shape.kernels * shape.height * shape.width

    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """Multiply and add, tap by tap."""
        from ..kernels.shifts import add_shifted

        pixels = self.pixels(image, shape)
        with arena.frame():
            product = arena.take((shape.kernels, shape.height, shape.width))
            for i in range(shape.kernel):
                for j in range(shape.kernel):
                    tap = self.tap(weights, shape, i, j)
                    multiply(tap, pixels, product.reshape(shape.kernels, -1))
                    add_shifted(product, out, i, j, shape.pad, i == j == 0)
        add_bias(out, bias, "chw")


class Accumulated(Taps):
    """Each tap's product is added by BLAS to the shifted output, so that no product is ever stored.

    Image and output are taken as flat runs of pixels, of which a tap is a shift. That shift also carries
    pixels around the left or right edge into the rows beside; what came there wrongly is computed again, one
    column of the image at a time, and subtracted. The workspace is that column and its product, (C + M) H.
    """

    packages: ClassVar[tuple[str, ...]] = ("numba", "scipy")

    def refuses(self, shape: ConvShape) -> str | None:
        """Outputs that are not as large as the image: pixels of both would not match."""
        why = super().refuses(shape)
        if why is not None:
            return why
        if 2 * shape.pad != shape.kernel - 1:
            return "a tap must be a shift, so 2 P = K - 1 is needed"
        return None if shape.pad < shape.width else "the padding is as wide as the image"

    def workspace_elements(self, shape: ConvShape) -> int:
        """(C + M) H; none where there is no padding."""
        return (shape.channels + shape.kernels) * shape.height if shape.pad else 0

    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """Add all shifted products, then take away what went around an edge."""
        sums = out.reshape(shape.kernels, -1)
        pixels = self.pixels(image, shape)
        size = sums.shape[1]
        middle = shape.kernel // 2
        multiply(self.tap(weights, shape, middle, middle), pixels, sums)
        for i in range(shape.kernel):
            for j in range(shape.kernel):
                shift = (i - middle) * shape.width + j - middle
                start, end = max(0, -shift), min(size, size - shift)
                if (i, j) != (middle, middle) and start < end:
                    tap = self.tap(weights, shape, i, j)
                    multiply_add(tap, pixels[:, start + shift : end + shift], sums[:, start:end])
        if shape.pad:
            with arena.frame():
                self._unwrap(image, weights, out, shape, arena)
        add_bias(out, bias, "chw")

    def _unwrap(self, image: Array, weights: Array, out: Array, shape: ConvShape, arena: Arena) -> None:
        """Subtract what a shift by ``ahead`` columns carried over an edge of the image."""
        from ..kernels.shifts import subtract_column, take_column, take_column_hwc

        chw, height, width, middle = self.in_layout == "chw", shape.height, shape.width, shape.pad
        held = arena.take((shape.channels, height) if chw else (height, shape.channels))
        column = held if chw else held.T
        wrong = arena.take((shape.kernels, height))
        take = take_column if chw else take_column_hwc
        for ahead in range(-middle, middle + 1):
            for edge in range(abs(ahead)):
                # A pixel beyond the right edge is the next row's first; beyond the left the last one above.
                source, target = (edge, width - ahead + edge) if ahead > 0 else (width + ahead + edge, edge)
                take(image, source, held)
                wrong.fill(0)
                for i in range(shape.kernel):
                    down = i - middle + (1 if ahead > 0 else -1)
                    start, end = max(0, -down), min(height, height - down)
                    if start < end:
                        tap = self.tap(weights, shape, i, ahead + middle)
                        multiply_add(tap, column[:, start + down : end + down], wrong[:, start:end])
                subtract_column(out, target, wrong)


PRIMITIVES: tuple[Primitive, ...] = (
    AllTapRows("kn2row", "hwc", False),
    AllTapColumns("kn2col", "hwc", False),
    TapByTap("kn2row-as", "chw", False),
    TapByTap("kn2col-as", "hwc", True),
    Accumulated("kn2row-aa-ab", "chw", False),
    Accumulated("kn2row-aa-abt", "hwc", False),
    Accumulated("kn2row-aa-atb", "chw", True),
    Accumulated("kn2row-aa-atbt", "hwc", True),
)
