"""A run in one plain dictionary; every key is defined by symbol and formula in docs/metrics.md.

Made for sweeps: no pandas, one pass over the columns, the same bits on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import statistics
from .power import energy_j
from .result import RunResult
from .statistics import CONFIDENCE, Estimate
from .tables import Array, Columns, columns, network_names

Summary = dict[str, Any]

STATISTICS = ("response_mean_s", "response_median_s", "response_p95_s", "response_p99_s")
AVERAGED = (
    *STATISTICS,
    "job_response_mean_s",
    "job_waiting_mean_s",
    "throughput_per_s",
    "deadline_missed_share",
    "energy_per_request_j",
)
"""What ``across`` gives an interval over replications."""


def summarise(
    result: RunResult,
    *,
    warmup_requests: int | None = None,
    warmup_s: float = 0.0,
    confidence: float = CONFIDENCE,
) -> Summary:
    """The run's metrics as plain data, ready for ``json.dumps(..., allow_nan=False)``.

    Requests among the first ``warmup_requests`` or before ``warmup_s`` are left out of response times,
    throughput and deadline misses; None: what the scenario's ``run.warmup_requests`` says. A metric that the
    run cannot give (nothing finished, too few values for an interval) is None.
    """
    if warmup_requests is None:
        warmup_requests = int(result.scenario.get("run", {}).get("warmup_requests", 0))
    requests, jobs = columns(result)
    first = statistics.warmup_end(requests["arrival_s"], warmup_requests, warmup_s)
    response = requests["response_s"]
    counted = response[first:]
    counted = counted[~np.isnan(counted)]
    finished = int(np.count_nonzero(~np.isnan(response)))
    after = jobs["request"] >= first
    status, reason = _status(result, finished, len(response))
    warnings = list(result.warnings)
    if status == "ok":
        warning = statistics.warmup_warning(response, first)
        warnings += [warning] if warning else []
    begin_s = float(requests["arrival_s"][first]) if 0 < first < len(response) else 0.0
    return {
        "status": status,
        "reason": reason,
        "policy": result.policy,
        "device": result.device,
        "replication": result.replication,
        "requests": len(response),
        "completed": finished,
        "counted": len(counted),
        "warmup_requests": first,
        **_responses(counted, confidence),
        **_jobs(jobs, after),
        "networks": _networks(result, jobs, after),
        "arrival_rate_per_s": _rate(requests["arrival_s"][first:]),
        "throughput_per_s": _ratio(len(counted), result.end_s - begin_s),
        **_deadlines(requests, first),
        "end_s": result.end_s,
        "utilisation": {
            name: _ratio(busy_s, result.end_s)
            for name, busy_s in zip(result.workers, result.busy_s, strict=True)
        },
        "energy_per_request_j": _energy_per_request(result, finished),
        "peak_bytes": result.peak_bytes,
        "limit_bytes": result.limit_bytes,
        "paged_in_bytes": result.paged_in_bytes,
        "paged_out_bytes": result.paged_out_bytes,
        "warnings": warnings,
    }


def _status(result: RunResult, finished: int, count: int) -> tuple[str, str | None]:
    short = result.infeasible
    if short is not None:
        return "infeasible", (
            f"{short.network}: {short.task} needs {short.demand_bytes} bytes in all at {short.at_s:g} s, "
            f"there are {short.limit_bytes}; it would fit with {' or '.join(short.fits_with)}"
        )
    if result.cut_short is not None:
        return "incomplete", f"{result.cut_short}; {finished} of the {count} requests that came were finished"
    if finished < count:
        return "incomplete", f"{count - finished} of {count} requests are unfinished at {result.end_s:g} s"
    return "ok", None


def _energy_per_request(result: RunResult, finished: int) -> float | None:
    """Joules per finished request; None where none finished or the board's power is not known."""
    if result.power is None or not finished:
        return None
    return _plain(energy_j(result.power, result.busy_s, result.end_s) / finished)


