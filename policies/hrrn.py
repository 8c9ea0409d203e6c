"""HRRN: highest response ratio next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .one_at_a_time import STARTED, WAITING, OneAtATime

if TYPE_CHECKING:
    from ..devices.cost import NetworkCost
    from ..devices.model import Device
    from .graph import NetworkGraph
    from .ready import Entry, Ready


class Hrrn(OneAtATime):
    """Whole networks, the one with the highest (waiting + expected) / expected first; not preemptive.

    Among jobs of one network the oldest has the highest ratio, so each network has a queue of its own and a
    decision compares as many jobs as there are networks.
    """

    def expand(self, network: NetworkCost, device: Device) -> NetworkGraph:
        """The bulk graph; what has not begun waits in a queue named after the network."""
        graph = super().expand(network, device)
        for index in graph.sources:
            graph.tasks[index].queue = f"{WAITING} {network.name}"
        return graph

    def next_network(self, ready: Ready) -> Entry | None:
        """The oldest job of each network compared by response ratio; ties by task id."""
        now = ready.now_s
        best: Entry | None = None
        best_ratio = -1.0
        for queue in ready.queues():
            if queue == STARTED:
                continue
            entry = ready.first(queue)
            if entry is None:
                continue
            job = entry[3]
            waiting = now - job.request.arrival_s
            expected = job.network.expected_s
            ratio = 1.0 + waiting / expected if expected > 0 else float("inf")
            if ratio > best_ratio or (ratio == best_ratio and best is not None and entry < best):
                best, best_ratio = entry, ratio
        return best
