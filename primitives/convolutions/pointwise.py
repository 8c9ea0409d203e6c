"""1x1 convolutions: the image itself is the matrix, so one product is all."""

from __future__ import annotations

from typing import ClassVar

from ..arena import Arena
from ..gemm import BY_CHANNEL, DEPTHWISE, multiply, output_matrix, stored_weights, weight_matrix
from ..layouts import Layout
from ..primitive import Array, Primitive, add_bias
from ..shape import ConvShape

PRODUCTS: dict[str, tuple[Layout, Layout, bool]] = {
    "ab-ik": ("hwc", "hwc", True),
    "ab-ki": ("chw", "chw", False),
    "abt-ik": ("hwc", "hwc", False),
    "abt-ki": ("hwc", "chw", False),
    "atb-ik": ("chw", "hwc", True),
    "atb-ki": ("chw", "chw", True),
    "atbt-ik": ("chw", "hwc", False),
    "atbt-ki": ("hwc", "chw", True),
}
"""Layouts of image and output, and whether the weights are stored transposed."""


class Pointwise(Primitive):
    """weights [M x C] times image [C x H W], the operands as the name says."""

    family: ClassVar[str] = "conv1x1"
    packages: ClassVar[tuple[str, ...]] = ("numba",)

    def __init__(self, name: str, in_layout: Layout, out_layout: Layout, transposed: bool) -> None:
        super().__init__(name, in_layout, out_layout)
        self.transposed = transposed

    def refuses(self, shape: ConvShape) -> str | None:
        """Everything but K = 1, S = 1, P = 0; depthwise convolutions."""
        if (shape.kernel, shape.stride, shape.pad) != (1, 1, 0):
            return "it computes 1x1 kernels with stride 1 and no padding"
        return DEPTHWISE if shape.depthwise else None

    def workspace_elements(self, shape: ConvShape) -> int:
        """None."""
        return 0

    def prepare(self, weights: Array, shape: ConvShape) -> Array:
        """One matrix a group."""
        return stored_weights(weights, shape, BY_CHANNEL, self.transposed)

    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """One product a group."""
        channels = shape.channels // shape.groups
        chw = self.in_layout == "chw"
        pixels = image.reshape(shape.channels, -1) if chw else image.reshape(-1, shape.channels).T
        for group in range(shape.groups):
            multiply(
                weight_matrix(weights, shape, group, self.transposed),
                pixels[group * channels : (group + 1) * channels],
                output_matrix(out, self.out_layout, shape, group),
            )
        add_bias(out, bias, self.out_layout)


PRIMITIVES: tuple[Primitive, ...] = tuple(
    Pointwise(f"conv-1x1-gemm-{product}", *how) for product, how in PRODUCTS.items()
)
