"""Multi-bulk: whole networks, as many at once as there are workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .contract import Policy, Worker, several_workers

if TYPE_CHECKING:
    from ..devices.model import Device


class MultiBulk(Policy):
    """EdgeCaffe's multi-bulk mode: the bulk graph without a chain between networks, one shared queue."""

    def __init__(self, workers: int = 2) -> None:
        self.count = workers

    def workers(self, device: Device) -> list[Worker]:
        """``workers`` of them, all alike."""
        return several_workers(device, self.count)
