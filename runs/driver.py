"""What drives a scheduler, whatever its clock: requests come in, closed streams refill.

``sim/engine.py`` drives it in virtual time, ``bridge/engine.py`` in real time.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..policies.scheduler import Composition, Job, Request, Scheduler

if TYPE_CHECKING:
    from ..devices.model import Device
    from ..policies.contract import Policy
    from ..workloads.workload import RequestPlan


class Driver(ABC):
    """A run of one plan under one policy.

    A subclass has the workers, says when things happen and writes down what it wants to be known of them.
    """

    def __init__(
        self,
        policy: Policy,
        device: Device,
        plan: RequestPlan,
        compositions: Callable[[Scheduler], Sequence[Composition]],
        clock: Callable[[], float],
    ) -> None:
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
        row, first = self._on_arrive(now_s, stream, kind, size)
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

    @abstractmethod
    def _on_arrive(self, now_s: float, stream: int, kind: int, size: int) -> tuple[int, int]:
        """A request arrived, of ``size`` jobs: its row, and the row of its first job."""

    @abstractmethod
    def _on_start(self, job: Job) -> None:
        """A job's first task is taken."""

    @abstractmethod
    def _on_done(self, job: Job) -> None:
        """A job's last task is done."""

    def _make_room(self, request: Request) -> None:
        """The request is served: closed streams may bring the next one."""
        self._in_flight[request.stream] -= 1
        self._refill()
