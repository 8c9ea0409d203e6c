"""What a layer bundle's ``bundle.json`` says, and for which machine."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

FORMAT: Final = "edgesched layer bundle"
FORMAT_VERSION: Final = 1
PAGE_BYTES = 4096
"""Layers' parts of the weights begin and end at multiples of it, as direct reads need."""
DESCRIPTION = "bundle.json"
WEIGHTS = "weights.raw"
NETWORK_INPUT = -1
"""Producer of a network's input."""

CPU_FEATURES = (
    *("avx", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8"),
    *("asimddp", "i8mm", "bf16", "sve"),
)
"""Processor features, as Linux names them, by which onnxruntime chooses layouts and data types."""


class BundleError(ValueError):
    """A bundle cannot be made or opened; the message names the file or folder and says why."""


DType = Literal[
    "float16", "float32", "float64", "bool",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
]  # fmt: skip
"""Data types of tensors, as numpy names them."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorPart(_Part):
    """A dense tensor; ``shape`` as it lies in memory (padded channels included)."""

    name: str
    dtype: DType
    shape: tuple[NonNegativeInt, ...]
    bytes: NonNegativeInt


class Weight(TensorPart):
    """A stored tensor; ``offset`` within the layer's part of the weights."""

    offset: NonNegativeInt


class Activation(TensorPart):
    """A tensor between layers; ``offset`` in the job's arena.

    It lives from ``producer`` (layer index, -1 for a network's input) to ``last_use`` (the last layer that
    reads it; the last of all for a network's output).
    """

    offset: NonNegativeInt
    producer: int = Field(ge=NETWORK_INPUT)
    last_use: NonNegativeInt


class LayerPart(_Part):
    """One layer: ``model`` its file, ``reads`` the layers whose outputs it reads.

    ``op`` and ``macs`` as in ``workloads.network.Layer``. Its weights lie in ``weights_bytes`` (padded; 0
    without any) from ``weights_offset`` in the weights file.
    """

    name: str
    op: str
    model: str = Field(pattern=r"^layers/[0-9]+\.onnx$")
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = Field(min_length=1)
    weights: tuple[Weight, ...]
    weights_offset: NonNegativeInt
    weights_bytes: NonNegativeInt
    macs: NonNegativeInt
    reads: tuple[NonNegativeInt, ...]


class Description(_Part):
    """What ``bundle.json`` holds; sizes in bytes."""

    format: Literal["edgesched layer bundle"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION
    network: str
    source_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the model file, its external weight files behind it."""
    dims: dict[str, int]
    """Numbers given to symbolic sides of the inputs."""
    runtime: str
    machine: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    arena_bytes: NonNegativeInt
    tensors: tuple[Activation, ...]
    layers: tuple[LayerPart, ...] = Field(min_length=1)


def runtime() -> str:
    """The runtime that executes layers, with its version."""
    try:
        return f"onnxruntime {metadata.version('onnxruntime')}"
    except metadata.PackageNotFoundError:
        raise ImportError(
            "layer bundles need the onnxruntime package: pip install 'edgesched[bridge]'"
        ) from None


def machine() -> str:
    """This machine as far as an optimised graph depends on it: ``x86_64: avx avx2``.

    Features are read from Linux; elsewhere the architecture stands alone.
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    listed = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    features = set(listed.partition(":")[2].split())
    return f"{platform.machine()}: {' '.join(f for f in CPU_FEATURES if f in features)}".rstrip(": ")


def content_key(source_sha256: str, dims: Mapping[str, int], runtime: str, machine: str) -> str:
    """SHA-256 over everything that decides what a bundle holds."""
    parts = [FORMAT, FORMAT_VERSION, source_sha256, sorted(dims.items()), runtime, machine]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
