"""Pareto-primitive partitioning that plans again whenever the set of active networks changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .contract import Plan
from .graph import Kind, NetworkGraph
from .pareto import Pareto
from .planning.candidates import FOOTPRINT

if TYPE_CHECKING:
    from ..devices.cost import NetworkCost
    from ..devices.model import Device
    from .ledger import Ledger
    from .planning.candidates import Candidate, Front
    from .ready import Ready
    from .scheduler import Job


class ParetoOnline(Pareto):
    """As ``pareto``, but a job's plan is made when it begins, of the memory that is free then.

    What active networks have booked stays theirs until they are done. The rest is partitioned among the job
    that begins and those waiting behind it that a worker could begin beside it. One prepared form of each
    network's weights is kept on storage: where a network's plan differs from its last one, the weights of the
    layers whose primitive changed are prepared anew, which takes ``switch_loads`` times as long as loading
    them (default 2: the plain ones are read, the prepared ones written).
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
        switch_loads: float = 2.0,
    ) -> None:
        super().__init__(budget, memory, objective, weights, deadlines_s, processors, workers)
        if memory != FOOTPRINT:
            raise ValueError(f"memory is {memory!r}: what is booked can only be shared out by {FOOTPRINT!r}")
        if not 0 <= switch_loads < float("inf"):
            raise ValueError(f"switch_loads is {switch_loads}, must be a number of at least 0")
        self.switch_loads = switch_loads
        self.switches = 0
        """Jobs of the run that began with another plan than the last of their network."""
        self._fronts: dict[str, Front] = {}
        self._last: dict[str, Candidate] = {}
        self._graphs: dict[tuple[int, float], NetworkGraph] = {}
        self._partitions: dict[tuple[int, tuple[str, ...]], Candidate] = {}
        self._device: Device | None = None

    def plan(self, networks: Sequence[NetworkCost], device: Device) -> Plan:
        """Every network's least footprint: what a job must find free to begin."""
        offline = super().plan(networks, device)
        assert self.candidates is not None
        self._device = device
        self._fronts = {
            cost.name: self.candidates.front(cost, offline.processors[cost.name]) for cost in networks
        }
        self.chosen = {name: front.least for name, front in self._fronts.items()}
        return replace(
            offline,
            costs={name: least.cost for name, least in self.chosen.items()},
            primitives={},  # they are not known before the run
        )

    def variant(self, job: Job, ready: Ready, memory: Ledger) -> NetworkGraph | None:
        """The job's graph under the plan that its share of the free memory allows."""
        assert self.candidates is not None
        name = job.network.name
        free_bytes = int(max(0, min(self.room_bytes(memory), self.candidates.room_bytes)))
        chosen = self._share(name, self._behind(job, ready, memory), free_bytes)
        last = self._last.get(name, chosen)
        self._last[name] = chosen
        switch_s = self.switch_loads * chosen.changed_load_s(last)
        if chosen is not last:
            self.switches += 1
        return self._graph(chosen, switch_s)

    def _behind(self, job: Job, ready: Ready, memory: Ledger) -> tuple[str, ...]:
        """Networks of the waiting jobs that workers without one could begin now, in order."""
        assert self._device is not None
        room = len(self.workers(self._device)) - memory.active - 1
        if room <= 0:
            return ()
        task = job.graph.tasks[job.graph.first]
        waiting = (entry[3].network.name for entry in ready.entries(task.queue) if entry[3] is not job)
        return tuple(name for _, name in zip(range(room), waiting, strict=False))

    def _share(self, name: str, behind: tuple[str, ...], free_bytes: int) -> Candidate:
        """The job's point in the best partition; jobs behind it are dropped until the rest fits."""
        assert self.candidates is not None
        names = (name, *behind)
        while len(names) > 1 and sum(self._fronts[n].least.memory_bytes for n in names) > free_bytes:
            names = names[:-1]
        key = free_bytes, names
        if key not in self._partitions:
            fronts = [self._fronts[n] for n in names]
            self._partitions[key] = self.candidates.partition(fronts, free_bytes, self.goal)[0]
        return self._partitions[key]

    def _graph(self, chosen: Candidate, switch_s: float) -> NetworkGraph:
        assert self._device is not None
        key = id(chosen), switch_s
        if key not in self._graphs:
            graph = self.expand(chosen.cost, self._device)
            first = graph.tasks[graph.first]
            if first.kind == Kind.INIT or switch_s:
                first.duration_s += switch_s
            self._graphs[key] = graph
        return self._graphs[key]
