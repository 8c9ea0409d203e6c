"""Winograd convolution on tiles: F(m x m, r x r) computes m x m outputs with t x t products, t = m + r - 1.

Each element of the transformed tiles is multiplied by a matrix of its own: t t products [tiles x C] [C x M].
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..arena import Arena
from ..cook_toom import as_array, cook_toom
from ..layouts import Layout
from ..primitive import FLOAT, Array, Primitive
from ..shape import ConvShape
from ..winograd import NO_BIAS, Winograd

OUTPUTS = (2, 3, 4)
KERNELS = (3, 5)
ROWS = (None, 1, 2, 4)
"""Rows of tiles that are in the workspace at once; None: all."""


class Winograd2D(Winograd):
    """F(m x m, r x r), some rows of tiles at a time."""

    family: ClassVar[str] = "winograd2d"
    both_ways: ClassVar[bool] = True

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

        places = self.t**2
        channels, kernels, columns = shape.channels, shape.kernels, self.columns(shape)
        matrices = weights.reshape(places, channels, kernels)
        source, target = self.images(image, out, shape)
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
                y = top * self.m
                tile_inputs(*source, tiles, y - shape.pad, 0, rows, shape.pad, *self.sized)
                np.matmul(
                    tiles.reshape(places, count, channels),
                    matrices,
                    out=products.reshape(places, count, kernels),
                )
                tile_outputs(products, *target, y, 0, added, False, *self.sized)


def _named(layout: Layout, m: int, r: int, rows: int | None) -> Winograd2D:
    where = "" if layout == "hwc" else f"{layout}-"
    block = "" if rows is None else f"-rows-{rows}"
    return Winograd2D(f"winograd-{where}{m}x{m}-{r}x{r}{block}", layout, m, r, rows)


PRIMITIVES: tuple[Primitive, ...] = (
    *(_named("hwc", m, r, rows) for r in KERNELS for m in OUTPUTS for rows in ROWS),
    # Gathering and scattering the channels costs a little more; it saves networks in chw the transforms.
    *(_named("chw", m, r, rows) for r in KERNELS for m in (2, 4) for rows in (None, 1, 4)),
)
