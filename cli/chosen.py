"""A chosen policy as text and as data: the verdict first, then what it rests on."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..sim.objectives import Objective
from ..sim.sweeping.choosing import RULE, Choice
from ..sim.sweeping.figures import short, value_label
from ..sim.sweeping.finished import SweptPoint
from ..sim.sweeping.recommend import Place, policy_label, split_axes
from .choices import amount, is_named, spread, three
from .terminal import interval, table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SHOWN_REASONS = 20


@dataclass(frozen=True, slots=True)
class Report:
    """What was chosen among the points, and why."""

    axes: Sequence[str]
    points: Sequence[SweptPoint]
    objective: Objective
    choice: Choice
    by_place: Sequence[Mapping[str, Any]]
    """The recommendation of each place."""

    # -- finding ------------------------------------------------------------------------------------------

    def point(self, policy: str, place: Place) -> SweptPoint:
        """The point of a policy, by its name in tables, at a place."""
        of_policy, others = split_axes(self.axes)
        return next(
            point
            for point in self.points
            if tuple(point.labels[axis] for axis in others) == place
            and policy_label([point.labels[axis] for axis in of_policy]) == policy
        )

    def described(self, policy: str) -> str:
        """The policy with its parameters."""
        chosen = self.point(policy, self._place_of(policy)).scenario["policy"]
        parameters = ", ".join(f"{key}={value}" for key, value in chosen.items() if key != "name")
        return f"{chosen['name']} ({parameters})" if parameters else str(chosen["name"])

    def _place_of(self, policy: str) -> Place:
        return next(ranked.worst_at for ranked in self.choice.ranked if ranked.policy == policy)

    def place(self, place: Place) -> str:
        """A place in words; empty where the sweep has only one."""
        others = split_axes(self.axes)[1]
        return ", ".join(
            f"{short(axis)} {value_label(axis, value)}" for axis, value in zip(others, place, strict=True)
        )

    # -- saying -------------------------------------------------------------------------------------------

    @property
    def verdict(self) -> str:
        """One sentence."""
        ranked, found = self.choice.ranked, self.choice.against_next["verdict"]
        several = len(self.choice.places) > 1
        where = f" at each of {len(self.choice.places)} places" if several else ""
        if not ranked:
            return f"no policy works{where}"
        why = {
            "best": f"the best of {len(ranked)}{' over the places together' if several else ''}",
            "tie": f"a tie with {ranked[1].policy}" if len(ranked) > 1 else "",
            "only": f"the only one that works{where}",
            "unsure": "the best so far: more replications would tell how surely",
        }[found]
        return f"choose {self.described(ranked[0].policy)}, {why}"

    def facts(self) -> list[tuple[str, str]]:
        """(what, how much) of the chosen policy; empty without one."""
        if not self.choice.ranked:
            return []
        first, *others = self.choice.ranked
        facts = [self._value() if len(self.choice.places) == 1 else self._ratio()]
        if others:
            found = self.choice.against_next
            times = "" if found["ratio"] is None else f", {three(found['ratio'])} times as much"
            bounds = spread(found["ratio_lo"], found["ratio_hi"])
            facts.append(("next", f"{others[0].policy}{times}{f' ({bounds})' if bounds else ''}"))
        overloaded = [row for row in self.by_place if is_named(first.policy, str(row["saturated"]))]
        if overloaded:
            where = "" if len(self.by_place) == 1 else f" at {len(overloaded)} of {len(self.by_place)} places"
            facts.append(("saturated", f"its backlog only grows{where}: the load is more than it can serve"))
        return facts

    def _value(self) -> tuple[str, str]:
        [row], column = self.by_place, self.objective.column
        show = amount(self.objective)
        bounds = interval(row[f"{column}_lo"], row[f"{column}_hi"], show)
        return self.objective.label, show(row[column]) + (f" (95 %: {bounds})" if bounds else "")

    def _ratio(self) -> tuple[str, str]:
        first = self.choice.ranked[0]
        worst = f", at most {three(first.worst)} ({self.place(first.worst_at)})" if first.worst > 1 else ""
        return self.objective.label, f"{three(first.ratio)} times that of the best of each place{worst}"

    def show(self, screen: Console) -> None:
        """Print the verdict and what it rests on; the places' own tables are not part of it."""
        best = self.choice.against_next["verdict"] == "best"
        style = "bold green" if best else "bold yellow" if self.choice.ranked else "bold red"
        screen.print(f"Verdict: {self.verdict}", style=style)
        rows = table("", "", wrap=("",))
        rows.show_header = False
        if len(self.choice.places) == 1:
            if place := self.place(self.choice.places[0]):
                rows.add_row("place", place)
        elif self.choice.ranked:
            rows.add_row("rule", RULE)
        for name, value in self.facts():
            rows.add_row(name, value)
        if rows.row_count:
            screen.print(rows)
        if len(self.choice.ranked) > 1 and len(self.choice.places) > 1:
            screen.print()
            screen.print(self._ranking())
        if self.choice.failures:
            screen.print()
            screen.print(self._failures())

    def _ranking(self) -> Table:
        rows = table(
            "policy", "ratio to the best", "at most", "there", right=("ratio to the best", "at most")
        )
        for ranked in self.choice.ranked:
            rows.add_row(ranked.policy, three(ranked.ratio), three(ranked.worst), self.place(ranked.worst_at))
        return rows

    def _failures(self) -> Table:
        several = len(self.choice.places) > 1
        heads = ("works at", "not at") if several else ()
        rows = table("left out", *heads, "why", "", wrap=("why", ""))
        for failure in self.choice.failures[:SHOWN_REASONS]:
            works = (f"{failure.works_at} of {len(self.choice.places)} places", self.place(failure.at))
            rows.add_row(failure.policy, *(works if several else ()), failure.why, failure.reason or "")
        return rows

    def show_levers(self, screen: Console, found: Sequence[tuple[str, Any, list[str]]]) -> None:
        """Print where some policy would work."""
        screen.print()
        if not found:
            screen.print("No single swept value would do; what would is said above, where a run knows it.")
            return
        screen.print("Some policy works everywhere with")
        for axis, value, policies in found:
            screen.print(f"  --limit {shlex.quote(f'{axis}={value}')}   {', '.join(policies)}")

    # -- data ---------------------------------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        """The same as plain data, ready for ``json.dumps(..., allow_nan=False)``."""
        ranked = self.choice.ranked
        chosen = self.point(ranked[0].policy, self._place_of(ranked[0].policy)) if ranked else None
        return {
            "verdict": self.choice.against_next["verdict"],
            "policy": None if chosen is None else chosen.scenario["policy"],
            "objective": self.objective.value,
            "column": self.objective.column,
            "next": ranked[1].policy if len(ranked) > 1 else None,
            **{key: self.choice.against_next[key] for key in ("ratio", "ratio_lo", "ratio_hi")},
            "ranked": [
                {
                    "policy": each.policy,
                    "ratio_to_best": _finite(each.ratio),
                    "largest_ratio": _finite(each.worst),
                    "largest_at": self._named(each.worst_at),
                }
                for each in ranked
            ],
            "left_out": [{**asdict(f), "at": self._named(f.at)} for f in self.choice.failures],
            "places": [dict(row) for row in self.by_place],
        }

    def _named(self, place: Place) -> dict[str, Any]:
        return dict(zip(split_axes(self.axes)[1], place, strict=True))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
