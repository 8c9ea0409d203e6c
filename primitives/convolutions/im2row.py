"""im2row: every patch a row of a matrix [Ho Wo x K K C]."""

from __future__ import annotations

from typing import ClassVar

from ..gemm import BY_TAP, Lowered
from ..layouts import Layout
from ..primitive import Array, Primitive
from ..shape import ConvShape

PRODUCTS: dict[str, tuple[Layout, bool]] = {
    "ab-ik": ("hwc", True),
    "abt-ik": ("hwc", False),
    "abt-ki": ("chw", False),
    "atbt-ki": ("chw", True),
}
"""Layout of the output, and whether the weights are stored transposed."""


class RowScan(Lowered):
    """Every plane of a chw image is walked once for each output row and scattered over the patches."""

    family: ClassVar[str] = "im2row"

    def lower(
        self, image: Array, memory: Array, shape: ConvShape, group: int, top: int, bottom: int
    ) -> Array:
        """Patches in the order channel, kernel row, kernel column."""
        from ..kernels.lowering import rows_scan

        channels, side, pixels = (
            shape.channels // shape.groups,
            shape.kernel,
            (bottom - top) * shape.out_width,
        )
        rows = memory[: pixels * channels * side * side]
        patches = rows.reshape(bottom - top, shape.out_width, channels, side, side)
        rows_scan(image, patches, group * channels, top, shape.stride, shape.pad)
        return rows.reshape(pixels, -1).T


class RowCopyShort(Lowered):
    """Runs of K C elements are copied from an hwc image, a patch after the other."""

    family: ClassVar[str] = "im2row"
    order = BY_TAP

    def lower(
        self, image: Array, memory: Array, shape: ConvShape, group: int, top: int, bottom: int
    ) -> Array:
        """Patches in the order kernel row, kernel column, channel."""
        from ..kernels.lowering import rows_short

        channels, side, pixels = (
            shape.channels // shape.groups,
            shape.kernel,
            (bottom - top) * shape.out_width,
        )
        rows = memory[: pixels * channels * side * side]
        patches = rows.reshape(bottom - top, shape.out_width, side, side, channels)
        rows_short(image, patches, group * channels, top, shape.stride, shape.pad)
        return rows.reshape(pixels, -1).T


COPIES: dict[str, tuple[type[Lowered], Layout]] = {
    "scan": (RowScan, "chw"),
    "copy-short": (RowCopyShort, "hwc"),
}

PRIMITIVES: tuple[Primitive, ...] = tuple(
    strategy(f"im2row-{copy}-{product}", in_layout, layout, transposed)
    for copy, (strategy, in_layout) in COPIES.items()
    for product, (layout, transposed) in PRODUCTS.items()
)
