"""Which primitive computes a layer that is no convolution, in which layout."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from . import elementwise, fully_connected, joining, lrn, pooling, reshaping, softmax
from .layer import LayerPrimitive, LayerShape

KINDS = (reshaping, pooling, lrn, elementwise, joining, fully_connected, softmax)

LIBRARY: Mapping[str, LayerPrimitive] = MappingProxyType(
    {primitive.name: primitive for kind in KINDS for primitive in kind.PRIMITIVES}
)
"""All primitives of layers other than convolutions; a name is ``<op>-<layout>``."""


class UnknownLayerPrimitiveError(ValueError):
    """No primitive of that name; the message lists the nearest ones."""


def primitive(name: str) -> LayerPrimitive:
    """The primitive of that name. Raises ``UnknownLayerPrimitiveError``."""
    try:
        return LIBRARY[name]
    except KeyError:
        near = difflib.get_close_matches(name, LIBRARY, 3, 0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(LIBRARY)}"
        raise UnknownLayerPrimitiveError(f"unknown primitive {name!r}; {hint}") from None


def candidates(shape: LayerShape) -> tuple[LayerPrimitive, ...]:
    """All primitives that compute the layer; none where its operation is not one that is known."""
    return tuple(primitive for primitive in LIBRARY.values() if primitive.refuses(shape) is None)
