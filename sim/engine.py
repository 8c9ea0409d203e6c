"""Virtual time: SimPy's calendar drives the scheduler.

One ``Tick`` (a re-armed event) per worker and per arrival stream: a task costs one event. All updates of one
instant are made first, then idle workers ask in index order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappush
from typing import TYPE_CHECKING

import simpy
from simpy.events import NORMAL, Event

from ..policies.scheduler import Composition, Job, Request, Scheduler

if TYPE_CHECKING:
    from ..devices.model import Device
    from ..policies.contract import Policy, Worker
    from ..policies.graph import Task
    from ..workloads.workload import RequestPlan
    from .records import Records
    from .tasks import Trace

INSTANT_S = 1e-9
"""Events closer than this belong to one instant (sums of the same times in another order differ less)."""


class Tick(Event):
    """An event that is armed again and again instead of being made anew; never wait on it from a process."""

    def __init__(
        self,
        env: simpy.Environment,
        call: Callable[[Event], None],
        worker: Worker | None = None,
        index: int = 0,
    ) -> None:
        super().__init__(env)
        self._ok = True
        self._value = None
        self._calls = [call]
        self._schedule = env.schedule
        self.worker = worker
        self.index = index
        self.job: Job | None = None
        self.task: Task | None = None
        self.started_s = 0.0
        self.busy_s = 0.0

    def arm(self, delay_s: float) -> None:
        """Fire after ``delay_s``."""
        self.callbacks = self._calls
        self._schedule(self, NORMAL, delay_s)


class Engine:
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
        self.plan = plan
        self.scheduler = Scheduler(
            policy, device, clock=lambda: self.env.now, on_start=self._on_start, on_done=self._on_done
        )
        self.compositions = compositions(self.scheduler)
        self._sizes = [len(c.graphs) for c in self.compositions]
        self._calendar = self.env._queue
        self._schedule = self.env.schedule
        self._next = self.scheduler.next
        self._eid = self.env._eid
        self.workers = [Tick(self.env, self._on_finish, w, i) for i, w in enumerate(self.scheduler.workers)]
        self._arrivals = Tick(self.env, self._on_arrival)
        self._gaps = iter(plan.gap_s)
        self._streams = iter(plan.stream)
        self._kinds = iter(plan.composition)
        self.trace = trace
        self._closed_next = [0] * len(plan.closed)
        self._closed_of = {closed.stream: number for number, closed in enumerate(plan.closed)}
        self._unfinished = 0
        self._arm_arrival()
        for number, closed in enumerate(plan.closed):
            for _ in range(min(closed.outstanding, len(closed.compositions))):
                self._submit_closed(number)
        if plan.closed:
            self._settle()

    # -- driving ------------------------------------------------------------------------------------------

    def run(self, until_s: float | None = None) -> None:
        """Run to the end of all requests, or to ``until_s``. May be called again to go on."""
        self.env.run(until=until_s)

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
        self._submit(next(self._streams), next(self._kinds))
        self._arm_arrival()
        self._settle()

    def _submit(self, stream: int, kind: int) -> None:
        now = self.env._now
        composition = self.compositions[kind]
        size = self._sizes[kind]
        row, first = self.records.arrive(now, stream, kind, size)
        request = Request(row, stream, now, self.plan.deadline_s[stream], size)
        self.scheduler.submit(request, composition, first)

    def _submit_closed(self, number: int) -> None:
        closed = self.plan.closed[number]
        position = self._closed_next[number]
        if position < len(closed.compositions):
            self._closed_next[number] = position + 1
            self._submit(closed.stream, closed.compositions[position])

    # -- tasks --------------------------------------------------------------------------------------------

    def _on_start(self, job: Job) -> None:
        self.records.job_start_s[job.row] = self.env._now

    def _on_done(self, job: Job) -> None:
        self.records.job_finish_s[job.row] = self.env._now
        request = job.request
        if not request.left and self._closed_next:
            self._request_done(request)

    def _request_done(self, request: Request) -> None:
        """A request of a run with closed streams is complete: submit what waited for that."""
        number = self._closed_of.get(request.stream)
        if number is not None:
            self._submit_closed(number)

    def _on_finish(self, tick: Tick) -> None:  # type: ignore[override]
        # With _settle this runs once a task: written for speed, about 1 us with SimPy's 0.35 us.
        now = self.env._now
        tick.busy_s += now - tick.started_s
        if self.trace is not None:
            self.trace.add(tick, now)
        self.scheduler.finish(tick.job, tick.task)
        tick.job = None
        self._settle()

    def _settle(self) -> None:
        """Unless more happens in this instant: idle workers ask, in index order."""
        now = self.env._now
        calendar = self._calendar
        if calendar and calendar[0][0] - now <= INSTANT_S:
            return
        for tick in self.workers:
            if tick.job is None:
                entry = self._next(tick.worker)
                if entry is not None:
                    _, _, _, tick.job, task = entry
                    tick.task = task
                    tick.started_s = now
                    tick.callbacks = tick._calls
                    heappush(calendar, (now + task.duration_s, NORMAL, next(self._eid), tick))
