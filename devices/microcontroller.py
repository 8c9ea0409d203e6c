"""What a layer may be computed with on a microcontroller: 8-bit kernels that differ in how much they lower.

A convolution is lowered to 16-bit patches and multiplied, two patches at a time in CMSIS-NN's kernels, so
that each weight is read once for two outputs. With more patches at a time weights are read more rarely;
without any, plain loops need no scratch memory at all. A board's rates are those of a vendor's closed
runtime, which is taken to lower two patches as CMSIS-NN does.

- ``lowered-2``: two patches, the time that the board's rates tell; a kernel of 1 x 1 has no patches to lower;
- ``lowered-row``, ``lowered-all``: all patches of a row, or of the whole output: ``WEIGHT_SHARE`` of the time
  goes into reading weights, which shrinks with the patches that share them;
- ``direct``: ``DIRECT_RATIO`` times as long, no scratch memory;
- depthwise: ``depthwise-lowered`` copies one patch of all channels, or ``direct``.

All read and write channels last (hwc), so nothing is ever transformed. A depthwise convolution that
overwrites its input (TinyEngine) is not among them: an option can add to what is live, not take from it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .costing import CostModel
from .options import NetworkOptions, Option
from .stored import LOWERED_BYTES, PATCHES, as_stored, computing, fetched_s, kernel_values, lowered_bytes

if TYPE_CHECKING:
    from ..workloads.network import Network
    from .model import Device, Storage

DIRECT_RATIO = 18.9
"""Plain loops (TFLite Micro's) against a vendor's kernels (X-CUBE-AI), whole networks on an STM32H743 (README
of mit-han-lab/tinyengine, MIT): the median of seven MCUNet; three others, held out, have 14.6, 16.1 and 18.5.
Measured on a Cortex-M7, assumed for other cores."""
WEIGHT_SHARE = 0.1
"""Share of the time that two patches spend reading weights. Assumed: no measurement separates it."""


def options(network: Network, device: Device, processor: str | None = None) -> NetworkOptions:
    """What each layer may be computed with on a processor of the device (None: the first), by its rates.

    Raises ``CostError`` for a layer that no rate covers, and for a processor that there is not.
    """
    stored = as_stored(network, device.runtime)
    model = CostModel(computing(device))
    seconds = [model.execute_s(stored, index, processor) for index in range(len(stored.layers))]
    return NetworkOptions(
        stored,
        tuple(_options(stored, index, time_s, device.storage) for index, time_s in enumerate(seconds)),
        tuple({} for _ in stored.layers),
        live_bytes=stored.live_bytes,
        tensor_bytes=tuple(math.prod(layer.output_shape) * stored.element_bytes for layer in stored.layers),
    )


def _options(network: Network, index: int, seconds: float, storage: Storage) -> tuple[Option, ...]:
    """The options of one layer; where weights are read in place none of them holds any."""
    layer = network.layers[index]
    weights = 0 if storage.reads == "in-place" else layer.weight_bytes
    if layer.op == "input":
        return (Option("input", "hwc", "hwc", 0.0),)
    return tuple(
        Option(name, "hwc", "hwc", fetched_s(ratio * seconds, layer.weight_bytes, storage), scratch, weights)
        for name, ratio, scratch in _kernels(network, index)
    )


def _kernels(network: Network, index: int) -> tuple[tuple[str, float, int], ...]:
    """Name, time relative to the board's rates and scratch bytes of each kernel of a layer."""
    layer = network.layers[index]
    if layer.op not in ("convolution", "depthwise"):
        return ((layer.op, 1.0, 0),)
    direct = ("direct", DIRECT_RATIO, 0)
    if layer.op == "depthwise":
        patch = kernel_values(layer) * layer.output_shape[1] * LOWERED_BYTES
        return (("depthwise-lowered", 1.0, patch), direct)
    if layer.attributes.get("kernel_h") == layer.attributes.get("kernel_w") == 1:
        return (("pointwise", 1.0, 0),)
    *_, height, width = layer.output_shape
    rows = (("lowered-2", PATCHES), ("lowered-row", width), ("lowered-all", height * width))
    lowered = {
        patches: (name, 1 - WEIGHT_SHARE + WEIGHT_SHARE * PATCHES / patches)
        for name, patches in reversed(rows)
        if patches >= PATCHES
    }
    found = [
        (name, ratio, lowered_bytes(kernel_values(layer), patches))
        for patches, (name, ratio) in sorted(lowered.items())
    ]
    return (*found, direct)
