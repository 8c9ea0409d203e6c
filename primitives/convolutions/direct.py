"""The direct convolution: loops, no workspace, any shape."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..arena import Arena
from ..primitive import FLOAT, Array, Primitive, add_bias
from ..shape import ConvShape


class Direct(Primitive):
    """What both forms have in common: no workspace, and no shape refused."""

    family: ClassVar[str] = "direct"
    packages: ClassVar[tuple[str, ...]] = ("numba",)

    def refuses(self, shape: ConvShape) -> str | None:
        """Nothing."""
        return None

    def workspace_elements(self, shape: ConvShape) -> int:
        """None."""
        return 0


class DirectSum(Direct):
    """chw: each row of the output is the sum of weighted rows of the image."""

    def prepare(self, weights: Array, shape: ConvShape) -> Array:
        """(M, K, K, C / G)."""
        return np.ascontiguousarray(weights.transpose(0, 2, 3, 1), FLOAT).reshape(-1)

    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """Sum rows."""
        from ..kernels.direct import direct_chw

        side, groups = shape.kernel, shape.groups
        stored = weights.reshape(groups, shape.kernels // groups, side, side, -1)
        direct_chw(image, stored, out, shape.stride, shape.pad)
        add_bias(out, bias, "chw")


class DirectPixels(Direct):
    """hwc: each pixel of the output is the sum of weighted rows of weights, along the output's channels."""

    def prepare(self, weights: Array, shape: ConvShape) -> Array:
        """(G, K, K, C / G, M / G)."""
        grouped = weights.reshape(shape.groups, -1, *weights.shape[1:]).transpose(0, 3, 4, 2, 1)
        return np.ascontiguousarray(grouped, FLOAT).reshape(-1)

    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """Sum pixels."""
        from ..kernels.direct import direct_hwc

        side, groups = shape.kernel, shape.groups
        stored = weights.reshape(groups, side, side, shape.channels // groups, -1)
        direct_hwc(image, stored, out, shape.stride, shape.pad)
        add_bias(out, bias, "hwc")


PRIMITIVES: tuple[Primitive, ...] = (
    DirectSum("direct-sum2d", "chw", "chw"),
    DirectPixels("direct-hwc", "hwc", "hwc"),
)
