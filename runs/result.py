"""What one simulated run came to: the engine's columns with what is needed to read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..policies.graph import NetworkGraph
from .power import ProcessorPower
from .records import Records
from .tasks import Trace


@dataclass(frozen=True, slots=True)
class Infeasible:
    """A run that ran out of memory (and swap): demand, bound, and what would make it fit."""

    network: str
    task: str
    """Kind and layer of the task that did not fit, e.g. "LOAD 3"."""
    at_s: float
    demand_bytes: int
    limit_bytes: int
    fits_with: list[str]
    """Levers, e.g. "a limit of at least 12345678 bytes"."""


@dataclass(slots=True)
class RunResult:
    """One replication of one scenario.

    ``graphs[k]`` are the task graphs of composition k, so that row j of a job tells its network and row i of
    the trace its task.
    """

    scenario: dict[str, Any]
    """The resolved scenario as plain data (what went in, defaults filled in)."""
    policy: str
    device: str
    seed: int
    replication: int
    graphs: list[tuple[NetworkGraph, ...]]
    streams: list[str]
    deadline_s: list[float | dict[str, float] | None]
    """Per stream, relative to the arrival."""
    records: Records
    workers: list[str]
    busy_s: list[float]
    """Per worker."""
    end_s: float
    peak_bytes: int
    base_bytes: int
    limit_bytes: int | None
    paged_in_bytes: int = 0
    paged_out_bytes: int = 0
    trace: Trace | None = None
    infeasible: Infeasible | None = None
    power: tuple[ProcessorPower, ...] | None = None
    """Per processor; None where the board does not know it (``runs/power.py``)."""
    cut_short: str | None = None
    """Why a replay ended before its time (crashed, interrupted); more requests may have been to come."""
    plan: dict[str, Any] | None = None
    """What the policy decided before the run (``runs/planrecord.py``); None: nothing."""
    warnings: list[str] = field(default_factory=list)
