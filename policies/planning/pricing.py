"""What a plan costs: its time, and its memory by every definition, layer by layer.

Written for reading, one layer after the other, and apart from the search, whose results are checked by it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...devices.options import Choice, NetworkOptions
from .memory import Memory
from .transforms import PICO, Path, PlanningError, paths, picoseconds


class InfeasiblePlanError(PlanningError):
    """A layer's input cannot be brought into the layout that its primitive reads."""


@dataclass(frozen=True, slots=True)
class LayerPrice:
    """What one layer adds under a plan."""

    primitive: str
    execute_ps: int
    transform_ps: int
    """All inputs that are transformed for it."""
    workspace_bytes: int
    weight_bytes: int
    copies_bytes: int
    """Transformed inputs, while it executes."""
    peak_bytes: int
    """The most that lies in memory at once from its first transform to its end."""

    @property
    def time_s(self) -> float:
        """Seconds of transforms and execution."""
        return (self.execute_ps + self.transform_ps) / PICO


@dataclass(frozen=True, slots=True)
class Price:
    """What a plan costs."""

    time_ps: int
    workspace_bytes: int
    """Peak workspace."""
    live_bytes: int
    """Peak of all that is live."""
    weight_bytes: int
    no_reuse_bytes: int
    layers: tuple[LayerPrice, ...]

    @property
    def time_s(self) -> float:
        """Seconds of all transforms and executions."""
        return self.time_ps / PICO

    def memory_bytes(self, memory: Memory) -> int:
        """The plan's memory by a definition."""
        return {
            "peak-workspace": self.workspace_bytes,
            "peak-live": self.live_bytes,
            "total": self.weight_bytes + self.live_bytes,
            "no-reuse": self.no_reuse_bytes,
        }[memory]


def price(options: NetworkOptions, choice: Choice) -> Price:
    """What the network costs with one option per layer.

    Raises ``InfeasiblePlanError`` where an input cannot be brought into the layout that is read.
    """
    return Pricer(options).price(choice)


class Pricer:
    """Prices plans of one network; for more than a few of them."""

    def __init__(self, options: NetworkOptions) -> None:
        self.options = options
        self._known: dict[tuple[int, ...], LayerPrice] = {}
        self._execute_ps = [
            [picoseconds(o.execute_s, f"{layer.name}, {o.primitive}: execute_s") for o in own]
            for layer, own in zip(options.network.layers, options.layers, strict=True)
        ]
        self._paths = [
            paths(direct, f"{layer.name}: transform_s")
            for layer, direct in zip(options.network.layers, options.transform_s, strict=True)
        ]

    def price(self, choice: Choice) -> Price:
        """As the function of that name."""
        if len(choice) != len(self.options.layers):
            raise PlanningError(
                f"{self.options.network.name}: {len(choice)} choices for {len(self.options.layers)} layers"
            )
        layers = [self._layer_once(index, choice) for index in range(len(choice))]
        return Price(
            time_ps=sum(layer.execute_ps + layer.transform_ps for layer in layers),
            workspace_bytes=max(layer.workspace_bytes for layer in layers),
            live_bytes=max(layer.peak_bytes for layer in layers),
            weight_bytes=sum(layer.weight_bytes for layer in layers),
            no_reuse_bytes=sum(layer.workspace_bytes for layer in layers),
            layers=tuple(layers),
        )

    def _layer_once(self, index: int, choice: Choice) -> LayerPrice:
        """The price of a layer, worked out once for each option and each option of its inputs."""
        key = (
            index,
            choice[index],
            *(choice[source] for source in self.options.network.layers[index].inputs),
        )
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._layer(index, choice)
        return known

    def _layer(self, index: int, choice: Choice) -> LayerPrice:
        options = self.options
        own = options.layers[index][choice[index]]
        live = peak = options.live_bytes[index]
        copies = transform_ps = 0
        for source in options.network.layers[index].inputs:
            path = self._path(source, index, choice)
            tensor = options.tensor_bytes[source]
            peak = max(peak, live + copies + path.steps * tensor)
            if path.steps:
                copies += tensor
                transform_ps += path.time_ps
        return LayerPrice(
            primitive=own.primitive,
            execute_ps=self._execute_ps[index][choice[index]],
            transform_ps=transform_ps,
            workspace_bytes=own.workspace_bytes,
            weight_bytes=own.weight_bytes,
            copies_bytes=copies,
            peak_bytes=max(peak, live + copies + own.workspace_bytes),
        )

    def _path(self, source: int, reader: int, choice: Choice) -> Path:
        before = self.options.layers[source][choice[source]].out_layout
        after = self.options.layers[reader][choice[reader]].in_layout
        path = self._paths[source].get((before, after))
        if path is None:
            layers = self.options.network.layers
            raise InfeasiblePlanError(
                f"{self.options.network.name}: layer {layers[source].name!r} writes its output in {before}, "
                f"which cannot be transformed into {after}, which layer {layers[reader].name!r} reads"
            )
        return path
