"""Loops of layers that compute each value from one value of the same channel, and of softmax.

Those that may work in place have a loop of their own for it: one over two arrays is vectorised for arrays
that do not overlap, and runs value by value where they do.
"""

from __future__ import annotations

import math

import numpy as np

from ..primitive import Array
from .compiled import kernel


@kernel
def rectify(image: Array, out: Array) -> None:
    """(L,): negative values become 0."""
    for at in range(image.shape[0]):
        value = image[at]
        out[at] = value if value > 0 else np.float32(0.0)


@kernel
def rectify_in_place(image: Array) -> None:
    """(L,): negative values become 0."""
    for at in range(image.shape[0]):
        value = image[at]
        image[at] = value if value > 0 else np.float32(0.0)


@kernel
def scale_planes(image: Array, out: Array, factor: Array, shift: Array) -> None:
    """(N, C, L): a factor and a shift per channel."""
    outer, channels, length = image.shape
    for n in range(outer):
        for c in range(channels):
            times, plus = factor[c], shift[c]
            for at in range(length):
                out[n, c, at] = image[n, c, at] * times + plus


@kernel
def scale_planes_in_place(image: Array, factor: Array, shift: Array) -> None:
    """(N, C, L): a factor and a shift per channel."""
    outer, channels, length = image.shape
    for n in range(outer):
        for c in range(channels):
            times, plus = factor[c], shift[c]
            for at in range(length):
                image[n, c, at] = image[n, c, at] * times + plus


@kernel
def scale_pixels_in_place(image: Array, factor: Array, shift: Array) -> None:
    """(L, C): a factor and a shift per channel."""
    length, channels = image.shape
    for at in range(length):
        for c in range(channels):
            image[at, c] = image[at, c] * factor[c] + shift[c]


@kernel
def scale_pixels(image: Array, out: Array, factor: Array, shift: Array) -> None:
    """(L, C): a factor and a shift per channel."""
    length, channels = image.shape
    for at in range(length):
        for c in range(channels):
            out[at, c] = image[at, c] * factor[c] + shift[c]


@kernel
def softmax(image: Array, out: Array) -> None:
    """(N, C, L): exponentials that sum to 1 over C."""
    outer, channels, length = image.shape
    for n in range(outer):
        for at in range(length):
            most = image[n, 0, at]
            for c in range(channels):
                most = max(most, image[n, c, at])
            total = np.float32(0.0)
            for c in range(channels):
                value = np.float32(math.exp(image[n, c, at] - most))
                out[n, c, at] = value
                total += value
            for c in range(channels):
                out[n, c, at] /= total
