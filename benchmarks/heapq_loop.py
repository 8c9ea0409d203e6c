"""The yardstick of the engine: the same scheduler and policy driven by a plain heapq loop, no SimPy."""

from __future__ import annotations

from heapq import heappop, heappush

from edgesched.devices.model import Device
from edgesched.policies.contract import Policy
from edgesched.policies.scheduler import Composition, Job, Request, Scheduler
from edgesched.runs.records import Records
from edgesched.runs.tasks import INSTANT_S

ARRIVAL = -1


class HeapqLoop:
    """Open arrivals, no overheads: what ``edgesched.sim.engine.Engine`` does, written out in one loop."""

    def __init__(self, policy: Policy, device: Device, networks: list) -> None:
        self.records = Records()
        self.now_s = 0.0
        self.scheduler = Scheduler(
            policy, device, clock=lambda: self.now_s, on_start=self._start, on_done=self._done
        )
        self.composition: Composition = self.scheduler.composition(networks)

    def _start(self, job: Job) -> None:
        self.records.job_start_s[job.row] = self.now_s

    def _done(self, job: Job) -> None:
        self.records.job_finish_s[job.row] = self.now_s

    def run(self, gaps: list[float]) -> None:
        """Serve one request per gap."""
        scheduler, records, composition = self.scheduler, self.records, self.composition
        ask, finish, submit = scheduler.next, scheduler.finish, scheduler.submit
        workers = scheduler.workers
        size = len(composition.graphs)
        job_of: list = [None] * len(workers)
        task_of: list = [None] * len(workers)
        started = [0.0] * len(workers)
        busy = [0.0] * len(workers)
        pending = iter(gaps)
        calendar = [(next(pending), 0, ARRIVAL)]
        number = 1
        while calendar:
            now, _, who = heappop(calendar)
            self.now_s = now
            if who == ARRIVAL:
                row, first = records.arrive(now, 0, 0, size)
                submit(Request(row, 0, now, None, size), composition, first)
                gap = next(pending, None)
                if gap is not None:
                    heappush(calendar, (now + gap, number, ARRIVAL))
                    number += 1
            else:
                busy[who] += now - started[who]
                finish(job_of[who], task_of[who])
                job_of[who] = None
            if calendar and calendar[0][0] - now <= INSTANT_S:
                continue
            for worker, job in enumerate(job_of):
                if job is None:
                    entry = ask(workers[worker])
                    if entry is not None:
                        job_of[worker] = entry[3]
                        task = task_of[worker] = entry[4]
                        started[worker] = now
                        heappush(calendar, (now + task.duration_s, number, worker))
                        number += 1
