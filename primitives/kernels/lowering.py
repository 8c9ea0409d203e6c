"""Loops that lower an image to patch matrices; one copy strategy each.

``first`` is the group's first channel, ``top`` the first output row to lower. Padding is written as zeros.
"""

from __future__ import annotations

import numpy as np

from ..primitive import Array
from .compiled import kernel


@kernel
def inside(tap: int, stride: int, pad: int, size: int, out_size: int) -> tuple[int, int]:
    """Outputs from the first to before the second read inside the image at this tap of the kernel."""
    low = max(0, (pad - tap + stride - 1) // stride)
    high = min(out_size, (size - 1 + pad - tap) // stride + 1)
    return min(low, out_size), max(high, min(low, out_size))


@kernel
def copy(source: Array, target: Array) -> None:
    """Fill the target from the source's start."""
    for at in range(target.shape[0]):
        target[at] = source[at]


@kernel
def clear(target: Array) -> None:
    """Fill with zeros."""
    for at in range(target.shape[0]):
        target[at] = 0


@kernel
def copy_row(source: Array, target: Array, tap: int, stride: int, pad: int) -> None:
    """One row of the image as one output row sees it at a column of the kernel."""
    low, high = inside(tap, stride, pad, source.shape[0], target.shape[0])
    clear(target[:low])
    if low < high:
        start = low * stride + tap - pad
        if stride == 1:
            copy(source[start:], target[low:high])
        else:
            copy(source[start::stride], target[low:high])
    clear(target[high:])


@kernel
def columns_scan(image: Array, columns: Array, first: int, top: int, stride: int, pad: int) -> None:
    """Walk the image (C, H, W) once; each row goes to all places (C, K, K, rows, Wo) that read it."""
    channels, side, _, rows, _ = columns.shape
    height = image.shape[1]
    for c in range(channels):
        for y in range(top * stride - pad, (top + rows - 1) * stride - pad + side):
            for i in range(side):
                row = (y + pad - i) // stride
                if row * stride != y + pad - i or row < top or row >= top + rows:
                    continue
                for j in range(side):
                    target = columns[c, i, j, row - top]
                    if 0 <= y < height:
                        copy_row(image[first + c, y], target, j, stride, pad)
                    else:
                        clear(target)


@kernel
def columns_short(image: Array, columns: Array, first: int, top: int, stride: int, pad: int) -> None:
    """Fill the matrix (C, K, K, rows, Wo) from its start to its end, a run of Wo elements at a time."""
    channels, side, _, rows, _ = columns.shape
    height = image.shape[1]
    for c in range(channels):
        for i in range(side):
            for j in range(side):
                for row in range(rows):
                    y = (top + row) * stride + i - pad
                    target = columns[c, i, j, row]
                    if 0 <= y < height:
                        copy_row(image[first + c, y], target, j, stride, pad)
                    else:
                        clear(target)


@kernel
def columns_self(image: Array, columns: Array, first: int, top: int, stride: int, pad: int) -> None:
    """Fill the matrix (C, K, K, rows, Wo) from itself where it holds the same pixels already.

    A row of the kernel lower by the stride sees what the upper one sees one output row later; the same holds
    of the kernel's columns. Only the last row and the last column are new.
    """
    channels, side, _, rows, width = columns.shape
    height, columns_in = image.shape[1:]
    for c in range(channels):
        for i in range(side):
            for j in range(side):
                plane = columns[c, i, j].reshape(-1)
                if i >= stride:
                    before = columns[c, i - stride, j].reshape(-1)
                    copy(before[width:], plane[: (rows - 1) * width])
                    start_row = rows - 1
                elif j >= stride:
                    before = columns[c, i, j - stride].reshape(-1)
                    copy(before[1:], plane[: rows * width - 1])
                    x = (width - 1) * stride + j - pad
                    for row in range(rows):
                        y = (top + row) * stride + i - pad
                        seen = 0 <= y < height and 0 <= x < columns_in
                        plane[row * width + width - 1] = image[first + c, y, x] if seen else 0
                    start_row = rows
                else:
                    start_row = 0
                for row in range(start_row, rows):
                    y = (top + row) * stride + i - pad
                    target = columns[c, i, j, row]
                    if 0 <= y < height:
                        copy_row(image[first + c, y], target, j, stride, pad)
                    else:
                        clear(target)


@kernel
def columns_long(image: Array, columns: Array, first: int, pad: int) -> None:
    """Copy all planes of a group at once, shifted, then clear what came from beyond an edge.

    For outputs as large as the image; the matrix is (K, K, C, H, W).
    """
    side, _, channels, height, width = columns.shape
    size = channels * height * width
    source = image.reshape(-1)[first * height * width :]
    for i in range(side):
        for j in range(side):
            target = columns[i, j].reshape(-1)
            shift = (i - pad) * width + j - pad
            start, end = max(0, -shift), min(size, size - shift)
            if start < end:
                copy(source[start + shift :], target[start:end])
            left, right = inside(j, 1, pad, width, width)
            upper, lower = inside(i, 1, pad, height, height)
            for c in range(channels):
                plane = columns[i, j, c]
                for y in range(height):
                    if y < upper or y >= lower:
                        clear(plane[y])
                    else:
                        clear(plane[y, :left])
                        clear(plane[y, right:])


@kernel
def scatter_row(
    source: Array, target: Array, first: int, pitch: int, width: int, tap: int, stride: int, pad: int
) -> None:
    """As ``copy_row``, into places of a flat target that lie ``pitch`` apart and begin at ``first``."""
    low, high = inside(tap, stride, pad, source.shape[0], width)
    # Unsigned, so that no index can mean one from the end.
    to, apart = np.uint64(first), np.uint64(pitch)
    for x in range(np.uint64(low)):
        target[to + x * apart] = 0
    for x in range(np.uint64(high), np.uint64(width)):
        target[to + x * apart] = 0
    if low < high:
        to += np.uint64(low) * apart
        start, step = np.uint64(low * stride + tap - pad), np.uint64(stride)
        for x in range(np.uint64(high - low)):
            target[to + x * apart] = source[start + x * step]


@kernel
def rows_scan(image: Array, patches: Array, first: int, top: int, stride: int, pad: int) -> None:
    """Walk the planes of the image (C, H, W); each goes to its place in all patches (rows, Wo, C, K, K)."""
    rows, width, channels, side, _ = patches.shape
    height = image.shape[1]
    pitch = channels * side * side
    for row in range(rows):
        target = patches[row].reshape(-1)
        for c in range(channels):
            for i in range(side):
                y = (top + row) * stride + i - pad
                for j in range(side):
                    place = (c * side + i) * side + j
                    if 0 <= y < height:
                        scatter_row(image[first + c, y], target, place, pitch, width, j, stride, pad)
                    else:
                        for x in range(width):
                            target[place + x * pitch] = 0


@kernel
def rows_short(image: Array, patches: Array, first: int, top: int, stride: int, pad: int) -> None:
    """Fill the patches (rows, Wo, K, K, C) one after the other from (H, W, C), a run of K C at a time."""
    rows, width, side, _, channels = patches.shape
    height, columns, all_channels = image.shape
    for row in range(rows):
        for x in range(width):
            left = x * stride - pad
            low = min(max(0, -left), side)
            high = max(low, min(side, columns - left))
            for i in range(side):
                y = (top + row) * stride + i - pad
                target = patches[row, x, i].reshape(-1)
                if y < 0 or y >= height:
                    clear(target)
                    continue
                clear(target[: low * channels])
                if channels == all_channels:
                    copy(
                        image[y].reshape(-1)[(left + low) * channels :],
                        target[low * channels : high * channels],
                    )
                else:
                    for j in range(low, high):
                        copy(image[y, left + j, first:], patches[row, x, i, j])
                clear(target[high * channels :])


@kernel
def partition_hwc(image: Array, lowered: Array, first: int, stride: int, pad: int) -> None:
    """For each output column the image's columns that it reads: (H, W, C) to (Wo, H + 2 P, K, C)."""
    width, rows, side, _ = lowered.shape
    height, columns, _ = image.shape
    for x in range(width):
        for row in range(rows):
            y = row - pad
            for j in range(side):
                at = x * stride + j - pad
                target = lowered[x, row, j]
                if 0 <= y < height and 0 <= at < columns:
                    copy(image[y, at, first:], target)
                else:
                    clear(target)


@kernel
def partition_hcw(image: Array, lowered: Array, first: int, stride: int, pad: int) -> None:
    """For each output column the image's columns that it reads: (H, C, W) to (Wo, H + 2 P, C, K)."""
    width, rows, channels, side = lowered.shape
    height = image.shape[0]
    target = lowered.reshape(-1)
    pitch = rows * channels * side
    for row in range(rows):
        y = row - pad
        for c in range(channels):
            for j in range(side):
                place = (row * channels + c) * side + j
                if 0 <= y < height:
                    scatter_row(image[y, first + c], target, place, pitch, width, j, stride, pad)
                else:
                    for x in range(width):
                        target[place + x * pitch] = 0