def _responses(response_s: Array, confidence: float) -> Summary:
    found = {
        "response_mean": statistics.batch_means(response_s, confidence=confidence),
        "response_median": statistics.quantile_interval(response_s, 0.5, confidence=confidence),
        "response_p95": statistics.quantile_interval(response_s, 0.95, confidence=confidence),
        "response_p99": statistics.quantile_interval(response_s, 0.99, confidence=confidence),
    }
    summary: Summary = {}
    for name, estimate in found.items():
        summary[f"{name}_s"] = _plain(estimate.value)
        summary[f"{name}_half_width_s"] = _plain(estimate.half_width)
    summary["response_max_s"] = float(response_s.max()) if len(response_s) else None
    return summary


def _jobs(jobs: Columns, after: Array) -> Summary:
    return {
        "job_response_mean_s": _mean(jobs["response_s"][after]),
        "job_waiting_mean_s": _mean(jobs["waiting_s"][after]),
    }


def _networks(result: RunResult, jobs: Columns, after: Array) -> dict[str, Summary]:
    networks: dict[str, Summary] = {}
    for number, name in enumerate(network_names(result)):
        rows = after & (jobs["network"] == number)
        response_s = jobs["response_s"][rows]
        networks[name] = {
            "jobs": len(response_s),
            "completed": int(np.count_nonzero(~np.isnan(response_s))),
            "response_mean_s": _mean(response_s),
            "waiting_mean_s": _mean(jobs["waiting_s"][rows]),
        }
    return networks


def _deadlines(requests: Columns, first: int) -> Summary:
    due = ~np.isnan(requests["deadline_s"][first:])
    missed = int(np.count_nonzero(requests["missed"][first:]))
    count = int(np.count_nonzero(due))
    return {
        "with_deadline": count,
        "deadline_missed": missed,
        "deadline_missed_share": missed / count if count else None,
    }


def across(summaries: Sequence[Mapping[str, Any]], confidence: float = CONFIDENCE) -> Summary:
    """Replications of one scenario together: every number's mean over them, with t intervals.

    For each key of ``AVERAGED``: KEY (mean over replications) and its ``..._lo`` and ``..._hi`` (None with
    fewer than two replications). ``peak_bytes`` is the largest.

    If any replication is not "ok", status and reason are those of the first such one and the statistics
    are None: a mean over the runs that happened to survive would flatter.
    """
    if not summaries:
        raise ValueError("across: no replications")
    bad = next((s for s in summaries if s["status"] != "ok"), None)
    together: Summary = {
        "status": bad["status"] if bad else "ok",
        "reason": f"replication {bad['replication']}: {bad['reason']}" if bad else None,
        "policy": summaries[0]["policy"],
        "device": summaries[0]["device"],
        "replications": len(summaries),
    }
    for key in AVERAGED:
        values = [s[key] for s in summaries]
        usable = bad is None and None not in values
        estimate = statistics.replications(values, confidence) if usable else Estimate(*[math.nan] * 3)
        together[key] = _plain(estimate.value)
        together[f"{key}_lo"], together[f"{key}_hi"] = _plain(estimate.lo), _plain(estimate.hi)
    workers = summaries[0]["utilisation"]
    together["utilisation"] = {
        name: _mean(np.array([s["utilisation"][name] for s in summaries], dtype=np.float64))
        for name in workers
    }
    together["peak_bytes"] = max(s["peak_bytes"] for s in summaries)
    for key in ("paged_in_bytes", "paged_out_bytes"):
        together[key] = statistics.mean([s[key] for s in summaries])
    together["warnings"] = list(dict.fromkeys(w for s in summaries for w in s["warnings"]))
    return together


def _mean(values: Array) -> float | None:
    return _plain(statistics.mean(values[~np.isnan(values)]))


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _rate(arrival_s: Array) -> float | None:
    """Arrivals per second between the first and the last; None where they are one or at once."""
    return _ratio(len(arrival_s) - 1, float(arrival_s[-1] - arrival_s[0])) if len(arrival_s) > 1 else None


def _ratio(above: float, below: float) -> float | None:
    return above / below if below > 0 else None
