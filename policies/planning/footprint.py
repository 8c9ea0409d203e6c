"""What a plan's network adds to memory under a device's runtime, as a planner sees it.

A network's footprint is the most that one inference holds, layer by layer (its cost's
``layerwise_peak_bytes`` under the plan). It depends on how long the runtime keeps weights and outputs;
``footprint_problem`` puts these rules into the tables that a planner searches.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...devices.cost import held_output_bytes
from .memory import Memory

if TYPE_CHECKING:
    from ...devices.model import Runtime
    from ...devices.options import NetworkOptions


def footprint_problem(options: NetworkOptions, runtime: Runtime) -> tuple[NetworkOptions, Memory]:
    """The tables and the definition under which a planner's memory is the network's footprint.

    Where weights stay until the network dies, the definition is ``total``; where they leave with their layer,
    they are part of what the layer needs while it executes, and the definition is ``peak-live``. Loading may
    hold more than executing (its transient copies): then that counts. With transforms beside such a load the
    footprint is an upper bound.
    """
    network = options.network
    by_layer = runtime.weights_lifetime == "layer"
    copies = network.load_copies if runtime.load_copies else 0
    held = held_output_bytes(network, runtime)
    live = [at_once + layer.scratch_bytes for at_once, layer in zip(held, network.layers, strict=True)]
    layers = []
    for index, own in enumerate(options.layers):
        before = held[index - 1] if index else (held[0] if runtime.outputs_lifetime == "arena" else 0)
        room = live[index] - before
        layers.append(
            tuple(
                replace(
                    option,
                    workspace_bytes=max(
                        option.workspace_bytes + by_layer * option.weight_bytes,
                        (copies + by_layer) * option.weight_bytes - room,
                    ),
                )
                for option in own
            )
        )
    problem = replace(options, layers=tuple(layers), live_bytes=tuple(live))
    return problem, "peak-live" if by_layer else "total"
