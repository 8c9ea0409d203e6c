"""Which policy to choose where: policies compared on the same random numbers, point by point.

Every setting of a sweep that begins with ``policy`` names a candidate; every combination of the others is a
place. At each place the candidate with the smallest mean response time is best, and the next one is held
against it as a paired ratio over replications, which saw the same arrivals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .statistics import paired_ratio, replications

METRIC = "response_mean_s"
SATURATED_GROWTH = 0.02
"""A backlog that surely grows by more than so many requests per arrival is never worked off (rho > 1.02)."""

Labels = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]


def recommend(axes: Sequence[str], points: Sequence[tuple[Labels, Rows]]) -> list[dict[str, Any]]:
    """One row per place, in the order of the grid; none where the sweep does not compare policies.

    ``points`` are the labels of each point with its replications' rows. Columns: the place's labels, best,
    mean_s with mean_lo_s and mean_hi_s, next, ratio (next to best) with ratio_lo and ratio_hi, verdict
    ("best", "tie" where the ratio's interval covers 1, "only", "unsure" with a single replication, "none"),
    saturated (policies whose backlog only grows), unusable (policies that are infeasible or failed).
    """
    of_policy = [axis for axis in axes if axis.partition(".")[0] == "policy"]
    if not of_policy:
        return []
    others = [axis for axis in axes if axis not in of_policy]
    places: dict[tuple[Any, ...], list[tuple[str, Rows]]] = {}
    for labels, rows in points:
        name = policy_label([labels[axis] for axis in of_policy])
        places.setdefault(tuple(labels[axis] for axis in others), []).append((name, rows))
    return [
        {**dict(zip(others, place, strict=True)), **_choice(candidates)}
        for place, candidates in places.items()
    ]


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


def _choice(candidates: Sequence[tuple[str, Rows]]) -> dict[str, Any]:
    usable = {
        name: [row[METRIC] for row in rows]
        for name, rows in candidates
        if all(row.get("status") == "ok" and row.get(METRIC) is not None for row in rows)
    }
    order = sorted(usable, key=lambda name: (math.fsum(usable[name]), list(usable).index(name)))
    result: dict[str, Any] = {
        "best": order[0] if order else None,
        **dict.fromkeys(("mean_s", "mean_lo_s", "mean_hi_s", "next", "ratio", "ratio_lo", "ratio_hi")),
        "verdict": "none",
        "saturated": " ".join(name for name, rows in candidates if name in usable and saturated(rows)),
        "unusable": " ".join(name for name, _ in candidates if name not in usable),
    }
    if not order:
        return result
    mean = replications(usable[order[0]])
    result.update(mean_s=mean.value, mean_lo_s=_finite(mean.lo), mean_hi_s=_finite(mean.hi), verdict="only")
    if len(order) < 2:
        return result
    result["next"] = order[1]
    best, following = usable[order[0]], usable[order[1]]
    if min(*best, *following) <= 0:  # no ratio of nothing
        result["verdict"] = "tie" if best == following else "best"
        return result
    ratio = paired_ratio(following, best)
    result.update(ratio=ratio.value, ratio_lo=_finite(ratio.lo), ratio_hi=_finite(ratio.hi))
    if best == following:
        result["verdict"] = "tie"
    elif not math.isfinite(ratio.lo):
        result["verdict"] = "unsure"
    else:
        # Equal means in every replication give an interval of no width.
        result["verdict"] = "best" if ratio.lo > 1 else "tie"
    return result


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
