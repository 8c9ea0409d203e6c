"""Partial: loads run ahead of executions, without any admission."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .contract import Policy, Worker, several_workers
from .graph import NetworkGraph, partial

if TYPE_CHECKING:
    from ..devices.cost import NetworkCost
    from ..devices.model import Device


class Partial(Policy):
    """EdgeCaffe's partial mode: Masa's graph with one shared queue in task order and no memory admission."""

    def __init__(self, workers: int = 2) -> None:
        self.count = workers

    def workers(self, device: Device) -> list[Worker]:
        """``workers`` of them, all alike."""
        return several_workers(device, self.count)

    def expand(self, network: NetworkCost, device: Device) -> NetworkGraph:
        """Every load waits for INIT only; executions are chained."""
        return partial(network, device.runtime)
