"""Replay a scenario on this machine: the process that does it is started, guarded, watched and written down.

The replaying process lives in a control group of its own, with as much room beyond its base as the simulated
device has. If it is killed there, the policy did not fit, and that is the result. Whatever ends a replay,
the journal keeps what was measured, and nothing else is left.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..policies.contract import Worker
from ..policies.graph import Kind
from ..policies.scheduler import Job, Scheduler
from ..runs.power import power_of
from ..runs.records import Records
from ..runs.result import Infeasible, RunResult
from ..runs.setup import Setup, set_up
from ..runs.tasks import Trace
from . import journal
from .journal import Journal
from .machine import host
from .machine.cgroup import UNLIMITED_BYTES, MemoryGroup, Unavailable, sweep_stale
from .prepare import as_executed
from .process import CRASHED, DOES_NOT_FIT

if TYPE_CHECKING:
    from ..devices.model import Device
    from ..policies.scheduler import Composition
    from ..runs.scenario import Scenario
    from .bundles.bundle import Bundle

OUTCOMES = ("done", "out of memory", "crashed", "interrupted")
ENDLESS_TASKS = 1_000_000
"""Room in the journal for closed streams without a number of requests."""
POLL_S = 0.05

Progress = Callable[[int, int], None]
"""Told (finished jobs' tasks, all tasks) of the run."""


class ReplayError(ValueError):
    """A scenario cannot be replayed here; the message says why and what would help."""


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


def replay(
    scenario: Scenario,
    bundles: Mapping[str, Bundle],
    replication: int = 0,
    *,
    folder: Path | None = None,
    nice: int = 0,
    progress: Progress | None = None,
) -> Replayed:
    """Replay one replication. ``bundles`` holds every network that the scenario names.

    Returns also where the policy ran out of memory, a layer crashed, or an interrupt (SIGINT, SIGTERM) ended
    it; ``Replayed.outcome`` says which. Raises ReplayError for a scenario that cannot be replayed, and
    ``ScenarioError`` for what it names and does not exist.
    """
    setup = set_up(scenario, replication, folder=folder, networks=as_executed(bundles))
    _check(setup)
    compositions, workers = _expanded(setup)
    capacity = (len(workers), *_capacity(setup, compositions))
    pins = cpus_of(setup.device, workers)
    before = host.Snapshot.take()
    book = Journal.create(*capacity)
    try:
        with _group(setup, bundles) as (group, unguarded), tempfile.TemporaryFile() as complaints:
            order = {
                "scenario": scenario.model_dump(mode="json"),
                "folder": str(folder or Path()),
                "replication": replication,
                "bundles": {name: str(bundle.folder) for name, bundle in bundles.items()},
                "journal": book.fd,
                "capacity": capacity,
                "cpus": pins,
                "reserve": _at_once(setup, workers),
                "guarded": group is not None,
                "nice": nice,
            }
            watch = _Watch(group, book, order, capacity[2], complaints, progress)
            outcome = watch.run(setup.device)
        facts = {
            "outcome": outcome,
            "message": watch.message,
            "memory": watch.memory | {"guard": "ledger" if group is None else "cgroup", "why": unguarded},
            "arrivals_late_s": float(book.state["late_s"][0]),
            "cpus": pins,
            "nice": nice,
            "disturbance": asdict(host.Disturbance.between(before, host.Snapshot.take())),
            "host": host.facts(),
            "bundles": {name: bundle.sha256 for name, bundle in bundles.items()},
        }
        return _written(setup, compositions, workers, book, watch, facts)
    finally:
        book.close()


def _check(setup: Setup) -> None:
    device = setup.device
    if device.runtime.version != "B":
        raise ReplayError(
            f"device {device.name}: runtime.version is A, which is EdgeCaffe's of April 2020; a replay does "
            f"B: set device.runtime.version to B"
        )
    if device.runtime.outputs_lifetime != "arena" or device.runtime.load_copies:
        raise ReplayError(
            f"device {device.name}: a replay keeps a job's outputs in one arena and makes no copies while "
            f"loading, but runtime.outputs_lifetime is {device.runtime.outputs_lifetime} and load_copies "
            f"{str(device.runtime.load_copies).lower()}; measure this machine (edgesched profile device), or "
            f"set device.runtime to {{outputs_lifetime: arena, load_copies: false, weights_lifetime: layer}}"
        )
    for spec in setup.scenario.networks:
        if spec.name in setup.costs:
            raise ReplayError(f"networks: {spec.name!r} is written out by its seconds: nothing to execute")


def _expanded(setup: Setup) -> tuple[list[Composition], list[Worker]]:
    """The compositions as the replaying process expands them, for reading its journal."""

    def nothing(job: Job) -> None:
        """No run takes place here."""

    scheduler = Scheduler(setup.policy, setup.device, clock=lambda: 0.0, on_start=nothing, on_done=nothing)
    return setup.expand(scheduler), scheduler.workers


def _capacity(setup: Setup, compositions: Sequence[Composition]) -> tuple[int, int]:
    """Requests and tasks of the run at most."""
    sizes = [sum(len(graph.tasks) for graph in c.graphs) for c in compositions]
    requests = len(setup.plan.composition)
    tasks = sum(sizes[kind] for kind in setup.plan.composition)
    for closed in setup.plan.closed:
        if closed.limit is None:
            return ENDLESS_TASKS // max(1, min(sizes)), ENDLESS_TASKS
        requests += closed.limit
        tasks += closed.limit * max(sizes)
    return requests, tasks


def _at_once(setup: Setup, workers: Sequence[Worker]) -> int:
    """For how many jobs of one network memory is made ready before the run (more is made when needed)."""
    most = max((sum(1 for m in members) for members in setup.plan.compositions), default=1)
    return max(2, len(workers), most)


def cpus_of(device: Device, workers: Sequence[Worker]) -> list[list[int]]:
    """The processors that each worker is pinned to.

    A processor of the board is a cluster of this machine where both have as many; else any processor of it.
    Workers take the cluster's processors in turn, as many each as the runtime has threads.
    """
    clusters = host.clusters()
    usable = sorted(os.sched_getaffinity(0))
    threads = device.runtime.threads
    found = {}
    for index, processor in enumerate(device.processors):
        alike = len(clusters) == len(device.processors)
        mine = [cpu for cpu in clusters[index].cpus if cpu in usable] if alike else []
        found[processor.name] = mine or usable
    next_of: Counter[str] = Counter()
    pins = []
    for worker in workers:
        cpus = found.get(worker.processor, usable)
        first = next_of[worker.processor]
        pins.append(sorted({cpus[(first + i) % len(cpus)] for i in range(threads)}))
        next_of[worker.processor] += threads
    return pins


@contextmanager
def _group(setup: Setup, bundles: Mapping[str, Bundle]) -> Iterator[tuple[MemoryGroup | None, str]]:
    """The group that guards the run, or None and why there is none."""
    storage = setup.device.storage
    throttle: dict[str, Any] = {}
    if storage.reads == "mapped" and storage.pace_bytes_per_s is not None:
        file = next(iter(bundles.values())).weights_path
        throttle = {"read_bytes_per_s": int(storage.pace_bytes_per_s), "device": file}
    try:
        sweep_stale()
        group = MemoryGroup.create(UNLIMITED_BYTES, **throttle)
    except Unavailable as error:
        if throttle:
            raise ReplayError(f"mapped weights cannot be read at a pace here: {error}") from error
        yield None, str(error)
        return
    with group:
        yield group, ""


class _Watch:
    """The replaying process from start to end."""

    def __init__(
        self,
        group: MemoryGroup | None,
        book: Journal,
        order: dict[str, Any],
        tasks: int,
        complaints: Any,
        progress: Progress | None,
    ) -> None:
        self.group = group
        self.book = book
        self.order = order
        self.tasks = tasks
        self.complaints = complaints
        self.progress = progress
        self.message = ""
        self.memory: dict[str, Any] = {}
        self.refused: dict[str, Any] | None = None
        """What the ledger refused, where it was the only guard."""

    def run(self, device: Device) -> str:
        """Start, guard and watch; returns the outcome."""
        with _interrupts() as interrupted:
            process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.complaints,
                pass_fds=(self.book.fd,),
                start_new_session=True,  # an interrupt at the terminal is for us only
                text=True,
            )
            try:
                if self.group is not None:
                    self.group.add(process.pid)
                self._tell(process, json.dumps(self.order))
                self._wait(process, interrupted, until=journal.READY)
                if process.poll() is None and not interrupted:
                    self._guard(device)
                    self._tell(process, "go")
                    self._wait(process, interrupted, until=None)
            finally:
                process.kill()
                answer, _ = process.communicate()
        self._measure()
        if interrupted and self.book.phase != journal.DONE:
            self.message = f"interrupted by {signal.Signals(interrupted[0]).name}"
            return "interrupted"
        return self._outcome(process.returncode, answer)

    @staticmethod
    def _tell(process: subprocess.Popen[str], line: str) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died; its exit code says of what

    def _wait(self, process: subprocess.Popen[str], interrupted: list[int], until: int | None) -> None:
        while process.poll() is None and not interrupted:
            if until is not None and self.book.phase >= until:
                return
            if self.progress is not None and until is None:
                self.progress(int(self.book.state["tasks"][0]), self.tasks)
            time.sleep(POLL_S)

    def _guard(self, device: Device) -> None:
        """Put the limit into force: as much beyond the process's base as the board leaves beyond its own."""
        if self.group is None:
            return
        base = self.group.usage_bytes()
        self.memory["base_bytes"] = base
        room = device.memory.usable_bytes - device.memory.base_bytes
        if base + room < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            self.group.limit(base + room)
            self.memory["limit_bytes"] = base + room
        self.group.reset_peak()

    def _measure(self) -> None:
        if self.group is None:
            return
        self.memory["peak_bytes"] = self.group.peak_bytes()
        self.memory["oom_kills"] = self.group.oom_kills()

    def _outcome(self, code: int, answer: str) -> str:
        if self.book.phase == journal.DONE:
            return "done"
        if self.memory.get("oom_kills"):
            self.message = "killed by the kernel: the memory limit was reached"
            return "out of memory"
        said = json.loads(answer) if answer.strip() else {}
        self.refused = said.get("does_not_fit")
        if code == DOES_NOT_FIT:
            self.message = str(said["error"])
            return "out of memory"
        if code == CRASHED:
            self.message = str(said.get("error", "the replaying process failed"))
        else:
            self.complaints.seek(0)
            last = self.complaints.read().decode(errors="replace").strip().splitlines()[-1:] or [""]
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self.message = f"the replaying process ended with {name}: {last[0]}".rstrip(": ")
        if self.book.phase in (journal.PREPARING, journal.FAILED) and not int(self.book.state["tasks"][0]):
            raise ReplayError(f"preparing failed: {self.message}")
        return "crashed"


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them."""
    seen: list[int] = []
    before: dict[int, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            before[int(number)] = signal.signal(number, lambda n, _: seen.append(n))
        except ValueError:  # not the main thread: whoever is decides
            break
    try:
        yield seen
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


# -- what came of it --------------------------------------------------------------------------------------


def _written(
    setup: Setup,
    compositions: Sequence[Composition],
    workers: Sequence[Worker],
    book: Journal,
    watch: _Watch,
    facts: dict[str, Any],
) -> Replayed:
    """The journal as a run's result, in the simulation's schema."""
    records, trace = Records(), Trace()
    sizes = [len(c.graphs) for c in compositions]
    tasks_of: list[int] = []
    for arrival_s, stream, kind in book.known_requests().tolist():
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
    scheduler_s = float(book.state["scheduler_s"][0])
    facts["scheduler"] = {
        "seconds": scheduler_s,
        "per_task_s": scheduler_s / done if done else None,
        "of_busy": scheduler_s / sum(busy) if sum(busy) else None,
    }
    facts["memory"]["ledger_peak_bytes"] = int(book.state["peak_bytes"][0])
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
        peak_bytes=max(device.memory.base_bytes, int(book.state["peak_bytes"][0])),
        base_bytes=device.memory.base_bytes,
        limit_bytes=device.memory.usable_bytes,
        trace=trace,
        power=power_of(device, workers),
        infeasible=_infeasible(setup, compositions, book, watch) if out_of_memory else None,
        cut_short=None if facts["outcome"] in ("done", "out of memory") else str(facts["message"]),
    )
    counters = [
        {"cpu_s": float(r["cpu_s"]), "switches": int(r["switches"]), "faults": int(r["faults"])} for r in rows
    ]
    return Replayed(result, facts, counters)


def _infeasible(
    setup: Setup, compositions: Sequence[Composition], book: Journal, watch: _Watch
) -> Infeasible:
    """Which task was under way when memory ran out, and what the ledger held then."""
    limit = setup.device.memory.usable_bytes
    at_s = float(book.state["now_s"][0])
    if watch.refused is not None:
        kind, layer = watch.refused["kind"], watch.refused["layer"]
        task = "submission" if kind is None else _task_name(Kind(kind), layer)
        network, demand = watch.refused["network"], int(watch.refused["demand_bytes"])
    else:
        graphs = [
            graph
            for kind in book.known_requests()["composition"].tolist()
            for graph in compositions[kind].graphs
        ]
        under_way = [row for row in book.workers.tolist() if row[0] >= 0]
        if not under_way:
            under_way = [(0, 0, 0.0, int(book.state["peak_bytes"][0]))]
        job, index, _, demand = max(under_way, key=lambda row: row[2])
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
