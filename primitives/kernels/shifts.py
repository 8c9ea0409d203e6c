"""Loops of the kn2 family: shifted sums of products that were taken once for each tap of the kernel."""

from __future__ import annotations

from ..primitive import Array
from .compiled import kernel
from .lowering import inside


@kernel
def add_shifted(product: Array, out: Array, i: int, j: int, pad: int, start: bool) -> None:
    """Add one tap's product (M, H, W) to the output (M, Ho, Wo); with ``start`` the output is set."""
    kernels, height, width = product.shape
    rows, columns = out.shape[1:]
    top, bottom = inside(i, 1, pad, height, rows)
    left, right = inside(j, 1, pad, width, columns)
    for m in range(kernels):
        if start:
            for y in range(rows):
                for x in range(columns):
                    out[m, y, x] = 0
        for y in range(top, bottom):
            source = product[m, y + i - pad]
            target = out[m, y]
            for x in range(left, right):
                target[x] += source[x + j - pad]


@kernel
def add_shifted_pixels(products: Array, out: Array, pad: int) -> None:
    """Add the products of all taps (H, W, K, K, M) to the output (M, Ho, Wo), a few kernels at a time."""
    height, width, side, _, kernels = products.shape
    rows, columns = out.shape[1:]
    block = 16
    for y in range(rows):
        for first in range(0, kernels, block):
            last = min(first + block, kernels)
            for m in range(first, last):
                for x in range(columns):
                    out[m, y, x] = 0
            for i in range(side):
                source = y + i - pad
                if source < 0 or source >= height:
                    continue
                for j in range(side):
                    left, right = inside(j, 1, pad, width, columns)
                    for x in range(left, right):
                        taps = products[source, x + j - pad, i, j]
                        for m in range(first, last):
                            out[m, y, x] += taps[m]


@kernel
def take_column(pixels: Array, x: int, column: Array) -> None:
    """Copy a column of an image (C, H, W) to (C, H)."""
    channels, height, _ = pixels.shape
    for c in range(channels):
        for y in range(height):
            column[c, y] = pixels[c, y, x]


@kernel
def take_column_hwc(pixels: Array, x: int, column: Array) -> None:
    """Copy a column of an image (H, W, C) to (H, C)."""
    height, _, channels = pixels.shape
    for y in range(height):
        for c in range(channels):
            column[y, c] = pixels[y, x, c]


@kernel
def subtract_column(out: Array, x: int, column: Array) -> None:
    """Subtract (M, H) from a column of (M, H, W)."""
    kernels, height, _ = out.shape
    for m in range(kernels):
        for y in range(height):
            out[m, y, x] -= column[m, y]
