"""What happened in a replay, in memory that two processes share: it outlives the one that is killed.

The process that replays writes, the one that watches it reads. Each row is there before it is counted, so
that at any instant the first ``requests`` and ``tasks`` rows are whole.
"""

from __future__ import annotations

import mmap
import os
from struct import Struct
from typing import Any, Self

import numpy as np

PREPARING, READY, RUNNING, DONE, FAILED = range(5)

_STATE = np.dtype(
    [
        ("phase", "<i8"),
        ("requests", "<i8"),
        ("late_s", "<f8"),
        ("tasks", "<i8"),
        ("scheduler_s", "<f8"),
        ("now_s", "<f8"),
        ("peak_bytes", "<i8"),
    ]
)
_WORKER = np.dtype([("job", "<i8"), ("task", "<i8"), ("start_s", "<f8"), ("resident_bytes", "<i8")])
_REQUEST = np.dtype([("arrival_s", "<f8"), ("stream", "<i4"), ("composition", "<i4")])
_TASK = np.dtype(
    [
        ("start_s", "<f8"),
        ("end_s", "<f8"),
        ("resident_bytes", "<i8"),
        ("cpu_s", "<f8"),
        ("job", "<i4"),
        ("task", "<i4"),
        ("worker", "<i4"),
        ("switches", "<i4"),
        ("faults", "<i8"),
    ]
)

# The same rows for writing: numpy takes microseconds for each, and writing is a part of the scheduler's time.
# So does every call here that a layer has left cold in the caches: three a task, no more.
_WORKER_ROW = Struct("<qqdq")
_TASK_ROW = Struct("<ddqdiiiiq")
_REQUEST_ROW = Struct("<dii")
_ARRIVALS = Struct("<qd")
_PROGRESS = Struct("<qddq")
_ARRIVALS_PLACE = _STATE.fields["requests"][1]  # type: ignore[index]
_PROGRESS_PLACE = _STATE.fields["tasks"][1]  # type: ignore[index]
_NOTHING = (-1, 0, 0.0, 0)


class JournalFull(RuntimeError):
    """More happened than the journal has room for."""


class Journal:
    """Rows of a replay.

    ``requests``: arrival_s (since the run's begin), stream, composition. ``tasks``, in order of completion:
    start_s and end_s, the ledger's resident_bytes right after the start, job and task as in ``runs.Trace``,
    worker, and what the worker's thread met meanwhile: processor time, involuntary context switches, major
    page faults. ``workers``: what each worker is on (job -1: nothing). ``state``: how far it is.
    """

    def __init__(self, fd: int, workers: int, requests: int, tasks: int) -> None:
        """Attach to the memory behind ``fd``, of ``size(...)`` bytes."""
        self.capacity = (workers, requests, tasks)
        self._map = mmap.mmap(fd, size_bytes(workers, requests, tasks))
        self.fd = fd
        place = 0

        def table(kind: np.dtype[Any], rows: int) -> np.ndarray[Any, Any]:
            nonlocal place
            found = np.frombuffer(self._map, kind, rows, place)
            place += kind.itemsize * rows
            return found

        self.state = table(_STATE, 1)
        self._worker_place = place
        self.workers = table(_WORKER, workers)
        self._request_place = place
        self.requests = table(_REQUEST, requests)
        self._task_place = place
        self.tasks = table(_TASK, tasks)
        self._arrived = int(self.state["requests"][0])
        self._ended = int(self.state["tasks"][0])
        self._on = [_NOTHING] * workers

    @classmethod
    def create(cls, workers: int, requests: int, tasks: int) -> Self:
        """A new journal; its pages are this process's, whoever writes them later."""
        fd = os.memfd_create("edgesched-journal", os.MFD_CLOEXEC)
        count = size_bytes(workers, requests, tasks)
        os.ftruncate(fd, count)
        journal = cls(fd, workers, requests, tasks)
        journal._map[:] = bytes(count)  # a group's memory limit counts a page for who touches it first
        journal.workers["job"] = -1
        return journal

    @property
    def phase(self) -> int:
        """PREPARING, READY, RUNNING, DONE or FAILED."""
        return int(self.state["phase"][0])

    def reach(self, phase: int) -> None:
        """The replaying process has come to this phase."""
        self.state["phase"][0] = phase

    def arrived(self, arrival_s: float, stream: int, composition: int, late_s: float) -> None:
        """A request came in; none so far came more than ``late_s`` after its time."""
        row = self._arrived
        if row >= self.capacity[1]:
            raise JournalFull(f"more than {self.capacity[1]} requests")
        place = self._request_place + row * _REQUEST_ROW.size
        _REQUEST_ROW.pack_into(self._map, place, arrival_s, stream, composition)
        self._arrived = row + 1
        _ARRIVALS.pack_into(self._map, _ARRIVALS_PLACE, row + 1, late_s)

    def began(self, worker: int, job: int, task: int, start_s: float, resident_bytes: int) -> None:
        """A worker is on a task now."""
        self._on[worker] = on = (job, task, start_s, resident_bytes)
        _WORKER_ROW.pack_into(self._map, self._worker_place + worker * _WORKER_ROW.size, *on)

    def idle(self, worker: int) -> None:
        """A worker is on nothing now."""
        _WORKER_ROW.pack_into(self._map, self._worker_place + worker * _WORKER_ROW.size, *_NOTHING)

    def ended(self, worker: int, end_s: float, cpu_s: float, switches: int, faults: int) -> None:
        """The task that the worker was on is done; it counts with the next ``went_on``."""
        row = self._ended
        if row >= self.capacity[2]:
            raise JournalFull(f"more than {self.capacity[2]} tasks")
        job, task, start_s, resident = self._on[worker]
        place = self._task_place + row * _TASK_ROW.size
        _TASK_ROW.pack_into(
            self._map, place, start_s, end_s, resident, cpu_s, job, task, worker, switches, faults
        )
        self._ended = row + 1

    def went_on(self, scheduler_s: float, now_s: float, peak_bytes: int) -> None:
        """An event was dealt with: the scheduler's time so far, the present, the ledger's peak."""
        _PROGRESS.pack_into(self._map, _PROGRESS_PLACE, self._ended, scheduler_s, now_s, peak_bytes)

    def finished_tasks(self) -> np.ndarray[Any, Any]:
        """A copy of the rows of all finished tasks."""
        return self.tasks[: int(self.state["tasks"][0])].copy()

    def known_requests(self) -> np.ndarray[Any, Any]:
        """A copy of the rows of all requests that came in."""
        return self.requests[: int(self.state["requests"][0])].copy()

    def close(self) -> None:
        """Let go of the memory."""
        del self.state, self.workers, self.requests, self.tasks
        self._map.close()
        os.close(self.fd)


def size_bytes(workers: int, requests: int, tasks: int) -> int:
    """Bytes of a journal with room for so many rows."""
    rows = (_STATE, 1), (_WORKER, workers), (_REQUEST, requests), (_TASK, tasks)
    return sum(kind.itemsize * count for kind, count in rows)
