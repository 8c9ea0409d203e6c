"""Winograd convolution on tiles: F(m x m, r x r) computes m x m outputs with t x t products, t = m + r - 1.

Each element of the transformed tiles is multiplied by a matrix of its own: t t products [tiles x C] [C x M].
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..arena import Arena
from ..cook_toom import as_array, cook_toom
from ..primitive import FLOAT, Array, Primitive
from ..shape import ConvShape

OUTPUTS = (2, 3, 4)
KERNELS = (3, 5)
ROWS = (None, 1, 2, 4)
"""Rows of tiles that are in the workspace at once; None: all."""

NO_BIAS = np.empty(0, FLOAT)


class Winograd(Primitive):
    """What both dimensions have in common: stride 1, one group, a kernel of r, hwc to hwc."""

    packages: ClassVar[tuple[str, ...]] = ("numba",)

    def __init__(self, name: str, m: int, r: int, rows: int | None) -> None:
        """``rows``: how many (of tiles, or of the output) are in the workspace at once."""
        super().__init__(name, "hwc", "hwc")
        self.m, self.r, self.t = m, r, m + r - 1
        self.rows = rows

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


class Winograd2D(Winograd):
    """F(m x m, r x r), some rows of tiles at a time."""

    family: ClassVar[str] = "winograd2d"

    def tile_rows(self, shape: ConvShape) -> int:
        """ceil(Ho / m) tiles above each other."""
        return -(-shape.out_height // self.m)

    def at_once(self, shape: ConvShape) -> int:
        """Rows of tiles in the workspace."""
        return self.tile_rows(shape) if self.rows is None else min(self.rows, self.tile_rows(shape))

    def multiplies(self, shape: ConvShape) -> int:
        """t^2 C M for each tile, those that an edge cuts included."""
        return self.weight_elements(shape) * self.tile_rows(shape) * self.columns(shape)

    def workspace_elements(self, shape: ConvShape) -> int:
        """t^2 (C + M) for each tile that is in the workspace at once: its transform and its products."""
        tiles = self.at_once(shape) * self.columns(shape)
        return self.t**2 * (shape.channels + shape.kernels) * tiles

    def weight_elements(self, shape: ConvShape) -> int:
        """t^2 M C: the transformed kernels."""
        return self.t**2 * shape.kernels * shape.channels

    def prepare(self, weights: Array, shape: ConvShape) -> Array:
        """G g G^T of each kernel, as t^2 matrices [C x M]."""
        taps = as_array(cook_toom(self.m, self.r).taps)
        half = np.tensordot(taps, weights.astype(np.float64), (1, 2))
        whole = np.tensordot(taps, half, (1, 3))
        return np.ascontiguousarray(whole.transpose(1, 0, 3, 2), FLOAT).reshape(-1)

    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """Transform, multiply and transform back, block by block."""
        from ..kernels.winograd import tile_inputs, tile_outputs

        places, order, outputs = self.t**2, (0,) * self.t, (0,) * self.m
        channels, kernels, columns = shape.channels, shape.kernels, self.columns(shape)
        matrices = weights.reshape(places, channels, kernels)
        added = NO_BIAS if bias is None else bias
        with arena.frame():
            at_once = self.at_once(shape)
            of_tiles = arena.take(places * at_once * columns * channels)
            of_products = arena.take(places * at_once * columns * kernels)
            for top in range(0, self.tile_rows(shape), at_once):
                rows = min(at_once, self.tile_rows(shape) - top)
                count = rows * columns
                tiles = of_tiles[: places * count * channels].reshape(places, rows, columns, channels)
                products = of_products[: places * count * kernels].reshape(places, rows, columns, kernels)
                tile_inputs(image, tiles, top, shape.pad, self.m, order)
                np.matmul(
                    tiles.reshape(places, count, channels),
                    matrices,
                    out=products.reshape(places, count, kernels),
                )
                tile_outputs(products, out, top, added, outputs, order)


PRIMITIVES: tuple[Primitive, ...] = tuple(
    Winograd2D(f"winograd-{m}x{m}-{r}x{r}" + (f"-rows-{rows}" if rows else ""), m, r, rows)
    for r in KERNELS
    for m in OUTPUTS
    for rows in ROWS
)
