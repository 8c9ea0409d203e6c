"""The planner on triNNity's measurements: the frontier of AlexNet's convolutions, and two in one budget.

The chain has no pooling between its convolutions: each one reads a tensor of its own size, which lies in the
layout that the one before wrote. The first reads an image in chw.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from ...devices.options import NetworkOptions, Option
from ...policies.planning.baselines import equal_split, shared_arena
from ...policies.planning.frontier import Frontier, Point, frontier
from ...policies.planning.memory import DoesNotFitError
from ...policies.planning.partition import Partition, partition
from ...primitives.layouts import LAYOUTS, Layout
from ...primitives.published import PUBLISHED, READINGS, Reading
from ...primitives.shape import ConvShape
from ...traces.table import ProfileError
from ...traces.trinnity import (
    ELEMENT_BYTES,
    NS_PER_S,
    TrinnityLayer,
    TrinnityPrimitive,
    TrinnityShape,
    read_trinnity,
)
from ...workloads.network import Layer, Network

PROFILE_FILE = "trinnity_alexnet_i5-2500k_profile.csv"
TRANSFORMS_FILE = "trinnity_alexnet_i5-2500k_transforms.csv"
BUDGETS_BYTES = tuple(million * 10**6 for million in (1, 2, 4, 6, 8, 12))
START: Layout = "chw"


def workspace_bytes(name: str, shape: TrinnityShape, reading: Reading) -> int:
    """Workspace of a published primitive. Raises ``ProfileError`` for a name that is none."""
    if name not in PUBLISHED:
        raise ProfileError(PROFILE_FILE, f"primitive {name!r} is none of the {len(PUBLISHED)} published ones")
    return PUBLISHED[name].workspace_bytes(_conv(shape), reading)


def _conv(shape: TrinnityShape) -> ConvShape:
    return ConvShape(
        shape.channels, shape.height, shape.width, shape.kernels, shape.kernel, shape.stride, shape.pad
    )


@dataclass(frozen=True)
class Chain:
    """The measured chain under one reading of the workspaces."""

    layers: tuple[TrinnityLayer, ...]
    reading: Reading

    @cached_property
    def options(self) -> NetworkOptions:
        """The chain as a planner sees it: the image, then the convolutions."""
        tensors = [math.prod(_input(layer)) * ELEMENT_BYTES for layer in self.layers]
        image = (Option("image", START, START, 0.0),)
        # What a layer writes is transformed as what the next one reads; nothing reads the last one's output.
        transforms: list[Mapping[Any, float]] = [
            {pair: time_ns / NS_PER_S for pair, time_ns in layer.transforms_ns.items()}
            for layer in self.layers
        ]
        return NetworkOptions(
            network=_network(self.layers),
            layers=(image, *(self._options(layer) for layer in self.layers)),
            transform_s=(*transforms, {}),
            live_bytes=(0,) * (len(self.layers) + 1),
            tensor_bytes=(*tensors, 0),
        )

    def _options(self, layer: TrinnityLayer) -> tuple[Option, ...]:
        return tuple(
            Option(
                each.name,
                cast(Layout, each.in_layout),
                cast(Layout, each.out_layout),
                each.time_ns / NS_PER_S,
                workspace_bytes(each.name, layer.shape, self.reading),
            )
            for each in layer.primitives
        )

    @cached_property
    def frontier(self) -> Frontier:
        """The exact frontier; memory is the largest workspace."""
        return frontier(self.options, "peak-workspace")

    def chosen(self, point: Point) -> tuple[TrinnityPrimitive, ...]:
        """The primitive of every convolution."""
        return tuple(layer.primitives[at] for layer, at in zip(self.layers, point.choice[1:], strict=True))

    def time_ns(self, point: Point) -> float:
        """The plan's time as a sum of the numbers measured, nothing rounded."""
        times = []
        layout: str = START
        for layer, each in zip(self.layers, self.chosen(point), strict=True):
            times += [*transformed_ns(layer.transforms_ns, layout, each.in_layout), each.time_ns]
            layout = each.out_layout
        return math.fsum(times)


def transformed_ns(direct: Mapping[tuple[str, str], float], before: str, after: str) -> list[float]:
    """Times of the transforms of the cheapest path, with at most one layout between; on a tie the direct one.

    Staying costs nothing, whatever was measured for it.
    """
    if before == after:
        return []
    ways = [[direct[before, after]]] if (before, after) in direct else []
    ways += [
        [direct[before, via], direct[via, after]]
        for via in LAYOUTS
        if via not in (before, after) and (before, via) in direct and (via, after) in direct
    ]
    return min(ways, key=math.fsum)


def _input(layer: TrinnityLayer) -> tuple[int, int, int]:
    return layer.shape.channels, layer.shape.height, layer.shape.width


def _network(layers: Sequence[TrinnityLayer]) -> Network:
    made = [Layer("image", "input", (), (1, *_input(layers[0])))]
    for at, layer in enumerate(layers):
        shape = _conv(layer.shape)
        following = _input(layers[at + 1]) if at + 1 < len(layers) else None
        written = following or (shape.kernels, shape.out_height, shape.out_width)
        made.append(Layer(layer.name, "convolution", (at,), (1, *written), macs=shape.macs))
    name = "AlexNet convolutions"
    return Network(name, tuple(made), (1, *_input(layers[0])), description="each reads a tensor of its own")


def read_chains(data: str | os.PathLike[str]) -> dict[Reading, Chain]:
    """The chain by both readings, from the folder ``primitives`` in ``data``. Raises ``ProfileError``."""
    folder = Path(data) / "primitives"
    layers = read_trinnity(folder / PROFILE_FILE, folder / TRANSFORMS_FILE)
    return {reading: Chain(layers, reading) for reading in READINGS}


@dataclass(frozen=True, slots=True)
class Shared:
    """Two such networks within one budget, nanoseconds for both together; None where that does not fit."""

    budget_bytes: int
    best_ns: float | None
    """The best partition."""
    equal_split_ns: float | None
    """Each plans within half the budget."""
    shared_arena_ns: float | None
    """Each plans within the whole budget, and they take turns."""

    def record(self) -> dict[str, Any]:
        """The row as plain data."""
        return {
            "budget_bytes": self.budget_bytes,
            "best_ns": self.best_ns,
            "equal_split_ns": self.equal_split_ns,
            "shared_arena_ns": self.shared_arena_ns,
        }


def shared(chain: Chain, budget_bytes: int) -> Shared:
    """Two networks that are both the chain, within one budget."""

    def together_ns(found: Partition | None) -> float | None:
        return None if found is None else math.fsum(chain.time_ns(point) for point in found.points)

    both = (chain.frontier, chain.frontier)
    try:
        best = partition(both, budget_bytes)
    except DoesNotFitError:
        best = None
    return Shared(
        budget_bytes,
        together_ns(best),
        together_ns(equal_split(both, budget_bytes)),
        together_ns(shared_arena(both, budget_bytes)),
    )


def partitions(chain: Chain) -> list[Shared]:
    """The partitions for all budgets."""
    return [shared(chain, budget) for budget in BUDGETS_BYTES]


def record(chains: Mapping[Reading, Chain], found: Sequence[Shared]) -> dict[str, Any]:
    """Frontiers and partitions as plain data."""
    return {
        "frontier": {
            reading: [[point.memory_bytes, chain.time_ns(point)] for point in chain.frontier.points]
            for reading, chain in chains.items()
        },
        "partitions": [each.record() for each in found],
    }
