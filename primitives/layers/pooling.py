"""Pooling: the largest or the mean value of every window. Windows end at the image's edge.

Padding is in no mean, as ONNX's AveragePool has it by default. Where the network rounds sizes up, the last
windows simply reach less far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..arena import Arena
from ..layouts import LAYOUTS
from ..primitive import Array
from .layer import LayerPrimitive, LayerShape, planes


class Pooling(LayerPrimitive):
    """Window after window, without workspace."""

    packages: ClassVar[tuple[str, ...]] = ("numba",)

    def misfit(self, shape: LayerShape) -> str | None:
        """Windows of known sides, each with a part inside the image."""
        known = dict(shape.attributes)
        if not {"kernel_h", "kernel_w", "stride", "pad"} <= known.keys() or len(shape.output) != 3:
            return "its windows are not known"
        reach = [(out - 1) * known["stride"] - known["pad"] for out in shape.output[1:]]
        if any(first >= side for first, side in zip(reach, shape.inputs[0][1:], strict=True)):
            return "a window lies outside the image"
        if known["pad"] >= min(known["kernel_h"], known["kernel_w"]):
            return "a window lies in the padding"
        return None

    def run(
        self, inputs: Sequence[Array], weights: Array, out: Array, shape: LayerShape, arena: Arena
    ) -> None:
        """Compute one image."""
        from ..kernels.pooling import pool_pixels, pool_rows, whole_rows

        image = inputs[0]
        kernel_h, kernel_w = shape.attribute("kernel_h"), shape.attribute("kernel_w")
        stride, pad = shape.attribute("stride"), shape.attribute("pad")
        average = bool(shape.attribute("average"))
        channels, height, width = shape.inputs[0]
        out_height, out_width = shape.output[1:]
        if self.in_layout == "hwc":
            pool_pixels(image, out, kernel_h, kernel_w, stride, pad, average)
        elif (kernel_h, kernel_w, pad) == (height, width, 0):
            whole_rows(planes(image, self.in_layout), out.reshape(channels), average)
        else:
            hcw = self.in_layout == "hcw"
            pool_rows(
                image.reshape(-1),
                out.reshape(-1),
                (kernel_h, kernel_w, stride, pad),
                (channels, height, width, out_height, out_width),
                (channels * width, width, channels * out_width, out_width)
                if hcw
                else (width, height * width, out_width, out_height * out_width),
                average,
            )


PRIMITIVES = tuple(Pooling("pooling", layout) for layout in LAYOUTS)
