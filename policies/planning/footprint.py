"""The frontier of what a network adds to memory under a device's runtime: its footprint.

A footprint is the most that one inference holds, layer by layer (its cost's ``layerwise_peak_bytes`` under the
plan). It depends on how long the runtime keeps weights and outputs.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from .frontier import Frontier, Point, frontier

if TYPE_CHECKING:
    from ...devices.model import Runtime
    from ...devices.options import NetworkOptions
    from ...workloads.network import Network
    from .memory import Memory


def footprint_frontier(options: NetworkOptions, runtime: Runtime) -> Frontier:
    """The exact frontier of time and footprint.

    Loading may hold more than executing, where the runtime makes transient copies of what it loads: then that
    counts; with transforms beside such a load the footprint is an upper bound.
    """
    if runtime.weights_lifetime == "layer" and runtime.outputs_lifetime == "arena":
        return _area_beside_largest_weights(options)
    return frontier(*_problem(options, runtime))


def _area_beside_largest_weights(options: NetworkOptions) -> Frontier:
    """One area for outputs, copies and workspace, there all the time, and one layer's weights after another.

    The sum of two maxima: for every bound on the weights of a layer, the frontier of the area.
    """
    least = max(min(option.weight_bytes for option in own) for own in options.layers)
    every = {option.weight_bytes for own in options.layers for option in own}
    found: dict[tuple[int, float], Point] = {}
    for bound in sorted(count for count in every if count >= least):
        within = [
            [at for at, option in enumerate(own) if option.weight_bytes <= bound] for own in options.layers
        ]
        layers = tuple(
            tuple(own[at] for at in kept) for own, kept in zip(options.layers, within, strict=True)
        )
        for point in frontier(replace(options, layers=layers), "peak-live").points:
            choice = tuple(kept[at] for kept, at in zip(within, point.choice, strict=True))
            largest = max(own[at].weight_bytes for own, at in zip(options.layers, choice, strict=True))
            own_point = Point(point.memory_bytes + largest, point.time_s, choice)
            found.setdefault((own_point.memory_bytes, own_point.time_s), own_point)
    kept_points: list[Point] = []
    for _, each in sorted(found.items()):
        if not kept_points or each.time_s < kept_points[-1].time_s:
            kept_points.append(each)
    return Frontier(options.network.name, "peak-live", tuple(kept_points))


def _problem(options: NetworkOptions, runtime: Runtime) -> tuple[NetworkOptions, Memory]:
    """The tables and the definition under which a planner's memory is the footprint.

    Where weights stay until the network dies, the definition is ``total``; where they leave with their layer,
    they are part of what the layer needs while it executes, and the definition is ``peak-live``.
    """
    network = options.network
    by_layer = runtime.weights_lifetime == "layer"
    copies = network.load_copies if runtime.load_copies else 0
    held = _held_bytes(network, runtime)
    scratch = [0 if runtime.outputs_lifetime == "arena" else layer.scratch_bytes for layer in network.layers]
    live = [at_once + own for at_once, own in zip(held, scratch, strict=True)]
    layers = []
    for index, own in enumerate(options.layers):
        # What is live while the layer executes and not yet while its weights are loaded.
        later = live[index] - _before_bytes(network, runtime, held, index)
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


def _before_bytes(network: Network, runtime: Runtime, held: list[int], index: int) -> int:
    """Bytes of outputs in memory just before a layer executes."""
    if runtime.outputs_lifetime == "arena":
        return held[index]
    return held[index] - network.layers[index].output_bytes
