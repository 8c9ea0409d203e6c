"""Loops of local response normalisation with bias 1 and exponent 0.75: two square roots instead of a power.

A window of n channels begins (n - 1) // 2 before the own channel, as ONNX defines it.
"""

from __future__ import annotations

import numpy as np

from ..primitive import Array
from .compiled import kernel

AT_ONCE = 1024
"""Pixels of a plane whose sums stay in the nearest cache."""


@kernel
def normalise_planes(image: Array, out: Array, size: int, alpha: float) -> None:
    """Normalise (N, C, L) across C."""
    outer, channels, length = image.shape
    before = (size - 1) // 2
    for n in range(outer):
        for start in range(0, length, AT_ONCE):
            end = min(start + AT_ONCE, length)
            for c in range(channels):
                own, seen = out[n, c, start:end], image[n, c, start:end]
                _square(seen, own)
                for other in range(max(0, c - before), min(channels, c - before + size)):
                    if other != c:
                        _add_square(image[n, other, start:end], own)
                _divide(seen, own, alpha / size)


@kernel
def normalise_pixels(image: Array, out: Array, size: int, alpha: float) -> None:
    """Normalise (L, C) across C."""
    length, channels = image.shape
    before = (size - 1) // 2
    for n in range(length):
        own, seen = out[n], image[n]
        _square(seen, own)
        for offset in range(-before, size - before):
            low, high = max(0, -offset), min(channels, channels - offset)
            if offset != 0 and high > low:
                _add_square(seen[low + offset : high + offset], own[low:high])
        _divide(seen, own, alpha / size)


@kernel
def _square(seen: Array, out: Array) -> None:
    for at in range(len(out)):
        out[at] = seen[at] * seen[at]


@kernel
def _add_square(seen: Array, out: Array) -> None:
    for at in range(len(out)):
        out[at] += seen[at] * seen[at]


@kernel
def _divide(seen: Array, sums: Array, share: float) -> None:
    """The sums of squares become what is seen over (1 + share times the sum)^0.75."""
    factor, one = np.float32(share), np.float32(1.0)
    for at in range(len(sums)):
        root = np.sqrt(one + factor * sums[at])
        sums[at] = seen[at] / (root * np.sqrt(root))
