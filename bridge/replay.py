"""Replay a scenario on this machine: the process that does it is started, guarded, watched and written down.

The replaying process lives in a control group of its own, with as much room beyond its base as the simulated
device has. If it is killed there, the policy did not fit, and that is the result. Whatever ends a replay,
the journal keeps what was measured, and nothing else is left.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..policies.contract import Worker
from ..policies.scheduler import Job, Scheduler
from ..runs.setup import Setup, set_up
from ..workloads.network import FLOAT32_BYTES
from .journal import Journal
from .machine import host
from .machine.cgroup import UNLIMITED_BYTES, MemoryGroup, Unavailable, sweep_stale
from .machine.pins import cpus_of
from .outcome import Replayed, written
from .planned import backend as planned
from .prepare import as_executed
from .watch import Progress, ReplayError, Watch

if TYPE_CHECKING:
    from ..policies.contract import Plan
    from ..policies.scheduler import Composition
    from ..runs.scenario import Scenario
    from .bundles.bundle import Bundle

ENDLESS_TASKS = 600_000
"""Room in the journal for closed streams without a number of requests."""


def replay(
    scenario: Scenario,
    bundles: Mapping[str, Bundle],
    replication: int = 0,
    *,
    folder: Path | None = None,
    nice: int = 0,
    progress: Progress | None = None,
) -> Replayed:
    """Replay one replication. ``bundles`` holds every network that the scenario names (``bundles_for``).

    Returns also where the policy ran out of memory, a layer crashed, or an interrupt (SIGINT, SIGTERM) ended
    it; ``Replayed.outcome`` says which. Raises ReplayError for a scenario that cannot be replayed, and
    ``ScenarioError`` for what it names and does not exist.
    """
    setup = set_up(scenario, replication, folder=folder, networks=as_executed(bundles))
    plan = _check(setup)
    if plan is not None:
        planned.prepare(setup, plan)
    compositions, workers = _expanded(setup)
    capacity = (len(workers), *_capacity(setup, compositions))
    pins = cpus_of(setup.device, workers)
    before = host.Snapshot.take()
    book = Journal.create(*capacity)
    try:
        with _group() as (group, unguarded), tempfile.TemporaryFile() as complaints:
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
            watch = Watch(group, book, order, capacity[2], complaints, progress)
            outcome = watch.run(setup.device)
        facts = {
            "outcome": outcome,
            "message": watch.message,
            "memory": watch.memory | {"guard": "ledger" if group is None else "cgroup", "why": unguarded},
            "arrivals_late_s": float(book.known_requests()["late_s"].max(initial=0.0)),
            "cpus": pins,
            "nice": nice,
            "disturbance": asdict(host.Disturbance.between(before, host.Snapshot.take())),
            "host": host.facts(),
            "bundles": {name: bundle.sha256 for name, bundle in bundles.items()},
            "primitives": None if plan is None else dict(plan.primitives),
        }
        return written(setup, compositions, workers, book, watch, facts)
    finally:
        book.close()


def _check(setup: Setup) -> Plan | None:
    """The policy's plan where it names primitives. Raises ReplayError for what cannot be replayed."""
    device = setup.device
    if device.runtime.version != "B":
        raise ReplayError(
            f"device {device.name}: runtime.version is A, which is EdgeCaffe's of April 2020; a replay does "
            f"B: set device.runtime.version to B"
        )
    if device.storage.reads == "in-place" or device.runtime.element_bytes != FLOAT32_BYTES:
        raise ReplayError(
            f"device {device.name}: storage.reads is {device.storage.reads}, runtime.element_bytes is "
            f"{device.runtime.element_bytes}; a replay loads weights and computes in float32: such a device "
            f"is only simulated"
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
    try:
        return planned.plan_of(setup)
    except planned.PlannedError as error:
        raise ReplayError(str(error)) from error


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


@contextmanager
def _group() -> Iterator[tuple[MemoryGroup | None, str]]:
    """The group that guards the run, or None and why there is none."""
    try:
        sweep_stale()
        group = MemoryGroup.create(UNLIMITED_BYTES)
    except Unavailable as error:
        yield None, str(error)
        return
    with group:
        yield group, ""
