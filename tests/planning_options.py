"""Options of a network from the library of primitives, with made-up times."""

from __future__ import annotations

import numpy as np

from edgesched.devices.options import NetworkOptions, Option
from edgesched.primitives import catalogue as library
from edgesched.primitives.layers import catalogue as others
from edgesched.primitives.layers.layer import layer_shape
from edgesched.primitives.layouts import LAYOUTS
from edgesched.primitives.shape import CONVOLUTIONS, conv_shape
from edgesched.workloads.network import Network, shape_bytes


def every_option(network: Network, *, chw_to_hwc_directly: bool = True) -> NetworkOptions:
    """Every primitive of every layer. Without the direct transform, chw gets to hwc by way of hcw."""
    layers = []
    for index, layer in enumerate(network.layers):
        shape = conv_shape(network, index) if layer.op in CONVOLUTIONS else layer_shape(network, index)
        found = library.candidates(shape) if layer.op in CONVOLUTIONS else others.candidates(shape)
        bias = layer.weight_bytes - 4 * shape.weight_elements if layer.op in CONVOLUTIONS else 0
        layers.append(
            tuple(
                Option(
                    each.name,
                    each.in_layout,
                    each.out_layout,
                    1e-3,
                    each.workspace_bytes(shape),
                    each.weight_bytes(shape) + bias,
                )
                for each in found
            )
        )
    pairs = {(a, b): 1e-5 for a in LAYOUTS for b in LAYOUTS if a != b}
    if not chw_to_hwc_directly:
        del pairs["chw", "hwc"]
    images = [len(layer.output_shape) == 4 for layer in network.layers]
    return NetworkOptions(
        network,
        tuple(layers),
        tuple(pairs if image else {} for image in images),
        network.live_bytes,
        tuple(shape_bytes(layer.output_shape) for layer in network.layers),
    )


def named(options: NetworkOptions, *parts: str) -> tuple[int, ...]:
    """For each layer the first option in whose name one of ``parts`` is, the first parts first."""
    choice = []
    for own in options.layers:
        order = [at for part in parts for at, option in enumerate(own) if part in option.primitive]
        choice.append(order[0] if order else 0)
    return tuple(choice)


def at_random(options: NetworkOptions, seed: int) -> tuple[int, ...]:
    """Any option of each layer."""
    rng = np.random.default_rng(seed)
    return tuple(int(rng.integers(len(own))) for own in options.layers)
