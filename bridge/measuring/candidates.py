"""What can be measured of networks: all primitives of distinct layers, all transforms of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ...primitives import catalogue as library
from ...primitives.layers import catalogue as others
from ...primitives.layers.layer import layer_shape
from ...primitives.layouts import LAYOUTS, Layout, transform_name
from ...primitives.shape import CONVOLUTIONS, ShapeError, conv_shape, layer_key, tensor_key
from ...workloads.network import Network


@dataclass(frozen=True, slots=True)
class Candidate:
    """One primitive of a layer, or one transform of a tensor."""

    name: str
    in_layout: Layout
    out_layout: Layout
    workspace_bytes: int = 0
    weight_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """A layer or tensor, of the first network that has it, and what it can be computed with.

    ``tensor``: sides (C, H, W) where it is a tensor, None where it is the layer ``index``.
    """

    key: str
    network: str
    index: int
    tensor: tuple[int, ...] | None
    candidates: tuple[Candidate, ...]


TRANSFORMS = tuple(
    Candidate(transform_name(before, after), before, after)
    for before in LAYOUTS
    for after in LAYOUTS
    if before != after
)


def items_of(networks: Iterable[tuple[str, Network]], tell: Callable[[str], Any]) -> list[Item]:
    """All distinct layers and images of the networks, in their order; ``networks`` by the name asked for.

    ``tell`` hears which layers no primitive computes.
    """
    found: dict[str, Item] = {}
    unknown: list[str] = []
    for name, network in networks:
        for index, layer in enumerate(network.layers):
            try:
                key, own = layer_key(network, index), candidates_of(network, index)
            except ShapeError:
                own = ()
            if not own:
                unknown.append(f"{network.name} {layer.name} ({layer.op})")
                continue
            found.setdefault(key, Item(key, name, index, None, own))
            image = layer.output_shape[1:]
            if len(image) == 3:
                key = tensor_key(image)
                found.setdefault(key, Item(key, name, index, image, TRANSFORMS))
    if unknown:
        tell(f"warning: no primitive computes {', '.join(unknown)}")
    return list(found.values())


def candidates_of(network: Network, index: int) -> tuple[Candidate, ...]:
    """Every primitive that computes a layer of a network."""
    if network.layers[index].op in CONVOLUTIONS:
        conv = conv_shape(network, index)
        return tuple(
            Candidate(p.name, p.in_layout, p.out_layout, p.workspace_bytes(conv), p.weight_bytes(conv))
            for p in library.candidates(conv)
        )
    shape = layer_shape(network, index)
    return tuple(
        Candidate(p.name, p.in_layout, p.out_layout, p.workspace_bytes(shape), p.weight_bytes(shape))
        for p in others.candidates(shape)
    )
