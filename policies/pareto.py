"""Pareto-primitive partitioning: every network a memory budget, every layer the primitive that fits it.

After Radu and Wen: networks that run at once get budgets of their own, and each chooses, for every layer, the
primitive of its time/memory Pareto front that its budget allows. The budgets are those that minimise the
objective over all networks together; ``planning/`` finds them exactly.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..devices.costing import CostError
from ..devices.implementing import ImplementingError
from ..devices.units import parse_bytes
from .contract import Plan, PlanError, Policy, Worker, several_workers
from .graph import NetworkGraph, linear
from .planning.candidates import FOOTPRINT, Candidate, Candidates
from .planning.memory import MEMORIES
from .planning.partition import OBJECTIVES, Goal, PartitionError
from .planning.transforms import PlanningError

if TYPE_CHECKING:
    from ..devices.cost import NetworkCost
    from ..devices.model import Device
    from .ledger import Ledger
    from .ready import Entry, Ready

ARENAS = ("partitioned", "shared")
MOST_MAPPINGS = 4096
"""Ways to map networks to processors that are looked at: all of them for up to twelve networks on two."""


class Pareto(Policy):
    """Networks run at once, each within its budget; layers run one after the other.

    ``budget`` (bytes, or a text such as 64KB) is shared out among the networks; by default all that the
    device's limit leaves beside the process itself. ``memory`` says what counts against it: "footprint" (all
    that a network adds to memory) or one of the planner's definitions. ``objective``: "sum" of the networks'
    times, "weighted" sum (``weights``: per network), or "deadline" (the largest time / ``deadlines_s``).
    ``arena`` "shared" gives every network the whole budget and runs one at a time.

    With one processor ``workers`` run networks at once; with several, each has one worker, and a network runs
    on the processor that ``processors`` names, or on the one where a request of all networks is soonest done.
    A network whose footprint does not fit beside those that are active waits; others may pass it.
    """

    def __init__(
        self,
        budget: int | str | None = None,
        memory: str = FOOTPRINT,
        objective: str = "sum",
        weights: Mapping[str, float] | None = None,
        deadlines_s: Mapping[str, float] | None = None,
        processors: Mapping[str, str] | None = None,
        workers: int | None = None,
        arena: str = "partitioned",
    ) -> None:
        for key, value, allowed in (
            ("memory", memory, (FOOTPRINT, *MEMORIES)),
            ("objective", objective, OBJECTIVES),
            ("arena", arena, ARENAS),
        ):
            if value not in allowed:
                raise ValueError(f"{key} is {value!r}, allowed: {', '.join(allowed)}")
        self.budget_bytes = None if budget is None else parse_bytes(budget)
        self.memory = memory
        self.goal = Goal(objective, dict(weights or {}), dict(deadlines_s or {}))
        self.mapping = dict(processors or {})
        self.count = workers
        self.shared = arena == "shared"
        self.reserved_base_bytes = 0
        """What the counter of bookings holds before any network has booked."""
        self.candidates: Candidates | None = None
        self.chosen: dict[str, Candidate] = {}
        """Per network what was decided for it."""

    # -- before the run -----------------------------------------------------------------------------------

    def plan(self, networks: Sequence[NetworkCost], device: Device) -> Plan:
        """The budgets, primitives and processors that minimise the objective.

        Where not even the least of all networks together fits, each gets its least, and they take turns.
        Raises ``PlanError`` for networks whose primitives the device does not know.
        """
        try:
            return self._plan(networks, device)
        except (CostError, ImplementingError, PartitionError, PlanningError) as error:
            raise PlanError(str(error)) from error

    def _plan(self, networks: Sequence[NetworkCost], device: Device) -> Plan:
        self.reserved_base_bytes = device.runtime.reserved_base_bytes
        self.candidates = Candidates(device, self.memory)
        mapping = self._mapping(networks, device)
        fronts = [
            self.candidates.front(cost, processor) for cost, processor in zip(networks, mapping, strict=True)
        ]
        budget = self._budget_bytes(self.candidates.room_bytes)
        points = (
            [front.at_most(budget) for front in fronts]
            if self.shared
            else self.candidates.partition(fronts, budget, self.goal)
        )
        self.chosen = {cost.name: point for cost, point in zip(networks, points, strict=True)}
        return Plan(
            costs={name: point.cost for name, point in self.chosen.items()},
            primitives={name: point.primitives for name, point in self.chosen.items()},
            processors={cost.name: processor for cost, processor in zip(networks, mapping, strict=True)},
        )

    def _budget_bytes(self, room_bytes: int) -> int:
        """What is shared out: the budget, of which footprints can use no more than there is room."""
        if self.budget_bytes is None:
            return room_bytes
        return min(self.budget_bytes, room_bytes) if self.memory == FOOTPRINT else self.budget_bytes

    def _mapping(self, networks: Sequence[NetworkCost], device: Device) -> list[str]:
        """The processor of every network."""
        names = [processor.name for processor in device.processors]
        known = {cost.name for cost in networks}
        for what, given in (("weights", self.goal.weights), ("deadlines_s", self.goal.deadlines_s)):
            for network in given:
                if network not in known:
                    raise PlanError(f"{what}: {network!r} is none of the networks: {', '.join(known)}")
        for network, processor in self.mapping.items():
            if processor not in names:
                raise PlanError(
                    f"processors: {network} is to run on {processor!r}, there are: {', '.join(names)}"
                )
            if network not in known:
                raise PlanError(f"processors: {network!r} is none of the networks: {', '.join(known)}")
        free = [[self.mapping[c.name]] if c.name in self.mapping else names for c in networks]
        if len(names) == 1 or self.shared:
            return [names[0]] * len(networks)
        assert self.candidates is not None
        fastest = {
            (at, name): self.candidates.front(cost, name).fastest_s
            for at, cost in enumerate(networks)
            for name in free[at]
        }
        ways = itertools.islice(itertools.product(*free), MOST_MAPPINGS)
        return list(min(ways, key=lambda way: self._makespan_s(tuple(way), fastest)))

    @staticmethod
    def _makespan_s(way: Sequence[str], fastest: Mapping[tuple[int, str], float]) -> tuple[float, float]:
        """When all networks of one request are done, and as a tie-breaker the sum of their times."""
        times = [fastest[at, name] for at, name in enumerate(way)]
        load = {name: sum(t for t, n in zip(times, way, strict=True) if n == name) for name in way}
        return max(load.values()), sum(times)

    # -- the run ------------------------------------------------------------------------------------------

    def workers(self, device: Device) -> list[Worker]:
        """One worker for each processor; on a single one ``workers`` (default: 2, or its one core)."""
        if len(device.processors) > 1 and not self.shared:
            return [Worker(f"worker {i}", p.name) for i, p in enumerate(device.processors)]
        default = min(2, device.processors[0].cores)
        return several_workers(device, 1 if self.shared else (self.count or default))

    def expand(self, network: NetworkCost, device: Device) -> NetworkGraph:
        """One chain of all tasks; its first task books the network's footprint and waits for room."""
        graph = linear(network, device.runtime, serial=False)
        where = "" if self.shared else self._processor(network)
        for task in graph.tasks:
            task.queue = _queue(where, started=task.index != graph.first)
        graph.reserve(graph.first, network.layerwise_peak_bytes)
        return graph

    def _processor(self, network: NetworkCost) -> str:
        chosen = self.chosen.get(network.name)
        return "" if chosen is None else chosen.processor

    def select(self, worker: Worker, ready: Ready, memory: Ledger) -> Entry | None:
        """Go on with a network that has begun; else begin the first that fits beside the active ones."""
        where = "" if self.shared else worker.processor
        entry = ready.first(_queue(where, started=True))
        if entry is not None:
            return entry
        waiting = _queue(where, started=False)
        if not memory.active:
            return ready.first(waiting)
        return None if self.shared else ready.first(waiting, fitting=max(0, self.room_bytes(memory)))

    def room_bytes(self, memory: Ledger) -> float:
        """What no active network has booked of the limit and, where footprints share it, of the budget."""
        room = memory.unreserved_bytes - max(0, memory.base_bytes - self.reserved_base_bytes)
        if self.budget_bytes is None or self.memory != FOOTPRINT:
            return room
        return min(room, self.budget_bytes - (memory.reserved_bytes - self.reserved_base_bytes))


def _queue(processor: str, *, started: bool) -> str:
    return f"{processor} {'started' if started else 'waiting'}"
