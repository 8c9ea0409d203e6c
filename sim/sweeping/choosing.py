"""One policy for several places: which one to run where the load, the memory or the board may vary.

The rule: only policies that work at every place are eligible. At each place a policy's ratio is its value of
the objective over that of the best policy there; chosen is the policy with the smallest geometric mean of its
ratios over the places. (A geometric mean: twice as slow here and twice as fast there cancel out, whatever the
units, and no place counts more for being slower.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..objectives import Objective
from .recommend import Labels, Place, Rows, against, places_of, split_axes, why_not

RULE = (
    "of the policies that work at every place, the one with the smallest geometric mean of the ratio to the "
    "best policy of each place"
)
NOT_SWEPT = "not swept there"
"""What is said of a policy that a sweep does not have at a place."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A policy that works at every place."""

    policy: str
    ratio: float
    """Geometric mean over places of its value over the best one's; 1: the best everywhere."""
    worst: float
    """Its largest ratio,"""
    worst_at: Place
    """and where that is."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A policy that does not work at some place."""

    policy: str
    works_at: int
    """Number of places."""
    at: Place
    """The first place where it does not,"""
    why: str
    """why, in a few words,"""
    reason: str | None
    """and what the run said: demand, bound, what would make it fit."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The policies that work everywhere, the best first, how sure that is, and the others."""

    places: list[Place]
    ranked: list[Ranked]
    failures: list[Failure]
    against_next: dict[str, Any]
    """ratio, ratio_lo, ratio_hi, verdict as in ``recommend``: the second against the first, paired over
    replications, each the geometric mean over places. Verdict "only" without a second, "none" without any."""


def choose(
    axes: Sequence[str],
    points: Sequence[tuple[Labels, Rows]],
    objective: Objective,
    most: Mapping[str, float] | None = None,
) -> Choice:
    """Choose by the rule above. ``points`` and ``most`` as for ``recommend``; ties go by the grid's order."""
    places = {place: dict(candidates) for place, candidates in places_of(axes, points).items()}
    names = list(dict.fromkeys(name for candidates in places.values() for name in candidates))
    column = objective.column
    values: dict[Place, dict[str, list[float]]] = {place: {} for place in places}
    failures: list[Failure] = []
    for name in names:
        found: list[Failure] = []
        for place, candidates in places.items():
            rows = candidates.get(name)
            why = NOT_SWEPT if rows is None else why_not(rows, column, most or {})
            if why is None and rows is not None:
                values[place][name] = [row[column] for row in rows]
            else:
                found.append(Failure(name, 0, place, str(why), _reason(rows or ())))
        if found:
            first = found[0]
            failures.append(
                Failure(name, len(places) - len(found), first.at, first.why, first.reason),
            )
    failed = {failure.policy for failure in failures}
    ranked = [_ranked(name, values) for name in names if name not in failed]
    ranked.sort(key=lambda each: each.ratio)
    verdict: dict[str, Any] = dict.fromkeys(("ratio", "ratio_lo", "ratio_hi"))
    verdict["verdict"] = "only" if ranked else "none"
    if len(ranked) > 1:
        verdict = against(*(_over_places(each.policy, values) for each in ranked[:2]))
    return Choice(list(places), ranked, failures, verdict)


def levers(
    axes: Sequence[str],
    points: Sequence[tuple[Labels, Rows]],
    objective: Objective,
    most: Mapping[str, float] | None = None,
) -> list[tuple[str, Any, list[str]]]:
    """(path, value's label, policies): with the places restricted to that value, these work everywhere."""
    found: list[tuple[str, Any, list[str]]] = []
    for axis in split_axes(axes)[1]:
        for value in dict.fromkeys(labels[axis] for labels, _ in points):
            there = [point for point in points if point[0][axis] == value]
            ranked = choose(axes, there, objective, most).ranked
            if ranked and len(there) < len(points):
                found.append((axis, value, [each.policy for each in ranked]))
    return found


def _reason(rows: Rows) -> str | None:
    """What the first run that is not ok says of itself."""
    for row in rows:
        if "error" in row:
            return str(row["error"]["message"])
        if row.get("reason"):
            return str(row["reason"])
    return None


def _ranked(name: str, values: Mapping[Place, Mapping[str, Sequence[float]]]) -> Ranked:
    ratios = {
        place: _ratio(_mean(there[name]), min(_mean(each) for each in there.values()))
        for place, there in values.items()
    }
    worst_at = max(ratios, key=lambda place: ratios[place])
    return Ranked(name, _geometric(list(ratios.values())), ratios[worst_at], worst_at)


def _ratio(value: float, best: float) -> float:
    """Of nothing to nothing: 1."""
    return 1.0 if value == best else value / best if best > 0 else math.inf


def _over_places(name: str, values: Mapping[Place, Mapping[str, Sequence[float]]]) -> list[float]:
    """Per replication the geometric mean over places; of as many replications as every place has."""
    count = min(len(each) for there in values.values() for each in there.values())
    return [_geometric([there[name][number] for there in values.values()]) for number in range(count)]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _geometric(values: Sequence[float]) -> float:
    if len(values) == 1:
        return values[0]
    return math.exp(math.fsum(math.log(v) if v > 0 else -math.inf for v in values) / len(values))
