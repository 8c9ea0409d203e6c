"""Loops of pooling; the innermost ones go along what lies side by side in memory.

Rows are addressed in flat arrays: a slice in a loop costs more than a short row itself.
"""

from __future__ import annotations

import numpy as np

from ..primitive import Array
from .compiled import kernel


@kernel
def _span(at: int, kernel_side: int, stride: int, pad: int, side: int) -> tuple[int, int]:
    """The part of a window that lies inside the image."""
    first = at * stride - pad
    return max(first, 0), min(first + kernel_side, side)


@kernel
def _largest(image: Array, start: int, out: Array, to: int, count: int, stride: int) -> None:
    """The larger of what is there and what ``count`` windows see at one column of the kernel."""
    # Unsigned: an index that may count from the end keeps a loop from being vectorised.
    first, own, step = np.uint64(start), np.uint64(to), np.uint64(stride)
    if stride == 1:
        for at in range(np.uint64(count)):
            seen, most = image[first + at], out[own + at]
            out[own + at] = seen if seen > most else most
    elif stride == 2:
        for at in range(np.uint64(count)):
            seen, most = image[first + at + at], out[own + at]
            out[own + at] = seen if seen > most else most
    else:
        for at in range(np.uint64(count)):
            seen, most = image[first + step * at], out[own + at]
            out[own + at] = seen if seen > most else most


@kernel
def _sum(image: Array, start: int, out: Array, to: int, count: int, stride: int) -> None:
    """The sum of both instead."""
    first, own, step = np.uint64(start), np.uint64(to), np.uint64(stride)
    if stride == 1:
        for at in range(np.uint64(count)):
            out[own + at] += image[first + at]
    elif stride == 2:
        for at in range(np.uint64(count)):
            out[own + at] += image[first + at + at]
    else:
        for at in range(np.uint64(count)):
            out[own + at] += image[first + step * at]


@kernel
def pool_rows(
    image: Array,
    out: Array,
    window: tuple[int, int, int, int],
    sides: tuple[int, int, int, int, int],
    pitches: tuple[int, int, int, int],
    average: bool,
) -> None:
    """Pool an image whose rows are dense: chw or hcw, as flat arrays.

    ``window``: kernel height, kernel width, stride, padding; ``sides``: C, H, W, Ho, Wo; ``pitches``:
    elements from one row to the next and from one channel to the next, read and written.
    """
    kernel_h, kernel_w, stride, pad = window
    channels, height, width, out_height, out_width = sides
    down, across, out_down, out_across = pitches
    empty = np.float32(0.0) if average else np.float32(-np.inf)
    # In the order in which they lie in memory: channels in a row of hcw, rows in a channel of chw.
    inner = channels if across < down else out_height
    for step in range(channels * out_height):
        c, y = (step % inner, step // inner) if across < down else (step // inner, step % inner)
        top, bottom = _span(y, kernel_h, stride, pad, height)
        to = y * out_down + c * out_across
        for x in range(out_width):
            out[to + x] = empty
        for row in range(top, bottom):
            for tap in range(kernel_w):
                low, high = 0, out_width
                while low * stride + tap < pad:  # twice at most: cheaper than a division
                    low += 1
                while (high - 1) * stride + tap - pad >= width:
                    high -= 1
                start = row * down + c * across + low * stride + tap - pad
                if average:
                    _sum(image, start, out, to + low, high - low, stride)
                else:
                    _largest(image, start, out, to + low, high - low, stride)
        if average:
            for x in range(out_width):
                left, right = _span(x, kernel_w, stride, pad, width)
                out[to + x] /= np.float32((bottom - top) * (right - left))


@kernel
def pool_pixels(
    image: Array, out: Array, kernel_h: int, kernel_w: int, stride: int, pad: int, average: bool
) -> None:
    """Pool an image in hwc."""
    height, width, channels = image.shape
    for y in range(out.shape[0]):
        top, bottom = _span(y, kernel_h, stride, pad, height)
        for x in range(out.shape[1]):
            left, right = _span(x, kernel_w, stride, pad, width)
            for c in range(channels):
                out[y, x, c] = image[top, left, c]
            for row in range(top, bottom):
                for column in range(left, right):
                    if row == top and column == left:
                        continue
                    if average:
                        for c in range(channels):
                            out[y, x, c] += image[row, column, c]
                    else:
                        for c in range(channels):
                            seen, own = image[row, column, c], out[y, x, c]
                            out[y, x, c] = seen if seen > own else own
            if average:
                share = np.float32(1.0) / np.float32((bottom - top) * (right - left))
                for c in range(channels):
                    out[y, x, c] *= share


@kernel
def whole_rows(image: Array, out: Array, average: bool) -> None:
    """One window that is the whole image: (N, C, L) to (C,)."""
    outer, channels, length = image.shape
    for c in range(channels):
        most, total = image[0, c, 0], np.float32(0.0)
        for n in range(outer):
            if average:
                for at in range(length):
                    total += image[n, c, at]
            else:
                for at in range(length):
                    most = image[n, c, at] if image[n, c, at] > most else most
        out[c] = total / np.float32(outer * length) if average else most
