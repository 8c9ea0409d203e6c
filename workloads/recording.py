"""Arrival lists from CSV files: when requests came and, where the file says so, what they needed."""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from .arrivals import MAX_NETWORKS, MAX_REQUESTS, MAX_S, Arrivals, Replay

MAX_FILE_BYTES = 1 << 30
MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Recording:
    """A replay file as read: one entry per arrival."""

    gap_s: array[float]
    arrival_s: array[float] | None
    """Where the file gave times; None where it gave gaps."""
    networks: list[tuple[str, ...]]
    """The distinct lists of networks, in order of appearance."""
    choice: array[int] | None
    """Index into ``networks`` per arrival; None where the file has no such column."""


def recorded(spec: Arrivals, folder: Path | None = None) -> Recording | None:
    """The recording of a replay, its relative file looked up in ``folder``; None for any other process."""
    return read_recording((folder or Path()) / spec.file) if isinstance(spec, Replay) else None


def read_recording(path: Path) -> Recording:
    """Read arrivals from a CSV file (UTF-8, header line).

    Columns: either ``arrival_s`` (seconds since the run began, never decreasing) or ``gap_s`` (seconds since
    the arrival before), and optionally ``networks`` (names joined by ``+``). Raises ValueError with file,
    line, column, what was seen and what is allowed; FileNotFoundError and the like pass through.
    """
    size = path.stat().st_size
    if not path.is_file():
        raise ValueError(f"{path}: not a regular file")
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{path}: {size} bytes, at most {MAX_FILE_BYTES} are allowed")
    with path.open("rb") as file:
        reader = csv.reader(_decoded(path, file), strict=True)
        try:
            return _read_rows(path, reader)
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: not CSV: {error}") from error


def _decoded(path: Path, file: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
        if len(line) == MAX_LINE_BYTES:
            raise ValueError(f"{path}, line {number}: longer than {MAX_LINE_BYTES} bytes")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            bad = line[error.start : error.start + 1]
            raise ValueError(
                f"{path}, line {number}: byte {bad!r} at position {error.start} is not UTF-8; "
                f"save the file as UTF-8"
            ) from error


def _read_rows(path: Path, reader: Any) -> Recording:
    header = [name.strip() for name in next(reader, [])]
    clock, names = _columns(path, header)
    column = header[clock]
    values = array("d")
    networks: dict[tuple[str, ...], int] = {}
    choice = array("i") if names is not None else None
    for row in reader:
        if not row:
            continue
        where = f"{path}, line {reader.line_num}"
        if len(row) != len(header):
            raise ValueError(f"{where}: {len(row)} cells, the header has {len(header)} ({', '.join(header)})")
        value = _seconds(f"{where}, column {column}", row[clock])
        if column == "arrival_s" and values and value < values[-1]:
            raise ValueError(
                f"{where}, column {column}: {row[clock].strip()} is earlier than {values[-1]} in the row "
                f"before; arrivals must not decrease"
            )
        values.append(value)
        if names is not None and choice is not None:
            key = _names(f"{where}, column networks", row[names])
            choice.append(networks.setdefault(key, len(networks)))
        if len(values) > MAX_REQUESTS:
            raise ValueError(f"{where}: more than {MAX_REQUESTS} arrivals, at most as many are allowed")
    if not values:
        raise ValueError(f"{path}: no arrivals; the header must be followed by at least one row")
    if column == "gap_s":
        return Recording(values, None, list(networks), choice)
    differences = array("d", [values[0]])
    differences.extend(b - a for a, b in pairwise(values))
    return Recording(differences, values, list(networks), choice)


def _columns(path: Path, header: Sequence[str]) -> tuple[int, int | None]:
    """Positions of the time column and of the networks column."""
    allowed = "allowed are arrival_s or gap_s, and networks"
    if not any(header):
        raise ValueError(f"{path}, line 1: no header; {allowed}")
    for index, name in enumerate(header):
        if name not in ("arrival_s", "gap_s", "networks"):
            raise ValueError(f"{path}, line 1, column {index + 1}: unknown column {name!r}; {allowed}")
        if name in header[:index]:
            raise ValueError(f"{path}, line 1, column {index + 1}: column {name!r} twice; {allowed}")
    clocks = [i for i, name in enumerate(header) if name != "networks"]
    if len(clocks) != 1:
        seen = "both arrival_s and gap_s" if clocks else "neither arrival_s nor gap_s"
        raise ValueError(f"{path}, line 1: {seen}; give exactly one of them")
    return clocks[0], header.index("networks") if "networks" in header else None


def _seconds(where: str, cell: str) -> float:
    text = cell.strip()
    try:
        # float() also takes 1_000 and other alphabets' digits, which no CSV writer means.
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not 0 <= value <= MAX_S:
        seen = repr(text) if text else "an empty cell"
        raise ValueError(f"{where}: {seen}, must be a number of seconds in 0..{MAX_S:g}")
    return value


def _names(where: str, cell: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in cell.split("+"))
    if not all(names):
        seen = repr(cell.strip()) if cell.strip() else "an empty cell"
        raise ValueError(f"{where}: {seen}, must be network names joined by + (TinyYolo+AgeNet)")
    if len(names) > MAX_NETWORKS:
        raise ValueError(f"{where}: {len(names)} networks, at most {MAX_NETWORKS} are allowed")
    return names
