"""The ready tasks, indexed: one heap per queue and reservation, so that no policy scans what waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from .graph import READY

if TYPE_CHECKING:
    from .graph import Task
    from .scheduler import Job

Entry: TypeAlias = "tuple[float, float, int, Job, Task]"
"""A ready task: (job rank, task rank, task id, job, task), ordered by the first three."""


class Ready:
    """Read-only view of the tasks that could run now.

    Each queue is a set of heaps, one per distinct reservation, of entries (job rank, task rank, task id,
    job, task). ``first`` costs O(reservations), not O(tasks).
    """

    __slots__ = ("_clock", "_heaps", "_single")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heaps: dict[str, list[tuple[int, list[Entry]]]] = {}
        self._single: dict[str, list[Entry]] = {}

    def heap_of(self, queue: str, reserve_bytes: int) -> list[Entry]:
        """The heap for tasks of this queue and reservation, made if new; for the scheduler."""
        heaps = self._heaps.setdefault(queue, [])
        for reserve, heap in heaps:
            if reserve == reserve_bytes:
                return heap
        heap = []
        heaps.append((reserve_bytes, heap))
        heaps.sort(key=lambda item: item[0])
        if len(heaps) == 1:
            self._single[queue] = heap
        else:
            self._single.pop(queue, None)
        return heap

    def first(self, queue: str = READY, fitting: float | None = None) -> Entry | None:
        """The entry that goes first in the queue; None if there is none.

        With ``fitting``, only tasks that reserve at most so many bytes (tasks that reserve nothing always
        fit): those that do not fit are passed over, not waited for.
        """
        heap = self._single.get(queue)
        if heap is not None and fitting is None:
            return heap[0] if heap else None
        heaps = self._heaps.get(queue, ())
        best: Entry | None = None
        for reserve, heap in heaps:
            if fitting is not None and reserve > fitting and reserve:
                break
            if heap and (best is None or heap[0] < best):
                best = heap[0]
        return best

    @property
    def now_s(self) -> float:
        """The driver's time: for policies whose order depends on how long a job has waited."""
        return self._clock()

    def queues(self) -> Iterator[str]:
        """Names of the queues that hold a task."""
        for name, heaps in self._heaps.items():
            if any(heap for _, heap in heaps):
                yield name

    def entries(self, queue: str = READY) -> list[Entry]:
        """All entries of a queue, in order. Costs O(n log n): for tests and odd policies."""
        return sorted(entry for _, heap in self._heaps.get(queue, ()) for entry in heap)

    def __bool__(self) -> bool:
        return any(heap for heaps in self._heaps.values() for _, heap in heaps)

    def __len__(self) -> int:
        return sum(len(heap) for heaps in self._heaps.values() for _, heap in heaps)
