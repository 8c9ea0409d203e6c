"""The columns of a table: how a cell is read, and what it may hold."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
"""What no cell and no header value may hold."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: how its cells are read, what they may hold, and whether the table must have it.

    ``parse`` takes the stripped text of a cell that is not blank and raises ValueError for what is not
    allowed; ``allowed`` is the rule in words. A blank cell is read as None unless ``filled``.
    """

    name: str
    parse: Callable[[str], Any]
    allowed: str
    meaning: str
    required: bool = False
    filled: bool = False


def text(cell: str) -> str:
    """One line of at most 500 characters without control characters."""
    if len(cell) > 500 or CONTROL.search(cell):
        raise ValueError
    return cell


def whole(least: int, most: int) -> Callable[[str], int]:
    """A parser for whole numbers in plain digits from ``least`` to ``most``."""

    def parse(cell: str) -> int:
        if not (cell.isascii() and cell.isdigit() and len(cell) <= 20):
            raise ValueError
        value = int(cell)
        if not least <= value <= most:
            raise ValueError
        return value

    return parse


def indices(cell: str) -> tuple[int, ...]:
    """Whole numbers separated by spaces; "-" for none."""
    parse = whole(0, 1_000_000)
    return () if cell == "-" else tuple(parse(part) for part in cell.split())


def real(most: float, *, positive: bool = False) -> Callable[[str], float]:
    """A parser for finite decimal numbers from 0 (above 0 if ``positive``) to ``most``."""

    def parse(cell: str) -> float:
        value = float(cell)
        if not 0 <= value <= most or (positive and value == 0) or "_" in cell or not cell.isascii():
            raise ValueError
        return value

    return parse


def near(name: str, known: Iterable[str]) -> str:
    """The end of a message: the names near to ``name``, or all of them."""
    names = list(known)
    found = difflib.get_close_matches(name[:100].strip().lower(), names, n=3, cutoff=0.5)
    if found:
        return f"did you mean {' or '.join(repr(f) for f in found)}?"
    return f"known: {', '.join(names) or 'none'}"
