"""How a device's runtime stores a network: bytes of a value, and weights that stay in flash."""

from __future__ import annotations

import math
from dataclasses import replace

from ..workloads.network import FLOAT32_BYTES, Layer, Network
from .model import Device, Runtime, Storage

WEIGHTED = frozenset({"convolution", "depthwise", "fully-connected"})
"""Operations whose weights are quantised; parameters of all others keep 4 bytes."""
PATCHES = 2
"""Patches that CMSIS-NN lowers at a time, as 16-bit values."""
LOWERED_BYTES = 2


def as_stored(network: Network, runtime: Runtime) -> Network:
    """The float32 network as a runtime of ``element_bytes`` a value stores it.

    Weights of convolutions and fully-connected layers, outputs and buffers take element_bytes / 4 of their
    float32 size (rounded up); one bias for each output channel keeps 4 bytes, as do the parameters of other
    layers. An 8-bit runtime lowers a few patches at a time instead of the whole image. Layers whose shape is
    not known are as their source says. A network that is stored so already stays as it is.
    """
    if runtime.element_bytes == network.element_bytes:
        return network
    size = runtime.element_bytes
    return replace(
        network,
        layers=tuple(_stored(network, index, size) for index in range(len(network.layers))),
        element_bytes=size,
    )


def fetched_s(execute_s: float, weight_bytes: int, storage: Storage) -> float:
    """Seconds of an execution that reads its weights where they are stored.

    With prefetch the longer of computing and reading, without both in turn; computing alone where weights are
    loaded, or the storage's rate is not given.
    """
    if storage.reads != "in-place" or storage.read_bytes_per_s is None:
        return execute_s
    read_s = weight_bytes / storage.read_bytes_per_s
    return max(execute_s, read_s) if storage.prefetch else execute_s + read_s


def computing(device: Device) -> Device:
    """The device as if weights that it reads where they are stored were in memory: nothing waits for them."""
    if device.storage.reads != "in-place":
        return device
    return device.model_copy(update={"storage": device.storage.model_copy(update={"reads": "cached"})})


def lowered_bytes(kernel_values: int, patches: int = PATCHES) -> int:
    """Bytes of ``patches`` lowered patches of ``kernel_values`` (K x K x C) values of 16 bits.

    A patch is a multiple of 4 values long, as CMSIS-NN's s8 convolution has it
    (``arm_convolve_get_buffer_sizes_s8.c``).
    """
    return patches * math.ceil(kernel_values / 4) * 4 * LOWERED_BYTES


def kernel_values(layer: Layer) -> int:
    """Values that one output value is a sum over: K x K x C / groups."""
    return layer.macs // math.prod(layer.output_shape)


def _stored(network: Network, index: int, size: int) -> Layer:
    layer = network.layers[index]
    if not layer.output_shape:
        return layer
    workspace = _scaled(layer.workspace_bytes, size)
    if size == 1 and layer.workspace_bytes:
        workspace = 0 if layer.op == "depthwise" else lowered_bytes(kernel_values(layer))
    return replace(
        layer,
        weight_bytes=_weight_bytes(layer, size),
        output_bytes=_scaled(layer.output_bytes, size),
        workspace_bytes=workspace,
        scratch_bytes=_scaled(layer.scratch_bytes, size),
    )


def _weight_bytes(layer: Layer, size: int) -> int:
    if layer.op not in WEIGHTED:
        return layer.weight_bytes
    weights = layer.output_shape[1] * kernel_values(layer)
    return layer.weight_bytes - weights * (FLOAT32_BYTES - size)


def _scaled(count: int, size: int) -> int:
    return math.ceil(count * size / FLOAT32_BYTES)
