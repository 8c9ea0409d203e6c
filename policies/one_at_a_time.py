"""One network at a time, without preemption: what the orderings by job (SJF, EDF, HRRN) share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .contract import Policy, Worker
from .graph import NetworkGraph, bulk

if TYPE_CHECKING:
    from ..devices.cost import NetworkCost
    from ..devices.model import Device
    from .ledger import Ledger
    from .ready import Entry, Ready

STARTED, WAITING = "started", "waiting"


class OneAtATime(Policy):
    """One worker; a network is begun only when none is active. Subclasses say which comes next."""

    def expand(self, network: NetworkCost, device: Device) -> NetworkGraph:
        """The bulk graph; its first task waits apart from those of a network that has begun."""
        graph = bulk(network, device.runtime, chained=True)
        for task in graph.tasks:
            task.queue = WAITING if task.index in graph.sources else STARTED
        return graph

    def select(self, worker: Worker, ready: Ready, memory: Ledger) -> Entry | None:
        """Go on with the network that has begun; else begin the one that ``rank`` puts first."""
        if memory.active:
            return ready.first(STARTED)
        return self.next_network(ready)

    def next_network(self, ready: Ready) -> Entry | None:
        """The network to begin."""
        return ready.first(WAITING)
