"""MEC: lowering along one side only, and small products of overlapping parts of it (Cho and Brand, 2017)."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from ..arena import Arena
from ..gemm import BY_ROW, BY_TAP, DEPTHWISE, multiply, output_matrix, stored_weights, weight_matrix
from ..primitive import Array, Primitive, add_bias
from ..shape import ConvShape


class Mec(Primitive):
    """For each output column the columns of the image that it reads; then a product for each output row.

    The matrix is [Wo x (H + 2 P) K C]; the patches of an output row are K K C columns of it, and those of the
    next row begin S K C columns further, so that they overlap and nothing is stored twice.
    """

    family: ClassVar[str] = "mec"
    packages: ClassVar[tuple[str, ...]] = ("numba",)
    order = BY_TAP

    def refuses(self, shape: ConvShape) -> str | None:
        """Depthwise convolutions only."""
        return DEPTHWISE if shape.depthwise else None

    def workspace_elements(self, shape: ConvShape) -> int:
        """K (C / G) Wo (H + 2 P): the groups follow one another."""
        rows = shape.height + 2 * shape.pad
        return shape.kernel * (shape.channels // shape.groups) * shape.out_width * rows

    def prepare(self, weights: Array, shape: ConvShape) -> Array:
        """One matrix [K K C x M] a group."""
        return stored_weights(weights, shape, self.order, transposed=True)

    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """Lower a group, multiply row by row."""
        width, row = shape.out_width, shape.kernel * (shape.channels // shape.groups)
        with arena.frame():
            lowered = arena.take((width, (shape.height + 2 * shape.pad) * row))
            for group in range(shape.groups):
                self.lower(image, lowered, shape, group)
                kernels = weight_matrix(weights, shape, group, transposed=True)
                result = output_matrix(out, "hwc", shape, group)
                for y in range(shape.out_height):
                    start = y * shape.stride * row
                    patches = lowered[:, start : start + shape.kernel * row].T
                    multiply(kernels, patches, result[:, y * width : (y + 1) * width])
        add_bias(out, bias, "hwc")

    @abstractmethod
    def lower(self, image: Array, lowered: Array, shape: ConvShape, group: int) -> None:
        """Write the group's columns."""


class MecColumns(Mec):
    """From hcw: runs along the rows of the image."""

    order = BY_ROW

    def lower(self, image: Array, lowered: Array, shape: ConvShape, group: int) -> None:
        """Columns in the order row, channel, kernel column."""
        from ..kernels.lowering import partition_hcw

        channels = shape.channels // shape.groups
        columns = lowered.reshape(shape.out_width, -1, channels, shape.kernel)
        partition_hcw(image, columns, group * channels, shape.stride, shape.pad)


class MecRowPartition(Mec):
    """From hwc: runs along the channels, all rows in one partition."""

    def lower(self, image: Array, lowered: Array, shape: ConvShape, group: int) -> None:
        """Columns in the order row, kernel column, channel."""
        from ..kernels.lowering import partition_hwc

        channels = shape.channels // shape.groups
        columns = lowered.reshape(shape.out_width, -1, shape.kernel, channels)
        partition_hwc(image, columns, group * channels, shape.stride, shape.pad)


PRIMITIVES: tuple[Primitive, ...] = (
    MecColumns("mec-col", "hcw", "hwc"),
    MecRowPartition("mec-row-partition", "hwc", "hwc"),
)
