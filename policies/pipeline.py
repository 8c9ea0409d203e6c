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

STORAGE, CPU = "storage", "cpu"


class Pipeline(Policy):
    """INITs and loads on one worker, executions on the other, both in (request, network, layer) order.

    The first load begins when its bytes fit beside what is really resident; while it does not, it waits, and
    nothing overtakes it. Memory comes back layer by layer where the runtime frees weights after a layer
    (``weights_lifetime: layer``), else with each finished network. A load that would wait for ever, because
    nothing is left that could free memory, begins all the same: the device pages, or the run is infeasible.
    """

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
        if entry is None or worker.name == CPU:
            return entry
        if entry[4].start_bytes <= memory.free_bytes or not _may_free(entry, ready, memory):
            return entry
        return None


def _may_free(entry: Entry, ready: Ready, memory: Ledger) -> bool:
    """Whether anything that has begun will still give memory back before this load is done."""
    _, _, _, job, task = entry
    if ready.first(CPU) is not None or memory.active > job.started:
        return True
    if not job.started or task.layer < 1:
        return False
    # The execution of this layer waits for the load itself and, while that runs, for the layer before.
    return job.waits[job.graph.at(Kind.EXECUTE, task.layer)] > 1
