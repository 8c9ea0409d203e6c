"""The contract of a convolution's primitive: what it states, what it needs, and how it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .layouts import Layout

if TYPE_CHECKING:
    from .arena import Arena
    from .shape import ConvShape

FLOAT = np.float32
ELEMENT_BYTES = 4
Array = np.ndarray[Any, Any]


class NotApplicable(ValueError):
    """The primitive does not compute this shape; the message says why."""


class Primitive(ABC):
    """One implementation of a convolution: its formulas, and the code.

    Formulas count float32 elements and hold for all groups together. ``run`` takes every byte of workspace
    from the arena and makes no other array: the arena's high-water mark is ``workspace_elements`` times 4.
    """

    family: ClassVar[str]
    """Name of the family: direct, im2col, im2row, strip, kn2, mec, winograd1d, winograd2d, conv1x1, fft,
    depthwise."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Packages beyond numpy that ``run`` needs: numba, scipy."""

    def __init__(self, name: str, in_layout: Layout, out_layout: Layout) -> None:
        self.name = name
        self.in_layout = in_layout
        self.out_layout = out_layout

    @abstractmethod
    def refuses(self, shape: ConvShape) -> str | None:
        """Why the primitive does not compute this shape; None where it does."""

    def multiplies(self, shape: ConvShape) -> int:
        """Multiplications of one image, transforms of the algorithm not counted."""
        return shape.macs

    @abstractmethod
    def workspace_elements(self, shape: ConvShape) -> int:
        """Elements of workspace while it runs."""

    def weight_elements(self, shape: ConvShape) -> int:
        """Elements of the weights as stored for it (without the bias)."""
        return shape.weight_elements

    def prepare(self, weights: Array, shape: ConvShape) -> Array:
        """The weights as stored for this primitive: a flat dense array of ``weight_elements``.

        ``weights`` are (M, C / G, K, K). Done once, offline; it may use memory as it likes.
        """
        return np.ascontiguousarray(weights, FLOAT).reshape(-1)

    @abstractmethod
    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """Compute one image into ``out``.

        ``image`` and ``out`` are dense three-dimensional arrays in ``in_layout`` and ``out_layout``
        ((C, H, W), (H, W, C) or (H, C, W)), ``weights`` what ``prepare`` returned, ``bias`` (M,) or None.
        ``out`` need not be cleared. The shape must be one that the primitive does not refuse.
        """

    def check(self, shape: ConvShape) -> None:
        """Raise ``NotApplicable`` where the primitive refuses the shape."""
        why = self.refuses(shape)
        if why is not None:
            raise NotApplicable(f"{self.name} does not compute {shape.key}: {why}")

    def workspace_bytes(self, shape: ConvShape) -> int:
        """Bytes of workspace while it runs."""
        return self.workspace_elements(shape) * ELEMENT_BYTES

    def weight_bytes(self, shape: ConvShape) -> int:
        """Bytes of the weights as stored for it."""
        return self.weight_elements(shape) * ELEMENT_BYTES

    def __repr__(self) -> str:
        return f"<{self.name}: {self.in_layout} -> {self.out_layout}>"


def add_bias(out: Array, bias: Array | None, layout: Layout) -> None:
    """Add a bias per channel to a dense tensor in the layout, in place."""
    if bias is None:
        return
    # numpy would widen the bias to the tensor's shape in a buffer of 32 KB.
    from .kernels.transforms import add_to_pixels, add_to_planes

    if layout == "hwc":
        add_to_pixels(out.reshape(-1, len(bias)), bias)
    else:
        add_to_planes(out if layout == "hcw" else out.reshape(1, len(bias), -1), bias)
