"""Loops of the direct convolution.

Eight inputs are summed at once, so that an output is loaded and stored once for eight products.
"""

from __future__ import annotations

import numpy as np

from ..primitive import Array
from .compiled import kernel
from .lowering import inside


@kernel
def add_eight(
    target: Array,
    weights: tuple[float, ...],
    a: Array,
    b: Array,
    c: Array,
    d: Array,
    e: Array,
    f: Array,
    g: Array,
    h: Array,
) -> None:
    """Add eight rows, each times its weight."""
    s, t, u, v, w, x, y, z = weights
    for at in range(target.shape[0]):
        target[at] += (
            (s * a[at] + t * b[at])
            + (u * c[at] + v * d[at])
            + ((w * e[at] + x * f[at]) + (y * g[at] + z * h[at]))
        )


@kernel
def add_one(target: Array, weight: float, row: Array) -> None:
    """Add a row times its weight."""
    for at in range(target.shape[0]):
        target[at] += weight * row[at]


@kernel
def eight(values: Array, first: int) -> tuple[float, ...]:
    """Eight values in a row."""
    v = values[first : first + 8]
    return v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]


@kernel
def add_planes(
    target: Array, low: int, high: int, planes: Array, first: int, start: int, stride: int, tap: Array
) -> None:
    """Add runs of all planes (C, H W), each times its weight, from ``low`` to before ``high``."""
    if low >= high:
        return
    channels = tap.shape[0]
    done = channels // 8 * 8
    # Unsigned, so that no index can mean one from the end.
    to, length, begin, step = np.uint64(low), np.uint64(high - low), np.uint64(start), np.uint64(stride)
    for c in range(0, done, 8):
        p = planes[first + c : first + c + 8]
        w = eight(tap, c)
        add_eight_runs(target, to, length, w, begin, step, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7])
    for c in range(done, channels):
        add_run(target, to, length, tap[c], begin, step, planes[first + c])


@kernel
def add_eight_runs(
    target: Array,
    to: np.uint64,
    length: np.uint64,
    weights: tuple[float, ...],
    start: np.uint64,
    stride: np.uint64,
    a: Array,
    b: Array,
    c: Array,
    d: Array,
    e: Array,
    f: Array,
    g: Array,
    h: Array,
) -> None:
    """Add runs of eight planes, each times its weight."""
    s, t, u, v, w, x, y, z = weights
    if stride == 1:
        for i in range(length):
            at = start + i
            target[to + i] += (
                (s * a[at] + t * b[at])
                + (u * c[at] + v * d[at])
                + ((w * e[at] + x * f[at]) + (y * g[at] + z * h[at]))
            )
    else:
        for i in range(length):
            at = start + i * stride
            target[to + i] += (
                (s * a[at] + t * b[at])
                + (u * c[at] + v * d[at])
                + ((w * e[at] + x * f[at]) + (y * g[at] + z * h[at]))
            )


@kernel
def add_run(
    target: Array,
    to: np.uint64,
    length: np.uint64,
    weight: float,
    start: np.uint64,
    stride: np.uint64,
    a: Array,
) -> None:
    """Add a run of a plane times its weight."""
    if stride == 1:
        for i in range(length):
            target[to + i] += weight * a[start + i]
    else:
        for i in range(length):
            target[to + i] += weight * a[start + i * stride]


