"""DeepEye: convolutional layers of all networks first; fully-connected layers streamed beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .contract import Policy, Worker
from .graph import CONVOLUTIONAL, FULLY_CONNECTED, Kind, Link, NetworkGraph, deepeye, deepeye_links

if TYPE_CHECKING:
    from ..devices.cost import NetworkCost
    from ..devices.model import Device
    from .ledger import Ledger
    from .ready import Entry, Ready


class DeepEye(Policy):
    """DeepEye (Mathur et al., MobiSys 2017) as EdgeCaffe does it.

    Worker 0 takes INITs and the convolutional part, worker 1 the fully-connected part; neither helps the
    other. ``frugal`` delays the first fully-connected load of a network until the network before it is done.
    """

    frugal = False

    def workers(self, device: Device) -> list[Worker]:
        """One worker a part."""
        processor = device.processors[0].name
        return [Worker(CONVOLUTIONAL, processor), Worker(FULLY_CONNECTED, processor)]

    def expand(self, network: NetworkCost, device: Device) -> NetworkGraph:
        """Tasks in two queues, see ``graph.deepeye``."""
        return deepeye(network, device.runtime)

    def links(self, graphs: Sequence[NetworkGraph]) -> list[Link]:
        """All convolutional loads of the request first, then networks one after the other."""
        if graphs and graphs[0].tasks[0].kind != Kind.INIT:
            return []  # version A builds networks at submission and does not link them
        return deepeye_links(graphs, frugal=self.frugal)

    def select(self, worker: Worker, ready: Ready, memory: Ledger) -> Entry | None:
        """Only from the worker's own part."""
        return ready.first(worker.name)


class DeepEyeFrugal(DeepEye):
    """DeepEye that holds back fully-connected weights until the network before has used its own."""

    frugal = True
