"""Recommendations on the terminal: which policy to choose at which place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..sim.objectives import Objective
from .terminal import joules, seconds, table

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

SHOWN_PLACES = 200


def amount(objective: Objective) -> Callable[[float | None], str]:
    """What shows a value of the objective in its unit."""
    return joules if objective.unit == "J" else seconds


def show_choices(
    screen: Console, choice: pd.DataFrame, axes: Sequence[str], objective: Objective, whole: str
) -> None:
    """Print a recommendation , a table per value of all places' paths but the last.

    ``whole`` is what holds the places that are too many to be shown.
    """
    from ..sim.sweeping.figures import short, value_label

    others = [axis for axis in choice.columns if axis in axes]
    screen.print(f"Which policy to choose where (smallest {objective.label}, 95 % intervals)", style="bold")
    apart, along = others[:-1], others[-1:]
    places = choice.head(SHOWN_PLACES)
    groups: Any = places.groupby(apart, sort=False) if apart else [((), places)]
    for values, part in groups:
        title = ", ".join(
            f"{short(axis)} {value_label(axis, value)}" for axis, value in zip(apart, values, strict=True)
        )
        screen.print()
        screen.print(_table(part, along, objective, title or None))
    if len(choice) > SHOWN_PLACES:
        screen.print(f"... {len(choice) - SHOWN_PLACES} more in {whole}")
    screen.print()
    screen.print(f"next/best: {objective.label}, next policy over the best, on the same arrivals")
    if (choice["verdict"] == "tie").any():
        screen.print("tie: that ratio's interval covers 1")
    if choice["saturated"].astype(bool).any():
        screen.print("*: saturated, response times grow as long as the run lasts")


def _table(part: Any, along: list[str], objective: Objective, title: str | None) -> Table:
    from ..sim.sweeping.figures import short, value_label

    heads = [short(axis) for axis in along]
    rows = table(
        *heads,
        "choose",
        objective.value,
        "",
        "next",
        "next/best",
        "",
        "note",
        right=(*heads, objective.value, "next/best"),
        title=title,
        wrap=("note",),
    )
    for row in part.to_dict("records"):
        overloaded = str(row["saturated"])
        note = {"tie": "tie", "unsure": "1 replication", "none": "none works"}.get(row["verdict"], "")
        note = "; ".join(part for part in (note, row["unusable"]) if part)
        rows.add_row(
            *(value_label(axis, row[axis]) for axis in along),
            _named(row["best"], overloaded),
            amount(objective)(number(row[objective.column])),
            spread(row[f"{objective.column}_lo"], row[f"{objective.column}_hi"]),
            _named(row["next"], overloaded),
            three(number(row["ratio"])),
            spread(row["ratio_lo"], row["ratio_hi"]),
            note,
        )
    return rows


def is_named(policy: str, names: str) -> bool:
    """Whether the policy is among the names, which blanks separate; a name may itself hold blanks."""
    return f" {policy} " in f" {names} "


def _named(policy: Any, overloaded: str) -> str:
    if not isinstance(policy, str):
        return "-"
    return f"{policy}*" if is_named(policy, overloaded) else policy


def spread(low: Any, high: Any) -> str:
    """``low..high``, empty where there is none."""
    return "" if number(low) is None or number(high) is None else f"{three(low)}..{three(high)}"


def three(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def number(value: Any) -> float | None:
    """A table's number; None for nan."""
    return None if value is None or value != value else float(value)
