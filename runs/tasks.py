"""The per-task trace: what every worker did when, and how much memory was resident (opt-in)."""

from __future__ import annotations

from array import array
from typing import Protocol

from ..policies.graph import Task
from ..policies.scheduler import Job

INSTANT_S = 1e-9
"""Events closer than this belong to one instant (sums of the same times in another order differ less)."""


class Working(Protocol):
    """A worker as the trace sees it: its number, the task it is on, and what was resident at its start."""

    index: int
    job: Job | None
    task: Task | None
    started_s: float
    resident_bytes: int


class Trace:
    """One row of 34 bytes per finished task, in order of completion.

    ``limit`` caps the number of rows; ``from_s`` and ``to_s`` are a window over the tasks' start. Rows that
    fall outside are counted in ``dropped``. ``resident_bytes`` is the ledger's value right after the task
    started.
    """

    def __init__(self, limit: int | None = None, from_s: float = 0.0, to_s: float = float("inf")) -> None:
        self.start_s = array("d")
        self.end_s = array("d")
        self.job = array("i")
        self.task = array("i")
        self.worker = array("H")
        self.resident_bytes = array("q")
        self.submission_s = array("d")
        self.submission_bytes = array("q")
        """What the ledger held right after each network that was built at submission (version A)."""
        self.dropped = 0
        self.from_s = from_s
        self.to_s = to_s
        self.limit = limit

    def add(self, worker: Working, now_s: float) -> None:
        """The worker has finished its task now."""
        start = worker.started_s
        if not self.from_s <= start < self.to_s or (self.limit is not None and len(self.job) >= self.limit):
            self.dropped += 1
            return
        job, task = worker.job.row, worker.task.index  # type: ignore[union-attr]
        self.append(start, now_s, job, task, worker.index, worker.resident_bytes)

    def append(
        self, start_s: float, end_s: float, job: int, task: int, worker: int, resident_bytes: int
    ) -> None:
        """One row, wherever it comes from."""
        self.start_s.append(start_s)
        self.end_s.append(end_s)
        self.job.append(job)
        self.task.append(task)
        self.worker.append(worker)
        self.resident_bytes.append(resident_bytes)

    def submitted(self, now_s: float, resident_bytes: int) -> None:
        """A network was built at submission."""
        if self.from_s <= now_s < self.to_s:
            self.submission_s.append(now_s)
            self.submission_bytes.append(resident_bytes)

    def __len__(self) -> int:
        return len(self.job)

    @property
    def bytes_per_row(self) -> int:
        """Bytes one row takes."""
        columns = (self.start_s, self.end_s, self.job, self.task, self.worker, self.resident_bytes)
        return sum(column.itemsize for column in columns)
