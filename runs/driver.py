"""What drives a scheduler, whatever its clock: requests come in, closed streams refill.

``sim/engine.py`` drives it in virtual time, ``bridge/engine.py`` in real time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..policies.scheduler import Composition, Job, Request, Scheduler

if TYPE_CHECKING:
    from ..devices.model import Device
    from ..policies.contract import Policy
    from ..workloads.workload import RequestPlan
    from .records import Records


class Driver:
    """A run of one plan under one policy; a subclass has the workers and says when things happen."""

    def __init__(
        self,
        policy: Policy,
        device: Device,
        plan: RequestPlan,
        compositions: Callable[[Scheduler], Sequence[Composition]],
        records: Records,
        clock: Callable[[], float],
    ) -> None:
        self.records = records
        self.plan = plan
        self.clock = clock
        self.scheduler = Scheduler(
            policy, device, clock=clock, on_start=self._on_start, on_done=self._on_done
        )
        self.compositions = compositions(self.scheduler)
        self._sizes = [len(c.graphs) for c in self.compositions]
        self._gaps = iter(plan.gap_s)
        self._streams = iter(plan.stream)
        self._kinds = iter(plan.composition)
        self._closed = [(closed, closed.indices()) for closed in plan.closed]
        self._in_flight = [0] * len(plan.streams)

    def _submit(self, stream: int, kind: int, now_s: float) -> None:
        size = self._sizes[kind]
        row, first = self.records.arrive(now_s, stream, kind, size)
        if self._closed:
            self._in_flight[stream] += 1
        self._enter(Request(row, stream, now_s, self.plan.deadline_s[stream], size), kind, first)

    def _enter(self, request: Request, kind: int, first: int) -> None:
        self.scheduler.submit(request, self.compositions[kind], first)

    def _refill(self) -> None:
        """Closed streams bring new requests where completions have made room."""
        for closed, kinds in self._closed:
            process = closed.process
            while True:
                idle = process.mode == "idle"
                flying = sum(self._in_flight) if idle else self._in_flight[closed.stream]
                if flying > process.outstanding - process.group:
                    break
                group = list(itertools.islice(kinds, process.group))
                if not group:
                    break
                for kind in group:
                    self._submit(closed.stream, kind, self.clock())

    def _on_start(self, job: Job) -> None:
        self.records.job_start_s[job.row] = self.clock()

    def _on_done(self, job: Job) -> None:
        self.records.job_finish_s[job.row] = self.clock()
        if self._closed and not job.request.left:
            self._in_flight[job.request.stream] -= 1
            self._refill()
