"""The cost model: seconds of every task of a network on a device, from a profile or from fitted rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

from ..primitives.shape import layer_key
from ..traces.primitives import PrimitiveProfile, read_primitives
from ..traces.profile import Profile, ProfileRow, read_profile
from ..traces.published import network_keys
from ..workloads.builder import leading_conv_layers
from ..workloads.network import Layer, Network
from .cost import NetworkCost, moved_bytes, network_cost
from .measured import measured_on, names_processor
from .model import Device, OpRates, ProcessorCost
from .stored import as_stored, fetched_s

GEMM_OPS = frozenset({"convolution", "depthwise", "fully-connected"})
OTHER = "other"
COSTLESS = frozenset({"input", "dropout", "split", "flatten", "reshape"})
"""Operations that do nothing at inference."""
AS_THE_FIRST = ProcessorCost()


class CostError(ValueError):
    """The device cannot tell what a network costs; the message says what is missing."""


class CostModel:
    """What networks cost on one device.

    A layer that the device's profile holds costs what was measured (loading also where the network was
    measured with another input size); any other costs call_s + MACs * mac_s +
    bytes * byte_s of its operation class. Both times ``gemm_scale`` or ``other_scale``. Another processor
    than the first (``processor``: its name) executes by rates of its own or at a factor (``cost.on``).
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        cost = device.cost
        self.profile: Profile | None = read_profile(cost.profile) if cost.profile else None

        self._check_pace()

    def _check_pace(self) -> None:
        """A profile at a pace holds for devices at that pace only."""
        told = None if self.profile is None else self.profile.metadata.get("pace_bytes_per_s")
        pace = self.device.storage.pace_bytes_per_s
        if told is not None and (pace is None or float(told) != pace):
            raise CostError(
                f"device {self.device.name!r}: its profile {self.device.cost.profile} was measured with "
                f"storage at {float(told):g} bytes/s, storage.pace_bytes_per_s is {pace}; set it to that, or "
                f"measure without a pace"
            )

    def cost(self, network: Network, processor: str | None = None) -> NetworkCost:
        """The network's costs on a processor of the device, which stores it as its runtime does.

        ``processor`` None: the first. Raises ``CostError`` where a layer is neither in the profile nor
        covered by a rate, and for a processor that the device does not have.
        """
        network = as_stored(network, self.device.runtime)
        rates = self.device.cost
        whole = self._row(network.name, None)
        keys = network_keys(network.name) if whole is None or whole.arena_bytes is None else None
        init_s = rates.init_s + rates.init_byte_s * network.weight_bytes
        count = range(len(network.layers))
        load_s = tuple(self.load_s(network, index) for index in count)
        execute_s = tuple(self.execute_s(network, index, processor) for index in count)
        return network_cost(
            network,
            self.device.runtime,
            init_s=init_s if whole is None or whole.init_s is None else whole.init_s,
            load_s=load_s,
            execute_s=execute_s,
            bulk_load_s=self._bulk_load_s(network, load_s),
            bulk_execute_s=math.fsum(execute_s) * self._at_a_stretch(network, "execute_s"),
            expected_s=None if keys is None else keys.expected_s,
            reservation_bytes=None if keys is None else keys.reservation_bytes,
            in_place=self.device.storage.reads == "in-place",
        )

    def network(self, name: str) -> Network | None:
        """The network as the device's runtime executes it, where the profile says so.

        A runtime may fuse layers and lay weights out anew: a profile made by running them tells for each
        layer what it reads (``inputs``) and writes, and for the whole network the planned arena. None where
        the profile does not hold the network, or not in this way.
        """
        whole = self._row(name, None)
        if whole is None or whole.arena_bytes is None:
            return None
        layers: list[Layer] = []
        while (row := self._row(name, len(layers))) is not None:
            layers.append(
                Layer(
                    row.name,
                    row.op,
                    row.inputs or (),
                    macs=row.macs or 0,
                    weight_bytes=row.weight_bytes or 0,
                    output_bytes=row.output_bytes or 0,
                    workspace_bytes=row.workspace_bytes or 0,
                )
            )
        return Network(
            name,
            tuple(layers),
            conv_layers=leading_conv_layers(layers),
            arena_bytes=whole.arena_bytes,
            source=f"profile {self.device.cost.profile}",
        )

    def _bulk_load_s(self, network: Network, load_s: Sequence[float]) -> float:
        """Seconds to load all layers at a stretch, with the storage to itself."""
        storage = self.device.storage
        if storage.reads == "in-place":
            return 0.0
        column = "cold_load_s" if storage.reads == "direct" else "load_s"
        seconds = math.fsum(load_s) * self._at_a_stretch(network, column)
        if storage.pace_bytes_per_s is None:
            return seconds
        return max(seconds, network.weight_bytes / storage.pace_bytes_per_s)

    def _at_a_stretch(self, network: Network, column: str) -> float:
        """What the whole network took at a stretch / the sum of its layers, each measured on its own.

        1 where the profile does not hold both.
        """
        rows = [self._row(network.name, index) for index in (None, *range(len(network.layers)))]
        whole, *layers = [None if row is None else getattr(row, column) for row in rows]
        measured = [seconds for seconds in layers if seconds is not None]
        if whole is None or len(measured) < len(layers):
            return 1.0
        alone = math.fsum(measured)
        return float(whole) / alone if alone else 1.0

    def load_s(self, network: Network, index: int) -> float:
        """Seconds to load one layer's weights, with the storage to itself."""
        cost = self.device.cost
        storage = self.device.storage
        if storage.reads == "in-place":
            return 0.0
        row = self._measured(network, index) or self._measured_at_another_size(network, index)
        measured = None if row is None else row.cold_load_s if storage.reads == "direct" else row.load_s
        if measured is not None:
            seconds = measured * cost.load_scale
        else:
            per_byte = cost.load_byte_s + network.load_copies * cost.load_byte_s_per_copy
            seconds = (cost.load_call_s + network.layers[index].weight_bytes * per_byte) * cost.load_scale
        if storage.pace_bytes_per_s is None:
            return seconds
        return max(seconds, network.layers[index].weight_bytes / storage.pace_bytes_per_s)

    def execute_s(self, network: Network, index: int, processor: str | None = None) -> float:
        """Seconds to execute one layer on a processor (None: the first)."""
        cost = self.device.cost
        own = self.on(processor)
        layer = network.layers[index]
        gemm = layer.op in GEMM_OPS
        factor = own.gemm_scale if gemm else own.other_scale
        scale = (cost.gemm_scale if gemm else cost.other_scale) * factor
        if not own.execute:
            row = self._measured(network, index)
            if row is not None and row.execute_s is not None:
                return row.execute_s * scale
            if not cost.execute and cost.primitives is not None:
                return self._fastest_primitive_s(network, index, processor)
        rates = self._rates(layer, own.execute or cost.execute)
        seconds = rates.call_s + layer.macs * rates.mac_s + moved_bytes(network, index) * rates.byte_s
        return fetched_s(seconds * scale, layer.weight_bytes, self.device.storage)

    def on(self, processor: str | None) -> ProcessorCost:
        """What differs on a processor (None: the first). Raises ``CostError`` for one that there is not."""
        return self.device.cost.on.get(self._named(processor), AS_THE_FIRST)

    def primitives_on(self, processor: str | None) -> tuple[PrimitiveProfile, ProcessorCost]:
        """The device's own primitive profile on a processor, and the factors on its times there.

        A processor that the profile names takes what was measured on it, any other its factors of that.
        Raises ``CostError`` for a processor that there is not.
        """
        name = self._named(processor)
        rows = measured_on(self._primitives, name, self.device.runtime.threads)
        return rows, AS_THE_FIRST if names_processor(self._primitives, name) else self.on(name)

    def _named(self, processor: str | None) -> str:
        names = [each.name for each in self.device.processors]
        if processor is not None and processor not in names:
            raise CostError(
                f"device {self.device.name!r}: no processor {processor!r}; it has {', '.join(names)}"
            )
        return names[0] if processor is None else processor

    @cached_property
    def _primitives(self) -> PrimitiveProfile:
        assert self.device.cost.primitives is not None
        return read_primitives(self.device.cost.primitives)

    def _fastest_primitive_s(self, network: Network, index: int, processor: str | None) -> float:
        """What a runtime that only looks at time takes, transforms between layouts not counted."""
        if network.layers[index].op in COSTLESS:
            return 0.0
        profile, own = self.primitives_on(processor)
        rows = profile.of(layer_key(network, index))
        if not rows:
            raise CostError(
                f"device {self.device.name!r}: its primitive profile {profile.source} lacks "
                f"{layer_key(network, index)!r} ({network.name}, layer {network.layers[index].name!r}); "
                f"measure it: edgesched profile primitives {network.name!r} --out FILE.csv"
            )
        factor = own.gemm_scale if network.layers[index].op in GEMM_OPS else own.other_scale
        return min(row.execute_s for row in rows) * factor

    def _measured(self, network: Network, index: int) -> ProfileRow | None:
        return self._row(network.name, index)

    def _row(self, name: str, index: int | None) -> ProfileRow | None:
        """The profile's row at the runtime's number of threads, or where it states none, the only row."""
        if self.profile is None:
            return None
        # Rows of a plan's primitives are for that plan (devices/planned.py).
        rows = [row for row in self.profile.rows_of(name, index) if not row.primitive]
        if not rows:
            return None
        threads = self.device.runtime.threads if any(row.threads is not None for row in rows) else None
        return self.profile.layer(name, index, "", threads)

    def _measured_at_another_size(self, network: Network, index: int) -> ProfileRow | None:
        """The layer measured in the same network with another input: its weights are the same."""
        if self.profile is None:
            return None
        base = network.name.partition("@")[0].partition("#")[0]
        for name in self.profile.networks:
            if name.partition("@")[0] == base:
                row = self._row(name, index)
                if row is not None and row.weight_bytes == network.layers[index].weight_bytes:
                    return row
        return None

    def _rates(self, layer: Layer, table: Mapping[str, OpRates]) -> OpRates:
        rates = table.get(layer.op, table.get(OTHER))
        if rates is None:
            raise CostError(
                f"device {self.device.name!r}: no rate for operation {layer.op!r} (layer {layer.name!r}); "
                f"it has rates for {', '.join(table) or 'none'}; add cost.execute.{OTHER} or a profile"
            )
        return rates
