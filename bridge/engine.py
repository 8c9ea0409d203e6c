"""Real time: threads drive the scheduler, one for each worker, and one lets requests arrive.

The same calls in the same order as ``sim/engine.py``: one event at a time (a lock), all updates of an event
first, then idle workers ask in index order. An event has one time: a task begins when the event that made it
possible happens and ends when its end is noticed, so that what handing over takes is part of its duration,
and a simulation with these durations does the same at the same times.
"""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..policies.graph import WHOLE_NETWORK, Kind
from ..policies.scheduler import Composition, Job, Scheduler
from ..runs.driver import Driver
from .backend import Backend, Execution
from .journal import NOTHING, WOKEN, Journal
from .machine import storage

if TYPE_CHECKING:
    from ..devices.model import Device
    from ..policies.contract import Policy, Worker
    from ..policies.graph import Task
    from ..workloads.workload import RequestPlan

LEAD_S = 0.05
"""From the call of ``run`` to time 0: all threads wait for work by then."""


class _Worker(threading.Thread):
    """A worker's thread and the task it is on."""

    def __init__(self, engine: RealTimeEngine, worker: Worker, index: int, cpus: Sequence[int]) -> None:
        super().__init__(name=worker.name, daemon=True)
        self.engine = engine
        self.worker = worker
        self.number = index + 1
        self.cpus = cpus
        self.job: Job | None = None
        self.task: Task | None = None
        self._go = threading.Lock()
        """Open while there may be something to do; a plain lock, which is an order of magnitude cheaper to
        open than threading.Semaphore, and that is the scheduler's time."""
        self._go.acquire()

    def wake(self) -> None:
        """Let it look for a task. Only one thread at a time may call this."""
        if self._go.locked():
            self._go.release()

    def run(self) -> None:
        """Take what is handed over, do it, say so; until there is nothing more to come."""
        engine = self.engine
        try:
            if self.cpus:
                os.sched_setaffinity(0, self.cpus)
            storage.precise_timers()
            while True:
                self._go.acquire()
                if engine.stopped:
                    return
                while (job := self.job) is not None:
                    cpu_s, switches, faults = _counters()
                    engine.perform(job, self.task)  # type: ignore[arg-type]
                    now = _counters()
                    with engine.lock:
                        if engine.stopped:
                            return
                        engine.event(self, now[0] - cpu_s, now[1] - switches, now[2] - faults)
        except BaseException as error:
            engine.fail(error)


def _counters() -> tuple[float, int, int]:
    """The calling thread's processor time, involuntary context switches and major page faults."""
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return time.thread_time(), usage.ru_nivcsw, usage.ru_majflt


