"""The convolution primitives that the literature names, with their workspaces as published.

The 71 names are those of triNNity's primitives that selection work profiles, and four more im2col that copy
whole planes; they follow a grammar: family, way of copying, operands transposed, and order of the product
(``ik``: pixels x kernels, ``ki``: kernels x pixels). What edgesched itself executes is in ``catalogue``; this
table is for reading others' measurements.

Formulas count float32 elements of one image, C x H x W in, M kernels of K x K, stride S. As triNNity pads,
P = floor(K / 2), Ho = ceil(H / S), Wo = ceil(W / S), whatever padding the shape states. Transformed kernels,
and what transforming them takes, are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Literal, get_args

from .layouts import Layout
from .primitive import ELEMENT_BYTES
from .shape import ConvShape

Reading = Literal["published", "implementable"]
"""Workspaces as published, or as an implementation on BLAS needs them. Only kn2row-aa differs: published are
K W elements; the slack columns of the sums and a padded copy of the input are what it takes."""
READINGS: tuple[Reading, ...] = get_args(Reading)

_Formula = Callable[["_Sides"], int]
_RESULT: dict[str, Layout] = {"ik": "hwc", "ki": "chw"}


@dataclass(frozen=True, slots=True)
class _Sides:
    """The letters of the formulas."""

    c: int
    h: int
    w: int
    m: int
    k: int
    pad: int
    ho: int
    wo: int


@dataclass(frozen=True)
class PublishedPrimitive:
    """One named primitive: layouts, where it applies, relative multiplies, workspace."""

    name: str
    family: str
    in_layout: Layout
    out_layout: Layout
    published: _Formula
    kernel: int | None = None
    """The only kernel side that it computes; None: any."""
    unit_stride: bool = False
    """Whether it computes stride 1 only."""
    relative_multiplies: float = 1.0
    """Multiplications over those of the direct algorithm, where tiles fill the output."""
    implementable: _Formula | None = None
    """Where an implementation needs another workspace than published."""

    def refuses(self, shape: ConvShape) -> str | None:
        """Why it does not compute this shape; None where it does."""
        if shape.groups > 1:
            return "it computes one group only"
        if self.kernel is not None and shape.kernel != self.kernel:
            return f"the kernel must be {self.kernel} x {self.kernel}"
        if self.unit_stride and shape.stride != 1:
            return "the stride must be 1"
        return None

    def workspace_elements(self, shape: ConvShape, reading: Reading = "published") -> int:
        """Elements of workspace of one image, float32."""
        formula = self.published
        if reading == "implementable" and self.implementable is not None:
            formula = self.implementable
        return formula(
            _Sides(
                c=shape.channels,
                h=shape.height,
                w=shape.width,
                m=shape.kernels,
                k=shape.kernel,
                pad=shape.kernel // 2,
                ho=_ceil(shape.height, shape.stride),
                wo=_ceil(shape.width, shape.stride),
            )
        )

    def workspace_bytes(self, shape: ConvShape, reading: Reading = "published") -> int:
        """Bytes of workspace of one image, float32."""
        return self.workspace_elements(shape, reading) * ELEMENT_BYTES


def _ceil(whole: int, part: int) -> int:
    return -(-whole // part)


# -- workspaces -------------------------------------------------------------------------------------------


def _none(_: _Sides) -> int:
    return 0


def _patches(s: _Sides) -> int:
    """Every patch as a row or column (im2col, im2row)."""
    return s.k**2 * s.c * s.ho * s.wo


def _column_lowering(s: _Sides) -> int:
    """MEC, one partition: columns of patches, K wide (Cho and Brand, ICML 2017)."""
    return s.k * s.c * s.wo * (s.h + 2 * s.pad)


def _all_taps(s: _Sides) -> int:
    """kn2row, kn2col: the products of all taps (Anderson et al., arXiv:1709.03395)."""
    return s.k**2 * s.m * s.h * s.w


def _one_tap(s: _Sides) -> int:
    """kn2row-as, kn2col-as: the product of one tap."""
    return s.m * s.h * s.w


def _accumulated(s: _Sides) -> int:
    """kn2row-aa as published."""
    return s.k * s.w


def _accumulated_by_blas(s: _Sides) -> int:
    """kn2row-aa on BLAS: slack columns beside every row of the output, and the input padded."""
    slack = s.m * s.h * 2 * s.pad
    return slack + s.c * ((s.h + 2 * s.pad) * (s.w + 2 * s.pad) + 2 * s.pad)


def _winograd_1d(m: int, t: int) -> _Formula:
    """Transformed input and products, one row of kernels at a time."""
    return lambda s: t * (s.c + s.m) * s.ho * _ceil(s.wo, m)


def _winograd_2d(m: int, t: int) -> _Formula:
    """Transformed input and products of all tiles."""
    return lambda s: t**2 * (s.c + s.m) * _ceil(s.ho, m) * _ceil(s.wo, m)


# -- names ------------------------------------------------------------------------------------------------


def _all() -> Iterator[PublishedPrimitive]:
    yield PublishedPrimitive("direct-sum2d", "direct", "chw", "chw", _none)
    for copy, operands in product(
        ("copy-self", "copy-short", "copy-long", "scan"), ("ab-ki", "atb-ik", "atb-ki", "atbt-ik")
    ):
        name = f"im2col-{copy}-{operands}"
        short = copy in ("copy-short", "copy-long")
        yield PublishedPrimitive(name, "im2col", "chw", _RESULT[operands[-2:]], _patches, unit_stride=short)
    for copy, operands in product(("copy-short", "scan"), ("ab-ik", "abt-ik", "abt-ki", "atbt-ki")):
        reads: Layout = "chw" if copy == "scan" else "hwc"
        yield PublishedPrimitive(
            f"im2row-{copy}-{operands}", "im2row", reads, _RESULT[operands[-2:]], _patches
        )
    yield from _kn2()
    yield from _winograd()
    for operands, order in product(("ab", "abt", "atb", "atbt"), ("ik", "ki")):
        # The image is the first operand for ik, pixels x channels, the second for ki, channels x pixels.
        as_named = not operands.startswith("at") if order == "ik" else operands.endswith("bt")
        yield PublishedPrimitive(
            f"conv-1x1-gemm-{operands}-{order}",
            "conv1x1",
            "hwc" if as_named else "chw",
            _RESULT[order],
            _none,
            kernel=1,
            unit_stride=True,
        )
    yield PublishedPrimitive("mec-col", "mec", "hcw", "hwc", _column_lowering)
    yield PublishedPrimitive("mec-row-partition", "mec", "hwc", "hwc", _column_lowering)


def _kn2() -> Iterator[PublishedPrimitive]:
    names: tuple[tuple[str, Layout, _Formula], ...] = (
        ("kn2col", "hwc", _all_taps),
        ("kn2row", "hwc", _all_taps),
        ("kn2col-as", "hwc", _one_tap),
        ("kn2row-as", "chw", _one_tap),
    )
    for name, reads, formula in names:
        yield PublishedPrimitive(name, "kn2", reads, "chw", formula, unit_stride=True)
    for operands in ("ab", "abt", "atb", "atbt"):
        yield PublishedPrimitive(
            f"kn2row-aa-{operands}",
            "kn2",
            "hwc" if operands.endswith("bt") else "chw",
            "chw",
            _accumulated,
            unit_stride=True,
            implementable=_accumulated_by_blas,
        )


def _winograd() -> Iterator[PublishedPrimitive]:
    for r, m in product((3, 5), (2, 3)):
        t = m + r - 1
        for vector in ("", "-vec-4"):
            yield PublishedPrimitive(
                f"winograd-{m}-{r}{vector}",
                "winograd1d",
                "hwc",
                "hwc",
                _winograd_1d(m, t),
                kernel=r,
                unit_stride=True,
                relative_multiplies=t / (m * r),
            )
    for r, m in product((3, 5), (2, 3, 4)):
        t = m + r - 1
        for vector in ("", "-vec-4", "-vec-8", "-vec-16"):
            yield PublishedPrimitive(
                f"winograd-{m}x{m}-{r}x{r}{vector}",
                "winograd2d",
                "hwc",
                "hwc",
                _winograd_2d(m, t),
                kernel=r,
                unit_stride=True,
                relative_multiplies=(t / (m * r)) ** 2,
            )


PUBLISHED: Mapping[str, PublishedPrimitive] = MappingProxyType({each.name: each for each in _all()})
"""All published names."""
