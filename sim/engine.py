"""Virtual time: SimPy's calendar drives the scheduler.

One ``Tick`` (a re-armed event) per worker and per arrival stream: a task costs one event. All updates of one
instant are made first, then idle workers ask in index order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappush
from typing import TYPE_CHECKING, Any

import simpy
from simpy.events import NORMAL, Event

from ..policies.scheduler import Composition, Job, Scheduler
from ..runs.driver import Driver
from ..runs.tasks import INSTANT_S

if TYPE_CHECKING:
    from ..devices.model import Device
    from ..policies.contract import Policy, Worker
    from ..policies.graph import Task
    from ..runs.records import Records
    from ..runs.tasks import Trace
    from ..workloads.workload import RequestPlan


class Tick(Event):
    """An event that is armed again and again instead of being made anew; never wait on it from a process."""

    def __init__(self, env: simpy.Environment, call: Callable[[Any], None]) -> None:
        super().__init__(env)
        self._ok = True
        self._value = None
        self._calls = [call]
        self._schedule = env.schedule

    def arm(self, delay_s: float) -> None:
        """Fire after ``delay_s``."""
        self.callbacks = self._calls
        self._schedule(self, NORMAL, delay_s)


class WorkerTick(Tick):
    """A worker of the run and the end of the task it is on (``job`` None: idle)."""

    def __init__(
        self, env: simpy.Environment, call: Callable[[Any], None], worker: Worker, index: int
    ) -> None:
        super().__init__(env, call)
        self.worker = worker
        self.index = index
        self.job: Job | None = None
        self.task: Task | None = None
        self.started_s = 0.0
        self.busy_s = 0.0
        self.resident_bytes = 0
        """What the ledger held right after the task started; kept only while tracing."""


class Engine(Driver):
    """A run without runtime overheads: successors are visible at once, tasks do not slow each other down.

    ``sim/overheads.py`` adds polling lag, co-running slow-down, noise and paging.
    """

    def __init__(
        self,
        policy: Policy,
        device: Device,
        plan: RequestPlan,
        compositions: Callable[[Scheduler], Sequence[Composition]],
        records: Records,
        trace: Trace | None = None,
    ) -> None:
        self.env = simpy.Environment()
        self.records = records
        super().__init__(policy, device, plan, compositions, clock=lambda: self.env._now)
        self.trace = trace
        self._calendar = self.env._queue
        self._schedule = self.env.schedule
        self._next = self.scheduler.next
        self._finish = self.scheduler.finish
        self._eid = self.env._eid
        if trace is not None:
            self.scheduler.on_book = lambda resident: trace.submitted(self.env.now, resident)
        self.workers = [WorkerTick(self.env, self._turn, w, i) for i, w in enumerate(self.scheduler.workers)]
        self._arrivals = Tick(self.env, self._on_arrival)
        self._prepare()
        self._arm_arrival()
        if self._closed:
            self._refill()
            self._settle()

    def _prepare(self) -> None:
        """What a subclass needs between the workers and the first arrival."""

    # -- driving ------------------------------------------------------------------------------------------

    def run(self, until_s: float | None = None) -> None:
        """Run to the end of all requests, or to ``until_s``. May be called again to go on."""
        self.env.run(until=until_s)
        if until_s is not None:
            # What ended just before the stop has waited for more of the same instant. SimPy leaves the stop
            # in the calendar: idle workers ask there when the run goes on.
            self._calendar[0][3].callbacks.append(lambda _: self._settle())

    @property
    def now_s(self) -> float:
        """Virtual time."""
        return self.env.now

    # -- arrivals -----------------------------------------------------------------------------------------

    def _arm_arrival(self) -> None:
        gap = next(self._gaps, None)
        if gap is not None:
            self._arrivals.arm(gap)

    def _on_arrival(self, tick: Event) -> None:
        self._submit(next(self._streams), next(self._kinds), self.env._now)
        self._arm_arrival()
        self._settle()

    def _on_arrive(self, now_s: float, stream: int, kind: int, size: int) -> tuple[int, int]:
        return self.records.arrive(now_s, stream, kind, size)

    # -- tasks --------------------------------------------------------------------------------------------

    def _on_start(self, job: Job) -> None:
        self.records.job_start_s[job.row] = self.env._now

    def _on_done(self, job: Job) -> None:
        self.records.job_finish_s[job.row] = self.env._now
        if self._closed and not job.request.left:
            self._make_room(job.request)

    def _settle(self) -> None:
        """Unless more happens in this instant: idle workers ask, in index order."""
        self._turn(None)

    def _turn(self, done: WorkerTick | None) -> None:
        """A worker's task is ``done``; then, unless more happens in this instant, idle workers ask.

        Runs once a task, so both steps stand in one method: about 1 us, of which SimPy takes 0.35. None: no
        task is done, workers just ask.
        """
        now = self.env._now
        if done is not None:
            done.busy_s += now - done.started_s
            if self.trace is not None:
                self.trace.add(done, now)
            self._finish(done.job, done.task)  # type: ignore[arg-type]
            done.job = None
        calendar = self._calendar
        if calendar and calendar[0][0] - now <= INSTANT_S:
            return
        trace = self.trace
        for tick in self.workers:
            if tick.job is None:
                entry = self._next(tick.worker)
                if entry is not None:
                    _, _, _, tick.job, task = entry
                    tick.task = task
                    tick.started_s = now
                    if trace is not None:
                        tick.resident_bytes = self.scheduler.memory.resident_bytes
                    # Tick.arm, written out
                    tick.callbacks = tick._calls
                    heappush(calendar, (now + task.duration_s, NORMAL, next(self._eid), tick))
