"""Profiles: measured times and bytes of layers, as a CSV file that says where it comes from.

One row stands for one layer of one network under one implementation (primitive), processor, number of threads
and frequency. A blank cell means "not measured" (or, for what a row stands for, "not stated"). A row whose
``layer`` is blank stands for the whole network: that is where INIT times and peaks of whole inferences go,
and what loading and executing all layers at a stretch took. Times are in seconds, sizes in bytes, frequencies
in hertz; ``COLUMNS`` is the full list.

>>> profile = read_profile("edgecaffe-laptop")
>>> profile.layer("AgeNet", 1).name
'conv1'
>>> profile.metadata["licence"]
'BSD 2-Clause, (c) 2020 Bart Cox; see NOTICE'
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

from .columns import Column, indices, real, text, whole
from .rows import check_distinct, embedded_content, is_name, rows_bytes, rows_of
from .table import (
    ProfileError,
    embedded_names,
    parse_table,
    read_bytes,
    write_atomically,
)

__all__ = ["COLUMNS", "Profile", "ProfileError", "ProfileRow", "names", "read_profile", "write_profile"]

KIND = "profile"
MAX_SECONDS = 1e9
MAX_BYTES = 1 << 50
_SECONDS = (real(MAX_SECONDS), f"seconds: a number from 0 to {MAX_SECONDS:.0e}, or blank")
_BYTES = (whole(0, MAX_BYTES), f"bytes: a whole number from 0 to {MAX_BYTES}, or blank")
_COUNT = (whole(0, 1 << 62), "a whole number of at least 0, or blank")
_TEXT = (text, "one line of at most 500 characters")


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """One measured row; None (for texts: "") where it was not measured or not stated."""

    network: str
    layer: int | None = None
    name: str = ""
    op: str = ""
    primitive: str = ""
    processor: str = ""
    threads: int | None = None
    frequency_hz: float | None = None
    load_s: float | None = None
    cold_load_s: float | None = None
    init_s: float | None = None
    execute_s: float | None = None
    weight_bytes: int | None = None
    workspace_bytes: int | None = None
    peak_bytes: int | None = None
    held_bytes: int | None = None
    samples: int | None = None
    load_sd_s: float | None = None
    cold_load_sd_s: float | None = None
    init_sd_s: float | None = None
    execute_sd_s: float | None = None
    inputs: tuple[int, ...] | None = None
    macs: int | None = None
    output_bytes: int | None = None
    arena_bytes: int | None = None


COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        column.name: column
        for column in (
            Column("network", *_TEXT, "the network's name, e.g. FaceNet@1340", required=True, filled=True),
            Column(
                "layer",
                whole(0, 1_000_000),
                "a layer's index, a whole number from 0 to 1000000; blank: the whole network",
                "index of the layer in execution order",
                required=True,
            ),
            Column("name", *_TEXT, "the layer's name"),
            Column("op", *_TEXT, "operation class, e.g. convolution"),
            Column("primitive", *_TEXT, "implementation of the layer; blank: the runtime's own choice"),
            Column("processor", *_TEXT, "processor that executed it"),
            Column(
                "threads", whole(1, 4096), "a whole number from 1 to 4096, or blank", "threads of the layer"
            ),
            Column(
                "frequency_hz",
                real(1e12, positive=True),
                "hertz: a number above 0, at most 1e12, or blank",
                "frequency of the processor",
            ),
            Column("load_s", *_SECONDS, "loading with the file in the page cache (warm)"),
            Column("cold_load_s", *_SECONDS, "loading with an empty page cache"),
            Column("init_s", *_SECONDS, "building what load and execute need"),
            Column("execute_s", *_SECONDS, "executing"),
            Column("weight_bytes", *_BYTES, "parameters"),
            Column("workspace_bytes", *_BYTES, "scratch memory while executing"),
            Column("peak_bytes", *_BYTES, "largest resident bytes during the row's tasks"),
            Column("held_bytes", *_BYTES, "resident bytes that remain after them"),
            Column("samples", whole(1, 10**9), "a whole number of at least 1, or blank", "times measured"),
            Column("load_sd_s", *_SECONDS, "standard deviation of load_s over the samples"),
            Column("cold_load_sd_s", *_SECONDS, "standard deviation of cold_load_s"),
            Column("init_sd_s", *_SECONDS, "standard deviation of init_s"),
            Column("execute_sd_s", *_SECONDS, "standard deviation of execute_s"),
            Column(
                "inputs",
                indices,
                "layer indices in order, separated by spaces, e.g. 3 5; - for none",
                "layers whose outputs it reads, as the runtime executes the network",
            ),
            Column("macs", *_COUNT, "multiply-accumulates"),
            Column("output_bytes", *_BYTES, "what it writes"),
            Column("arena_bytes", *_BYTES, "planned arena of all outputs of one inference (whole network)"),
        )
    }
)
"""Every column that a profile may have, in the order in which they are written."""

_NAMES = tuple(f.name for f in fields(ProfileRow))
_TEXTS = frozenset(f.name for f in fields(ProfileRow) if f.type == "str")
_identity = attrgetter("network", "layer", "primitive", "processor", "threads", "frequency_hz")


@dataclass(frozen=True, eq=False)
class Profile:
    """Measured rows with their provenance.

    ``metadata`` is the header: source, licence, conditions, role (fitted or held-out) and whatever else the
    file says. ``source`` is the file or name it was read from. Raises ProfileError for two rows with the same
    network, layer, primitive, processor, threads and frequency.
    """

    rows: tuple[ProfileRow, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: str = "profile"
    _by_layer: dict[tuple[str, int | None], list[ProfileRow]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_distinct(self.rows, self.source, _identity, _repeats)
        index: dict[tuple[str, int | None], list[ProfileRow]] = {}
        for row in self.rows:
            index.setdefault((row.network, row.layer), []).append(row)
        object.__setattr__(self, "rows", tuple(self.rows))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        object.__setattr__(self, "_by_layer", index)

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks measured, in the order of the rows."""
        return tuple(dict.fromkeys(row.network for row in self.rows))

    def rows_of(self, network: str, layer: int | None) -> tuple[ProfileRow, ...]:
        """Every row of one layer (None: of the whole network): all primitives, processors, threads."""
        return tuple(self._by_layer.get((network, layer), ()))

    def layer(
        self,
        network: str,
        index: int | None,
        primitive: str | None = None,
        threads: int | None = None,
        *,
        processor: str | None = None,
        frequency_hz: float | None = None,
    ) -> ProfileRow | None:
        """The row of one layer, or None where it was not measured. ``index`` None: of the whole network.

        What is given must be what the row states. What is left at None may be anything; where rows differ in
        it, the one that leaves it blank is meant. Raises ProfileError where several rows remain.
        """
        found = self._by_layer.get((network, index))
        if found is None:
            return None
        wanted = (
            ("primitive", primitive),
            ("threads", threads),
            ("processor", processor),
            ("frequency_hz", frequency_hz),
        )
        for name, value in wanted:
            if value is not None:
                found = [row for row in found if getattr(row, name) == value]
        for name, value in wanted:
            if value is None and len(found) > 1:
                found = [row for row in found if getattr(row, name) in ("", None)] or found
        if len(found) > 1:
            differ = [
                f"{name} {', '.join(sorted({str(getattr(row, name)) for row in found})[:8])}"
                for name, _ in wanted
                if len({getattr(row, name) for row in found}) > 1
            ]
            raise ProfileError(
                self.source, f"{network} layer {index} has {len(found)} rows; say which: {'; '.join(differ)}"
            )
        return found[0] if found else None


