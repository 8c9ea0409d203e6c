"""What each layer of a network may be computed with on a device: from a primitive profile of its own, or by
what the device's cost model says, with ratios between primitives from elsewhere (``transfer.py``)."""

from __future__ import annotations

import difflib
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from ..primitives.catalogue import LIBRARY
from ..primitives.layers import catalogue as others
from ..primitives.layers.layer import layer_shape
from ..primitives.layouts import LAYOUTS, Layout
from ..primitives.shape import CONVOLUTIONS, ShapeError, conv_shape, layer_key, tensor_key
from ..traces.primitives import primitive_profile_names
from ..workloads.network import FLOAT32_BYTES, shape_bytes
from .cost import moved_bytes
from .costing import COSTLESS, GEMM_OPS, OTHER, CostModel
from .measured import measured_on
from .options import NetworkOptions, Option
from .stored import computing, fetched_s
from .transfer import TransferError, ratios

if TYPE_CHECKING:
    from ..traces.primitives import PrimitiveProfile
    from ..workloads.network import Network
    from .model import Device, ProcessorCost, Storage
    from .transfer import Ratios

CHW: Layout = "chw"
NOTHING = frozenset({"dropout", "split", "flatten", "reshape"})
"""Operations that do nothing at inference: where no profile has them, they are free."""


class ImplementingError(ValueError):
    """It is not known what a layer may be computed with; the message says which, and how to measure it."""


def network_options(network: Network, device: Device, *, processor: str | None = None) -> NetworkOptions:
    """What each layer of the network may be computed with on a processor of the device (None: the first).

    With values of 8 bits: as ``microcontroller.options``. A device with a primitive profile of its own: as
    ``options_from_profile``, at the runtime's number of threads; on a processor that the profile does not
    name, times the processor's factors, or where it has rates, as ``options_by_ratios``. Any other device: as
    ``options_by_ratios``. Weights that stay in flash take no memory. Raises ``ImplementingError`` and
    ``CostError`` as those do.
    """
    if device.runtime.element_bytes == 1:
        from . import microcontroller

        return microcontroller.options(network, device, processor)
    if device.runtime.element_bytes != FLOAT32_BYTES:
        raise ImplementingError(
            f"device {device.name!r}: runtime.element_bytes is {device.runtime.element_bytes}; primitives "
            f"compute {FLOAT32_BYTES} (float32) or, on microcontrollers, 1"
        )
    own = device.cost.primitives
    source = own or device.cost.primitive_ratios or next(iter(primitive_profile_names()), None)
    if source is None:
        raise ImplementingError(
            f"device {device.name!r} knows no primitives: set cost.primitives to a primitive profile "
            f"(edgesched profile primitives NETWORK --out FILE.csv), or cost.primitive_ratios to one of "
            f"another machine"
        )
    model = CostModel(device)
    if own is None or model.on(processor).execute:
        return options_by_ratios(network, device, ratios(source, device.runtime.threads), processor)
    profile, factors = model.primitives_on(processor)
    options = _times(options_from_profile(network, profile), factors)
    return _without_weights(options) if device.storage.reads == "in-place" else options


def _times(options: NetworkOptions, factors: ProcessorCost) -> NetworkOptions:
    """The options on a processor that takes ``factors`` times as long."""
    if factors.gemm_scale == factors.other_scale == 1.0:
        return options
    return replace(
        options,
        layers=tuple(
            tuple(
                replace(
                    each,
                    execute_s=each.execute_s
                    * (factors.gemm_scale if layer.op in GEMM_OPS else factors.other_scale),
                )
                for each in own
            )
            for layer, own in zip(options.network.layers, options.layers, strict=True)
        ),
        transform_s=tuple(
            {pair: time_s * factors.other_scale for pair, time_s in own.items()}
            for own in options.transform_s
        ),
    )


def _without_weights(options: NetworkOptions) -> NetworkOptions:
    return replace(
        options,
        layers=tuple(tuple(replace(each, weight_bytes=0) for each in own) for own in options.layers),
    )


def options_by_ratios(
    network: Network, device: Device, found: Ratios, processor: str | None = None
) -> NetworkOptions:
    """What each layer may be computed with, by the device's own cost of it and ratios between primitives.

    A convolution's primitives take the ratio times what the device's runtime takes; workspaces and weights
    are the library's; weights that stay in flash are fetched while a primitive computes, as the storage does.
    Other layers cost what the device says, whatever the layout. A transform between
    layouts takes, for each byte read and written, what the processor's rates say of a layer that only moves
    bytes (``relu`` or ``other``); where they do not, the median of the network's own such layers. Of a batch,
    times and tensors are of all images, the workspace of one: they are computed in turn. Raises
    ``ImplementingError`` for a layer that primitives do not compute or ratios do not know, ``CostError`` for
    one that the device cannot tell the cost of, or another processor.
    """
    _check_float32(network)
    for layer in network.layers:
        if not layer.output_shape:
            raise ImplementingError(
                f"network {network.name!r}: the shape of layer {layer.name!r} is not known"
            )
    model = CostModel(computing(device))
    seconds = [model.execute_s(network, index, processor) for index in range(len(network.layers))]
    byte_s = _moving_byte_s(network, device, processor, seconds)
    sizes = tuple(shape_bytes(layer.output_shape) for layer in network.layers)
    pairs = tuple(itertools.permutations(LAYOUTS, 2))
    options = NetworkOptions(
        network,
        tuple(
            _by_ratio(network, index, time_s, found)
            if network.layers[index].op in CONVOLUTIONS
            else _as_it_is(network, index, time_s)
            for index, time_s in enumerate(seconds)
        ),
        tuple(
            dict.fromkeys(pairs, 2 * size * byte_s) if len(layer.output_shape) == 4 else {}
            for layer, size in zip(network.layers, sizes, strict=True)
        ),
        live_bytes=network.live_bytes,
        tensor_bytes=sizes,
    )
    if device.storage.reads != "in-place":
        return options
    return _without_weights(_fetched(options, device.storage))


