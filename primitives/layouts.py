"""Layouts of an image in memory and the transforms between them.

``chw`` is what frameworks call NCHW, ``hwc`` NHWC; ``hcw`` keeps the rows together and the channels between
them (triNNity's third layout).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

Layout = Literal["chw", "hwc", "hcw"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

_AXES: dict[Layout, tuple[int, int, int]] = {"chw": (0, 1, 2), "hwc": (1, 2, 0), "hcw": (1, 0, 2)}
"""Axes of the layout in terms of those of chw."""


def in_layout(sides: tuple[int, int, int], layout: Layout) -> tuple[int, int, int]:
    """The shape of a tensor of C x H x W in the layout."""
    a, b, c = _AXES[layout]
    return sides[a], sides[b], sides[c]


def as_chw(array: np.ndarray[Any, Any], layout: Layout) -> np.ndarray[Any, Any]:
    """A view of the tensor with the axes C, H, W."""
    axes = _AXES[layout]
    return array.transpose([axes.index(axis) for axis in range(3)])


def transform_name(before: Layout, after: Layout) -> str:
    """Name of the transform, as a profile has it: ``chw-to-hwc``."""
    return f"{before}-to-{after}"


def transform(array: np.ndarray[Any, Any], before: Layout, after: Layout, out: np.ndarray[Any, Any]) -> None:
    """Write the tensor in another layout; ``out`` has the shape of that layout. No workspace."""
    np.copyto(out, as_chw(array, before).transpose(_AXES[after]))
