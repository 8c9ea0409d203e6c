"""Loops over whole tensors: a bias for each channel, and transposing."""

from __future__ import annotations

from ..primitive import Array
from .compiled import kernel


@kernel
def add_to_planes(out: Array, bias: Array) -> None:
    """Add to (N, C, L) a value per channel."""
    outer, channels, length = out.shape
    for n in range(outer):
        for c in range(channels):
            value = bias[c]
            for at in range(length):
                out[n, c, at] += value


@kernel
def add_to_pixels(out: Array, bias: Array) -> None:
    """Add to (L, C) a value per channel."""
    length, channels = out.shape
    for at in range(length):
        for c in range(channels):
            out[at, c] += bias[c]
