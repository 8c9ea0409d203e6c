"""How much longer a primitive takes than im2col, by a primitive profile of another machine.

The runtimes of boards without a primitive profile lower with im2col and multiply, as Caffe does. What they
take for a layer, times the ratio of a primitive to im2col on a machine where all were measured, is what the
primitive is taken to need on the board: ratios travel better between machines than times do.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from ..primitives.catalogue import LIBRARY, candidates
from ..primitives.shape import ConvShape
from ..traces.primitives import PrimitiveProfile, read_primitives
from .measured import measured_on

REFERENCES = ("depthwise-direct-chw", "conv-1x1-gemm-ab-ki", "im2col-scan-ab-ki")
"""What the runtime itself does: the first of them that computes the shape."""

_KEY = re.compile(r"\w[\w-]* (\d+)x(\d+)x(\d+) m(\d+) k(\d+) s(\d+) p(\d+) g(\d+)")


class TransferError(ValueError):
    """A profile tells nothing of a convolution; the message names it and what the profile has."""


def reference(shape: ConvShape) -> str | None:
    """Name of the primitive that a runtime without a choice computes the shape with; None: there is none."""
    if shape.depthwise:
        return REFERENCES[0]
    return next((name for name in REFERENCES[1:] if LIBRARY[name].refuses(shape) is None), None)


class Ratios:
    """Times of primitives relative to the reference one, of the convolutions of a primitive profile.

    Where the profile has several rows of a primitive, the one that ``measured_on`` chooses counts.
    """

    def __init__(self, profile: PrimitiveProfile, threads: int = 1) -> None:
        self.source = profile.source
        self._layers: dict[ConvShape, dict[str, float]] = {}
        self._found: dict[ConvShape, Mapping[str, float]] = {}
        rows = measured_on(profile, "", threads)
        for key in rows.layers:
            numbers = _KEY.fullmatch(key)
            if numbers is None:
                continue
            times = {row.primitive: row.execute_s for row in rows.of(key)}
            shape = ConvShape(*(int(number) for number in numbers.groups()))
            base = times.get(reference(shape) or "")
            if base:
                self._layers[shape] = {name: seconds / base for name, seconds in times.items()}

    def of(self, shape: ConvShape) -> Mapping[str, float]:
        """Primitive: its ratio, for all primitives that compute the shape and that the profile knows.

        A primitive's ratio is that of the layer itself or, where it was not measured, of the nearest layer
        that was: of the same kind (dense, grouped, depthwise; the same reference), kernel and stride, nearest
        in the logarithms of channels and kernels per group and output pixels. Where no layer has this kernel
        and stride, those count as two more coordinates, but stride 1 only stands for stride 1, and 1 x 1 for
        1 x 1. Raises ``TransferError`` where no layer of the kind is left.
        """
        if shape not in self._found:
            self._found[shape] = self._ratios(shape)
        return self._found[shape]

    def _ratios(self, shape: ConvShape) -> Mapping[str, float]:
        alike = [each for each in self._layers if _kind(each) == _kind(shape)]
        same = [each for each in alike if (each.kernel, each.stride) == (shape.kernel, shape.stride)]
        order = sorted(same or alike, key=lambda each: _distance(each, shape))
        if shape in self._layers:
            order.insert(0, shape)
        if not order:
            raise TransferError(
                f"primitive profile {self.source} has no {_kind(shape)} convolution like {shape.key!r} "
                f"measured with {reference(shape) or 'im2col'} (it has {len(self._layers)} convolutions)"
            )
        found = {}
        for primitive in candidates(shape):
            known = (
                self._layers[each][primitive.name] for each in order if primitive.name in self._layers[each]
            )
            ratio = next(known, None)
            if ratio is not None:
                found[primitive.name] = ratio
        return found


def _kind(shape: ConvShape) -> str:
    """``dense 1x1 stride 1``, for example."""
    groups = "dense" if shape.groups == 1 else "depthwise" if shape.depthwise else "grouped"
    kernel = "1x1" if shape.kernel == 1 else "KxK"
    padded = " padded" if shape.kernel == 1 and shape.pad else ""
    return f"{groups} {kernel}{padded} stride {'1' if shape.stride == 1 else 'above 1'}"


def _distance(one: ConvShape, other: ConvShape) -> float:
    return math.dist(_place(one), _place(other))


@lru_cache(maxsize=4096)
def _place(shape: ConvShape) -> tuple[float, ...]:
    numbers = (
        shape.channels // shape.groups,
        shape.kernels // shape.groups,
        shape.out_height * shape.out_width,
        shape.kernel,
        shape.stride,
    )
    return tuple(math.log(number) for number in numbers)


def ratios(source: str, threads: int) -> Ratios:
    """The ratios of a primitive profile, by name or path; read once as long as its file stays as it is."""
    path = Path(source)
    changed = path.stat().st_mtime_ns if source.lower().endswith(".csv") and path.is_file() else 0
    return _ratios(os.fspath(source), threads, changed)


@lru_cache(maxsize=16)
def _ratios(source: str, threads: int, changed: int) -> Ratios:
    return Ratios(read_primitives(source), threads)
