"""Replays without a device: simulations with other durations, written as replays are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgesched.policies.graph import Task
from edgesched.policies.scheduler import Job
from edgesched.runs.folder import RunFolder, open_run, write_run
from edgesched.runs.records import Records
from edgesched.runs.result import RunResult
from edgesched.runs.scenario import Scenario, normal
from edgesched.runs.setup import set_up
from edgesched.runs.tasks import Trace
from edgesched.sim.comparing.comparison import Comparison, compare
from edgesched.sim.comparing.tracedriven import trace_driven
from edgesched.sim.overheads import OverheadEngine
from edgesched.sim.run import run_out, simulate

Durations = Callable[[Job, Task], float]

CONV = {"name": "conv", "load_s": 0.2, "execute_s": 0.5, "weight_bytes": 1000, "output_bytes": 10}
FC = {"name": "fc", "load_s": 0.6, "execute_s": 0.1, "weight_bytes": 4000, "output_bytes": 10}
NETWORKS = [
    {"name": "A", "init_s": 0.05, "layers": [CONV, FC], "conv_layers": 1},
    {"name": "B", "init_s": 0.02, "layers": [CONV, {**CONV, "name": "conv 2", "execute_s": 0.3}, FC]},
]


SPACED = {"process": "deterministic", "period_s": 20}
"""No image waits for another."""


def scenario(policy: Any = "fifo", **changes: Any) -> Scenario:
    """Two networks for each of eight images that come at random."""
    data = {
        "name": "small",
        "device": "ideal",
        "networks": NETWORKS,
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 0.3},
            "networks": ["A", "B"],
        },
        "policy": policy,
        "run": {"requests": 8, "seed": 3},
    }
    for path, value in changes.items():
        part: Any = data
        *parents, last = path.split("__")
        for key in parents:
            part[key] = {"board": part[key]} if key == "device" and isinstance(part[key], str) else part[key]
            part = part[key]
        part[last] = value
    return Scenario.model_validate(normal(data))


def replay(spec: Scenario, durations: Durations, number: int = 0, until_s: float | None = None) -> RunResult:
    """What a real device would have written whose tasks take ``durations``."""
    setup = set_up(spec, number)
    parts = setup.policy, setup.device, setup.plan, setup.expand, Records(), Trace()
    return run_out(setup, OverheadEngine(*parts, measured=durations), setup.until_s or until_s)


def scaled(factor: float) -> Durations:
    return lambda job, task: task.duration_s * factor


def perturbed(seed: int, spread: float = 0.3) -> Durations:
    rng = np.random.default_rng(seed)
    return lambda job, task: task.duration_s * float(np.exp(rng.normal(0.0, spread)))


def written(folder: Path, *results: RunResult) -> RunFolder:
    return open_run(write_run(folder, results))


def compared(folder: Path, spec: Scenario, *replays: RunResult, driven: bool = True) -> Comparison:
    """The simulation of the scenario against these replays, both by way of their folders."""
    numbers = [each.replication for each in replays]
    simulated = written(folder / "sim", *(simulate(spec, number, trace=Trace()) for number in numbers))
    replayed = written(folder / "replay", *replays)
    runs = [trace_driven(spec, replayed, number) for number in numbers] if driven else []
    return compare(simulated, replayed, runs)


def by_name(rows: Any, **wanted: str) -> Any:
    [found] = [row for row in rows if all(getattr(row, key) == value for key, value in wanted.items())]
    return found


def write_facts(folder: Path, **facts: Any) -> None:
    """The file that only a replay has, with some of its keys."""
    (folder / "replay.json").write_text(json.dumps({"replications": [facts]}))


def finishes(folder: RunFolder | RunResult) -> list[float]:
    if isinstance(folder, RunResult):
        return list(folder.records.job_finish_s)
    return list(folder.jobs()["finish_s"])
