"""The cost model: seconds of every task of a network on a device, from a profile or from fitted rates."""

from __future__ import annotations

from ..traces.profile import Profile, ProfileRow, read_profile
from ..traces.published import network_keys
from ..workloads.network import Layer, Network
from .cost import NetworkCost, network_cost
from .model import Device, OpRates

GEMM_OPS = frozenset({"convolution", "depthwise", "fully-connected"})
OTHER = "other"


class CostError(ValueError):
    """The device cannot tell what a network costs; the message says what is missing."""


def moved_bytes(network: Network, index: int) -> int:
    """Bytes a layer reads and writes: its inputs, its output (its buffer twice in place), its weights.

    Weights count for fully-connected layers only, where each is used once.
    """
    layer = network.layers[index]
    read = sum(network.layers[network.buffer_of[i]].output_bytes for i in layer.inputs)
    written = network.layers[network.buffer_of[index]].output_bytes
    return read + written + (layer.weight_bytes if layer.op == "fully-connected" else 0)


class CostModel:
    """What networks cost on one device.

    A layer that the device's profile holds costs what was measured (loading also where the network was
    measured with another input size); any other costs call_s + MACs * mac_s +
    bytes * byte_s of its operation class. Both times ``gemm_scale`` or ``other_scale``.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        cost = device.cost
        self.profile: Profile | None = read_profile(cost.profile) if cost.profile else None

    def cost(self, network: Network) -> NetworkCost:
        """The network's costs on the device.

        Raises ``CostError`` where a layer is neither in the profile nor covered by a rate.
        """
        rates = self.device.cost
        keys = network_keys(network.name)
        count = range(len(network.layers))
        return network_cost(
            network,
            self.device.runtime,
            init_s=rates.init_s + rates.init_byte_s * network.weight_bytes,
            load_s=tuple(self.load_s(network, index) for index in count),
            execute_s=tuple(self.execute_s(network, index) for index in count),
            expected_s=None if keys is None else keys.expected_s,
            reservation_bytes=None if keys is None else keys.reservation_bytes,
        )

    def load_s(self, network: Network, index: int) -> float:
        """Seconds to load one layer's weights."""
        cost = self.device.cost
        row = self._measured(network, index) or self._measured_at_another_size(network, index)
        if row is not None and row.load_s is not None:
            return row.load_s * cost.load_scale
        per_byte = cost.load_byte_s + network.load_copies * cost.load_byte_s_per_copy
        return (cost.load_call_s + network.layers[index].weight_bytes * per_byte) * cost.load_scale

    def execute_s(self, network: Network, index: int) -> float:
        """Seconds to execute one layer."""
        cost = self.device.cost
        layer = network.layers[index]
        scale = cost.gemm_scale if layer.op in GEMM_OPS else cost.other_scale
        row = self._measured(network, index)
        if row is not None and row.execute_s is not None:
            return row.execute_s * scale
        rates = self._rates(layer)
        seconds = rates.call_s + layer.macs * rates.mac_s + moved_bytes(network, index) * rates.byte_s
        return seconds * scale

    def _measured(self, network: Network, index: int) -> ProfileRow | None:
        return None if self.profile is None else self.profile.layer(network.name, index)

    def _measured_at_another_size(self, network: Network, index: int) -> ProfileRow | None:
        """The layer measured in the same network with another input: its weights are the same."""
        if self.profile is None:
            return None
        base = network.name.partition("@")[0].partition("#")[0]
        for name in self.profile.networks:
            if name.partition("@")[0] == base:
                row = self.profile.layer(name, index)
                if row is not None and row.weight_bytes == network.layers[index].weight_bytes:
                    return row
        return None

    def _rates(self, layer: Layer) -> OpRates:
        table = self.device.cost.execute
        rates = table.get(layer.op, table.get(OTHER))
        if rates is None:
            raise CostError(
                f"device {self.device.name!r}: no rate for operation {layer.op!r} (layer {layer.name!r}); "
                f"it has rates for {', '.join(table) or 'none'}; add cost.execute.{OTHER} or a profile"
            )
        return rates