def _fetched(options: NetworkOptions, storage: Storage) -> NetworkOptions:
    """Every option with what it waits for its weights in flash, as stored for it."""
    return replace(
        options,
        layers=tuple(
            tuple(
                replace(each, execute_s=fetched_s(each.execute_s, each.weight_bytes, storage)) for each in own
            )
            for own in options.layers
        ),
    )


def _by_ratio(network: Network, index: int, time_s: float, found: Ratios) -> tuple[Option, ...]:
    layer = network.layers[index]
    try:
        shape = conv_shape(network, index)
        own = found.of(shape)
    except ShapeError as error:
        raise ImplementingError(str(error)) from error
    except TransferError as error:
        raise ImplementingError(f"network {network.name!r}: layer {layer.name!r}: {error}") from error
    bias = max(0, layer.weight_bytes - shape.weight_elements * FLOAT32_BYTES)
    return tuple(
        Option(
            name,
            each.in_layout,
            each.out_layout,
            time_s * ratio,
            each.workspace_bytes(shape),
            each.weight_bytes(shape) + bias,
        )
        for name, ratio in own.items()
        for each in (LIBRARY[name],)
    )


def _as_it_is(network: Network, index: int, time_s: float) -> tuple[Option, ...]:
    """A layer that is no convolution: one option for each layout that it is known to be computed in."""
    layer = network.layers[index]
    if layer.op == "input":
        return (Option("input", "chw", "chw", time_s),)
    found: list[Layout] = [each.in_layout for each in others.candidates(layer_shape(network, index))]
    layouts = found or [CHW]
    return tuple(
        Option(f"{layer.op}-{layout}", layout, layout, time_s, weight_bytes=layer.weight_bytes)
        for layout in layouts
    )


def _moving_byte_s(
    network: Network, device: Device, processor: str | None, seconds: Sequence[float]
) -> float:
    """Seconds per byte read or written where nothing but memory counts."""
    cost = device.cost
    own = cost.on.get(processor or device.processors[0].name)
    rates = own.execute if own is not None and own.execute else cost.execute
    for op in ("relu", OTHER):
        if op in rates and rates[op].byte_s:
            return rates[op].byte_s * cost.other_scale * (1.0 if own is None else own.other_scale)
    for wanted in ({"relu"}, {layer.op for layer in network.layers} - GEMM_OPS - COSTLESS):
        measured = [
            time_s / moved
            for index, time_s in enumerate(seconds)
            if network.layers[index].op in wanted and (moved := moved_bytes(network, index))
        ]
        if measured:
            return statistics.median(measured)
    return 0.0


def options_from_profile(network: Network, profile: PrimitiveProfile) -> NetworkOptions:
    """What each layer may be computed with, as the profile has it.

    Live bytes are those of the network's outputs, each in memory from its producer to its last reader. Raises
    ``ImplementingError`` for a layer that the profile lacks, for a network of several images at once, and for
    one that is not float32. Of several rows of a primitive, that of the first processor and the fewest
    threads counts.
    """
    _check_float32(network)
    profile = measured_on(profile, "", 1)
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


def _check_float32(network: Network) -> None:
    if network.element_bytes != FLOAT32_BYTES:
        raise ImplementingError(
            f"network {network.name!r}: values of {network.element_bytes} bytes; primitives compute float32"
        )


def _options(network: Network, index: int, profile: PrimitiveProfile) -> tuple[Option, ...]:
    layer = network.layers[index]
    key = layer_key(network, index)
    bias_bytes = _bias_bytes(network, index)
    found = tuple(
        Option(
            row.primitive,
            cast(Layout, row.in_layout),
            cast(Layout, row.out_layout),
            row.execute_s,
            row.workspace_bytes,
            row.weight_bytes + bias_bytes,
        )
        for row in profile.of(key)
    )
    if found:
        return found
    if layer.op == "input":
        return (Option("input-chw", "chw", "chw", 0.0),)
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


def _bias_bytes(network: Network, index: int) -> int:
    """What a convolution's key, and so its rows, leave out of its weights."""
    layer = network.layers[index]
    if layer.op not in CONVOLUTIONS:
        return 0
    return layer.weight_bytes - conv_shape(network, index).weight_elements * FLOAT32_BYTES


def _transforms(
    network: Network, index: int, profile: PrimitiveProfile
) -> Mapping[tuple[Layout, Layout], float]:
    rows = profile.of(tensor_key(network.layers[index].output_shape[1:]))
    return {
        (cast(Layout, row.in_layout), cast(Layout, row.out_layout)): row.execute_s
        for row in rows
        if row.in_layout != row.out_layout
    }
