"""What a network costs on a device under a plan of its primitives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .cost import NetworkCost, network_cost
from .relayout import paths

if TYPE_CHECKING:
    from ..traces.profile import Profile
    from .model import Runtime
    from .options import NetworkOptions


def planned_cost(
    cost: NetworkCost,
    options: NetworkOptions,
    choice: Sequence[int],
    runtime: Runtime,
    measured: Profile | None = None,
) -> NetworkCost:
    """The network's cost where layer i is computed by its option ``choice[i]``.

    ``cost`` is that of the runtime's own choice: INIT stays as it is, loading takes in proportion to the
    weights as stored. A layer's seconds are its option's and those of the transforms of its inputs. Its
    workspace and the transformed copies live while it executes; where the runtime plans one arena for a job,
    they lie in it, and the arena is the most of all at any instant.

    ``measured`` may hold layers of the network under the very primitive, as ``edgesched profile plan`` writes
    them: these take what was measured, transforms included, and INIT too.
    """
    known = _Measured(measured, options.network.name)
    network = options.network
    chosen = [own[at] for own, at in zip(options.layers, choice, strict=True)]
    seconds, scratch, peak = [], [], 0
    for index, (layer, option) in enumerate(zip(network.layers, chosen, strict=True)):
        copies = most = 0
        time_s = option.execute_s
        for source in layer.inputs:
            path = paths(options.transform_s[source])[chosen[source].out_layout, option.in_layout]
            size = options.tensor_bytes[source]
            most = max(most, copies + path.walking_copies * size)
            copies += path.copies * size
            time_s += path.time_s
        most = max(most, copies + option.workspace_bytes)
        seconds.append(known.execute_s(index, option.primitive, time_s))
        scratch.append(most)
        peak = max(peak, options.live_bytes[index] + most)
    arena = runtime.outputs_lifetime == "arena"
    layers = tuple(
        replace(
            layer,
            weight_bytes=option.weight_bytes,
            workspace_bytes=0 if arena else count,
            scratch_bytes=0 if arena else layer.scratch_bytes,
        )
        for layer, option, count in zip(network.layers, chosen, scratch, strict=True)
    )
    stored = replace(network, layers=layers, arena_bytes=peak if arena else network.arena_bytes)
    dispatch_s = runtime.dispatch_s
    load_s = [
        known.load_s(
            index,
            option.primitive,
            (each - dispatch_s) * (option.weight_bytes / layer.weight_bytes if layer.weight_bytes else 1.0),
        )
        for index, (each, option, layer) in enumerate(zip(cost.load_s, chosen, network.layers, strict=True))
    ]
    return network_cost(
        stored,
        runtime,
        init_s=known.init_s(cost.init_s - dispatch_s),
        load_s=tuple(load_s),
        execute_s=tuple(seconds),
    )


class _Measured:
    """What a profile has of a network's layers under given primitives; else what it is told."""

    def __init__(self, profile: Profile | None, network: str) -> None:
        rows = () if profile is None else profile.rows
        self._rows = {(r.layer, r.primitive): r for r in rows if r.network == network and r.primitive}

    def init_s(self, otherwise: float) -> float:
        """Seconds of INIT."""
        found = [row.init_s for (layer, _), row in self._rows.items() if layer is None]
        return otherwise if not found or found[0] is None else found[0]

    def load_s(self, index: int, primitive: str, otherwise: float) -> float:
        """Seconds of loading a layer."""
        row = self._rows.get((index, primitive))
        return otherwise if row is None or row.cold_load_s is None else row.cold_load_s

    def execute_s(self, index: int, primitive: str, otherwise: float) -> float:
        """Seconds of executing a layer."""
        row = self._rows.get((index, primitive))
        return otherwise if row is None or row.execute_s is None else row.execute_s
