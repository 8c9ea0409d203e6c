"""Pipeline: one worker loads ahead in arrival order while another executes, within the memory there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .contract import Policy, Worker
from .graph import Kind, NetworkGraph, partial

if TYPE_CHECKING:
    from ..devices.cost import NetworkCost
    from ..devices.model import Device
    from .ledger import Ledger
    from .ready import Entry, Ready
    from .scheduler import Job

STORAGE, CPU = "storage", "cpu"


class Pipeline(Policy):
    """INITs and loads on one worker, executions on the other, both in (request, network, layer) order.

    The first load begins when its bytes fit beside what is really resident; while it does not, it waits, and
    nothing overtakes it. Memory comes back layer by layer where the runtime frees weights after a layer
    (``weights_lifetime: layer``), else with each finished network. A load that would wait for ever, because
    nothing is left that could free memory, begins all the same: the device pages, or the run is infeasible.
    """

    def __init__(self) -> None:
        self._taken: dict[Job, int] = {}
        """Tasks begun of each unfinished job (and of some that are finished)."""

    def workers(self, device: Device) -> list[Worker]:
        """One for storage, one for the processor."""
        processor = device.processors[0].name
        return [Worker(STORAGE, processor), Worker(CPU, processor)]

    def expand(self, network: NetworkCost, device: Device) -> NetworkGraph:
        """The partial graph, its executions in a queue of their own."""
        graph = partial(network, device.runtime)
        for task in graph.tasks:
            task.queue = CPU if task.kind == Kind.EXECUTE else STORAGE
        return graph

    def select(self, worker: Worker, ready: Ready, memory: Ledger) -> Entry | None:
        """The first execution; or the first load, if it fits or if waiting would not help."""
        entry = ready.first(worker.name)
        if entry is None:
            return None
        _, _, _, job, task = entry
        if worker.name == STORAGE and task.start_bytes > memory.free_bytes and self._may_free(ready):
            return None
        if len(self._taken) > 2 * memory.active + 8:
            self._taken = {begun: count for begun, count in self._taken.items() if begun.left}
        self._taken[job] = self._taken.get(job, 0) + 1
        return entry

    def _may_free(self, ready: Ready) -> bool:
        """Whether a task is under way (or has ended unnoticed), or an execution could begin."""
        if ready.first(CPU) is not None:
            return True
        return any(job.left > len(job.graph.tasks) - count for job, count in self._taken.items())
