"""One check and its bar, and the short way from a few numbers to a scenario and its response times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runs.result import RunResult
from ...runs.scenario import Scenario
from ..run import simulate

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Check:
    """What was measured, what theory says, and the bar for their difference; seconds throughout."""

    case: str
    """Begins with "theory/"."""
    measured: float
    predicted: float
    relative_error: float
    """Pathwise: the largest of any request. In distribution: that of the mean. Not negative."""
    bar: float
    """Largest relative error that passes. In distribution: half of the measurement's 99 % interval."""
    requests: int
    """In all replications, warm-up excluded."""
    replications: int
    rule: str
    """"bit-equal", "pathwise" or "99 % interval"."""
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is within the bar (a nan is not)."""
        return self.relative_error <= self.bar

    def record(self) -> dict[str, Any]:
        """The check as plain data; what is not finite is None."""
        data = {**asdict(self), "passed": self.passed}
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in data.items()
        }


def network(
    name: str,
    load_s: Sequence[float],
    execute_s: Sequence[float],
    weight_bytes: Sequence[int] | None = None,
    init_s: float = 0.0,
) -> dict[str, Any]:
    """A network written out for a scenario, one element per layer."""
    weights = [0] * len(load_s) if weight_bytes is None else weight_bytes
    layers = [
        {"load_s": load, "execute_s": execute, "weight_bytes": weight}
        for load, execute, weight in zip(load_s, execute_s, weights, strict=True)
    ]
    return {"name": name, "init_s": init_s, "layers": layers}


def scenario(
    policy: str | Mapping[str, Any],
    networks: Sequence[Mapping[str, Any]],
    arrivals: Mapping[str, Any],
    *,
    requests: int,
    seed: int,
    mix: Any = None,
    runtime: Mapping[str, Any] | None = None,
    memory_limit: int | None = None,
) -> Scenario:
    """A scenario on the ideal device; ``mix`` None: every request runs all ``networks``."""
    return Scenario.model_validate(
        {
            "device": {"board": "ideal", "runtime": dict(runtime or {}), "memory_limit": memory_limit},
            "networks": list(networks),
            "workload": {
                "arrivals": dict(arrivals),
                "networks": [n["name"] for n in networks] if mix is None else mix,
            },
            "policy": {"name": policy} if isinstance(policy, str) else dict(policy),
            "run": {"requests": requests, "seed": seed},
        }
    )


def responses(spec: Scenario, replication: int = 0) -> tuple[Floats, RunResult]:
    """Run one replication: the response time of every request in seconds, in order of arrival.

    A request that was not served (the run was infeasible, or the policy stuck) is nan.
    """
    result = simulate(spec, replication)
    records = result.records
    size = np.array([len(graphs) for graphs in result.graphs])[np.asarray(records.composition)]
    first = np.cumsum(size) - size
    response = np.full(spec.run.requests or len(size), np.nan)
    response[: len(size)] = np.maximum.reduceat(np.asarray(records.job_finish_s), first)
    response[: len(size)] -= np.asarray(records.arrival_s)
    return response, result
