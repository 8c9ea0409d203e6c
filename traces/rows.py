"""Tables of rows with an identity: found by name or file, read without repeats, written without waste."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any, TypeVar

from .columns import Column, near
from .table import ProfileError, Table, embedded_names, format_table

Row = TypeVar("Row")


def is_name(source: str | os.PathLike[str]) -> bool:
    """Whether it names what comes with edgesched: a text without ``.csv`` at its end and a folder in it."""
    return isinstance(source, str) and not source.lower().endswith(".csv") and not {"/", os.sep} & set(source)


def embedded_content(name: str, kind: str) -> bytes:
    """The table of that kind and name that comes with edgesched. Raises ProfileError."""
    names = embedded_names(kind)
    if name not in names:
        raise ProfileError(
            f"{kind} {name[:80]!r}",
            f"there is none of that name; {near(name, names)} (or a path to a .csv file)",
        )
    return (resources.files(__package__) / f"{name}.csv").read_bytes()


def rows_of(
    table: Table,
    source: str,
    names: Sequence[str],
    make: Callable[[dict[str, Any]], Row],
    identity: Callable[[Row], object],
    repeats: Callable[[Row], str],
) -> tuple[Row, ...]:
    """The table's rows, made of the values of the columns ``names`` that it has.

    Raises ProfileError where two have the same identity; ``repeats`` says so of a row.
    """
    stated = [(name, table.columns.index(name)) for name in names if name in table.columns]
    rows = []
    lines: dict[object, int] = {}
    for line, cells in table.rows:
        row = make({name: cells[at] for name, at in stated})
        key = identity(row)
        if key in lines:
            raise ProfileError(source, f"{repeats(row)}; first on line {lines[key]}", line=line)
        lines[key] = line
        rows.append(row)
    return tuple(rows)


def check_distinct(
    rows: Sequence[Row], source: str, identity: Callable[[Row], object], repeats: Callable[[Row], str]
) -> None:
    """Raise ProfileError where two rows have the same identity."""
    seen = set()
    for number, row in enumerate(rows, start=1):
        key = identity(row)
        if key in seen:
            raise ProfileError(source, f"row {number} {repeats(row)}")
        seen.add(key)


def rows_bytes(
    path: str, kind: str, metadata: Mapping[str, str], schema: Mapping[str, Column], rows: Sequence[Any]
) -> bytes:
    """The table's content; columns that no row fills are left out. Raises ProfileError."""
    used = [
        column
        for column in schema.values()
        if column.required or any(getattr(row, column.name) not in ("", None) for row in rows)
    ]
    cells = (tuple(getattr(row, column.name) for column in used) for row in rows)
    return format_table(path, kind, metadata, used, cells)