def _repeats(row: ProfileRow) -> str:
    layer = "the whole network" if row.layer is None else f"layer {row.layer}"
    return (
        f"repeats {row.network!r}, {layer} with the same primitive, processor, threads and frequency_hz; "
        f"a profile holds one row for each (put repeated measurements together, see samples)"
    )


def names() -> list[str]:
    """Names of the profiles that come with edgesched, in alphabetical order."""
    return embedded_names(KIND)


def read_profile(source: str | os.PathLike[str]) -> Profile:
    """The profile of that name, or the one in that file.

    A text without ``.csv`` at its end and without a folder in it is a name. Raises ProfileError.
    """
    name = os.fspath(source)
    return _embedded(name) if is_name(source) else _parsed(read_bytes(Path(name)), name)


@lru_cache(maxsize=16)
def _embedded(name: str) -> Profile:
    return _parsed(embedded_content(name, KIND), name)


def _parsed(content: bytes, source: str) -> Profile:
    table = parse_table(content, source, KIND, COLUMNS)
    if all(column in _TEXTS or column == "layer" for column in table.columns):
        raise ProfileError(source, f"measures nothing; columns for that: {', '.join(list(COLUMNS)[8:])}")
    rows = rows_of(table, source, _NAMES, _row, _identity, _repeats)
    return Profile(rows, table.metadata, source)


def _row(values: dict[str, Any]) -> ProfileRow:
    """A row of the values; a blank text becomes ""."""
    filled: dict[str, Any] = {
        name: value or "" if name in _TEXTS else value for name, value in values.items()
    }
    return ProfileRow(**filled)


def write_profile(profile: Profile, path: str | os.PathLike[str]) -> None:
    """Write a profile to ``path``, whole or not at all; columns that no row fills are left out.

    Reading it gives the same rows and metadata. Raises ProfileError for a value outside its column's rule
    (NaN, a negative time) and where the system refuses.
    """
    write_atomically(profile_bytes(profile, os.fspath(path)), Path(path))


def profile_bytes(profile: Profile, path: str = "profile") -> bytes:
    """What ``write_profile`` writes; ``path`` is for messages. Raises ProfileError."""
    return rows_bytes(path, KIND, profile.metadata, COLUMNS, profile.rows)
