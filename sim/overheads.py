"""A run with what a real runtime adds: polling lag, worker pauses, co-running slow-down, noise.

The orchestrator scans every ``dispatch_period_s``: it submits at most one arrival, then makes successors of
finished tasks ready and ends finished networks. A worker that ends a task asks (after ``worker_pause_s``)
before the next scan, so it sees only what earlier scans made ready: EdgeCaffe's priority inversion. With
period 0 all of this happens at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify
from typing import TYPE_CHECKING, Any

from simpy.events import NORMAL, Event

from ..policies.graph import WHOLE_NETWORK, Kind, NetworkGraph
from ..policies.scheduler import Composition, Job, Request, Scheduler
from ..runs.tasks import INSTANT_S
from .contention import Read, excesses, queue_of
from .engine import Engine, Tick, WorkerTick
from .paged import PagedMemory

if TYPE_CHECKING:
    import simpy

    from ..devices.model import Device
    from ..policies.contract import Policy
    from ..policies.graph import Task
    from ..runs.records import Records
    from ..runs.tasks import Trace
    from ..workloads.workload import RequestPlan

NoiseSource = Callable[[int], list[float]]
"""Draws so many random factors with mean 1."""

Durations = Callable[[Job, "Task"], float]
"""Seconds that a task took in a replay."""

ORCHESTRATOR = -1
"""The orchestrator as the pager knows it, beside workers 0, 1, ..."""


class Alarm(Event):
    """One wake-up of a worker; taken out of the calendar when the worker is re-timed."""

    def __init__(self, env: simpy.Environment, call: Callable[[Any], None], tick: WorkerTick) -> None:
        super().__init__(env)
        self._ok = True
        self._value = None
        self.callbacks = [call]
        self.tick = tick


class _Run:
    """The task a worker is on: work left, the factor it is slowed by, and since when."""

    __slots__ = (
        "alarm",
        "asked",
        "asked_s",
        "executed",
        "factor",
        "left_s",
        "news",
        "reads",
        "since_s",
        "state",
    )

    IDLE, RUNNING, READING, PAGING, PAUSED = range(5)

    def __init__(self) -> None:
        self.state = self.IDLE
        self.left_s = 0.0
        self.factor = 1.0
        self.since_s = 0.0
        self.alarm: Alarm | None = None
        self.asked_s: float | None = None
        """When the idle worker last asked in vain; it asks again every ``worker_poll_s``."""
        self.news = 0
        """The engine's count of news then: without any since, asking again is in vain too."""
        self.reads: list[Read] = []
        """Of a load that waits for storage, what it has not asked for yet, last one first."""
        self.asked: list[tuple[float, float]] = []
        """What it has asked for: when that will be there, and the share of the rest that follows."""
        self.executed = False
        """Whether the worker's task before this one was an execution."""


