"""Linear: layer by layer, one network after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .contract import Policy
from .graph import NetworkGraph, linear

if TYPE_CHECKING:
    from ..devices.cost import NetworkCost
    from ..devices.model import Device


class Linear(Policy):
    """EdgeCaffe's linear mode: one worker loads and executes each layer in turn."""

    def expand(self, network: NetworkCost, device: Device) -> NetworkGraph:
        """One chain of all tasks, chained to the network submitted before it."""
        return linear(network, device.runtime)
