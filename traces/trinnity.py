"""Import triNNity's measurements of a chain of convolutions in their tidy form, two CSV files.

One has a row per layer and primitive (``trinnity_*_profile.csv``), the other a row per layer and transform
between layouts of the tensor that the layer reads (``..._transforms.csv``). Times are nanoseconds. Workspaces
are not measured: they follow from the primitive and the shape, so the caller says how.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import fsum
from pathlib import Path
from typing import Any

from .columns import Column, real, text, whole
from .primitives import LAYOUT, PrimitiveProfile, PrimitiveRow
from .table import ProfileError, parse_table, read_bytes

ELEMENT_BYTES = 4
MAX_NS = 1e18
NS_PER_S = 1e9


_TEXT = (text, "one line of at most 500 characters")
_SIDE = (whole(1, 1 << 20), "a whole number of at least 1")
_REAL = (real(MAX_NS), f"a number from 0 to {MAX_NS:.0e}")


def _schema(*columns: Column) -> Mapping[str, Column]:
    return {column.name: column for column in columns}


def _needed(name: str, rule: tuple[Callable[[str], Any], str], meaning: str) -> Column:
    return Column(name, *rule, meaning, required=True, filled=True)


PROFILE_COLUMNS = _schema(
    _needed("layer", _TEXT, "name of the layer; the order of first appearance is the chain's"),
    _needed("kernels_m", _SIDE, "output channels M"),
    _needed("channels_c", _SIDE, "input channels C"),
    _needed("stride", _SIDE, "stride S"),
    _needed("width", _SIDE, "input width W"),
    _needed("height", _SIDE, "input height H"),
    _needed("k", _SIDE, "side of the kernel K"),
    _needed("primitive", _TEXT, "name of the primitive"),
    Column("family", *_TEXT, "its family"),
    _needed("in_layout", LAYOUT, "layout that it reads"),
    _needed("out_layout", LAYOUT, "layout that it writes"),
    _needed("applicable", (whole(0, 1), "0 or 1"), "whether it computes the layer"),
    Column("cycles_mean", *_REAL, "mean cycles"),
    Column("time_ns_mean", *_REAL, "mean nanoseconds; blank where not applicable", required=True),
)
"""Columns of the file of primitives."""

TRANSFORM_COLUMNS = _schema(
    _needed("tensor_of_layer_input", _TEXT, "the layer that reads the tensor"),
    _needed("channels", _SIDE, "channels of the tensor"),
    _needed("width", _SIDE, "its width"),
    _needed("height", _SIDE, "its height"),
    _needed("from_layout", LAYOUT, "layout before"),
    _needed("to_layout", LAYOUT, "layout after"),
    Column("cycles_mean", *_REAL, "mean cycles"),
    _needed("time_ns_mean", _REAL, "mean nanoseconds"),
)
"""Columns of the file of transforms."""


@dataclass(frozen=True, slots=True)
class TrinnityShape:
    """What triNNity calls a scenario: M kernels of K x K over C x H x W with stride S.

    It pads implicitly, floor(K / 2) on each side, and writes ceil(H / S) x ceil(W / S).
    """

    kernels: int
    channels: int
    stride: int
    width: int
    height: int
    kernel: int

    @property
    def pad(self) -> int:
        """floor(K / 2)."""
        return self.kernel // 2

    @property
    def layer_key(self) -> str:
        """The convolution as a primitive profile names it."""
        return (
            f"convolution {self.channels}x{self.height}x{self.width} m{self.kernels} k{self.kernel} "
            f"s{self.stride} p{self.pad} g1"
        )

    @property
    def tensor_key(self) -> str:
        """The transforms of its input as a primitive profile names them."""
        return f"transform {self.channels}x{self.height}x{self.width}"


@dataclass(frozen=True, slots=True)
class TrinnityPrimitive:
    """One primitive that computes the layer, and its mean time."""

    name: str
    in_layout: str
    out_layout: str
    time_ns: float


@dataclass(frozen=True)
class TrinnityLayer:
    """One convolution of the chain: shape, primitives that apply, and direct transforms of its input (ns)."""

    name: str
    shape: TrinnityShape
    primitives: tuple[TrinnityPrimitive, ...]
    transforms_ns: Mapping[tuple[str, str], float]


def read_trinnity(
    profile: str | os.PathLike[str], transforms: str | os.PathLike[str]
) -> tuple[TrinnityLayer, ...]:
    """The chain of layers in the order of the file, with what was measured.

    Primitives with ``applicable`` 0 are left out, and so is staying in a layout. Raises ProfileError with the
    file, the line and the column for whatever is not such a file, contradicts itself or repeats itself.
    """
    layers = _primitives(Path(profile))
    measured = _transforms(Path(transforms), layers)
    return tuple(replace(layer, transforms_ns=measured[name]) for name, layer in layers.items())


def import_trinnity(
    profile: str | os.PathLike[str],
    transforms: str | os.PathLike[str],
    workspace_bytes: Callable[[str, TrinnityShape], int],
) -> tuple[PrimitiveProfile, tuple[TrinnityLayer, ...]]:
    """A primitive profile of the chain, and the chain.

    ``workspace_bytes`` takes the name of a primitive and the shape. Layers and tensors of equal shape share
    their rows, with the mean of the times. Weights are those of the convolution. Raises ProfileError as
    ``read_trinnity`` does.
    """
    layers = read_trinnity(profile, transforms)
    times: dict[tuple[str, str, str, str], list[float]] = {}
    bytes_of: dict[tuple[str, str], tuple[int, int]] = {}
    for layer in layers:
        shape = layer.shape
        weights = shape.kernels * shape.channels * shape.kernel**2 * ELEMENT_BYTES
        for each in layer.primitives:
            key = (shape.layer_key, each.name, each.in_layout, each.out_layout)
            times.setdefault(key, []).append(each.time_ns)
            bytes_of[key[:2]] = workspace_bytes(each.name, shape), weights
    for layer in layers:
        for (before, after), time_ns in layer.transforms_ns.items():
            key = (layer.shape.tensor_key, f"{before}-to-{after}", before, after)
            times.setdefault(key, []).append(time_ns)
    rows = tuple(
        PrimitiveRow(
            *key, execute_s=fsum(found) / len(found) / NS_PER_S, workspace_bytes=own, weight_bytes=kept
        )
        for key, found in times.items()
        for own, kept in [bytes_of.get(key[:2], (0, 0))]
    )
    header = {"source": f"triNNity: {Path(profile).name}, {Path(transforms).name}", "statistic": "mean"}
    return PrimitiveProfile(rows, header, os.fspath(profile)), layers


def _primitives(path: Path) -> dict[str, TrinnityLayer]:
    shapes: dict[str, TrinnityShape] = {}
    found: dict[str, dict[str, TrinnityPrimitive | None]] = {}
    for line, row in _rows(path, "triNNity profile", PROFILE_COLUMNS):
        name, primitive, time_ns = row["layer"], row["primitive"], row["time_ns_mean"]
        shape = TrinnityShape(
            row["kernels_m"], row["channels_c"], row["stride"], row["width"], row["height"], row["k"]
        )
        if shapes.setdefault(name, shape) != shape:
            problem = f"{name!r} has another shape than in the rows before: {shape.layer_key}"
            raise ProfileError(
                str(path), f"{problem}, not {shapes[name].layer_key}", line=line, column="layer"
            )
        known = found.setdefault(name, {})
        if primitive in known:
            raise ProfileError(str(path), f"repeats {primitive!r} of {name!r}", line=line, column="primitive")
        if (time_ns is not None) != bool(row["applicable"]):
            said = "applicable is 1, so a time must stand here" if row["applicable"] else "applicable is 0"
            seen = "blank" if time_ns is None else f"{time_ns:g}"
            raise ProfileError(str(path), f"seen {seen}; {said}", line=line, column="time_ns_mean")
        known[primitive] = (
            None
            if time_ns is None
            else TrinnityPrimitive(primitive, row["in_layout"], row["out_layout"], time_ns)
        )
    if not shapes:
        raise ProfileError(str(path), "has no rows")
    layers = {}
    for name, shape in shapes.items():
        usable = tuple(each for each in found[name].values() if each is not None)
        if not usable:
            raise ProfileError(str(path), f"no primitive computes {name!r}; one must be applicable")
        layers[name] = TrinnityLayer(name, shape, usable, {})
    return layers


def _transforms(path: Path, layers: Mapping[str, TrinnityLayer]) -> dict[str, dict[tuple[str, str], float]]:
    found: dict[str, dict[tuple[str, str], float]] = {name: {} for name in layers}
    seen = set()
    for line, row in _rows(path, "triNNity transforms", TRANSFORM_COLUMNS):
        name, pair = row["tensor_of_layer_input"], (row["from_layout"], row["to_layout"])
        if name not in layers:
            problem = f"seen {name[:80]!r}; the profile's layers are {', '.join(layers)}"
            raise ProfileError(str(path), problem, line=line, column="tensor_of_layer_input")
        shape = layers[name].shape
        for column in ("channels", "width", "height"):
            if row[column] != getattr(shape, column):
                problem = f"seen {row[column]}; {name!r} reads {getattr(shape, column)}"
                raise ProfileError(str(path), problem, line=line, column=column)
        if (name, pair) in seen:
            problem = f"repeats {pair[0]} to {pair[1]} of {name!r}"
            raise ProfileError(str(path), problem, line=line, column="to_layout")
        seen.add((name, pair))
        if pair[0] != pair[1]:
            found[name][pair] = row["time_ns_mean"]
    return found


def _rows(path: Path, kind: str, schema: Mapping[str, Column]) -> list[tuple[int, dict[str, Any]]]:
    table = parse_table(read_bytes(path), str(path), kind, schema)
    return [(line, dict(zip(table.columns, cells, strict=True))) for line, cells in table.rows]
