"""Primitive profiles: measured times and bytes of every primitive of a layer, as a CSV file.

A row stands for one primitive of one layer, named by what the layer computes
(``primitives.shape.layer_key``), so that equal layers of different networks share it; or for one transform
between layouts of one tensor, whose layer is the tensor's key and whose primitive reads ``chw-to-hwc``. Times
are in seconds, sizes in bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .columns import Column, real, text, whole
from .rows import check_distinct, embedded_content, is_name, rows_bytes, rows_of
from .table import (
    embedded_names,
    parse_table,
    read_bytes,
    write_atomically,
)

__all__ = [
    "PRIMITIVE_COLUMNS",
    "PrimitiveProfile",
    "PrimitiveRow",
    "primitive_profile_bytes",
    "primitive_profile_names",
    "read_primitives",
    "write_primitives",
]

KIND = "primitive profile"
LAYOUTS = ("chw", "hwc", "hcw")
MAX_SECONDS = 1e9
MAX_BYTES = 1 << 50
_SECONDS = (real(MAX_SECONDS), f"seconds: a number from 0 to {MAX_SECONDS:.0e}")
_HALF = (real(MAX_SECONDS), f"seconds: a number from 0 to {MAX_SECONDS:.0e}, or blank")
_BYTES = (whole(0, MAX_BYTES), f"bytes: a whole number from 0 to {MAX_BYTES}")
_TEXT = (text, "one line of at most 500 characters")


def _layout(cell: str) -> str:
    if cell not in LAYOUTS:
        raise ValueError
    return cell


LAYOUT = (_layout, f"a layout: {', '.join(LAYOUTS)}")
"""Rule of a cell that names a layout."""


@dataclass(frozen=True, slots=True)
class PrimitiveRow:
    """One measured primitive of one layer; None (for texts: "") where a number was not measured or stated."""

    layer: str
    primitive: str
    in_layout: str
    out_layout: str
    execute_s: float
    execute_sd_s: float | None = None
    samples: int | None = None
    even_s: float | None = None
    odd_s: float | None = None
    workspace_bytes: int = 0
    weight_bytes: int = 0
    processor: str = ""
    threads: int | None = None


PRIMITIVE_COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        column.name: column
        for column in (
            Column("layer", *_TEXT, "what the layer computes: its key", required=True, filled=True),
            Column("primitive", *_TEXT, "name of the primitive", required=True, filled=True),
            Column("in_layout", *LAYOUT, "layout that it reads", required=True, filled=True),
            Column("out_layout", *LAYOUT, "layout that it writes", required=True, filled=True),
            Column("execute_s", *_SECONDS, "executing one image", required=True, filled=True),
            Column("execute_sd_s", *_HALF, "standard deviation of execute_s over the samples"),
            Column("samples", whole(1, 10**9), "a whole number of at least 1, or blank", "times measured"),
            Column("even_s", *_HALF, "median over the even repetitions (from 0)"),
            Column("odd_s", *_HALF, "median over the odd repetitions"),
            Column("workspace_bytes", *_BYTES, "scratch memory while it runs", required=True, filled=True),
            Column("weight_bytes", *_BYTES, "weights as stored for it", required=True, filled=True),
            Column("processor", *_TEXT, "processor that executed it"),
            Column("threads", whole(1, 4096), "a whole number from 1 to 4096, or blank", "threads it used"),
        )
    }
)
"""Every column that a primitive profile may have, in the order in which they are written."""

_NAMES = tuple(f.name for f in fields(PrimitiveRow))
_identity = attrgetter("layer", "primitive", "processor", "threads")


@dataclass(frozen=True, eq=False)
class PrimitiveProfile:
    """Measured primitives with their provenance.

    ``metadata`` is the header: source, licence, conditions, role and whatever else the file says. ``source``
    is the file or name it was read from. Raises ProfileError for two rows with the same layer, primitive,
    processor and threads.
    """

    rows: tuple[PrimitiveRow, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: str = "primitive profile"
    _by_layer: dict[str, tuple[PrimitiveRow, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_distinct(self.rows, self.source, _identity, _repeats)
        index: dict[str, list[PrimitiveRow]] = {}
        for row in self.rows:
            index.setdefault(row.layer, []).append(row)
        object.__setattr__(self, "rows", tuple(self.rows))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        object.__setattr__(self, "_by_layer", {layer: tuple(rows) for layer, rows in index.items()})

    @property
    def layers(self) -> tuple[str, ...]:
        """Keys of the layers and tensors measured, in the order of the rows."""
        return tuple(self._by_layer)

    def of(self, layer_key: str) -> tuple[PrimitiveRow, ...]:
        """Every row of one layer or tensor, in the order of the file; empty where it was not measured."""
        return self._by_layer.get(layer_key, ())


def _repeats(row: PrimitiveRow) -> str:
    return (
        f"repeats {row.primitive!r} of {row.layer!r} with the same processor and threads; a primitive "
        f"profile holds one row for each (put repeated measurements together, see samples)"
    )


def primitive_profile_names() -> list[str]:
    """Names of the primitive profiles that come with edgesched, in alphabetical order."""
    return embedded_names(KIND)


def read_primitives(source: str | os.PathLike[str]) -> PrimitiveProfile:
    """The primitive profile of that name, or the one in that file.

    A text without ``.csv`` at its end and without a folder in it is a name. Raises ProfileError.
    """
    name = os.fspath(source)
    return _embedded(name) if is_name(source) else _parsed(read_bytes(Path(name)), name)


@lru_cache(maxsize=16)
def _embedded(name: str) -> PrimitiveProfile:
    return _parsed(embedded_content(name, KIND), name)


def _parsed(content: bytes, source: str) -> PrimitiveProfile:
    table = parse_table(content, source, KIND, PRIMITIVE_COLUMNS)
    rows = rows_of(table, source, _NAMES, _row, _identity, _repeats)
    return PrimitiveProfile(rows, table.metadata, source)


def _row(values: dict[str, Any]) -> PrimitiveRow:
    return PrimitiveRow(**{**values, "processor": values.get("processor") or ""})


def write_primitives(profile: PrimitiveProfile, path: str | os.PathLike[str]) -> None:
    """Write a primitive profile to ``path``, whole or not at all; columns that no row fills are left out.

    Reading it gives the same rows and metadata. Raises ProfileError for a value outside its column's rule
    (NaN, a negative time, an unknown layout) and where the system refuses.
    """
    write_atomically(primitive_profile_bytes(profile, os.fspath(path)), Path(path))


def primitive_profile_bytes(profile: PrimitiveProfile, path: str = "primitive profile") -> bytes:
    """What ``write_primitives`` writes; ``path`` is for messages. Raises ProfileError."""
    return rows_bytes(path, KIND, profile.metadata, PRIMITIVE_COLUMNS, profile.rows)
