"""Winograd convolution along rows: F(m, r) computes m outputs of one kernel row with t = m + r - 1 products.

The kernel's rows are taken one after the other: the transformed rows of the image stay in the workspace, and
for the next kernel row only the one that is no longer read is replaced by the one that is now.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..arena import Arena
from ..cook_toom import as_array, cook_toom
from ..primitive import FLOAT, Array, Primitive
from ..shape import ConvShape
from ..winograd import NO_BIAS, Winograd
from .winograd2d import KERNELS, OUTPUTS

ROWS = (None, 4)
"""Output rows that are in the workspace at once; None: all."""


class Winograd1D(Winograd):
    """F(m, r) along the rows, summed over the kernel's rows in the output."""

    family: ClassVar[str] = "winograd1d"

    def at_once(self, shape: ConvShape) -> int:
        """Output rows in the workspace."""
        return shape.out_height if self.rows is None else min(self.rows, shape.out_height)

    def multiplies(self, shape: ConvShape) -> int:
        """t K C M for each run of m outputs, those that an edge cuts included."""
        return self.weight_elements(shape) * shape.out_height * self.columns(shape)

    def workspace_elements(self, shape: ConvShape) -> int:
        """t (C + M) for each run of m outputs that is in the workspace at once."""
        return self.t * (shape.channels + shape.kernels) * self.at_once(shape) * self.columns(shape)

    def weight_elements(self, shape: ConvShape) -> int:
        """t K M C: the transformed rows of the kernels."""
        return self.t * self.r * shape.kernels * shape.channels

    def prepare(self, weights: Array, shape: ConvShape) -> Array:
        """G g of each row of each kernel, as K t matrices [C x M]."""
        taps = as_array(cook_toom(self.m, self.r).taps)
        rows = np.tensordot(taps, weights.astype(np.float64), (1, 3))
        return np.ascontiguousarray(rows.transpose(3, 0, 2, 1), FLOAT).reshape(-1)

    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """For each block of output rows and each kernel row: transform, multiply, transform back and add."""
        from ..kernels.winograd import tile_inputs, tile_outputs

        t, pad = self.t, shape.pad
        channels, kernels, columns = shape.channels, shape.kernels, self.columns(shape)
        matrices = weights.reshape(shape.kernel, t, channels, kernels)
        source, target = self.images(image, out, shape)
        added = NO_BIAS if bias is None else bias
        with arena.frame():
            at_once = self.at_once(shape)
            of_tiles = arena.take(t * at_once * columns * channels)
            of_products = arena.take(t * at_once * columns * kernels)
            for top in range(0, shape.out_height, at_once):
                rows = min(at_once, shape.out_height - top)
                count = rows * columns
                tiles = of_tiles[: t * count * channels].reshape(t, rows, columns, channels)
                products = of_products[: t * count * kernels].reshape(t, rows, columns, kernels)
                for i in range(shape.kernel):
                    # From the first row of the image that is not in the workspace yet.
                    new, place, many = (top + rows + i - 1, (i - 1) % rows, 1) if i else (top, 0, rows)
                    tile_inputs(*source, tiles, new - pad, place, many, pad, *self.sized)
                    np.matmul(
                        tiles.reshape(t, count, channels),
                        matrices[i],
                        out=products.reshape(t, count, kernels),
                    )
                    tile_outputs(products, *target, top, i % rows, added, i > 0, *self.sized)


PRIMITIVES: tuple[Primitive, ...] = tuple(
    Winograd1D(f"winograd-{m}-{r}" + (f"-rows-{rows}" if rows else ""), "hwc", m, r, rows)
    for r in KERNELS
    for m in OUTPUTS
    for rows in ROWS
)
