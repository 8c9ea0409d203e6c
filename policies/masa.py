"""Masa: memory-aware multi-DNN scheduling (Cox et al., PerCom 2021), as EdgeCaffe's MasaScheduler does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .contract import Policy, Worker, several_workers
from .graph import Kind, NetworkGraph, partial
from .scheduler import Job

if TYPE_CHECKING:
    from ..devices.cost import NetworkCost
    from ..devices.model import Device
    from .ledger import Ledger
    from .ready import Entry, Ready

EXECUTE, LOAD = "execute", "load"


class Masa(Policy):
    """Executions first, shortest network first; then loads and INITs, shortest network first.

    An INIT is admitted if its network's reservation fits beside those of the active networks (the counter
    is per network, booked from INIT until the network dies), or if no network is active; one that does not
    fit is passed over, not waited for. A reservation larger than the limit is admitted when nothing is
    active, and then runs alone.
    """

    def __init__(self, workers: int = 2) -> None:
        self.count = workers

    def workers(self, device: Device) -> list[Worker]:
        """``workers`` of them (2 in every published experiment), all alike."""
        return several_workers(device, self.count)

    def expand(self, network: NetworkCost, device: Device) -> NetworkGraph:
        """The partial graph, with the reservation on its first task: INIT, or LOAD 0 in version A."""
        graph = partial(network, device.runtime, gated=True)
        for task in graph.tasks:
            task.queue = EXECUTE if task.kind == Kind.EXECUTE else LOAD
            task.rank = float(task.kind)
        graph.reserve(graph.first, network.reservation_bytes)
        return graph

    def rank(self, job: Job) -> float:
        """Shortest network first."""
        return job.network.expected_s

    def select(self, worker: Worker, ready: Ready, memory: Ledger) -> Entry | None:
        """An execution if any is ready; else the first load or INIT that fits."""
        entry = ready.first(EXECUTE)
        if entry is not None:
            return entry
        if not memory.active:
            return ready.first(LOAD)
        return ready.first(LOAD, fitting=max(0, memory.unreserved_bytes))