class OverheadEngine(Engine):
    """``Engine`` with the overheads of ``Device.runtime``."""

    def __init__(
        self,
        policy: Policy,
        device: Device,
        plan: RequestPlan,
        compositions: Callable[[Scheduler], Sequence[Composition]],
        records: Records,
        trace: Trace | None = None,
        noise: NoiseSource | None = None,
        measured: Durations | None = None,
    ) -> None:
        runtime = device.runtime
        self._period_s = runtime.dispatch_period_s
        self._pause_s = runtime.worker_pause_s
        self._poll_s = runtime.worker_poll_s
        self._submission_s = runtime.submission_s
        self._wake_s = runtime.wake_s
        self._awake: WorkerTick | None = None
        """The worker whose end of a task is being dealt with: it need not be woken."""
        self._excess = excesses(device)
        self._contends = any(excess for row in self._excess.values() for excess in row.values())
        self._noise = noise
        self._measured = measured
        if measured is not None:
            self._contends = False  # what was measured holds what it was slowed by
        self._queue = None if measured is not None else queue_of(device)
        self._reads: dict[Task, tuple[Read, ...]] = {}
        self._storage_free_s = -math.inf
        self._arrived: deque[tuple[Request, int, int]] = deque()
        self._submission: Iterator[float] | None = None
        self._finished: list[tuple[Job, Task]] = []
        self._news = 0
        """Counts what can give an idle worker a task: submissions, and ends (when they happen, when seen)."""
        self._scan_armed = False
        self._last_scan_s = 0.0
        self._runs: list[_Run] = []
        self._paged: PagedMemory | None = None
        super().__init__(policy, device, plan, compositions, records, trace)

    def _prepare(self) -> None:
        self._runs = [_Run() for _ in self.workers]
        self._stretches = any(
            any(graph.network.stretch_saving_s) for c in self.compositions for graph in c.graphs
        )
        self._scan = Tick(self.env, self._on_scan)
        device = self.scheduler.device
        if device.memory.swap is not None or device.storage.reads == "mapped":
            bulk = any(graph.bulk for c in self.compositions for graph in c.graphs)
            self._paged = PagedMemory(device, self.scheduler.memory, len(self.workers), bulk)

    @property
    def paged_bytes(self) -> tuple[int, int]:
        """Bytes read from and written to swap so far."""
        if self._paged is None:
            return 0, 0
        return int(self._paged.pager.paged_in_bytes), int(self._paged.pager.paged_out_bytes)

    # -- the orchestrator ---------------------------------------------------------------------------------

    def _enter(self, request: Request, kind: int, first: int) -> None:
        """The request is known; its tasks appear when the orchestrator submits it."""
        if not self._period_s and not self._submission_s:
            self._admit(request, kind, first)
            return
        self._arrived.append((request, kind, first))
        self._arm_scan()

    def _admit(self, request: Request, kind: int, first: int) -> None:
        self._news += 1
        composition = self.compositions[kind]
        factors = [self._factors(graph) for graph in composition.graphs] if self._noise else None
        self.scheduler.submit(request, composition, first, factors)

    def _submit_next(self) -> Iterator[float]:
        """Submit the first arrival: yields for how long the orchestrator is busy, step by step."""
        _, kind, first = self._arrived[0]
        for position, graph in enumerate(self.compositions[kind].graphs):
            if self._paged is None or not graph.submit_bytes:
                if self._submission_s:
                    yield self._submission_s
                continue
            pager = self._paged.pager
            program, blobs = self._paged.submit(first + position, graph)
            due_s: float | None = pager.begin(ORCHESTRATOR, self._submission_s, program, blobs, self.env.now)
            while due_s is not None:
                yield due_s - self.env.now
                due_s = pager.advance(ORCHESTRATOR, self.env.now)

    def _factors(self, graph: NetworkGraph) -> list[float]:
        """Noise of one job's tasks.

        Every policy draws the same numbers, one for INIT and two for each layer; a task over the whole
        network gets their mean, weighted with the layers' seconds.
        """
        network = graph.network
        count = len(network.load_s)
        drawn = self._noise(1 + 2 * count)  # type: ignore[misc]
        factors = []
        for task in graph.tasks:
            if task.kind == Kind.INIT:
                factors.append(drawn[0])
            elif task.layer != WHOLE_NETWORK:
                factors.append(drawn[1 + 2 * task.layer + (task.kind == Kind.EXECUTE)])
            else:
                times = network.load_s if task.kind == Kind.LOAD else network.execute_s
                own = drawn[1 + (task.kind == Kind.EXECUTE) :: 2]
                total = math.fsum(times)
                weighted = math.fsum(t * f for t, f in zip(times, own, strict=True))
                factors.append(weighted / total if total else 1.0)
        return factors

    def _arm_scan(self, delay_s: float | None = None) -> None:
        if self._scan_armed:
            return
        if delay_s is None:
            delay_s = 0.0
            if self._period_s:
                elapsed = self.env.now - self._last_scan_s
                periods = math.ceil((elapsed - INSTANT_S) / self._period_s)
                delay_s = max(0.0, max(1, periods) * self._period_s - elapsed)
        self._scan_armed = True
        self._scan.arm(delay_s)

    def _on_scan(self, _: Tick) -> None:
        self._scan_armed = False
        self._last_scan_s = self.env.now
        if self._arrived:
            if self._submission is None:
                self._submission = self._submit_next()
            delay_s = next(self._submission, None)
            if delay_s is not None:
                # Submission keeps the orchestrator: successors wait until it is done.
                self._arm_scan(delay_s)
                self._settle()
                return
            self._submission = None
            self._admit(*self._arrived.popleft())
        finished, self._finished = self._finished, []
        self._news += len(finished)
        finished.sort(key=lambda item: item[0].base_id + item[1].index)
        for job, task in finished:
            self.scheduler.finish(job, task, freed=True)
        if self._arrived or self._finished:
            self._arm_scan()
        self._settle()

    # -- the workers --------------------------------------------------------------------------------------

    def _on_done(self, job: Job) -> None:
        if self._paged is not None:
            self._paged.die(job)
        super()._on_done(job)

    def _settle(self) -> None:
        calendar = self._calendar
        if calendar and calendar[0][0] - self.env.now <= INSTANT_S:
            return
        begun = False
        for tick in self.workers:
            run = self._runs[tick.index]
            if run.state != _Run.IDLE or (run.asked_s is not None and self._asks_later(tick, run)):
                continue
            entry = self.scheduler.next(tick.worker)
            if entry is not None:
                run.asked_s = None
                self._begin(tick, entry[3], entry[4])
                begun = True
            elif self._poll_s:
                run.asked_s = self.env.now
                run.news = self._news
        if begun and self._contends:
            self._retime()

    def _asks_later(self, tick: WorkerTick, run: _Run) -> bool:
        """Whether an idle worker asks later than now; it is woken then if anything is ready."""
        if run.news == self._news:
            return True
        elapsed = self.env.now - run.asked_s  # type: ignore[operator]
        wait = math.ceil((elapsed - INSTANT_S) / self._poll_s) * self._poll_s - elapsed
        if wait <= INSTANT_S:
            return False
        if self.scheduler.ready:
            run.state = _Run.PAUSED
            self._wake(tick, wait)
        return True

    def _begin(self, tick: WorkerTick, job: Job, task: Task) -> None:
        tick.job = job
        tick.task = task
        tick.started_s = self.env.now
        tick.resident_bytes = self.scheduler.memory.resident_bytes
        run = self._runs[tick.index]
        run.state = _Run.RUNNING
        run.since_s = self.env.now
        if self._measured is not None:
            run.left_s = self._measured(job, task)
        else:
            run.left_s = task.duration_s
            if self._stretches:
                if run.executed and task.kind == Kind.EXECUTE and task.layer != WHOLE_NETWORK:
                    run.left_s -= task.network.stretch_saving_s[task.layer]
                run.executed = task.kind == Kind.EXECUTE
            if job.factors is not None:
                run.left_s *= job.factors[task.index]
            if tick is not self._awake:
                run.left_s += self._wake_s
        run.factor = self._factor(tick)
        if self._queue is not None and task.bound == "load" and self._read(run, task):
            self._wake(tick, self._next_read_s(run))
            return
        if self._paged is not None:
            due_s = self._paged.begin(tick.index, job, task, run.left_s, self.env.now, run.factor)
            if due_s is not None:
                run.state = _Run.PAGING
                self._wake(tick, due_s - self.env.now)
                return
        self._wake(tick, run.left_s * run.factor)

    def _read(self, run: _Run, task: Task) -> bool:
        """Begin to read what a LOAD needs; False if it needs nothing.

        What is beside it at its begin slows all of what is left when the storage has done its part.
        """
        reads = self._reads.get(task)
        if reads is None:
            reads = self._reads[task] = self._queue.reads(task)  # type: ignore[union-attr]
        run.reads = list(reads)
        run.asked = []
        run.left_s = max(0.0, run.left_s - math.fsum(read.busy_s for read in reads)) * run.factor
        run.factor = 1.0
        if reads:
            run.state = _Run.READING
        return bool(reads)

    def _next_read_s(self, run: _Run) -> float:
        """Seconds to the end of a load's next read, first come first served, and what follows it."""
        asked = run.asked
        most = self._queue.outstanding  # type: ignore[union-attr]
        while run.reads and len(asked) < most and not (asked and asked[-1][1]):
            read = run.reads.pop()
            self._storage_free_s = max(self.env.now, self._storage_free_s) + read.busy_s
            asked.append((self._storage_free_s, read.rest))
        end_s, rest = asked.pop(0)
        return end_s + rest * run.left_s - self.env.now

    def _wake(self, tick: WorkerTick, delay_s: float) -> None:
        alarm = self._runs[tick.index].alarm = Alarm(self.env, self._on_alarm, tick)
        self._schedule(alarm, NORMAL, delay_s)

    def _cancel(self, alarm: Alarm | None) -> None:
        """Take an alarm out of the calendar (as short as there are workers).

        Left in, the alarm of a task freed of its slow-down would carry the clock beyond the run's end.
        """
        calendar = self._calendar
        for position, entry in enumerate(calendar):
            if entry[3] is alarm:
                calendar[position] = calendar[-1]
                calendar.pop()
                heapify(calendar)
                return

    def _factor(self, tick: WorkerTick) -> float:
        """How much slower the worker's task is for what runs beside it now."""
        factor = 1.0
        if self._contends:
            row = self._excess[tick.task.bound]  # type: ignore[union-attr]
            for other in self.workers:
                if other is not tick and self._computes(other.index):
                    factor += row[other.task.bound]  # type: ignore[union-attr]
        return factor

    def _computes(self, index: int) -> bool:
        """Whether the worker has a task and does not wait for the swap device."""
        state = self._runs[index].state
        if state == _Run.PAGING:
            return self._paged.pager.computing(index, self.env.now)  # type: ignore[union-attr]
        return state in (_Run.RUNNING, _Run.READING)

    def _retime(self) -> None:
        """What runs beside each other has changed: move the ends of the tasks it slows or frees."""
        now = self.env.now
        for tick in self.workers:
            run = self._runs[tick.index]
            if run.state in (_Run.RUNNING, _Run.PAGING):
                factor = self._factor(tick)
                if factor != run.factor:
                    if run.state == _Run.PAGING:
                        run.factor = factor
                        due_s = self._paged.pager.rerate(tick.index, now, factor)  # type: ignore[union-attr]
                        self._cancel(run.alarm)
                        self._wake(tick, due_s - now)
                        continue
                    run.left_s = max(0.0, run.left_s - (now - run.since_s) / run.factor)
                    run.since_s = now
                    run.factor = factor
                    self._cancel(run.alarm)
                    self._wake(tick, run.left_s * factor)

    def _on_alarm(self, alarm: Alarm) -> None:
        tick = alarm.tick
        run = self._runs[tick.index]
        if run.state == _Run.PAUSED:
            run.state = _Run.IDLE
            self._settle()
            return
        if run.state == _Run.READING and (run.reads or run.asked):
            self._wake(tick, self._next_read_s(run))
            self._settle()
            return
        if run.state == _Run.PAGING:
            run.factor = self._factor(tick)
            due_s = self._paged.pager.advance(tick.index, self.env.now, run.factor)  # type: ignore[union-attr]
            if due_s is not None:
                self._wake(tick, due_s - self.env.now)
                self._settle()
                return
        self._complete(tick, run)

    def _complete(self, tick: WorkerTick, run: _Run) -> None:
        self._news += 1
        now = self.env.now
        tick.busy_s += now - tick.started_s
        if self.trace is not None:
            self.trace.add(tick, now)
        job: Job = tick.job  # type: ignore[assignment]
        task: Task = tick.task  # type: ignore[assignment]
        tick.job = None
        if self._paged is not None:
            self._paged.end(job, task)
        run.state = _Run.IDLE
        if self._period_s or self._submission_s:
            self.scheduler.free(task)
            self._finished.append((job, task))
            self._arm_scan()
        else:
            self.scheduler.finish(job, task)
        if self._contends:
            self._retime()
        if self._pause_s:
            run.state = _Run.PAUSED
            self._wake(tick, self._pause_s)
        self._awake = tick
        self._settle()
        self._awake = None
