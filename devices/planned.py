"""What a network costs on a device under a plan of its primitives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .cost import NetworkCost, network_cost
from .relayout import paths

if TYPE_CHECKING:
    from .model import Runtime
    from .options import NetworkOptions


def planned_cost(
    cost: NetworkCost, options: NetworkOptions, choice: Sequence[int], runtime: Runtime
) -> NetworkCost:
    """The network's cost where layer i is computed by its option ``choice[i]``.

    ``cost`` is that of the runtime's own choice: INIT stays as it is, loading takes in proportion to the
    weights as stored. A layer's seconds are its option's and those of the transforms of its inputs. Its
    workspace and the transformed copies live while it executes; where the runtime plans one arena for a job,
    they lie in it, and the arena is the most of all at any instant.
    """
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
        seconds.append(time_s)
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
        (each - dispatch_s) * (option.weight_bytes / layer.weight_bytes if layer.weight_bytes else 1.0)
        for each, option, layer in zip(cost.load_s, chosen, network.layers, strict=True)
    ]
    return network_cost(
        stored,
        runtime,
        init_s=cost.init_s - dispatch_s,
        load_s=tuple(load_s),
        execute_s=tuple(seconds),
    )
