"""FIFO: whole networks in arrival order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .contract import Policy
from .graph import NetworkGraph, bulk, linear

if TYPE_CHECKING:
    from ..devices.cost import NetworkCost
    from ..devices.model import Device


class Fifo(Policy):
    """EdgeCaffe's bulk mode: one worker; each network waits for the one submitted before it.

    ``unit`` "network" loads and executes whole networks; "layer" keeps the order but cuts it into layers.
    """

    def __init__(self, unit: str = "network") -> None:
        if unit not in ("network", "layer"):
            raise ValueError(f"unit is {unit!r}, allowed: 'network', 'layer'")
        self.unit = unit

    def expand(self, network: NetworkCost, device: Device) -> NetworkGraph:
        """Three tasks a network, or two a layer, in one chain."""
        if self.unit == "layer":
            return linear(network, device.runtime)
        return bulk(network, device.runtime, serial=True)
