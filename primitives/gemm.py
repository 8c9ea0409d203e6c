"""Convolutions as matrix products: the stored weights, and lowering to a patch matrix that GEMM multiplies.

With I the number of output pixels lowered at once, a product is weights [M x K K C] times patches
[K K C x I]. What the names call ``ab``, ``abt``, ``atb`` and ``atbt`` are the four ways in which the operands
may lie in memory; ``ki`` writes [M x I], which is chw, ``ik`` writes [I x M], which is hwc. numpy hands a
transposed view to BLAS as it is, so each of them is another call and none copies.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from .arena import Arena
from .layouts import Layout
from .primitive import FLOAT, Array, Primitive, add_bias
from .shape import ConvShape

Order = tuple[int, int, int]
"""Order of the axes C (1), kernel row (2) and kernel column (3) along a patch."""

BY_CHANNEL: Order = (1, 2, 3)
BY_TAP: Order = (2, 3, 1)
BY_ROW: Order = (2, 1, 3)

DEPTHWISE = "one channel a group leaves nothing for a matrix product"


def stored_weights(weights: Array, shape: ConvShape, order: Order, transposed: bool) -> Array:
    """Weights (M, C / G, K, K) as one matrix a group, flat: [M / G x K K C / G], or its transpose."""
    matrices = weights.transpose(0, *order).reshape(shape.groups, shape.kernels // shape.groups, -1)
    ordered = matrices.transpose(0, 2, 1) if transposed else matrices
    return np.ascontiguousarray(ordered, FLOAT).reshape(-1)


def weight_matrix(stored: Array, shape: ConvShape, group: int, transposed: bool) -> Array:
    """View [M / G x K K C / G] of what ``stored_weights`` returned."""
    kernels = shape.kernels // shape.groups
    of_group = stored.reshape(shape.groups, -1)[group]
    return of_group.reshape(-1, kernels).T if transposed else of_group.reshape(kernels, -1)


def output_matrix(out: Array, layout: Layout, shape: ConvShape, group: int) -> Array:
    """View [M / G x Ho Wo] of a group's part of the output, chw or hwc."""
    kernels = shape.kernels // shape.groups
    part = slice(group * kernels, (group + 1) * kernels)
    return out.reshape(shape.kernels, -1)[part] if layout == "chw" else out.reshape(-1, shape.kernels).T[part]


def multiply(weights: Array, patches: Array, out: Array) -> None:
    """``out`` [M x I] = ``weights`` [M x N] times ``patches`` [N x I]; views with one unit stride each."""
    if out.strides[1] == out.itemsize:
        np.matmul(weights, patches, out=out)
    else:
        np.matmul(patches.T, weights.T, out=out.T)


class Lowered(Primitive):
    """Lowers ``strip`` output rows of one group (all rows where None) to a patch matrix and multiplies."""

    packages: ClassVar[tuple[str, ...]] = ("numba",)
    order: Order = BY_CHANNEL

    def __init__(
        self, name: str, in_layout: Layout, out_layout: Layout, transposed: bool, strip: int | None = None
    ) -> None:
        """``transposed``: the weights are stored [K K C x M]."""
        super().__init__(name, in_layout, out_layout)
        self.transposed = transposed
        self.strip = strip

    def refuses(self, shape: ConvShape) -> str | None:
        """Depthwise convolutions only."""
        return DEPTHWISE if shape.depthwise else None

    def rows(self, shape: ConvShape) -> int:
        """Output rows that are lowered at once."""
        return shape.out_height if self.strip is None else min(self.strip, shape.out_height)

    def workspace_elements(self, shape: ConvShape) -> int:
        """K K (C / G) rows Wo: the groups use the same patch matrix one after the other."""
        return shape.kernel**2 * (shape.channels // shape.groups) * self.rows(shape) * shape.out_width

    def prepare(self, weights: Array, shape: ConvShape) -> Array:
        """One matrix a group, its columns in the order of a patch."""
        return stored_weights(weights, shape, self.order, self.transposed)

    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """Lower and multiply, group by group and strip by strip."""
        height, width, at_once = shape.out_height, shape.out_width, self.rows(shape)
        with arena.frame():
            memory = arena.take(self.workspace_elements(shape))
            for group in range(shape.groups):
                kernels = weight_matrix(weights, shape, group, self.transposed)
                result = output_matrix(out, self.out_layout, shape, group)
                for top in range(0, height, at_once):
                    bottom = min(top + at_once, height)
                    patches = self.lower(image, memory, shape, group, top, bottom)
                    multiply(kernels, patches, result[:, top * width : bottom * width])
        add_bias(out, bias, self.out_layout)

    @abstractmethod
    def lower(
        self, image: Array, memory: Array, shape: ConvShape, group: int, top: int, bottom: int
    ) -> Array:
        """Write the patches of the output rows ``top`` to ``bottom`` into ``memory``.

        Returns the view [K K C / G x rows Wo] of it.
        """


def patch_axes(shape: ConvShape, order: Order) -> Sequence[int]:
    """Sides of one patch in its order."""
    return [(shape.channels // shape.groups, shape.kernel, shape.kernel)[axis - 1] for axis in order]
