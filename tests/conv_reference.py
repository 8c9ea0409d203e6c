"""A convolution in plain numpy and float64, against which primitives are checked."""

from __future__ import annotations

import numpy as np

from edgesched.primitives.primitive import Array
from edgesched.primitives.shape import ConvShape


def convolve(image: Array, weights: Array, bias: Array | None, shape: ConvShape) -> Array:
    """Output (M, Ho, Wo) in float64 of an image (C, H, W) and weights (M, C / G, K, K)."""
    p, s, k = shape.pad, shape.stride, shape.kernel
    channels, kernels = shape.channels // shape.groups, shape.kernels // shape.groups
    padded = np.pad(image.astype(np.float64), ((0, 0), (p, p), (p, p)))
    out = np.zeros((shape.kernels, shape.out_height, shape.out_width))
    for g in range(shape.groups):
        of_group = padded[g * channels : (g + 1) * channels]
        mine = slice(g * kernels, (g + 1) * kernels)
        for i in range(k):
            for j in range(k):
                seen = of_group[:, i : i + s * shape.out_height : s, j : j + s * shape.out_width : s]
                seen = seen[:, : shape.out_height, : shape.out_width]
                out[mine] += np.tensordot(weights[mine, :, i, j].astype(np.float64), seen, 1)
    return out if bias is None else out + bias.astype(np.float64)[:, None, None]
