"""Loops of depthwise convolutions: one kernel (or a few) for each channel."""

from __future__ import annotations

import numpy as np

from ..primitive import Array
from .compiled import kernel
from .direct import add_one, add_run
from .lowering import clear, copy, inside


@kernel
def planes(image: Array, weights: Array, out: Array, stride: int, pad: int) -> None:
    """(C, H, W) and (M, K, K) to (M, Ho, Wo): a row of the output, tap by tap."""
    channels, height, columns = image.shape
    kernels, rows, width = out.shape
    side = weights.shape[1]
    step = np.uint64(stride)
    for m in range(kernels):
        plane = image[m // (kernels // channels)].reshape(-1)
        target = out[m].reshape(-1)
        clear(target)
        for y in range(rows):
            for i in range(side):
                at = y * stride + i - pad
                if at < 0 or at >= height:
                    continue
                for j in range(side):
                    low, high = inside(j, stride, pad, columns, width)
                    if low == high:
                        continue
                    to, length = np.uint64(y * width + low), np.uint64(high - low)
                    start = np.uint64(at * columns + low * stride + j - pad)
                    add_run(target, to, length, weights[m, i, j], start, step, plane)


@kernel
def pixels(image: Array, weights: Array, out: Array, stride: int, pad: int) -> None:
    """(H, W, C) and (K, K, C) to (Ho, Wo, C): along the channels of a pixel."""
    height, columns, _ = image.shape
    rows, width, _ = out.shape
    side = weights.shape[0]
    for y in range(rows):
        for x in range(width):
            target = out[y, x]
            left = x * stride - pad
            low, high = min(max(0, -left), side), min(side, columns - left)
            started = False
            for i in range(side):
                at = y * stride + i - pad
                if at < 0 or at >= height or low >= high:
                    continue
                if not started:
                    set_product(target, image[at, left + low], weights[i, low])
                if high - low == 3 and started:
                    add_three(
                        target,
                        image[at, left + low],
                        image[at, left + low + 1],
                        image[at, left + low + 2],
                        weights[i, low],
                        weights[i, low + 1],
                        weights[i, low + 2],
                    )
                else:
                    for j in range(low if started else low + 1, high):
                        add_product(target, image[at, left + j], weights[i, j])
                started = True
            if not started:
                clear(target)


@kernel
def set_product(target: Array, values: Array, weights: Array) -> None:
    """Products, element by element."""
    for c in range(target.shape[0]):
        target[c] = values[c] * weights[c]


@kernel
def add_product(target: Array, values: Array, weights: Array) -> None:
    """Add products, element by element."""
    for c in range(target.shape[0]):
        target[c] += values[c] * weights[c]


@kernel
def add_three(target: Array, a: Array, b: Array, c: Array, u: Array, v: Array, w: Array) -> None:
    """Add three products, element by element."""
    for at in range(target.shape[0]):
        target[at] += a[at] * u[at] + b[at] * v[at] + c[at] * w[at]


@kernel
def buffered_planes(image: Array, weights: Array, out: Array, buffer: Array, stride: int, pad: int) -> None:
    """As ``planes``, with the K rows (K, W + 2 P) that an output row reads held beside, zeros at their ends.

    The buffer is a ring: each row of the image is copied once.
    """
    channels, height, columns = image.shape
    kernels, rows, width = out.shape
    side = weights.shape[1]
    for m in range(kernels):
        c = m // (kernels // channels)
        filled = -pad
        for y in range(rows):
            for at in range(max(filled, y * stride - pad), y * stride - pad + side):
                row = buffer[(at + pad) % side]
                if 0 <= at < height:
                    clear(row[:pad])
                    copy(image[c, at], row[pad : pad + columns])
                    clear(row[pad + columns :])
                else:
                    clear(row)
            filled = y * stride - pad + side
            if side == 3:
                sum_nine(
                    out[m, y],
                    weights[m],
                    buffer[(y * stride) % 3],
                    buffer[(y * stride + 1) % 3],
                    buffer[(y * stride + 2) % 3],
                    stride,
                )
                continue
            clear(out[m, y])
            for i in range(side):
                row = buffer[(y * stride + i) % side]
                for j in range(side):
                    if stride == 1:
                        add_one(out[m, y], weights[m, i, j], row[j : j + width])
                    else:
                        add_one(out[m, y], weights[m, i, j], row[j::stride])


@kernel
def sum_nine(target: Array, w: Array, a: Array, b: Array, c: Array, stride: int) -> None:
    """One row of a 3 x 3 convolution."""
    if stride == 1:
        for x in range(target.shape[0]):
            target[x] = (
                (w[0, 0] * a[x] + w[0, 1] * a[x + 1] + w[0, 2] * a[x + 2])
                + (w[1, 0] * b[x] + w[1, 1] * b[x + 1] + w[1, 2] * b[x + 2])
                + (w[2, 0] * c[x] + w[2, 1] * c[x + 1] + w[2, 2] * c[x + 2])
            )
    else:
        for x in range(target.shape[0]):
            s = x * stride
            target[x] = (
                (w[0, 0] * a[s] + w[0, 1] * a[s + 1] + w[0, 2] * a[s + 2])
                + (w[1, 0] * b[s] + w[1, 1] * b[s + 1] + w[1, 2] * b[s + 2])
                + (w[2, 0] * c[s] + w[2, 1] * c[s + 1] + w[2, 2] * c[s + 2])
            )
