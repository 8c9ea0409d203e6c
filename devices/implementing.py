"""From a primitive profile to what each layer of a network may be computed with."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from ..primitives.layouts import Layout
from ..primitives.shape import layer_key, tensor_key
from ..traces.primitives import read_primitives
from ..workloads.network import FLOAT32_BYTES
from .options import NetworkOptions, Option

if TYPE_CHECKING:
    from ..traces.primitives import PrimitiveProfile
    from ..workloads.network import Network
    from .model import Device

NOTHING = frozenset({"dropout", "split", "flatten", "reshape"})
"""Operations that do nothing at inference: where no profile has them, they are free."""


class ImplementingError(ValueError):
    """It is not known what a layer may be computed with; the message says which, and how to measure it."""


def network_options(network: Network, device: Device, *, processor: str | None = None) -> NetworkOptions:
    """What each layer of the network may be computed with on the device.

    Raises ``ImplementingError`` for a device that knows no primitives, and as ``options_from_profile`` does.
    """
    if device.runtime.element_bytes == 1:
        from . import microcontroller

        return microcontroller.options(network, device)
    if device.cost.primitives is None:
        raise ImplementingError(
            f"device {device.name!r} knows no primitives: set cost.primitives to a primitive profile "
            f"(edgesched profile primitives NETWORK --out FILE.csv)"
        )
    return options_from_profile(network, read_primitives(device.cost.primitives))


def options_from_profile(network: Network, profile: PrimitiveProfile) -> NetworkOptions:
    """What each layer may be computed with, as the profile has it.

    Live bytes are those of the network's outputs, each in memory from its producer to its last reader. Raises
    ``ImplementingError`` for a layer that the profile lacks, and for a network of several images at once.
    """
    if network.input_shape and network.input_shape[0] != 1:
        raise ImplementingError(
            f"network {network.name!r}: computes {network.input_shape[0]} images at once, primitives one; "
            f"write {network.name.partition('#')[0]}#1"
        )
    count = range(len(network.layers))
    return NetworkOptions(
        network,
        tuple(_options(network, index, profile) for index in count),
        tuple(_transforms(network, index, profile) for index in count),
        live_bytes=network.live_bytes,
        tensor_bytes=tuple(math.prod(layer.output_shape) * FLOAT32_BYTES for layer in network.layers),
    )


def _options(network: Network, index: int, profile: PrimitiveProfile) -> tuple[Option, ...]:
    layer = network.layers[index]
    if layer.op == "input":
        return (Option("input", "chw", "chw", 0.0),)
    key = layer_key(network, index)
    found = tuple(
        Option(
            row.primitive,
            cast(Layout, row.in_layout),
            cast(Layout, row.out_layout),
            row.execute_s,
            row.workspace_bytes,
            row.weight_bytes,
        )
        for row in profile.of(key)
    )
    if found:
        return found
    if layer.op in NOTHING:
        image = len(layer.output_shape) == 4
        layouts: tuple[Layout, ...] = (
            ("chw", "hwc", "hcw") if image and layer.op in ("dropout", "split") else ("chw",)
        )
        return tuple(Option(f"{layer.op}-{layout}", layout, layout, 0.0) for layout in layouts)
    near = difflib.get_close_matches(key, profile.layers, n=1)
    hint = f" (nearest: {near[0]!r})" if near else ""
    raise ImplementingError(
        f"network {network.name!r}: layer {layer.name!r} ({key}) is not in the primitive profile "
        f"{profile.source}{hint}; measure it: edgesched profile primitives '{network.name}' --out FILE.csv"
    )


def _transforms(
    network: Network, index: int, profile: PrimitiveProfile
) -> Mapping[tuple[Layout, Layout], float]:
    rows = profile.of(tensor_key(network.layers[index].output_shape[1:]))
    return {
        (cast(Layout, row.in_layout), cast(Layout, row.out_layout)): row.execute_s
        for row in rows
        if row.in_layout != row.out_layout
    }
