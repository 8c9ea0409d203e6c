"""What a network costs on a device: seconds and resident bytes of every task.

The cost model looks a layer up in the device's profile and falls back on rates fitted from profiles. Bytes
follow from the network and from how long the runtime keeps what (``Runtime.weights_lifetime`` and so on).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..workloads.network import Network
from .model import Runtime, SlowdownClass


@dataclass(frozen=True, eq=False)
class NetworkCost:
    """A network with its times and bytes on one device; tuples have one element per layer.

    ``*_start_bytes`` become resident when the task starts, ``*_end_bytes`` leave when it ends; what remains
    leaves when the network dies.
    """

    network: Network
    init_s: float
    load_s: tuple[float, ...]
    execute_s: tuple[float, ...]
    expected_s: float
    """What policies believe one inference takes alone (Masa's and SJF's key); inf where unknown."""
    reservation_bytes: int
    """What Masa books for the network while it is active."""
    arena_bytes: int
    """Of ``init_start_bytes``, the arena that all outputs share; 0 where outputs are buffers of their own."""
    init_start_bytes: int
    init_end_bytes: int
    load_start_bytes: tuple[int, ...]
    load_end_bytes: tuple[int, ...]
    execute_start_bytes: tuple[int, ...]
    execute_end_bytes: tuple[int, ...]
    execute_class: tuple[SlowdownClass, ...]
    """What bounds each layer's execution: "compute" or "memory"."""
    bulk_load_s: float
    bulk_execute_s: float
    """All layers at a stretch: less than their sum where a layer alone finds its caches cold."""
    stretch_saving_s: tuple[float, ...]
    """Of ``execute_s``, what a layer does not take where its worker's last task was an execution too."""
    bulk_load_start_bytes: int
    bulk_load_end_bytes: int
    bulk_execute_start_bytes: int
    bulk_execute_end_bytes: int

    @property
    def name(self) -> str:
        """The network's name."""
        return self.network.name

    @property
    def bulk_execute_class(self) -> SlowdownClass:
        """What bounds most of the time of executing the whole network."""
        share: dict[SlowdownClass, float] = {}
        for seconds, which in zip(self.execute_s, self.execute_class, strict=True):
            share[which] = share.get(which, 0.0) + seconds
        return max(share, key=lambda which: share[which])

    @property
    def solo_s(self) -> float:
        """Time of all tasks one after the other, without overheads."""
        return self.init_s + self.bulk_load_s + self.bulk_execute_s

    @property
    def layerwise_peak_bytes(self) -> int:
        """Largest resident bytes of one inference, layer by layer (base excluded)."""
        resident = self.init_start_bytes
        peak = resident
        resident -= self.init_end_bytes
        for layer in range(len(self.load_s)):
            for start, end in (
                (self.load_start_bytes[layer], self.load_end_bytes[layer]),
                (self.execute_start_bytes[layer], self.execute_end_bytes[layer]),
            ):
                peak = max(peak, resident + start)
                resident += start - end
        return peak

    @property
    def bulk_peak_bytes(self) -> int:
        """Largest resident bytes of one inference in bulk (base excluded)."""
        held = self.init_start_bytes - self.init_end_bytes
        loading = held + self.bulk_load_start_bytes
        executing = loading - self.bulk_load_end_bytes + self.bulk_execute_start_bytes
        return max(self.init_start_bytes, loading, executing)


MEMORY_BOUND_MACS_PER_BYTE = 4.0
"""Below so many multiply-accumulates per byte moved, memory is slower than a core's arithmetic."""


def bound(network: Network, index: int) -> SlowdownClass:
    """What bounds a layer's execution: "compute" or "memory", by its multiply-accumulates per byte moved.

    The roofline's ridge (Williams, Waterman and Patterson, CACM 2009) of one core lies between 1 and 8
    single-precision multiply-accumulates per byte on the cores of the catalogue and of today's desktops.
    """
    layer = network.layers[index]
    return "compute" if layer.macs > MEMORY_BOUND_MACS_PER_BYTE * moved_bytes(network, index) else "memory"


def moved_bytes(network: Network, index: int) -> int:
    """Bytes a layer reads and writes: its inputs, its output (its buffer twice in place), its weights.

    Weights count for fully-connected layers only, where each is used once.
    """
    layer = network.layers[index]
    read = sum(network.layers[network.buffer_of[i]].output_bytes for i in layer.inputs)
    written = network.layers[network.buffer_of[index]].output_bytes
    return read + written + (layer.weight_bytes if layer.op == "fully-connected" else 0)