class RealTimeEngine(Driver):
    """A run in real time, of one plan under one policy, with a backend that really executes.

    ``cpus`` are the processors each worker is pinned to, in worker order. Times are seconds since time 0,
    which is ``LEAD_S`` after the call of ``run``.
    """

    def __init__(
        self,
        policy: Policy,
        device: Device,
        plan: RequestPlan,
        compositions: Callable[[Scheduler], Sequence[Composition]],
        journal: Journal,
        backend: Backend,
        cpus: Sequence[Sequence[int]],
    ) -> None:
        self._now_s = 0.0
        super().__init__(policy, device, plan, compositions, clock=lambda: self._now_s)
        self.journal = journal
        self.backend = backend
        self.stopped = False
        self.by_layer = device.runtime.weights_lifetime == "layer"
        self.workers = [_Worker(self, w, i, cpus[i]) for i, w in enumerate(self.scheduler.workers)]
        self._executions: dict[Job, Execution] = {}
        self.lock = threading.Lock()
        self._done = threading.Event()
        self._zero_s = 0.0
        self._late_s = 0.0
        self._arriving = True
        self._requests = self._jobs = self._unfinished = 0
        self._scheduler_s = 0.0
        self._error: BaseException | None = None

    # -- driving ------------------------------------------------------------------------------------------

    def run(self, until_s: float | None = None) -> None:
        """Serve all requests, or those that come before ``until_s`` (closed streams end there).

        Raises what a layer, the policy or the scheduler raised.
        """
        storage.precise_timers()
        for worker in self.workers:
            worker.start()
        self._zero_s = time.monotonic() + LEAD_S
        try:
            self._let_arrive()
            left = None if until_s is None else max(0.0, self._zero_s + until_s - time.monotonic())
            self._done.wait(left)
        finally:
            self.stopped = True
            with self.lock:
                for worker in self.workers:
                    worker.wake()
        if self._error is not None:
            raise self._error

    def _let_arrive(self) -> None:
        arrival_s = 0.0
        for gap_s, stream, kind in zip(self._gaps, self._streams, self._kinds, strict=True):
            arrival_s += gap_s
            storage.wait_until(self._zero_s + arrival_s)
            if self._done.is_set():
                return
            with self.lock:
                self.event(update=partial(self._arrive, arrival_s, stream, kind))
        with self.lock:
            self.event(update=self._no_more_arrive)
            self._end_if_done()

    # -- requests -----------------------------------------------------------------------------------------

    def _arrive(self, planned_s: float, stream: int, kind: int) -> None:
        self._late_s = self._now_s - planned_s
        self._submit(stream, kind, self._now_s)
        self._late_s = 0.0

    def _on_arrive(self, now_s: float, stream: int, kind: int, size: int) -> tuple[int, int]:
        self.journal.arrived(now_s, self._late_s, stream, kind)
        row, first = self._requests, self._jobs
        self._requests = row + 1
        self._jobs = first + size
        self._unfinished += size
        return row, first

    def _no_more_arrive(self) -> None:
        self._arriving = False
        if self._closed:
            self._refill()

    def _on_start(self, job: Job) -> None:
        self._executions[job] = self.backend.begin(job.network.name)

    def _on_done(self, job: Job) -> None:
        self._unfinished -= 1
        del self._executions[job]
        if self._closed and not job.request.left:
            self._make_room(job.request)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if not self._arriving and not self._unfinished:
            self._done.set()

    # -- tasks --------------------------------------------------------------------------------------------

    def perform(self, job: Job, task: Task) -> None:
        """Do what the task says, in the calling worker's thread."""
        execution = self._executions[job]
        if task.kind == Kind.INIT:
            execution.init()
        elif task.kind == Kind.LOAD:
            execution.load(task.layer)
        else:
            execution.execute(task.layer)
            if self.by_layer and task.layer != WHOLE_NETWORK:
                execution.free_weights(task.layer)
        if job.left == 1:
            # The job's last task: what it holds leaves in this thread, not under the lock.
            execution.close()

    def event(
        self,
        own: _Worker | None = None,
        cpu_s: float = 0.0,
        switches: int = WOKEN,
        faults: int = 0,
        *,
        update: Callable[[], None] | None = None,
    ) -> None:
        """Something happened; then idle workers ask in index order. Hold ``lock``.

        Either worker ``own`` ended its task (and says what its thread met meanwhile), or ``update`` does what
        there is to do. One function: it runs once a task, when a layer has left all code and objects cold.
        """
        began_s = time.monotonic()
        self._now_s = now_s = began_s - self._zero_s
        scheduler = self.scheduler
        if own is not None:
            scheduler.finish(own.job, own.task)  # type: ignore[arg-type]
            own.job = None
        elif update is not None:
            update()
        went_on = self.journal.went_on
        scheduler_s = self._scheduler_s
        for worker in self.workers:
            if worker.job is not None:
                continue
            entry = scheduler.next(worker.worker)
            resident = scheduler.memory.resident_bytes
            if entry is not None:
                _, _, _, job, task = entry
                worker.task = task
                worker.job = job
                if worker is own:
                    went_on(
                        now_s, scheduler_s, resident, cpu_s, switches, faults, job.row, task.index, own.number
                    )
                else:
                    went_on(now_s, scheduler_s, resident, 0.0, WOKEN, 0, job.row, task.index, worker.number)
                    worker.wake()
            elif worker is own:
                went_on(now_s, scheduler_s, resident, cpu_s, switches, faults, NOTHING, NOTHING, own.number)
        self._scheduler_s = scheduler_s + time.monotonic() - began_s

    def fail(self, error: BaseException) -> None:
        """Something went wrong: the run ends here, and ``run`` raises this."""
        if self._error is None:
            self._error = error
        self.stopped = True
        self._done.set()
