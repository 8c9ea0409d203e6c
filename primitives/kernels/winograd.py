"""Loops over the tiles of an image that Winograd's primitives transform; tiles.py has what they do to one.

``down``, ``outputs`` and ``order`` are tuples whose lengths count (see tiles.py). Channels are taken eight at
a time. Where that leaves some, the last eight of the inputs overlap the ones before; fewer than eight, and
what is left of the outputs, are taken one at a time.
"""

from __future__ import annotations

from ..primitive import Array
from .compiled import kernel
from .tiles import transform_inputs, transform_products

LANES = 8
EIGHT = (0,) * LANES
ONE = (0,)

Sized = tuple[int, ...]


@kernel
def inputs_at(image: Array, y: int, x: int, target: Array, to: int, down: Sized, order: Sized) -> None:
    """Transform the tile of (H, W, C) that begins at y, x, for all channels, to (t.., tiles.., C)."""
    height, width, channels = image.shape
    apart = target.size // (len(down) * len(order))
    at = (y * width + x) * channels
    pitches = (width * channels, channels)
    inside = y >= 0 and x >= 0 and y + len(down) <= height and x + len(order) <= width
    edges = (-y, height - y, -x, width - x)
    if channels < LANES:
        for c in range(channels):
            transform_inputs(image, at + c, pitches, edges, target, to + c, apart, down, order, ONE)
    elif inside:
        for block in range(0, channels, LANES):
            c = min(block, channels - LANES)
            transform_inputs(image, at + c, pitches, (), target, to + c, apart, down, order, EIGHT)
    else:
        for block in range(0, channels, LANES):
            c = min(block, channels - LANES)
            transform_inputs(image, at + c, pitches, edges, target, to + c, apart, down, order, EIGHT)


@kernel
def outputs_at(
    products: Array,
    at: int,
    out: Array,
    y: int,
    x: int,
    bias: Array,
    add: bool,
    down: Sized,
    outputs: Sized,
    order: Sized,
) -> None:
    """Transform one tile of products (t.., tiles.., M) to the outputs (Ho, Wo, M) from y, x on."""
    height, width, channels = out.shape
    apart = products.size // (len(down) * len(order))
    to = (y * width + x) * channels
    pitches = (width * channels, channels)
    kept = (height - y, width - x)
    rows = len(outputs) if len(down) > 1 else 1
    # None may be taken twice, since what is added would be added twice.
    whole = channels // LANES * LANES
    if kept[0] >= rows and kept[1] >= len(outputs):
        for c in range(0, whole, LANES):
            transform_products(
                products, at + c, apart, out, to + c, pitches, (), bias, c, add, down, outputs, order, EIGHT
            )
    else:
        for c in range(0, whole, LANES):
            transform_products(
                products, at + c, apart, out, to + c, pitches, kept, bias, c, add, down, outputs, order, EIGHT
            )
    for c in range(whole, channels):
        transform_products(
            products, at + c, apart, out, to + c, pitches, kept, bias, c, add, down, outputs, order, ONE
        )


@kernel
def tile_inputs(image: Array, tiles: Array, top: int, pad: int, step: int, order: Sized) -> None:
    """Transform the rows of tiles from ``top`` on: (H, W, C) to (t t, rows, columns, C); ``step`` is m."""
    _, rows, columns, channels = tiles.shape
    for row in range(rows):
        for column in range(columns):
            to = (row * columns + column) * channels
            inputs_at(image, (top + row) * step - pad, column * step - pad, tiles, to, order, order)


@kernel
def tile_outputs(
    products: Array, out: Array, top: int, bias: Array, outputs: Sized, order: Sized
) -> None:
    """Transform (t t, rows, columns, M) to the outputs (Ho, Wo, M) of the rows of tiles from ``top`` on."""
    _, rows, columns, channels = products.shape
    step = len(outputs)
    for row in range(rows):
        for column in range(columns):
            at = (row * columns + column) * channels
            y, x = (top + row) * step, column * step
            outputs_at(products, at, out, y, x, bias, False, order, outputs, order)


@kernel
def row_inputs(
    image: Array, tiles: Array, y: int, first: int, count: int, pad: int, step: int, order: Sized
) -> None:
    """Transform ``count`` rows of the image from y on to the rows of (t, rows, columns, C) from ``first`` on."""
    _, rows, columns, channels = tiles.shape
    for number in range(count):
        for column in range(columns):
            to = ((first + number) * columns + column) * channels
            inputs_at(image, y + number, column * step - pad, tiles, to, ONE, order)


@kernel
def row_outputs(
    products: Array,
    out: Array,
    top: int,
    turn: int,
    bias: Array,
    add: bool,
    outputs: Sized,
    order: Sized,
) -> None:
    """Transform (t, rows, columns, M) to the output rows from ``top`` on, or add to these.

    The products of the first of them are in row ``turn``; after the last row comes row 0.
    """
    _, rows, columns, channels = products.shape
    for number in range(rows):
        row = (number + turn) % rows
        for column in range(columns):
            at = (row * columns + column) * channels
            outputs_at(products, at, out, top + number, column * len(outputs), bias, add, ONE, outputs, order)
