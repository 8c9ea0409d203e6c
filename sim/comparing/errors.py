"""The numbers of a comparison: response times and durations of a simulation against those of its replay.

An error is simulated / replayed - 1, negative where the simulation was too fast. The *predictive* error is
that of the simulation as it was made before the replay, from a profile; the *trace-driven* one that of a
simulation with the replay's own arrivals and durations (``tracedriven.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from ...runs import statistics

if TYPE_CHECKING:
    import pandas as pd

    from ...runs.tables import Array

REPLAYED, SIMULATED, TRACE_DRIVEN = "replayed", "simulated", "trace_driven"
"""Columns of seconds in the tables of ``pairing.py``; the last one only where there is such a run."""


@dataclass(frozen=True)
class Responses:
    """Response times of the compared requests."""

    mean_s: float
    median_s: float
    p95_s: float
    max_s: float


@dataclass(frozen=True)
class Errors:
    """Errors of response times; None where the replay's is 0 and the other is not."""

    mean: float | None
    median: float | None
    p95: float | None
    max: float | None
    mean_absolute: float | None
    """Mean absolute percentage error over requests, as a share; each against itself in the replay."""


@dataclass(frozen=True)
class Totals:
    """Response times of the replay, the simulation and, where there is one, the trace-driven run."""

    requests: int
    """How many are compared: all runs finished them, and they are no warm-up."""
    replayed: Responses
    simulated: Responses
    predictive: Errors
    trace_driven: Responses | None
    trace_driven_error: Errors | None


@dataclass(frozen=True)
class NetworkError:
    """Response times of one network's jobs, over all replications."""

    network: str
    jobs: int
    replayed_mean_s: float
    simulated_mean_s: float
    error: float | None
    trace_driven_mean_s: float | None
    trace_driven_error: float | None


@dataclass(frozen=True)
class TaskError:
    """Durations of one kind of task of one layer, over all replications."""

    network: str
    kind: str
    layer: str
    tasks: int
    simulated_s: float
    """Mean."""
    replayed_median_s: float
    replayed_mean_s: float
    error: float | None
    """Of the mean."""
    seconds_per_request: float
    """What it contributes to the difference: simulated minus replayed seconds, per compared request."""


def error_of(simulated: float, replayed: float) -> float | None:
    """simulated / replayed - 1; None where only the replay's is 0."""
    if simulated == replayed:
        return 0.0
    return simulated / replayed - 1 if replayed else None


def _responses(response_s: Array) -> Responses:
    return Responses(
        mean_s=statistics.mean(response_s),
        median_s=statistics.quantile(response_s, 0.5),
        p95_s=statistics.quantile(response_s, 0.95),
        max_s=float(np.max(response_s)),
    )


def totals_of(rows: pd.DataFrame) -> Totals:
    """The totals of one replication's requests (``pairing.responses``), at least one."""
    replayed = rows[REPLAYED].to_numpy()
    found, errors = {REPLAYED: _responses(replayed)}, {}
    for name in (SIMULATED, TRACE_DRIVEN):
        if name in rows:
            column = rows[name].to_numpy()
            positive = replayed > 0
            absolute = np.abs(column[positive] / replayed[positive] - 1)
            found[name] = _responses(column)
            errors[name] = _errors(found[name], found[REPLAYED], statistics.mean(absolute))
    return _assembled(len(rows), found, errors)


def _errors(run: Responses, replayed: Responses, mean_absolute: float) -> Errors:
    return Errors(
        mean=error_of(run.mean_s, replayed.mean_s),
        median=error_of(run.median_s, replayed.median_s),
        p95=error_of(run.p95_s, replayed.p95_s),
        max=error_of(run.max_s, replayed.max_s),
        mean_absolute=None if np.isnan(mean_absolute) else mean_absolute,
    )


def _assembled(requests: int, found: Mapping[str, Responses], errors: Mapping[str, Errors]) -> Totals:
    return Totals(
        requests=requests,
        replayed=found[REPLAYED],
        simulated=found[SIMULATED],
        predictive=errors[SIMULATED],
        trace_driven=found.get(TRACE_DRIVEN),
        trace_driven_error=errors.get(TRACE_DRIVEN),
    )


def together(parts: Sequence[Totals | None]) -> Totals | None:
    """Means over replications; None where one has no totals: a mean over the others would flatter."""
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        return None
    if len(whole) == 1:
        return whole[0]
    found, errors = {}, {}
    for name in (REPLAYED, SIMULATED, TRACE_DRIVEN):
        each = [getattr(part, name) for part in whole]
        if None in each:
            continue
        found[name] = Responses(
            mean_s=statistics.mean([r.mean_s for r in each]),
            median_s=statistics.mean([r.median_s for r in each]),
            p95_s=statistics.mean([r.p95_s for r in each]),
            max_s=max(r.max_s for r in each),
        )
        if name != REPLAYED:
            key = "predictive" if name == SIMULATED else "trace_driven_error"
            absolute = [getattr(part, key).mean_absolute for part in whole]
            mean_absolute = float("nan") if None in absolute else statistics.mean(absolute)
            errors[name] = _errors(found[name], found[REPLAYED], mean_absolute)
    return _assembled(sum(part.requests for part in whole), found, errors)


def network_errors(jobs: pd.DataFrame) -> tuple[NetworkError, ...]:
    """Per network, from ``pairing.job_responses``."""
    found = []
    for network, group in jobs.groupby("network", sort=False):
        means = {
            name: statistics.mean(group[name])
            for name in (REPLAYED, SIMULATED, TRACE_DRIVEN)
            if name in group
        }
        driven = means.get(TRACE_DRIVEN)
        found.append(
            NetworkError(
                network=str(network),
                jobs=len(group),
                replayed_mean_s=means[REPLAYED],
                simulated_mean_s=means[SIMULATED],
                error=error_of(means[SIMULATED], means[REPLAYED]),
                trace_driven_mean_s=driven,
                trace_driven_error=None if driven is None else error_of(driven, means[REPLAYED]),
            )
        )
    return tuple(found)


def task_errors(tasks: pd.DataFrame, requests: int) -> tuple[TaskError, ...]:
    """Per task of a layer, from ``pairing.durations``; the largest contribution first."""
    found = []
    for key, group in tasks.groupby(["network", "kind", "layer"], sort=False):
        network, kind, layer = cast(tuple[str, str, str], key)
        simulated, replayed = group[SIMULATED].to_numpy(), group[REPLAYED].to_numpy()
        means = statistics.mean(simulated), statistics.mean(replayed)
        found.append(
            TaskError(
                network=network,
                kind=kind,
                layer=layer,
                tasks=len(group),
                simulated_s=means[0],
                replayed_median_s=statistics.quantile(replayed, 0.5),
                replayed_mean_s=means[1],
                error=error_of(*means),
                seconds_per_request=statistics.mean(simulated - replayed) * len(group) / requests,
            )
        )
    return tuple(sorted(found, key=lambda each: -abs(each.seconds_per_request)))
