"""What a replay came to: its journal as a run's result, in the simulation's schema."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ..policies.contract import Worker
from ..policies.graph import Kind
from ..runs.planrecord import plan_record
from ..runs.power import power_of
from ..runs.records import Records
from ..runs.result import Infeasible, RunResult
from ..runs.setup import Setup
from ..runs.tasks import Trace
from .journal import Journal, UnderWay
from .watch import Watch

if TYPE_CHECKING:
    from ..policies.scheduler import Composition

OUTCOMES = ("done", "out of memory", "crashed", "interrupted")


@dataclass(frozen=True)
class Replayed:
    """What a replay came to: the run's result, and what only a real run has."""

    result: RunResult
    facts: dict[str, Any]
    """See ``docs/replay.md``; ready for JSON."""
    counters: list[dict[str, Any]]
    """Per finished task, in the trace's order: cpu_s, switches (involuntary), faults (major)."""

    @property
    def outcome(self) -> str:
        """One of ``OUTCOMES``."""
        return str(self.facts["outcome"])


def written(
    setup: Setup,
    compositions: Sequence[Composition],
    workers: Sequence[Worker],
    book: Journal,
    watch: Watch,
    facts: dict[str, Any],
) -> Replayed:
    """The journal as a run's result, in the simulation's schema."""
    records, trace = Records(), Trace()
    sizes = [len(c.graphs) for c in compositions]
    tasks_of: list[int] = []
    for arrival_s, _, stream, kind, _ in book.known_requests().tolist():
        records.arrive(arrival_s, stream, kind, sizes[kind])
        tasks_of += [len(graph.tasks) for graph in compositions[kind].graphs]
    rows = book.finished_tasks()
    busy = [0.0] * len(workers)
    left = list(tasks_of)
    for row in rows:
        start_s, end_s, job = float(row["start_s"]), float(row["end_s"]), int(row["job"])
        trace.append(start_s, end_s, job, int(row["task"]), int(row["worker"]), int(row["resident_bytes"]))
        busy[int(row["worker"])] += end_s - start_s
        if math.isnan(records.job_start_s[job]) or start_s < records.job_start_s[job]:
            records.job_start_s[job] = start_s
        left[job] -= 1
        if not left[job]:
            records.job_finish_s[job] = end_s
    device = setup.device
    done = len(rows)
    events = book.known_events()
    scheduler_s = float(events["scheduler_s"][-1]) if len(events) else 0.0
    peak_bytes = int(events["resident_bytes"].max(initial=0))
    facts["scheduler"] = {
        "seconds": scheduler_s,
        "per_task_s": scheduler_s / done if done else None,
        "of_busy": scheduler_s / sum(busy) if sum(busy) else None,
    }
    facts["memory"]["ledger_peak_bytes"] = peak_bytes
    facts["memory"]["ledger_base_bytes"] = device.memory.base_bytes
    facts["switches"] = int(rows["switches"].sum())
    out_of_memory = facts["outcome"] == "out of memory"
    result = RunResult(
        scenario=setup.scenario.model_dump(mode="json"),
        policy=setup.scenario.policy.name,
        device=device.name,
        seed=setup.scenario.run.seed,
        replication=setup.replication,
        graphs=[c.graphs for c in compositions],
        streams=list(setup.plan.streams),
        deadline_s=list(setup.plan.deadline_s),
        records=records,
        workers=[worker.name for worker in workers],
        busy_s=busy,
        end_s=max((float(row["end_s"]) for row in rows), default=0.0),
        peak_bytes=max(device.memory.base_bytes, peak_bytes),
        base_bytes=device.memory.base_bytes,
        limit_bytes=device.memory.usable_bytes,
        trace=trace,
        power=power_of(device, workers),
        plan=plan_record(setup),
        infeasible=_infeasible(setup, compositions, book, watch) if out_of_memory else None,
        cut_short=None if facts["outcome"] in ("done", "out of memory") else str(facts["message"]),
    )
    counters = [
        {"cpu_s": float(r["cpu_s"]), "switches": int(r["switches"]), "faults": int(r["faults"])} for r in rows
    ]
    return Replayed(result, facts, counters)


def _infeasible(setup: Setup, compositions: Sequence[Composition], book: Journal, watch: Watch) -> Infeasible:
    """Which task was under way when memory ran out, and what the ledger held then."""
    limit = setup.device.memory.usable_bytes
    requests, events = book.known_requests(), book.known_events()
    at_s = float(max([*requests["arrival_s"][-1:], *events["now_s"][-1:]], default=0.0))
    if watch.refused is not None:
        kind, layer = watch.refused["kind"], watch.refused["layer"]
        task = "submission" if kind is None else _task_name(Kind(kind), layer)
        network, demand = watch.refused["network"], int(watch.refused["demand_bytes"])
    else:
        graphs = [graph for kind in requests["composition"].tolist() for graph in compositions[kind].graphs]
        nothing = UnderWay(0, 0, 0.0, int(events["resident_bytes"].max(initial=0)))
        job, index, _, demand = max(book.under_way(), key=attrgetter("start_s"), default=nothing)
        network = graphs[job].network.name if graphs else ""
        task = _task_name(graphs[job].tasks[index].kind, graphs[job].tasks[index].layer) if graphs else ""
    return Infeasible(
        network=network,
        task=task,
        at_s=at_s,
        demand_bytes=demand,
        limit_bytes=limit,
        fits_with=[f"a memory limit above {demand} bytes", "a policy that holds less at once (linear, masa)"],
    )


def _task_name(kind: Kind, layer: int) -> str:
    return f"{kind.name} {layer if layer >= 0 else 'all'}"