def network_cost(
    network: Network,
    runtime: Runtime,
    *,
    init_s: float,
    load_s: tuple[float, ...],
    execute_s: tuple[float, ...],
    bulk_load_s: float | None = None,
    bulk_execute_s: float | None = None,
    expected_s: float | None = None,
    reservation_bytes: int | None = None,
    in_place: bool = False,
) -> NetworkCost:
    """Put times and the runtime's memory rules together.

    ``bulk_load_s`` and ``bulk_execute_s`` are those of all layers at a stretch; None: their sum.
    ``expected_s`` None: the time of one layer after the other; ``reservation_bytes`` None: the layer-wise
    peak by the model.
    ``in_place``: weights stay where they are stored and take no memory.
    """
    layers = network.layers
    copies = network.load_copies if runtime.load_copies else 0
    by_layer = runtime.weights_lifetime == "layer"
    alive = runtime.outputs_lifetime == "liveness"
    freed = [0] * len(layers)
    if alive:
        for index, layer in enumerate(layers):
            freed[network.last_use[index]] += layer.output_bytes
    weights = [0 if in_place else layer.weight_bytes for layer in layers]
    scratch = [layer.workspace_bytes + layer.scratch_bytes for layer in layers]
    outputs = [layer.output_bytes for layer in layers]
    bulk_outputs = max(network.live_bytes) if alive else sum(outputs)
    bulk_scratch = sum(scratch)
    arena = runtime.outputs_lifetime == "arena"
    arena_bytes = 0
    if arena:
        arena_bytes = network.arena_bytes or max(network.live_bytes)
        outputs = [0] * len(layers)
        bulk_outputs = 0
        bulk_scratch = max(scratch)
    load_all = math.fsum(load_s)
    execute_all = math.fsum(execute_s)
    total = sum(weights)
    cost = NetworkCost(
        network=network,
        init_s=init_s + runtime.dispatch_s,
        load_s=tuple(seconds + runtime.dispatch_s for seconds in load_s),
        execute_s=tuple(seconds + runtime.dispatch_s for seconds in execute_s),
        expected_s=init_s + load_all + execute_all if expected_s is None else expected_s,
        reservation_bytes=0,
        arena_bytes=arena_bytes,
        init_start_bytes=arena_bytes + (0 if by_layer else total),
        init_end_bytes=0,
        load_start_bytes=tuple(w * (copies + by_layer) for w in weights),
        load_end_bytes=tuple(w * copies for w in weights),
        execute_start_bytes=tuple(o + s for o, s in zip(outputs, scratch, strict=True)),
        execute_end_bytes=tuple(
            s + f + (w if by_layer else 0) for s, f, w in zip(scratch, freed, weights, strict=True)
        ),
        execute_class=tuple(bound(network, index) for index in range(len(layers))),
        bulk_load_s=(load_all if bulk_load_s is None else bulk_load_s) + runtime.dispatch_s,
        bulk_execute_s=(execute_all if bulk_execute_s is None else bulk_execute_s) + runtime.dispatch_s,
        stretch_saving_s=_stretch_saving_s(network, execute_s, bulk_execute_s),
        bulk_load_start_bytes=total * (copies + by_layer),
        bulk_load_end_bytes=total * copies,
        bulk_execute_start_bytes=bulk_outputs + bulk_scratch,
        bulk_execute_end_bytes=bulk_scratch if arena else 0,
    )
    reservation = cost.layerwise_peak_bytes if reservation_bytes is None else reservation_bytes
    object.__setattr__(cost, "reservation_bytes", reservation)
    return cost


def _stretch_saving_s(
    network: Network, execute_s: tuple[float, ...], bulk_execute_s: float | None
) -> tuple[float, ...]:
    """What layers save at a stretch, by layer.

    A layer on its own is executed right after its weights were read, which has emptied the caches. Layers
    without weights read nothing, so that the others share the saving, by what they take.
    """
    read = [s if layer.weight_bytes else 0.0 for s, layer in zip(execute_s, network.layers, strict=True)]
    total = math.fsum(read)
    if bulk_execute_s is None or not total:
        return (0.0,) * len(execute_s)
    share = min(1.0, (math.fsum(execute_s) - bulk_execute_s) / total)
    return tuple(seconds * share for seconds in read)
