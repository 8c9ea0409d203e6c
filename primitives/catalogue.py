"""The library of convolution primitives, by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from .convolutions import (
    depthwise,
    direct,
    fft,
    im2col,
    im2row,
    kn2,
    mec,
    pointwise,
    strips,
    winograd1d,
    winograd2d,
)
from .primitive import Primitive
from .shape import ConvShape

FAMILIES = (direct, im2col, im2row, strips, kn2, winograd1d, winograd2d, pointwise, mec, fft, depthwise)

LIBRARY: Mapping[str, Primitive] = MappingProxyType(
    {primitive.name: primitive for family in FAMILIES for primitive in family.PRIMITIVES}
)
"""All primitives of convolutions, family by family."""


class UnknownPrimitiveError(ValueError):
    """No primitive of that name; the message lists the nearest ones."""


def primitive(name: str) -> Primitive:
    """The primitive of that name. Raises ``UnknownPrimitiveError``."""
    try:
        return LIBRARY[name]
    except KeyError:
        near = difflib.get_close_matches(name, LIBRARY, 3, 0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {len(LIBRARY)}"
        raise UnknownPrimitiveError(f"unknown primitive {name!r}; {hint}") from None


def candidates(shape: ConvShape) -> tuple[Primitive, ...]:
    """All primitives that compute the shape, in the library's order."""
    return tuple(primitive for primitive in LIBRARY.values() if primitive.refuses(shape) is None)
