"""What the terminal shows: tables that fit, numbers with units, messages on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 160
"""Columns where the output is not a terminal: nothing is cut off there."""


def console() -> Console:
    """Standard output."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(width=width, highlight=False, emoji=False, markup=False)


def message(text: str) -> None:
    """One message on standard error."""
    print(text, file=sys.stderr)


def table(
    *columns: str, right: Sequence[str] = (), title: str | None = None, gap: int = 2, wrap: Sequence[str] = ()
) -> Table:
    """An empty table without frames; ``right`` names the columns of numbers, ``wrap`` those of free text."""
    from rich.table import Table
    from rich.text import Text

    heading = None if title is None else Text(title)
    made = Table(
        title=heading,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, gap, 0, 0),
    )
    for name in columns:
        made.add_column(
            name,
            justify="right" if name in right else "left",
            overflow="fold",
            no_wrap=name not in wrap,
            header_style="dim",
        )
    return made


def seconds(value: float | None) -> str:
    """A time in the unit that suits it: 15.5 s, 120 ms."""
    if value is None:
        return "-"
    magnitude = abs(value)
    if magnitude >= 36_000:
        return f"{significant(value / 3600)} h"
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if magnitude >= unit:
            return f"{significant(value / unit)} {name}"
    return "0 s" if value == 0 else f"{significant(value / 1e-9)} ns"


def joules(value: float | None) -> str:
    """An energy in the unit that suits it: 15.5 J, 120 mJ."""
    if value is None:
        return "-"
    for unit, name in ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ")):
        if abs(value) >= unit:
            return f"{significant(value / unit)} {name}"
    return "0 J" if value == 0 else f"{significant(value / 1e-6)} µJ"


def size(value: float | None) -> str:
    """Bytes in binary units: 512 MiB, 5.86 KiB."""
    if value is None:
        return "no limit"
    for power, name in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if abs(value) >= 1024**power * (10 if power == 1 else 1):
            return f"{significant(value / 1024**power)} {name}"
    return f"{value:,.0f} B"


def significant(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits, never in scientific notation where that can be helped."""
    if value is None:
        return "-"
    if value and (abs(value) >= 1e15 or abs(value) < 1e-6):
        return f"{value:.{digits}g}"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    text = f"{value:.{digits}g}"
    return f"{float(text):f}".rstrip("0").rstrip(".") if "e" in text else text


def share(value: float | None) -> str:
    """A share in percent."""
    return "-" if value is None else f"{100 * value:.1f} %"


def interval(low: Any, high: Any, show: Any = seconds) -> str:
    """``low .. high``, empty where there is none."""
    return "" if low is None or high is None else f"{show(low)} .. {show(high)}"
