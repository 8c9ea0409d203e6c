"""im2col: every patch a column of a matrix [K K C x Ho Wo], from chw."""

from __future__ import annotations

from typing import ClassVar

from ..gemm import BY_TAP, Lowered
from ..layouts import Layout
from ..primitive import Array, Primitive
from ..shape import ConvShape

PRODUCTS: dict[str, tuple[Layout, bool]] = {
    "ab-ki": ("chw", False),
    "atb-ik": ("hwc", True),
    "atb-ki": ("chw", True),
    "atbt-ik": ("hwc", False),
}
"""Layout of the output, and whether the weights are stored transposed."""


class ColumnScan(Lowered):
    """Every row of the image is read once and written to each place that needs it."""

    family: ClassVar[str] = "im2col"

    def lower(
        self, image: Array, memory: Array, shape: ConvShape, group: int, top: int, bottom: int
    ) -> Array:
        """A matrix with the rows in the order channel, kernel row, kernel column."""
        from ..kernels.lowering import columns_scan

        columns, first = _by_channel(memory, shape, group, bottom - top)
        columns_scan(image, columns, first, top, shape.stride, shape.pad)
        return columns.reshape(-1, columns.shape[3] * columns.shape[4])


class ColumnCopySelf(Lowered):
    """Parts of the matrix are copied from where it holds the same pixels already."""

    family: ClassVar[str] = "im2col"

    def lower(
        self, image: Array, memory: Array, shape: ConvShape, group: int, top: int, bottom: int
    ) -> Array:
        """A matrix with the rows in the order channel, kernel row, kernel column."""
        from ..kernels.lowering import columns_self

        columns, first = _by_channel(memory, shape, group, bottom - top)
        columns_self(image, columns, first, top, shape.stride, shape.pad)
        return columns.reshape(-1, columns.shape[3] * columns.shape[4])


class ColumnCopyShort(Lowered):
    """The matrix is filled from its start to its end, a row of the output at a time."""

    family: ClassVar[str] = "im2col"

    def refuses(self, shape: ConvShape) -> str | None:
        """Strides: the runs would not lie together in the image."""
        return super().refuses(shape) or (None if shape.stride == 1 else "it copies runs, so the stride is 1")

    def lower(
        self, image: Array, memory: Array, shape: ConvShape, group: int, top: int, bottom: int
    ) -> Array:
        """A matrix with the rows in the order channel, kernel row, kernel column."""
        from ..kernels.lowering import columns_short

        columns, first = _by_channel(memory, shape, group, bottom - top)
        columns_short(image, columns, first, top, shape.stride, shape.pad)
        return columns.reshape(-1, columns.shape[3] * columns.shape[4])


class ColumnCopyLong(Lowered):
    """All planes are copied at once for each tap of the kernel; the edges are cleared afterwards."""

    family: ClassVar[str] = "im2col"
    order = BY_TAP

    def refuses(self, shape: ConvShape) -> str | None:
        """Outputs that are not as large as the image: the shifted planes would not fit."""
        why = super().refuses(shape)
        if why is not None:
            return why
        same = shape.stride == 1 and 2 * shape.pad == shape.kernel - 1
        return None if same else "it copies whole planes, so stride 1 and 2 P = K - 1 are needed"

    def lower(
        self, image: Array, memory: Array, shape: ConvShape, group: int, top: int, bottom: int
    ) -> Array:
        """A matrix with the rows in the order kernel row, kernel column, channel."""
        from ..kernels.lowering import columns_long

        channels, side = shape.channels // shape.groups, shape.kernel
        columns = memory.reshape(side, side, channels, shape.height, shape.width)
        columns_long(image, columns, group * channels, shape.pad)
        return memory.reshape(side * side * channels, -1)


def _by_channel(memory: Array, shape: ConvShape, group: int, rows: int) -> tuple[Array, int]:
    """The matrix as (C / G, K, K, rows, Wo), and the group's first channel."""
    channels, side = shape.channels // shape.groups, shape.kernel
    sides = (channels, side, side, rows, shape.out_width)
    return memory[: channels * side * side * rows * shape.out_width].reshape(sides), group * channels


COPIES: dict[str, type[Lowered]] = {
    "scan": ColumnScan,
    "copy-self": ColumnCopySelf,
    "copy-short": ColumnCopyShort,
    "copy-long": ColumnCopyLong,
}

PRIMITIVES: tuple[Primitive, ...] = tuple(
    strategy(f"im2col-{copy}-{product}", "chw", layout, transposed)
    for copy, strategy in COPIES.items()
    for product, (layout, transposed) in PRODUCTS.items()
)
