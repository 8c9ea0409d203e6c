"""Every network's frontier on a device, with what it costs there under each of its plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from ...devices.implementing import network_options
from ...devices.planned import planned_cost
from ...traces.profile import read_profile
from .footprint import footprint_frontier
from .frontier import Frontier, frontier
from .memory import DoesNotFitError, Memory
from .partition import Goal, partition

if TYPE_CHECKING:
    from ...devices.cost import NetworkCost
    from ...devices.model import Device
    from ...devices.options import NetworkOptions
    from ...workloads.network import Network

FOOTPRINT = "footprint"
"""Beside the planner's definitions: all that a network adds to memory under the device's runtime."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One plan of one network: a point of its frontier."""

    cost: NetworkCost
    """What the network costs under the plan."""
    primitives: tuple[str, ...]
    processor: str
    memory_bytes: int
    """By the definition that the frontier was made for."""
    time_s: float
    """Loading and executing every layer in turn."""

    def changed_load_s(self, before: Candidate) -> float:
        """Seconds to load the weights of the layers whose primitive is another than ``before``."""
        changed = zip(self.primitives, before.primitives, self.cost.load_s, strict=True)
        return sum(load_s for own, other, load_s in changed if own != other)


class Front:
    """The candidates of one network on one processor, least memory first, each faster than the one before."""

    def __init__(self, key: _Key) -> None:
        self._key = key
        self._made: dict[int, Candidate] = {}

    @cached_property
    def frontier(self) -> Frontier:
        """The frontier, searched when it is first asked for."""
        return _frontier(self._key)

    @property
    def least(self) -> Candidate:
        """The candidate of least memory."""
        return self[0]

    @property
    def fastest_s(self) -> float:
        """Time of the fastest candidate."""
        return self.frontier.points[-1].time_s

    def at_most(self, budget_bytes: int) -> Candidate:
        """The fastest that fits the budget, or the least where none does."""
        fitting = sum(point.memory_bytes <= budget_bytes for point in self.frontier.points)
        return self[max(0, fitting - 1)]

    def __getitem__(self, index: int) -> Candidate:
        if index not in self._made:
            self._made[index] = _candidate(self._key, index)
        return self._made[index]

    def __len__(self) -> int:
        return len(self.frontier.points)


class Candidates:
    """The fronts of networks on one device; ``memory`` is "footprint" or one of the planner's definitions."""

    def __init__(self, device: Device, memory: str) -> None:
        self.device = device
        self.memory = memory
        parts = {"cost", "runtime", "storage", "processors"}
        self._device_text = device.model_dump_json(include=parts)  # a limit does not change a frontier
        self._fronts: dict[tuple[str, str], Front] = {}

    @property
    def room_bytes(self) -> int:
        """What the device's limit leaves beside the process itself."""
        memory, runtime = self.device.memory, self.device.runtime
        return max(0, memory.usable_bytes - max(memory.base_bytes, runtime.reserved_base_bytes))

    def front(self, cost: NetworkCost, processor: str) -> Front:
        """The front of a network, of which ``cost`` is what the device says of its runtime's own choice."""
        key = cost.name, processor
        if key not in self._fronts:
            self._fronts[key] = Front(
                _Key(cost.network, processor, self.memory, self._device_text, cost, self.device)
            )
        return self._fronts[key]

    def partition(self, fronts: Sequence[Front], budget_bytes: int, goal: Goal) -> list[Candidate]:
        """One candidate of each, together within the budget, as the goal wants them.

        Where not even the least ones fit together, the least ones.
        """
        try:
            found = partition([front.frontier for front in fronts], budget_bytes, goal)
        except DoesNotFitError:
            return [front.least for front in fronts]
        return [front[index] for front, index in zip(fronts, found.indices, strict=True)]


@dataclass(frozen=True)
class _Key:
    """What a frontier depends on, and what is needed to make it; points of a sweep share frontiers."""

    network: Network
    processor: str
    memory: str
    device_text: str
    cost: NetworkCost = field(compare=False)
    device: Device = field(compare=False)


@lru_cache(maxsize=256)
def _options(key: _Key) -> NetworkOptions:
    return network_options(key.cost.network, key.device, processor=key.processor)


@lru_cache(maxsize=256)
def _frontier(key: _Key) -> Frontier:
    options = _with_loads(_options(key), key.cost)
    if key.memory == FOOTPRINT:
        return footprint_frontier(options, key.device.runtime)
    memory: Memory = key.memory  # type: ignore[assignment]
    return frontier(options, memory)


def _candidate(key: _Key, index: int) -> Candidate:
    point = _frontier(key).points[index]
    options = _options(key)
    path = key.device.cost.profile
    measured = None if path is None else read_profile(path)
    cost = planned_cost(key.cost, options, point.choice, key.device.runtime, measured)
    primitives = tuple(own[at].primitive for own, at in zip(options.layers, point.choice, strict=True))
    return Candidate(cost, primitives, key.processor, point.memory_bytes, point.time_s)


def _with_loads(options: NetworkOptions, cost: NetworkCost) -> NetworkOptions:
    """Every option with the time of loading its weights: larger ones, as Winograd's, take longer to load."""
    layers = []
    for layer, load_s, own in zip(options.network.layers, cost.load_s, options.layers, strict=True):
        per_byte = load_s / layer.weight_bytes if layer.weight_bytes else 0.0
        layers.append(
            tuple(replace(each, execute_s=each.execute_s + per_byte * each.weight_bytes) for each in own)
        )
    return replace(options, layers=tuple(layers))
