"""What happened in a replay, in memory that two processes share: it outlives the one that is killed.

The process that replays writes, the one that watches it reads. A row's last field is written last and is
never 0, so that at any instant the rows up to the first 0 there are whole.
"""

from __future__ import annotations

import mmap
import os
from struct import Struct
from typing import Any, NamedTuple, Self

import numpy as np

PREPARING, READY, RUNNING, DONE, FAILED = range(5)

WOKEN = -1
"""Instead of switches, where a worker goes on that was on nothing."""
NOTHING = -1
"""Instead of a job and a task, where a worker goes on to nothing."""

_STATE = np.dtype([("phase", "i8")])
_REQUEST = np.dtype(
    [
        ("arrival_s", "f8"),
        ("late_s", "f4"),
        ("stream", "i4"),
        ("composition", "i4"),
        ("whole", "i4"),
    ]
)
_EVENT = np.dtype(
    [
        ("now_s", "f8"),
        ("scheduler_s", "f8"),
        ("resident_bytes", "i8"),
        ("cpu_s", "f4"),
        ("switches", "i4"),
        ("faults", "i4"),
        ("job", "i4"),
        ("task", "i4"),
        ("worker", "i4"),
    ]
)
_TASK = np.dtype(
    [
        ("start_s", "f8"),
        ("end_s", "f8"),
        ("resident_bytes", "i8"),
        ("cpu_s", "f8"),
        ("job", "i4"),
        ("task", "i4"),
        ("worker", "i4"),
        ("switches", "i4"),
        ("faults", "i8"),
    ]
)

# The rows for writing: numpy takes microseconds for each. Writing is a part of the scheduler's time, and so
# is every call and every line of memory that a layer has left cold in the caches: hence one row an event, in
# the machine's own format (2.6 us with cold caches where a fixed byte order takes 3.7).
_REQUEST_ROW = Struct("@dfiii")
_EVENT_ROW = Struct("@ddqfiiiii")
_REQUEST_BYTES = _REQUEST_ROW.size
_EVENT_BYTES = _EVENT_ROW.size
_EVENTS_A_TASK = 2
"""At most: a worker is woken for it, and it ends."""


class JournalFull(RuntimeError):
    """More happened than the journal has room for."""


class UnderWay(NamedTuple):
    """What a worker is on."""

    job: int
    task: int
    start_s: float
    resident_bytes: int


