"""What ran beside a task, and how much longer than simulated it took there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from ...runs.tables import Array

if TYPE_CHECKING:
    import pandas as pd

ALONE = "alone"
SHARE = 0.5
"""A task is beside a kind that other workers are on for at least so much of its time."""


@dataclass(frozen=True)
class Overlap:
    """Replayed tasks of one kind beside one kind (or alone), against the same tasks simulated."""

    kind: str
    beside: str
    """Kind that ran longest on other workers meanwhile; ``alone`` if none for half the task's time."""
    tasks: int
    ratio: float | None
    """Replayed over simulated seconds of these tasks together; None where the simulation has 0."""
    seconds_per_request: float
    """Simulated minus replayed seconds, per compared request."""


@dataclass(frozen=True)
class Preempted:
    """Replayed tasks whose processor other processes took away meanwhile: no model's business."""

    tasks: int
    seconds_per_request: float
    """Simulated minus replayed seconds, per compared request."""


def preempted(tasks: pd.DataFrame, requests: int) -> Preempted | None:
    """What they contribute, of tasks with the columns switches, simulated and replayed (seconds).

    None where nobody counted the switches.
    """
    if tasks["switches"].isna().all():
        return None
    hit = tasks[tasks["switches"] > 0]
    return Preempted(len(hit), float((hit["simulated"] - hit["replayed"]).sum()) / requests)


def overlaps(tasks: pd.DataFrame, requests: int) -> tuple[Overlap, ...]:
    """Overlaps of tasks with the columns kind, beside, simulated and replayed (seconds)."""
    found = []
    for key, group in tasks.groupby(["kind", "beside"]):
        kind, beside = cast(tuple[str, str], key)
        simulated, replayed = float(group["simulated"].sum()), float(group["replayed"].sum())
        ratio = replayed / simulated if simulated else None
        found.append(Overlap(kind, beside, len(group), ratio, (simulated - replayed) / requests))
    return tuple(sorted(found, key=lambda each: (each.kind, each.beside != ALONE, each.beside)))


def beside(tasks: pd.DataFrame) -> Array:
    """Per task of one run (columns worker, kind, start_s, end_s) the kind beside it, or ``alone``."""
    start_s, end_s = tasks["start_s"].to_numpy(), tasks["end_s"].to_numpy()
    kinds = sorted(set(tasks["kind"]))
    shared_s = np.zeros((len(kinds), len(tasks)))
    for place, kind in enumerate(kinds):
        for worker in sorted(set(tasks["worker"])):
            mine = (tasks["worker"] == worker).to_numpy()
            on_it = mine & (tasks["kind"] == kind).to_numpy()
            if on_it.any():
                busy_s = _busy_until(start_s[on_it], end_s[on_it], end_s) - _busy_until(
                    start_s[on_it], end_s[on_it], start_s
                )
                shared_s[place] += np.where(mine, 0.0, busy_s)
    longest = shared_s.argmax(axis=0)
    most_s = shared_s.max(axis=0)
    accompanied = (most_s > 0) & (most_s >= SHARE * (end_s - start_s))
    return np.where(accompanied, np.array(kinds, dtype=object)[longest], ALONE)


def _busy_until(start_s: Array, end_s: Array, at_s: Array) -> Array:
    """Seconds that a worker has spent in its intervals (one after the other) until each of ``at_s``."""
    order = np.argsort(start_s, kind="stable")
    start_s, end_s = start_s[order], end_s[order]
    before_s = np.concatenate(([0.0], np.cumsum(end_s - start_s)))
    last = np.searchsorted(start_s, at_s, side="right")
    inside_s = np.minimum(at_s, end_s[last - 1]) - start_s[last - 1]
    return np.where(last > 0, before_s[last - 1] + inside_s, 0.0)
