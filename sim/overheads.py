"""A run with what a real runtime adds: polling lag, worker pauses, co-running slow-down, noise.

The orchestrator scans every ``dispatch_period_s``: it submits at most one arrival, then makes successors of
finished tasks ready and ends finished networks. A worker that ends a task asks (after ``worker_pause_s``)
before the next scan, so it sees only what earlier scans made ready: EdgeCaffe's priority inversion. With
period 0 all of this happens at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from simpy.events import NORMAL, Event

from ..policies.graph import WHOLE_NETWORK, Kind, NetworkGraph
from ..policies.scheduler import Composition, Job, Request, Scheduler
from .engine import INSTANT_S, Engine, Tick, WorkerTick

if TYPE_CHECKING:
    import simpy

    from ..devices.model import Device
    from ..policies.contract import Policy
    from ..policies.graph import Task
    from ..workloads.workload import RequestPlan
    from .records import Records
    from .tasks import Trace

NoiseSource = Callable[[int], list[float]]
"""Draws so many random factors with mean 1."""


class Alarm(Event):
    """One wake-up of a worker; out of date when the worker has been re-timed since (``number`` differs)."""

    def __init__(
        self, env: simpy.Environment, call: Callable[[Any], None], tick: WorkerTick, number: int
    ) -> None:
        super().__init__(env)
        self._ok = True
        self._value = None
        self.callbacks = [call]
        self.tick = tick
        self.number = number


class _Run:
    """The task a worker is on: work left, the factor it is slowed by, and since when."""

    __slots__ = ("factor", "left_s", "number", "since_s", "state")

    IDLE, RUNNING, PAUSED = 0, 1, 2

    def __init__(self) -> None:
        self.state = self.IDLE
        self.left_s = 0.0
        self.factor = 1.0
        self.since_s = 0.0
        self.number = 0


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
    ) -> None:
        runtime = device.runtime
        self._period_s = runtime.dispatch_period_s
        self._pause_s = runtime.worker_pause_s
        self._submission_s = runtime.submission_s
        self._slowdown = {kind: dict.fromkeys(Kind, 1.0) for kind in Kind}
        for name, beside in runtime.slowdown.items():
            for other, factor in beside.items():
                self._slowdown[Kind[name.upper()]][Kind[other.upper()]] = factor
        self._contends = any(f > 1 for row in self._slowdown.values() for f in row.values())
        self._noise = noise
        self._arrived: deque[tuple[Request, int, int]] = deque()
        self._submitting = False
        self._finished: list[tuple[Job, Task]] = []
        self._scan_armed = False
        self._last_scan_s = 0.0
        self._runs: list[_Run] = []
        super().__init__(policy, device, plan, compositions, records, trace)

    def _prepare(self) -> None:
        self._runs = [_Run() for _ in self.workers]
        self._scan = Tick(self.env, self._on_scan)

    # -- the orchestrator ---------------------------------------------------------------------------------

    def _enter(self, request: Request, kind: int, first: int) -> None:
        """The request is known; its tasks appear when the orchestrator submits it."""
        if not self._period_s and not self._submission_s:
            self._admit(request, kind, first)
            return
        self._arrived.append((request, kind, first))
        self._arm_scan()

    def _admit(self, request: Request, kind: int, first: int) -> None:
        composition = self.compositions[kind]
        factors = [self._factors(graph) for graph in composition.graphs] if self._noise else None
        self.scheduler.submit(request, composition, first, factors)

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
        if self._submitting:
            self._submitting = False
            self._admit(*self._arrived.popleft())
        elif self._arrived:
            busy_s = self._submission_s * len(self.compositions[self._arrived[0][1]].graphs)
            if busy_s > 0:
                # Submission keeps the orchestrator: successors wait until it is done.
                self._submitting = True
                self._arm_scan(busy_s)
                self._settle()
                return
            self._admit(*self._arrived.popleft())
        finished, self._finished = self._finished, []
        finished.sort(key=lambda item: item[0].base_id + item[1].index)
        for job, task in finished:
            self.scheduler.finish(job, task)
        if self._arrived or self._finished:
            self._arm_scan()
        self._settle()

    # -- the workers --------------------------------------------------------------------------------------

    def _settle(self) -> None:
        calendar = self._calendar
        if calendar and calendar[0][0] - self.env.now <= INSTANT_S:
            return
        begun = False
        for tick in self.workers:
            if self._runs[tick.index].state == _Run.IDLE:
                entry = self.scheduler.next(tick.worker)
                if entry is not None:
                    self._begin(tick, entry[3], entry[4])
                    begun = True
        if begun and self._contends:
            self._retime()

    def _begin(self, tick: WorkerTick, job: Job, task: Task) -> None:
        tick.job = job
        tick.task = task
        tick.started_s = self.env.now
        run = self._runs[tick.index]
        run.state = _Run.RUNNING
        run.since_s = self.env.now
        run.left_s = task.duration_s if job.factors is None else task.duration_s * job.factors[task.index]
        run.factor = self._factor(tick)
        self._wake(tick, run.left_s * run.factor)

    def _wake(self, tick: WorkerTick, delay_s: float) -> None:
        run = self._runs[tick.index]
        run.number += 1
        self._schedule(Alarm(self.env, self._on_alarm, tick, run.number), NORMAL, delay_s)

    def _factor(self, tick: WorkerTick) -> float:
        """How much slower the worker's task is for what runs beside it now."""
        factor = 1.0
        if self._contends:
            row = self._slowdown[tick.task.kind]  # type: ignore[union-attr]
            for other in self.workers:
                if other is not tick and self._runs[other.index].state == _Run.RUNNING:
                    factor *= row[other.task.kind]  # type: ignore[union-attr]
        return factor

    def _retime(self) -> None:
        """What runs beside each other has changed: move the ends of the tasks it slows or frees."""
        now = self.env.now
        for tick in self.workers:
            run = self._runs[tick.index]
            if run.state == _Run.RUNNING:
                factor = self._factor(tick)
                if factor != run.factor:
                    run.left_s = max(0.0, run.left_s - (now - run.since_s) / run.factor)
                    run.since_s = now
                    run.factor = factor
                    self._wake(tick, run.left_s * factor)

    def _on_alarm(self, alarm: Alarm) -> None:
        tick = alarm.tick
        run = self._runs[tick.index]
        if alarm.number != run.number:
            self._settle()
            return
        if run.state == _Run.PAUSED:
            run.state = _Run.IDLE
            self._settle()
            return
        self._complete(tick, run)

    def _complete(self, tick: WorkerTick, run: _Run) -> None:
        now = self.env.now
        tick.busy_s += now - tick.started_s
        if self.trace is not None:
            self.trace.add(tick, now)
        job, task = tick.job, tick.task
        tick.job = None
        run.state = _Run.IDLE
        if self._period_s or self._submission_s:
            self._finished.append((job, task))  # type: ignore[arg-type]
            self._arm_scan()
        else:
            self.scheduler.finish(job, task)  # type: ignore[arg-type]
        if self._contends:
            self._retime()
        if self._pause_s:
            run.state = _Run.PAUSED
            self._wake(tick, self._pause_s)
        self._settle()