@kernel
def direct_chw(image: Array, weights: Array, out: Array, stride: int, pad: int) -> None:
    """(C, H, W) and (G, M / G, K, K, C / G) to (M, Ho, Wo), row by row or, where it can, plane by plane."""
    groups, kernels, side, _, channels = weights.shape
    height, columns = image.shape[1:]
    planes = image.reshape(image.shape[0], height * columns)
    whole = stride == 1 and 2 * pad == side - 1 and pad < columns
    for m in range(groups * kernels):
        of_kernel = weights[m // kernels, m % kernels]
        first = m // kernels * channels
        out[m, :, :] = 0
        if whole:
            direct_plane(planes, first, of_kernel, out[m], pad)
        else:
            direct_rows(planes, first, of_kernel, out[m], height, columns, stride, pad)


@kernel
def direct_rows(
    planes: Array, first: int, weights: Array, out: Array, height: int, columns: int, stride: int, pad: int
) -> None:
    """One plane of the output, a row after the other."""
    side = weights.shape[0]
    rows, width = out.shape
    target = out.reshape(-1)
    for y in range(rows):
        for i in range(side):
            at = y * stride + i - pad
            if at < 0 or at >= height:
                continue
            for j in range(side):
                low, high = inside(j, stride, pad, columns, width)
                start = at * columns + low * stride + j - pad
                add_planes(
                    target, y * width + low, y * width + high, planes, first, start, stride, weights[i, j]
                )


@kernel
def direct_plane(planes: Array, first: int, weights: Array, out: Array, pad: int) -> None:
    """One plane of an output as large as the image: a tap is a shift of the whole plane.

    A shift to the left carries pixels around the edge into the last columns, which no tap to the right of it
    needs: they are cleared. So are the first columns after the shifts to the right, which come first. What
    those gave to the last columns is then added anew, element by element.
    """
    side = weights.shape[0]
    height, width = out.shape
    size = height * width
    target = out.reshape(-1)
    for j in range(pad):
        for i in range(side):
            shift = (i - pad) * width + j - pad
            low, high = max(0, -shift), min(size, size - shift)
            add_planes(target, low, high, planes, first, low + shift, 1, weights[i, j])
        out[:, : pad - j] = 0
    for j in range(side - 1, pad, -1):
        for i in range(side):
            shift = (i - pad) * width + j - pad
            low, high = max(0, -shift), min(size, size - shift)
            add_planes(target, low, high, planes, first, low + shift, 1, weights[i, j])
        out[:, width - (j - pad) :] = 0
    for i in range(side):
        shift = (i - pad) * width
        low, high = max(0, -shift), min(size, size - shift)
        add_planes(target, low, high, planes, first, low + shift, 1, weights[i, pad])
        for y in range(max(0, pad - i), min(height, height + pad - i)):
            for x in range(width - pad, width):
                for j in range(max(0, pad - x), pad):
                    source = (y + i - pad) * width + x + j - pad
                    total = np.float32(0)
                    for c in range(weights.shape[2]):
                        total += weights[i, j, c] * planes[first + c, source]
                    out[y, x] += total


@kernel
def direct_hwc(image: Array, weights: Array, out: Array, stride: int, pad: int) -> None:
    """(H, W, C) and (G, K, K, C / G, M / G) to (Ho, Wo, M), along the output's channels.

    Of one group the pixels under a row of the kernel are one run of K C elements, except at the edges.
    """
    groups, side, _, channels, kernels = weights.shape
    height, columns, all_channels = image.shape
    rows, width, _ = out.shape
    left, _ = inside(0, stride, pad, columns, width)
    _, right = inside(side - 1, stride, pad, columns, width)
    if groups > 1 or right <= left:
        left = right = 0
    for y in range(rows):
        out[y, :, :] = 0
        for i in range(side):
            at = y * stride + i - pad
            if at < 0 or at >= height:
                continue
            row = image[at].reshape(-1)
            pitch = stride * all_channels
            if left < right:
                run = weights[0, i].reshape(side * channels, kernels)
                add_pixels(row, (left * stride - pad) * channels, pitch, run, out[y], left, right, 0)
            for g in range(groups):
                for j in range(side):
                    low, high = inside(j, stride, pad, columns, width)
                    tap = weights[g, i, j]
                    middle = min(high, left) if left < right else high
                    start = (low * stride + j - pad) * all_channels + g * channels
                    add_pixels(row, start, pitch, tap, out[y], low, middle, g * kernels)
                    if left < right:
                        after = max(low, right)
                        start = (after * stride + j - pad) * all_channels
                        add_pixels(row, start, pitch, tap, out[y], after, high, 0)


@kernel
def add_pixels(
    row: Array, start: int, pitch: int, weights: Array, out: Array, low: int, high: int, first: int
) -> None:
    """Add to each pixel of an output row the run of the image's row that it reads, times the weights.

    ``start``: where the run of pixel ``low`` begins; ``pitch``: how much further that of the next one does;
    ``first``: the first output channel.
    """
    length, kernels = weights.shape
    done = length // 8 * 8
    for c in range(0, done, 8):
        w = weights[c : c + 8]
        for x in range(low, high):
            taken = eight(row, start + (x - low) * pitch + c)
            target = out[x, first : first + kernels]
            add_eight(target, taken, w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7])
    for c in range(done, length):
        for x in range(low, high):
            add_one(out[x, first : first + kernels], row[start + (x - low) * pitch + c], weights[c])
