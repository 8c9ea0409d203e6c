"""Which runs can be held against each other: those of one scenario that kept whole traces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...devices.reading import shown
from ...runs.folder import RunFolder
from .errors import REPLAYED, SIMULATED
from .pairing import JOB, REQUEST, ComparisonError, Tables, job_responses

if TYPE_CHECKING:
    import pandas as pd


def common_replications(simulated: RunFolder, replayed: RunFolder) -> list[int]:
    """The replications in both folders. Raises ComparisonError where there are none."""
    both = set(simulated.info["replications"]) & set(replayed.info["replications"])
    if not both:
        raise ComparisonError(f"{simulated.path} and {replayed.path} have no replication in common")
    return sorted(both)


def check_scenarios(simulated: RunFolder, replayed: RunFolder) -> list[str]:
    """Raise where the scenarios differ in what both must share; returns notes on what else differs."""
    if simulated.replay() is not None:
        raise ComparisonError(f"{simulated.path}: is a replay; the simulation comes first, then the replay")
    one, other = _shared(simulated), _shared(replayed)
    for path, first, second in _differences(one, other):
        raise ComparisonError(
            f"{simulated.path} and {replayed.path} are of different scenarios: {path} is {shown(first)} "
            f"in the first and {shown(second)} in the second"
        )
    one, other = (dict(folder.scenario["device"], memory_limit=None) for folder in (simulated, replayed))
    return [
        f"{path} is {shown(first)} in the simulation and {shown(second)} in the replay"
        for path, first, second in _differences(one, other, "device")
    ]


def _shared(folder: RunFolder) -> dict[str, Any]:
    """What a simulation and a replay must have in common."""
    scenario = folder.scenario
    return {
        **{key: scenario[key] for key in ("networks", "workload", "policy")},
        "run": {key: value for key, value in scenario["run"].items() if key != "replications"},
        "the memory limit in bytes": folder.summary["replications"][0]["limit_bytes"],
    }


def _differences(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted paths at which plain data differ, with both values (None: not there)."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*one, *other]):
            yield from _differences(one.get(key), other.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _differences(left, right, f"{path}.{place}")
    elif one != other:
        yield path, one, other


def check_traces(
    simulated: RunFolder, replayed: RunFolder, runs: Mapping[str, Tables], both: pd.DataFrame
) -> None:
    """Raise where a job that both finished lacks tasks in one: its trace was cut, or layers differ."""
    two = {name: runs[name] for name in (REPLAYED, SIMULATED)}
    place = [*REQUEST, "position"]
    jobs = two[REPLAYED].jobs[[*place, "network"]].merge(two[SIMULATED].jobs[[*place, "network"]], on=place)
    if (jobs["network_x"] != jobs["network_y"]).any():
        raise ComparisonError(f"{simulated.path} and {replayed.path}: their requests run other networks")
    finished = job_responses(two, two[REPLAYED].requests).dropna()
    tasks = both.merge(finished[JOB], on=JOB)
    lacking = tasks[tasks[[SIMULATED, REPLAYED]].isna().any(axis=1)]
    if len(lacking):
        row = lacking.iloc[0]
        here, there = (simulated, replayed) if np.isnan(row[SIMULATED]) else (replayed, simulated)
        raise ComparisonError(
            f"{here.path}: lacks the task {row['kind']} {row['layer']} of {row['network']} that {there.path} "
            f"has: its trace was cut short (a larger --trace-limit helps), or the layers are not the same"
        )
