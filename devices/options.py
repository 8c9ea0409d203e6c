"""What a layer may be computed with on a device: its primitives with their time, layouts and bytes.

These tables are what a planner chooses from. Where they come from, ``devices/implementing.py`` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..primitives.layouts import Layout
from ..workloads.network import Network


@dataclass(frozen=True, slots=True)
class Option:
    """One primitive of one layer."""

    primitive: str
    in_layout: Layout
    """Layout that all its inputs must have."""
    out_layout: Layout
    execute_s: float
    workspace_bytes: int = 0
    weight_bytes: int = 0
    """Weights as stored for the primitive, the bias included; 0 where they stay in flash."""


@dataclass(frozen=True)
class NetworkOptions:
    """A network, what each of its layers may be computed with, and what transforms between them cost.

    Tuples have one element per layer. A layer with inputs in other layouts than its primitive reads has them
    transformed first; the copies live while the layer executes.
    """

    network: Network
    layers: tuple[tuple[Option, ...], ...]
    transform_s: tuple[Mapping[tuple[Layout, Layout], float], ...]
    """Per layer: seconds to transform its output directly from one layout into another; what is missing
    cannot be done directly."""
    live_bytes: tuple[int, ...]
    """What lies in memory while each layer executes, whatever its primitive: live activations."""
    tensor_bytes: tuple[int, ...]
    """Size of each layer's output, also where it lies in another layer's buffer."""

    def __post_init__(self) -> None:
        count = len(self.network.layers)
        for name in ("layers", "transform_s", "live_bytes", "tensor_bytes"):
            if len(getattr(self, name)) != count:
                raise ValueError(f"{self.network.name}: {name} must have {count} elements, one per layer")
        for layer, options in zip(self.network.layers, self.layers, strict=True):
            if not options:
                raise ValueError(f"{self.network.name}: layer {layer.name!r} has no primitive")


Choice = Sequence[int]
"""For each layer the index of its option."""
