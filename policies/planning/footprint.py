"""The frontier of what a network adds to memory under a device's runtime: its footprint.

A footprint is the most that one inference holds, layer by layer (its cost's ``layerwise_peak_bytes`` under
the plan). It depends on how long the runtime keeps weights and outputs.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from .frontier import Frontier, Point, frontier
from .transforms import NoPlanError

if TYPE_CHECKING:
    from ...devices.model import Runtime
    from ...devices.options import NetworkOptions
    from ...workloads.network import Network
    from .memory import Memory


def footprint_frontier(options: NetworkOptions, runtime: Runtime) -> Frontier:
    """The frontier of time and footprint.

    Exact, but for two things where weights leave with their layer and outputs are buffers of their own: a
    transform by way of a third layout beside a layer's weights may need more, and one beside a load with
    transient copies less. What a job books is its cost's footprint in any case.
    """
    by_layer = runtime.weights_lifetime == "layer"
    copies = _copies(options.network, runtime)
    if runtime.outputs_lifetime == "arena" and (by_layer or copies):
        return _beside_largest_weights(options, "peak-live" if by_layer else "total", copies + by_layer)
    return frontier(*_problem(options, runtime))


def _copies(network: Network, runtime: Runtime) -> int:
    """Transient copies that loading makes of what it loads."""
    return network.load_copies if runtime.load_copies else 0


def _beside_largest_weights(options: NetworkOptions, memory: Memory, times: int) -> Frontier:
    """One area for outputs, copies and workspace, and ``times`` the largest weights of any layer beside it.

    The area is there all the time, so the footprint is the sum of two maxima: for every bound on the weights
    of a layer, the frontier of the area.
    """
    least = max(min(option.weight_bytes for option in own) for own in options.layers)
    every = {option.weight_bytes for own in options.layers for option in own}
    found: list[Point] = []
    for bound in sorted(count for count in every if count >= least):
        within = [
            [at for at, option in enumerate(own) if option.weight_bytes <= bound] for own in options.layers
        ]
        layers = tuple(
            tuple(own[at] for at in kept) for own, kept in zip(options.layers, within, strict=True)
        )
        try:
            points = frontier(replace(options, layers=layers), memory).points
        except NoPlanError:
            if bound == max(every):
                raise
            continue  # what connects the layouts has larger weights
        for point in points:
            choice = tuple(kept[at] for kept, at in zip(within, point.choice, strict=True))
            largest = max(own[at].weight_bytes for own, at in zip(options.layers, choice, strict=True))
            found.append(Point(point.memory_bytes + times * largest, point.time_s, choice))
    kept_points: list[Point] = []
    for each in sorted(found, key=lambda point: (point.memory_bytes, point.time_s)):
        if not kept_points or each.time_s < kept_points[-1].time_s:
            kept_points.append(each)
    return Frontier(options.network.name, memory, tuple(kept_points))


def _problem(options: NetworkOptions, runtime: Runtime) -> tuple[NetworkOptions, Memory]:
    """The tables and the definition under which a planner's memory is the footprint.

    Where weights stay until the network dies, the definition is ``total``; where they leave with their layer,
    they are part of what the layer needs while it executes, and the definition is ``peak-live``.
    """
    network = options.network
    by_layer = runtime.weights_lifetime == "layer"
    copies = _copies(network, runtime)
    held = _held_bytes(network, runtime)
    arena = runtime.outputs_lifetime == "arena"
    scratch = [0 if arena else layer.scratch_bytes for layer in network.layers]
    live = [at_once + own for at_once, own in zip(held, scratch, strict=True)]
    layers = []
    for index, own in enumerate(options.layers):
        # What is live while the layer executes and not yet while its weights are loaded.
        later = scratch[index] + (0 if arena else network.layers[index].output_bytes)
        layers.append(
            tuple(
                replace(
                    option,
                    workspace_bytes=max(
                        option.workspace_bytes + by_layer * option.weight_bytes,
                        (copies + by_layer) * option.weight_bytes - later,
                    ),
                )
                for option in own
            )
        )
    problem = replace(options, layers=tuple(layers), live_bytes=tuple(live))
    return problem, "peak-live" if by_layer else "total"


def _held_bytes(network: Network, runtime: Runtime) -> list[int]:
    """Bytes of outputs in memory while each layer executes."""
    if runtime.outputs_lifetime == "network":
        return list(accumulate(layer.output_bytes for layer in network.layers))
    return list(network.live_bytes)
