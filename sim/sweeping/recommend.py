"""Which policy to choose where: policies compared on the same random numbers, point by point.

Every setting of a sweep that begins with ``policy`` names a candidate; every combination of the others is a
place. At each place the candidate with the smallest value of the objective is best, and the next one is held
against it as a paired ratio over replications, which saw the same arrivals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...runs.statistics import paired_ratio, replications
from ..objectives import Objective

SATURATED_GROWTH = 0.02
"""A backlog that surely grows by more than so many requests per arrival is never worked off (rho > 1.02)."""

UNUSABLE = {"infeasible": "out of memory", "incomplete": "incomplete", "error": "failed"}
"""What is said of a policy's point with that status, in tables and figures."""
NO_VALUE = "no value"
"""What is said of runs that are ok and cannot give the objective: nothing was counted."""

Labels = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]
Place = tuple[Any, ...]
"""Labels of all paths but the policy's."""


def recommend(
    axes: Sequence[str],
    points: Sequence[tuple[Labels, Rows]],
    objective: Objective = Objective.mean,
    most: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """One row per place, in the order of the grid; none where the sweep does not compare policies.

    ``points`` are the labels of each point with its replications' rows. Columns: the place's labels, best,
    its value by the name of the objective's column with its interval in ``..._lo`` and ``..._hi``, next,
    ratio (next to best) with ratio_lo and ratio_hi, verdict ("best", "tie" where the ratio's interval covers
    1, "only", "unsure" with a single replication, "none"), saturated (policies whose backlog only grows),
    unusable (``POLICY: why`` for those without a result, joined by "; "). ``most`` bounds columns of the
    summary: a policy that exceeds one (``peak_bytes`` in any replication, others on average) is unusable.
    """
    policy_axes, others = split_axes(axes)
    if not policy_axes:
        return []
    return [
        {**dict(zip(others, place, strict=True)), **_choice(candidates, objective.column, most or {})}
        for place, candidates in places_of(axes, points).items()
    ]


def split_axes(axes: Sequence[str]) -> tuple[list[str], list[str]]:
    """The paths that name a policy, and all others."""
    of_policy = [axis for axis in axes if axis.partition(".")[0] == "policy"]
    return of_policy, [axis for axis in axes if axis not in of_policy]


def places_of(
    axes: Sequence[str], points: Sequence[tuple[Labels, Rows]]
) -> dict[Place, list[tuple[str, Rows]]]:
    """Per place its candidates with their rows, in the order of the grid."""
    of_policy, others = split_axes(axes)
    places: dict[Place, list[tuple[str, Rows]]] = {}
    for labels, rows in points:
        name = policy_label([labels[axis] for axis in of_policy])
        places.setdefault(tuple(labels[axis] for axis in others), []).append((name, rows))
    return places


def policy_label(values: Sequence[Any]) -> str:
    """A candidate's name from what the sweep set of it; a policy from a file goes by its class."""
    return " ".join(str(value).rpartition(".py:")[2].replace(" ", "") for value in values)


def saturated(rows: Rows) -> bool:
    """Whether the backlog grows throughout: the load is more than the policy can serve."""
    growths = [row["backlog_growth"] for row in rows if row.get("backlog_growth") is not None]
    if not growths:
        return False
    estimate = replications(growths)
    low = estimate.lo if math.isfinite(estimate.lo) else estimate.value
    return low > SATURATED_GROWTH


def why_not(rows: Rows, column: str, most: Mapping[str, float]) -> str | None:
    """Why there is no value of the point, and in how many of its runs; None where there is one."""
    bad = [row for row in rows if row.get("status") != "ok"]
    if bad:
        # A row of a failed point has no status.
        said = UNUSABLE[bad[0].get("status", "error")]
        return said if len(bad) == len(rows) else f"{said} in {len(bad)} of {len(rows)} runs"
    if any(row.get(column) is None for row in rows):
        return NO_VALUE
    for key, bound in most.items():
        values = [row[key] for row in rows if row.get(key) is not None]
        if len(values) < len(rows):
            return f"no {key}"
        value = max(values) if key == "peak_bytes" else math.fsum(values) / len(values)
        if value > bound:
            return f"{key} {value:.6g} over {bound:.6g}"
    return None


def _choice(candidates: Sequence[tuple[str, Rows]], column: str, most: Mapping[str, float]) -> dict[str, Any]:
    reasons = {name: why_not(rows, column, most) for name, rows in candidates}
    usable = {name: [row[column] for row in rows] for name, rows in candidates if reasons[name] is None}
    order = sorted(usable, key=lambda name: (math.fsum(usable[name]), list(usable).index(name)))
    result: dict[str, Any] = {
        "best": order[0] if order else None,
        **dict.fromkeys((column, f"{column}_lo", f"{column}_hi", "next", "ratio", "ratio_lo", "ratio_hi")),
        "verdict": "none",
        "saturated": " ".join(name for name, rows in candidates if name in usable and saturated(rows)),
        "unusable": "; ".join(f"{name}: {why}" for name, why in reasons.items() if why is not None),
    }
    if not order:
        return result
    found = replications(usable[order[0]])
    result |= {column: found.value, f"{column}_lo": _finite(found.lo), f"{column}_hi": _finite(found.hi)}
    result["verdict"] = "only"
    if len(order) < 2:
        return result
    return {**result, "next": order[1], **against(usable[order[0]], usable[order[1]])}


def against(best: Sequence[float], following: Sequence[float]) -> dict[str, Any]:
    """The next policy's values held against the best one's, replication by replication.

    Keys: ratio, ratio_lo, ratio_hi (None where there is none), verdict ("best", "tie", "unsure").
    """
    if min(*best, *following) <= 0:  # no ratio of nothing
        verdict = "tie" if best == following else "best"
        return {"ratio": None, "ratio_lo": None, "ratio_hi": None, "verdict": verdict}
    ratio = paired_ratio(following, best)
    if best == following:
        verdict = "tie"
    elif not math.isfinite(ratio.lo):
        verdict = "unsure"
    else:
        # Equal means in every replication give an interval of no width.
        verdict = "best" if ratio.lo > 1 else "tie"
    return {
        "ratio": ratio.value,
        "ratio_lo": _finite(ratio.lo),
        "ratio_hi": _finite(ratio.hi),
        "verdict": verdict,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
