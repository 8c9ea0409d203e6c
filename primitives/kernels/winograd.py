"""Loops over the tiles of an image that Winograd's primitives transform; tiles.py has what they do to one.

``down``, ``outputs``, ``order`` and ``near`` are tuples whose lengths count (see tiles.py). ``sides`` are H,
W and C of a flat image, whatever its layout, and ``pitches`` the distances of its rows, columns and channels.

Channels are taken eight at a time. Where that leaves some, the last eight of the inputs overlap the ones
before; fewer than eight, and what is left of the outputs, are taken one at a time. Everything stands in one
loop each, because numba would compile what is called twice: for itself and where it is called.
"""

from __future__ import annotations

from ..primitive import Array
from .compiled import kernel
from .tiles import transform_inputs, transform_products

LANES = 8
EIGHT = (0,) * LANES
ONE = (0,)

Sized = tuple[int, ...]
Triple = tuple[int, int, int]


@kernel
def tile_inputs(
    image: Array,
    sides: Triple,
    pitches: Triple,
    tiles: Array,
    top: int,
    first: int,
    count: int,
    pad: int,
    down: Sized,
    outputs: Sized,
    order: Sized,
    near: Sized,
) -> None:
    """Transform ``count`` rows of tiles of an image to rows ``first`` and after of (t.., rows, columns, C).

    The first of them begins at row ``top`` of the image (above it where negative), each at column ``-pad``.
    """
    height, width, channels = sides
    columns = tiles.shape[2]
    apart = tiles.size // tiles.shape[0]
    across = len(outputs)
    below = across if len(down) > 1 else 1
    for row in range(count):
        y = top + row * below
        for column in range(columns):
            x = column * across - pad
            to = ((first + row) * columns + column) * channels
            start, step = y * pitches[0] + x * pitches[1], pitches[2]
            edges = (-y, height - y, -x, width - x)
            if channels < LANES:
                for c in range(channels):
                    at = start + c * step
                    transform_inputs(image, at, pitches, edges, tiles, to + c, apart, down, order, ONE, ONE)
            elif y >= 0 and x >= 0 and y + len(down) <= height and x + len(order) <= width:
                for block in range(0, channels, LANES):
                    c = min(block, channels - LANES)
                    at = start + c * step
                    transform_inputs(image, at, pitches, (), tiles, to + c, apart, down, order, near, EIGHT)
            else:
                for block in range(0, channels, LANES):
                    c = min(block, channels - LANES)
                    at = start + c * step
                    transform_inputs(
                        image, at, pitches, edges, tiles, to + c, apart, down, order, near, EIGHT
                    )


@kernel
def tile_outputs(
    products: Array,
    out: Array,
    sides: Triple,
    pitches: Triple,
    top: int,
    turn: int,
    bias: Array,
    add: bool,
    down: Sized,
    outputs: Sized,
    order: Sized,
    near: Sized,
) -> None:
    """Transform (t.., rows, columns, M) to the output's rows from ``top`` on; with ``add`` add to these.

    The products of the first row of tiles are in row ``turn``; after the last row comes row 0.
    """
    height, width, channels = sides
    rows, columns = products.shape[1:3]
    apart = products.size // products.shape[0]
    across = len(outputs)
    below = across if len(down) > 1 else 1
    # None may be taken twice, since what is added would be added twice.
    whole = channels // LANES * LANES
    for row in range(rows):
        y = top + row * below
        for column in range(columns):
            x = column * across
            at = ((row + turn) % rows * columns + column) * channels
            start, step = y * pitches[0] + x * pitches[1], pitches[2]
            kept = (height - y, width - x)
            if kept[0] >= below and kept[1] >= across:
                for c in range(0, whole, LANES):
                    transform_products(
                        products, at + c, apart,
                        out, start + c * step, pitches, (),
                        bias, c, add, down, outputs, order, near, EIGHT,
                    )  # fmt: skip
            else:
                for c in range(0, whole, LANES):
                    transform_products(
                        products, at + c, apart,
                        out, start + c * step, pitches, kept,
                        bias, c, add, down, outputs, order, near, EIGHT,
                    )  # fmt: skip
            for c in range(whole, channels):
                transform_products(
                    products, at + c, apart,
                    out, start + c * step, pitches, kept,
                    bias, c, add, down, outputs, order, ONE, ONE,
                )  # fmt: skip