class Journal:
    """Rows of a replay.

    ``requests``: arrival_s (since the run's begin), late_s (after its planned time), stream, composition.
    ``events``: a worker goes on, at now_s, to a task of a job (as in ``runs.Trace``) or to nothing;
    resident_bytes of the ledger right after; what the worker's thread met on the task that it comes from:
    processor time, involuntary context switches, major page faults; scheduler_s, the scheduler's own time
    before the event. ``worker`` counts from 1 there, and 0 is a row that is not written yet.
    """

    def __init__(self, fd: int, workers: int, requests: int, tasks: int) -> None:
        """Attach to the memory behind ``fd``, of ``size_bytes(...)`` bytes."""
        self.capacity = (workers, requests, tasks)
        self._map = mmap.mmap(fd, size_bytes(requests, tasks))
        self.fd = fd
        self.state = np.frombuffer(self._map, _STATE, 1)
        self._next_request = self._requests_at = _STATE.itemsize
        self._next_event = self._events_at = self._requests_at + requests * _REQUEST.itemsize
        self.requests = np.frombuffer(self._map, _REQUEST, requests, self._requests_at)
        self.events = np.frombuffer(self._map, _EVENT, _EVENTS_A_TASK * tasks, self._events_at)
        self._end = len(self._map)
        self._counted = self._finished = 0

    @classmethod
    def create(cls, workers: int, requests: int, tasks: int) -> Self:
        """A new journal; its pages are this process's, whoever writes them later."""
        fd = os.memfd_create("edgesched-journal", os.MFD_CLOEXEC)
        count = size_bytes(requests, tasks)
        os.ftruncate(fd, count)
        journal = cls(fd, workers, requests, tasks)
        journal._map[:] = bytes(count)  # a group's memory limit counts a page for who touches it first
        return journal

    # -- writing ------------------------------------------------------------------------------------------

    def reach(self, phase: int) -> None:
        """The replaying process has come to this phase."""
        self.state["phase"][0] = phase

    def arrived(self, arrival_s: float, late_s: float, stream: int, composition: int) -> None:
        """A request came in, ``late_s`` after its time."""
        place = self._next_request
        if place == self._events_at:
            raise JournalFull(f"more than {self.capacity[1]} requests")
        _REQUEST_ROW.pack_into(self._map, place, arrival_s, late_s, stream, composition, 1)
        self._next_request = place + _REQUEST_BYTES

    def went_on(
        self,
        now_s: float,
        scheduler_s: float,
        resident_bytes: int,
        cpu_s: float,
        switches: int,
        faults: int,
        job: int,
        task: int,
        worker: int,
    ) -> None:
        """A worker went on to a task, or to ``NOTHING``; arguments as the columns of ``events``."""
        place = self._next_event
        if place == self._end:
            raise JournalFull(f"more than {self.capacity[2]} tasks")
        _EVENT_ROW.pack_into(
            self._map, place, now_s, scheduler_s, resident_bytes, cpu_s, switches, faults, job, task, worker
        )
        self._next_event = place + _EVENT_BYTES

    # -- reading ------------------------------------------------------------------------------------------

    @property
    def phase(self) -> int:
        """PREPARING, READY, RUNNING, DONE or FAILED."""
        return int(self.state["phase"][0])

    def known_requests(self) -> np.ndarray[Any, Any]:
        """A copy of the rows of all requests that came in."""
        return self.requests[: _whole(self.requests["whole"])].copy()

    def known_events(self) -> np.ndarray[Any, Any]:
        """A copy of the rows of all events."""
        return self.events[: _whole(self.events["worker"])].copy()

    def finished_tasks(self) -> np.ndarray[Any, Any]:
        """All finished tasks in order of completion, as columns.

        start_s and end_s, resident_bytes right after the start, job and task, worker (from 0), and what the
        worker's thread met meanwhile: cpu_s, switches, faults.
        """
        events = self.known_events()
        ends = np.flatnonzero(events["switches"] != WOKEN)
        starts = np.empty_like(ends)
        for worker in range(1, self.capacity[0] + 1):
            own = np.flatnonzero(events["worker"] == worker)
            ended = events["switches"][own] != WOKEN
            # A worker's task began with the worker's event before; its first event ends nothing.
            starts[events["worker"][ends] == worker] = own[:-1][ended[1:]]
        rows = np.zeros(len(ends), _TASK)
        rows["start_s"], rows["end_s"] = events["now_s"][starts], events["now_s"][ends]
        for name in ("resident_bytes", "job", "task"):
            rows[name] = events[name][starts]
        for name in ("cpu_s", "switches", "faults"):
            rows[name] = events[name][ends]
        rows["worker"] = events["worker"][ends] - 1
        return rows

    def finished(self) -> int:
        """How many tasks are finished. Looks only at what is new since the last call."""
        known = self._counted + _whole(self.events["worker"][self._counted :])
        new = self.events["switches"][self._counted : known]
        self._counted = known
        self._finished += int(np.count_nonzero(new != WOKEN))
        return self._finished

    def under_way(self) -> list[UnderWay]:
        """What the workers are on that are on something."""
        events = self.known_events()
        found = []
        for worker in range(1, self.capacity[0] + 1):
            own = np.flatnonzero(events["worker"] == worker)
            if len(own) and events["job"][own[-1]] != NOTHING:
                last = events[own[-1]]
                found.append(
                    UnderWay(
                        int(last["job"]), int(last["task"]), float(last["now_s"]), int(last["resident_bytes"])
                    )
                )
        return found

    def close(self) -> None:
        """Let go of the memory."""
        del self.state, self.requests, self.events
        self._map.close()
        os.close(self.fd)


def size_bytes(requests: int, tasks: int) -> int:
    """Bytes of a journal with room for so many rows."""
    return _STATE.itemsize + requests * _REQUEST.itemsize + _EVENTS_A_TASK * tasks * _EVENT.itemsize


def _whole(marks: np.ndarray[Any, Any]) -> int:
    """How many of the first marks are not 0."""
    low, high = 0, len(marks)
    while low < high:
        middle = (low + high) // 2
        if marks[middle]:
            low = middle + 1
        else:
            high = middle
    return low
