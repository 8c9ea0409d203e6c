"""Random weights of an ONNX model, drawn while the file is written: they are never in memory together.

protobuf allows the fields of a message in any order, and a message in pieces. So the graph is written first
and its weights follow one by one; only their sizes must be known beforehand.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...workloads.network import FLOAT32_BYTES
from .libraries import import_onnx

CHUNK_VALUES = 2**20
"""Weights are drawn and written in pieces of this many values (4 MiB)."""


@dataclass(frozen=True, slots=True)
class RandomTensor:
    """A float32 tensor of independent normal values of that mean and standard deviation."""

    name: str
    shape: tuple[int, ...]
    mean: float
    deviation: float

    @property
    def size_bytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * FLOAT32_BYTES

    def initializer(self) -> Any:
        """The tensor as onnx.TensorProto, without values."""
        onnx = import_onnx()
        return onnx.TensorProto(name=self.name, dims=self.shape, data_type=onnx.TensorProto.FLOAT)

    def chunks(self, seed: int) -> Iterator[NDArray[np.float32]]:
        """The values, little-endian as ONNX stores them; they depend on ``seed`` and the tensor's name."""
        key = zlib.crc32(self.name.encode())
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key,)))
        left = math.prod(self.shape)
        while left:
            values = generator.standard_normal(min(left, CHUNK_VALUES), dtype=np.float32)
            values *= self.deviation
            values += self.mean
            left -= len(values)
            yield values.astype("<f4", copy=False)


def file_bytes(model: Any, tensors: Sequence[RandomTensor]) -> int:
    """Size of the file that ``write_model`` would write."""
    head, tensor_heads = _heads(model, tensors)
    return len(head) + sum(map(len, tensor_heads)) + sum(tensor.size_bytes for tensor in tensors)


def write_model(path: Path, model: Any, tensors: Sequence[RandomTensor], seed: int) -> None:
    """Write ``model`` (onnx.ModelProto without these initializers) with ``tensors`` drawn from ``seed``."""
    head, tensor_heads = _heads(model, tensors)
    with path.open("wb") as file:
        file.write(head)
        for tensor, tensor_head in zip(tensors, tensor_heads, strict=True):
            file.write(tensor_head)
            for chunk in tensor.chunks(seed):
                file.write(chunk.data)


def _heads(model: Any, tensors: Sequence[RandomTensor]) -> tuple[bytes, list[bytes]]:
    """What comes before all tensors, and what comes before the values of each."""
    onnx = import_onnx()
    tensor_heads = []
    for tensor in tensors:
        inside = tensor.initializer().SerializeToString(deterministic=True)
        inside += _field(onnx.TensorProto.RAW_DATA_FIELD_NUMBER, tensor.size_bytes)
        outside = _field(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, len(inside) + tensor.size_bytes)
        tensor_heads.append(outside + inside)
    graph = model.graph.SerializeToString(deterministic=True)
    size_bytes = len(graph) + sum(map(len, tensor_heads)) + sum(tensor.size_bytes for tensor in tensors)
    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    rest.ClearField("graph")
    head = rest.SerializeToString(deterministic=True)
    return head + _field(onnx.ModelProto.GRAPH_FIELD_NUMBER, size_bytes) + graph, tensor_heads


def _field(number: int, length: int) -> bytes:
    """What protobuf writes before a field of ``length`` bytes (wire type 2)."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    """Seven bits in a byte, the lowest first; the top bit says that more follow."""
    low = bytearray()
    while value > 0x7F:
        low.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*low, value))
