"""A replay simulated with its own durations: what is left of its error is the scheduler's and the ledger's.

Requests arrive when they really did and every task takes what it really took. Only who goes next, when, and
what is resident then is simulated.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...runs.folder import RunFolder
from ...runs.records import Records
from ...runs.setup import set_up
from ...runs.tables import task_label
from ...runs.tasks import Trace
from ..overheads import OverheadEngine
from ..run import run_out
from .pairing import ComparisonError, traced_tasks

if TYPE_CHECKING:
    import pandas as pd

    from ...devices.model import Device
    from ...policies.graph import NetworkGraph, Task
    from ...policies.scheduler import Job
    from ...runs.result import RunResult
    from ...runs.scenario import Scenario
    from ...workloads.workload import RequestPlan

GRACE_S = 1e-6
"""A run that was cut short is simulated so much longer: sums of durations round."""

NO_OVERHEADS = {
    "wake_s": 0.0,
    "dispatch_period_s": 0.0,
    "worker_pause_s": 0.0,
    "worker_poll_s": 0.0,
    "submission_s": 0.0,
    "noise": None,
}


def trace_driven(
    scenario: Scenario, replayed: RunFolder, replication: int = 0, *, scenario_folder: Path | None = None
) -> RunResult:
    """Simulate one replication of a replay with its own arrivals and durations; rows are those of the replay.

    ``scenario_folder`` is where the scenario's relative files are looked up. A task that the replay did not
    finish (it was killed or interrupted) never ends; the run stops where the replay did. Raises
    ``ComparisonError`` where the replay is none of this scenario or has no trace, and ``ScenarioError`` for
    what the scenario names and does not exist.
    """
    requests = _of(replayed.requests(), replication)
    jobs = _of(replayed.jobs(), replication)
    tasks = _of(traced_tasks(replayed), replication)
    if requests.empty:
        raise ComparisonError(f"{replayed.path}: has no request of replication {replication}")
    setup = set_up(scenario, replication, folder=scenario_folder)
    plan = _as_it_came(setup.plan, requests, replayed.path)
    setup = replace(setup, device=_without_overheads(setup.device), plan=plan)
    measured = _Measured(tasks)
    engine = OverheadEngine(
        setup.policy, setup.device, plan, setup.expand, Records(), Trace(), measured=measured
    )
    engine.scheduler.hard_limit_bytes = math.inf  # a replay's guard has spoken: it went on, or was killed
    graphs = [graph for kind in plan.composition for graph in engine.compositions[kind].graphs]
    _check_tasks(graphs, jobs, tasks, replayed.path)
    whole = not jobs["finish_s"].isna().any()
    end_s = float(tasks["end_s"].max()) if len(tasks) else 0.0
    return run_out(setup, engine, None if whole else end_s + GRACE_S)


class _Measured:
    """How long each task of each job took in the replay; inf where it was not finished."""

    def __init__(self, tasks: pd.DataFrame) -> None:
        # Layers of one name are told apart by the order of their tasks.
        tasks = tasks.sort_values("start_s", kind="stable")
        turn = tasks.groupby(["job", "kind", "layer"]).cumcount()
        keys = zip(tasks["job"], tasks["kind"], tasks["layer"], turn, strict=True)
        self._seconds = dict(zip(keys, tasks["end_s"] - tasks["start_s"], strict=True))
        self._labels: dict[NetworkGraph, list[tuple[str, str, int]]] = {}

    def __call__(self, job: Job, task: Task) -> float:
        """Seconds."""
        labels = self._labels.get(job.graph)
        if labels is None:
            labels = self._labels[job.graph] = _labels(job.graph)
        return self._seconds.get((job.row, *labels[task.index]), math.inf)


def _labels(graph: NetworkGraph) -> list[tuple[str, str, int]]:
    """Per task its kind, its layer, and how many before it have the same."""
    seen: Counter[tuple[str, str]] = Counter()
    labels = []
    for task in graph.tasks:
        _, kind, layer = task_label(task)
        labels.append((kind, layer, seen[kind, layer]))
        seen[kind, layer] += 1
    return labels


def _of(table: pd.DataFrame, replication: int) -> pd.DataFrame:
    return table[table["replication"] == replication]


def _as_it_came(plan: RequestPlan, requests: pd.DataFrame, path: Path) -> RequestPlan:
    """The plan with the requests that came, when they came; of a closed stream too."""
    kinds = _kinds(plan)
    gap_s, streams, chosen = array("d"), array("i"), array("i")
    clock_s = 0.0
    for name, arrival_s in zip(requests["stream"], requests["arrival_s"], strict=True):
        stream = plan.streams.index(name) if name in plan.streams else -1
        kind = next(kinds[stream], None) if stream >= 0 else None
        if kind is None:
            raise ComparisonError(f"{path}: has more requests of stream {name!r} than its scenario")
        # Summed up as the engine's clock will be, so that rounding does not pile up.
        gap_s.append(max(0.0, arrival_s - clock_s))
        clock_s += gap_s[-1]
        streams.append(stream)
        chosen.append(kind)
    return replace(plan, gap_s=gap_s, stream=streams, composition=chosen, closed=[])


def _kinds(plan: RequestPlan) -> list[Iterator[int]]:
    """Per stream the compositions of its requests, in order."""
    own: list[list[int]] = [[] for _ in plan.streams]
    for stream, kind in zip(plan.stream, plan.composition, strict=True):
        own[stream].append(kind)
    kinds: list[Iterator[int]] = [iter(each) for each in own]
    for closed in plan.closed:
        kinds[closed.stream] = closed.indices()
    return kinds


def _without_overheads(device: Device) -> Device:
    """The device whose tasks take what they take: no lag, no noise, no paging."""
    return device.model_copy(
        update={
            "runtime": device.runtime.model_copy(update=NO_OVERHEADS),
            "memory": device.memory.model_copy(update={"swap": None}),
            "storage": device.storage.model_copy(update={"reads": "cached"}),
        }
    )


def _check_tasks(graphs: list[NetworkGraph], jobs: pd.DataFrame, tasks: pd.DataFrame, path: Path) -> None:
    """Raise where the replay's jobs are not of these graphs, or finished ones lack tasks."""
    names = [graph.network.name for graph in graphs]
    if names != list(jobs["network"]):
        raise ComparisonError(f"{path}: its requests ran other networks than its scenario says")
    known = {task_label(task) for graph in set(graphs) for task in graph.tasks}
    for label in zip(tasks["network"], tasks["kind"], tasks["layer"], strict=True):
        if label not in known:
            network, kind, layer = label
            raise ComparisonError(
                f"{path}: has a task {kind} {layer} of {network}, which the simulation does not know: it was "
                f"replayed with other layers than the device's profile has; measure and replay again"
            )
    counts = Counter(tasks["job"])
    for job, finish_s in zip(jobs["job"], jobs["finish_s"], strict=True):
        count = len(graphs[job].tasks)
        if not math.isnan(finish_s) and counts[job] != count:
            raise ComparisonError(
                f"{path}: job {job} has {counts[job]} of {count} tasks: the trace was cut short"
            )
