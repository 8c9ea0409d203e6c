"""Memory limit and paging: what a task costs when the working set exceeds a memory limit.

The module is clock-free: a ``Pager`` keeps what is resident, what lies on swap and when the one swap device
is free; the caller's event engine owns the time.

* Residency in chunks, not whole blobs.
* A task is a ``Program`` (``access.py``): phases that sweep byte ranges together.
* One swap device, first come first served; the worker that faults stalls, others go on computing.
* Replacement in the order of faulting (FIFO). A clean chunk with a copy on swap leaves unwritten.
* Reads block; a written byte takes ``write_cost`` of the device time of a read one.
* A resident base of the process counts against the limit and never leaves.

Of the structures tried (clock, least recently used, free writes, whole weights in every sweep) this one came
closest to EdgeCaffe's times under cgroup limits; docs/validation.md has the errors. Units: bytes, seconds,
bytes per second. Nothing here is random: equal calls give equal results.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from .access import Phase, Program

MIB = 1 << 20
MIN_CHUNK = MIB
"""Smallest chunk of a blob in bytes."""
MAX_CHUNKS = 64
"""A blob is cut into at most this many chunks."""
REQUEST = 4 * MIB
"""Default traffic (bytes, read and written) of one request when several workers share the device."""
PIN_BELOW = 64 * 1024
"""Blobs below this size (bytes) are resident from allocation to release and never paged, unless stored."""

_NEW, _DIRTY, _CLEAN, _OUT = range(4)


@dataclass(frozen=True, slots=True)
class SwapModel:
    """The swap device.

    Args:
        read_bps: bytes per second of swap-in for one faulting worker; positive.
        write_cost: device time of a written byte relative to a read one; >= 0 (0: writes are free).
        queue_gain: speed-up of a request that finds the device busy (two synchronous faulting threads
            keep two reads in flight); >= 1.
        penalty: factor on every request (fragmented swap, lost readahead); > 0.

    Raises:
        ValueError: a number is out of range.
    """

    read_bps: float
    write_cost: float = 0.5
    queue_gain: float = 1.0
    penalty: float = 1.0

    def __post_init__(self) -> None:
        for name in ("read_bps", "write_cost", "queue_gain", "penalty"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite")
        if self.read_bps <= 0 or self.write_cost < 0 or self.queue_gain < 1 or self.penalty <= 0:
            raise ValueError("need read_bps > 0, write_cost >= 0, queue_gain >= 1, penalty > 0")


class _Blob:
    __slots__ = ("bytes", "chunk", "dead", "last", "n", "n_clean", "n_res", "state")

    def __init__(self, nbytes: int, min_chunk: int, max_chunks: int, pinned: bool) -> None:
        self.bytes = nbytes
        self.dead = False
        self.n_res = 0
        self.n_clean = 0
        if pinned:
            self.n = 0
            self.chunk = self.last = 0
        else:
            self.n = max(1, min(max_chunks, -(-nbytes // min_chunk)))
            self.chunk = -(-nbytes // self.n)
            self.n = -(-nbytes // self.chunk)
            self.last = nbytes - self.chunk * (self.n - 1)
        self.state = bytearray(self.n)


class _Run:
    """A task in progress on one worker."""

    __slots__ = ("blobs", "cpu_start", "end", "iphase", "islice", "phases", "slow", "work")

    def __init__(self, phases: tuple[Phase, ...], blobs: list[_Blob | None], work: float) -> None:
        self.phases = phases
        self.blobs = blobs
        self.work = work
        self.iphase = 0
        self.islice = 0
        self.slow = 1.0
        self.cpu_start = 0.0
        self.end = 0.0


class Pager:
    """Residency of blobs under one memory limit, and the swap device behind it.

    Args:
        limit_bytes: memory limit of the process, or None for no limit.  On a board with less free memory
            than the limit pass the smaller of the two.
        base_bytes: resident base of the process (program, libraries' private pages, heap).
        swap: the device; None is allowed only without a limit.
        quantum_s, request_bytes: one :meth:`advance` covers about this much compute, or this much traffic
            (one request to the device), so that workers interleave on the device and the co-running
            penalty is renewed.  With a single worker pass ``math.inf`` for both: a task takes one call.
        min_chunk: smallest chunk in bytes.
        max_chunks: greatest number of chunks of a blob.

    Raises:
        ValueError: a size is out of range, or a limit without a swap model.

    Counters: ``resident_bytes`` (without the base), ``paged_in_bytes``, ``paged_out_bytes``,
    ``stall_s`` (seconds by worker, waiting for and using the device).
    """

    def __init__(
        self,
        limit_bytes: float | None,
        base_bytes: float = 0,
        swap: SwapModel | None = None,
        *,
        quantum_s: float = 0.05,
        request_bytes: float = REQUEST,
        min_chunk: int = MIN_CHUNK,
        max_chunks: int = MAX_CHUNKS,
    ) -> None:
        if base_bytes < 0 or quantum_s <= 0 or request_bytes <= 0 or min_chunk < 1 or max_chunks < 1:
            raise ValueError("base_bytes must be >= 0, the other settings positive")
        if limit_bytes is not None and limit_bytes <= 0:
            raise ValueError("limit_bytes must be positive or None")
        if limit_bytes is not None and not math.isinf(limit_bytes) and swap is None:
            raise ValueError("a memory limit needs a swap model")
        self.limit_bytes = math.inf if limit_bytes is None else limit_bytes
        self.base_bytes = base_bytes
        self.swap = swap
        self.capacity = max(0.0, self.limit_bytes - base_bytes)
        self.quantum_s = quantum_s
        self.request_bytes = request_bytes
        self._min_chunk = min_chunk
        self._max_chunks = max_chunks
        self._blobs: dict[Hashable, _Blob] = {}
        self._queue: deque[list[Any]] = deque()  # [blob, first chunk, end chunk] in order of faulting
        self._runs: dict[int, _Run] = {}
        self._device_free = -math.inf
        self.resident_bytes = 0
        self.paged_in_bytes = 0
        self.paged_out_bytes = 0
        self.stall_s: dict[int, float] = {}

    # -- blobs ---------------------------------------------------------------------------------
    def allocate(self, blob: Hashable, nbytes: int, *, stored: bool = False, pinned: bool = False) -> None:
        """Reserve address space; memory is taken at the first touch (small blobs: now).

        ``stored``: the bytes lie on the device already, so that the first touch reads them (a mapped file).
        ``pinned``: resident from now on to the release, whatever the size (no swap to go to).

        Raises:
            ValueError: the blob exists already, or ``nbytes`` is negative.
        """
        if blob in self._blobs:
            raise ValueError(f"blob {blob!r} is allocated already")
        if nbytes < 0:
            raise ValueError("nbytes must not be negative")
        # A small mapped file is read like any other.
        small = nbytes < PIN_BELOW and not (stored and nbytes)
        b = _Blob(int(nbytes), self._min_chunk, self._max_chunks, pinned or small)
        if stored:
            b.state = bytearray([_OUT]) * b.n
        self._blobs[blob] = b
        if not b.n:
            self.resident_bytes += b.bytes

    def release(self, blob: Hashable) -> None:
        """Free a blob: its memory and its swap copy go without traffic.

        Raises:
            KeyError: no such blob.
        """
        b = self._blobs.pop(blob)
        b.dead = True
        if not b.n:
            self.resident_bytes -= b.bytes
        else:
            self.resident_bytes -= self._resident(b)
        if len(self._queue) > 4 * len(self._blobs) + 4 * self._max_chunks:
            self._queue = deque(t for t in self._queue if not t[0].dead)

    def allocated(self, blob: Hashable) -> bool:
        """Whether the blob exists."""
        return blob in self._blobs

    def resident_of(self, blob: Hashable) -> int:
        """Resident bytes of one blob.  Raises KeyError for an unknown one."""
        b = self._blobs[blob]
        return b.bytes if not b.n else self._resident(b)

    @staticmethod
    def _resident(b: _Blob) -> int:
        if b.n_res == b.n:
            return b.bytes
        size = b.n_res * b.chunk
        if b.state[-1] in (_DIRTY, _CLEAN):
            size += b.last - b.chunk
        return size

    # -- tasks ---------------------------------------------------------------------------------
    def begin(
        self,
        worker: int,
        work_s: float,
        program: Program,
        blobs: Sequence[Hashable | None],
        now_s: float,
        slowdown: float = 1.0,
    ) -> float:
        """Start a task; returns the first instant at which :meth:`advance` must be called.

        Args:
            worker: any integer; one task at a time each.
            work_s: compute time of the task with everything resident and nothing beside it.
            program: its accesses.
            blobs: blob at each position of the program; None (or a position beyond the end) means the
                access does not exist.
            now_s: the present.
            slowdown: see :meth:`advance`.

        Raises:
            ValueError: the worker is busy, or work_s is negative.
            KeyError: a blob is not allocated.
        """
        if worker in self._runs:
            raise ValueError(f"worker {worker} has a task already")
        if work_s < 0:
            raise ValueError("work_s must not be negative")
        known = self._blobs
        objs = [None if k is None else known[k] for k in blobs]
        if self._fits(program, objs):
            run = _Run(((1.0, ()),), objs, work_s)
        else:
            run = _Run(program.phases, objs, work_s)
        self._runs[worker] = run
        end = self.advance(worker, now_s, slowdown)
        return now_s if end is None else end

    def settle(self, program: Program, blobs: Sequence[Hashable | None]) -> bool:
        """Make all that a task uses resident if that takes no fault; False, and nothing changed, if it does.

        A caller may then run the task without the pager, as plain compute.

        Raises:
            KeyError: a blob is not allocated.
        """
        known = self._blobs
        return self._fits(program, [None if k is None else known[k] for k in blobs])

    def advance(self, worker: int, now_s: float, slowdown: float = 1.0) -> float | None:
        """Run the worker's next slices from ``now_s``; returns when to call again, or None: task done.

        ``slowdown`` (>= some positive factor) stretches the compute of these slices, not the paging.
        Faults of a slice become one request to the swap device, served first come first served.

        Raises:
            KeyError: the worker has no task.
        """
        run = self._runs[worker]
        phases = run.phases
        if run.iphase >= len(phases):
            del self._runs[worker]
            return None
        cpu = 0.0
        read = written = 0
        cpu_stop = self.quantum_s / slowdown if slowdown > 0 else math.inf
        swap_stop = self.request_bytes
        blobs = run.blobs
        n_blobs = len(blobs)
        run.slow = slowdown
        while run.iphase < len(phases):
            share, accesses = phases[run.iphase]
            live = []
            slices = 1
            whole = True
            for pos, lo, hi, write in accesses:
                b = blobs[pos] if pos < n_blobs else None
                if b is None or not b.n or b.dead:
                    continue
                n = b.n
                first = int(lo * n + 1e-9)
                last = min(n, max(first + 1, math.ceil(hi * n - 1e-9)))
                live.append((b, first, last - first, write))
                if last - first > slices:
                    slices = last - first
                if whole and (b.n_res != n or (write and b.n_clean)):
                    whole = False
            if whole and not run.islice:
                cpu += share * run.work
                run.iphase += 1
                if cpu >= cpu_stop:
                    break
                continue
            unit = share * run.work / slices
            j = run.islice
            while j < slices:
                for b, first, count, write in live:
                    a = first + j * count // slices
                    z = first + (j + 1) * count // slices
                    if a == z:  # fewer chunks than slices: the chunk stays in use
                        z = a + 1
                    state = b.state
                    for i in range(a, z):
                        s = state[i]
                        if s == _DIRTY or (s == _CLEAN and not write):
                            continue
                        if s == _CLEAN:
                            state[i] = _DIRTY
                            b.n_clean -= 1
                            continue
                        size = b.chunk if i < b.n - 1 else b.last
                        if self.resident_bytes + size > self.capacity:
                            written += self._evict(size)
                        self._place(b, i, size, write or s == _NEW)
                        if s == _OUT:
                            read += size
                j += 1
                cpu += unit
                if cpu >= cpu_stop or read + written >= swap_stop:
                    break
            if j >= slices:
                run.iphase += 1
                run.islice = 0
            else:
                run.islice = j
            if cpu >= cpu_stop or read + written >= swap_stop:
                break
        run.cpu_start = now_s
        if read or written:
            self.paged_in_bytes += read
            self.paged_out_bytes += written
            run.cpu_start += self._request(worker, now_s, read, written)
        run.end = run.cpu_start + cpu * slowdown
        return run.end

    def rerate(self, worker: int, now_s: float, slowdown: float) -> float:
        """Change the slowdown of the compute now in progress; returns the new instant for :meth:`advance`.

        For engines in which a co-runner starts or ends during a long slice.  Paging time is not changed
        (it is taken to lie at the start of the slice).

        Raises:
            KeyError: the worker has no task.
        """
        run = self._runs[worker]
        start = max(now_s, run.cpu_start)
        run.end = start + max(0.0, run.end - start) / run.slow * slowdown
        run.slow = slowdown
        return run.end

    def computing(self, worker: int, now_s: float) -> bool:
        """Whether the worker has a task and is not stalled on the swap device at ``now_s``."""
        run = self._runs.get(worker)
        return run is not None and run.cpu_start <= now_s

    # -- inner parts ---------------------------------------------------------------------------
    def _fits(self, program: Program, blobs: list[_Blob | None]) -> bool:
        """Make everything the program uses resident if that needs no fault; else change nothing."""
        need = 0
        todo = []
        n_blobs = len(blobs)
        for pos, lo, hi, write in program.uses:
            b = blobs[pos] if pos < n_blobs else None
            if b is None or not b.n:
                continue
            if b.n_res == b.n:
                if write and b.n_clean:
                    todo.append((b, 0, b.n, False))
                continue
            if lo > 0.0 or hi < 1.0:
                first = int(lo * b.n + 1e-9)
                last = min(b.n, max(first + 1, math.ceil(hi * b.n - 1e-9)))
                part = b.state[first:last]
                if _OUT in part:
                    return False
                if _NEW not in part and not (write and _CLEAN in part):
                    continue
                need += part.count(_NEW) * b.chunk
            else:
                if _OUT in b.state:
                    return False
                first, last = 0, b.n
                need += b.bytes if not b.n_res else b.state.count(_NEW) * b.chunk
            todo.append((b, first, last, True))
        if self.resident_bytes + need > self.capacity:
            return False
        for b, first, last, fresh in todo:
            if fresh and not b.n_res and first == 0 and last == b.n:
                b.state = bytearray(b"\x01") * b.n
                b.n_res = b.n
                self.resident_bytes += b.bytes
                self._queue.append([b, 0, b.n])
                continue
            for i in range(first, last):
                s = b.state[i]
                if s == _NEW:
                    self._place(b, i, b.chunk if i < b.n - 1 else b.last, True)
                elif s == _CLEAN:  # listed only when the program writes, or harmlessly pessimistic
                    b.state[i] = _DIRTY
                    b.n_clean -= 1
        return True

    def _place(self, b: _Blob, i: int, size: int, dirty: bool) -> None:
        b.state[i] = _DIRTY if dirty else _CLEAN
        b.n_res += 1
        if not dirty:
            b.n_clean += 1
        self.resident_bytes += size
        queue = self._queue
        if queue:
            tail = queue[-1]
            if tail[0] is b and tail[2] == i:
                tail[2] = i + 1
                return
        queue.append([b, i, i + 1])

    def _evict(self, size: int) -> int:
        """Make room for ``size`` bytes from the head of the queue; returns the bytes to be written."""
        queue = self._queue
        written = 0
        while queue and self.resident_bytes + size > self.capacity:
            head = queue[0]
            b, i, end = head
            if b.dead:
                queue.popleft()
                continue
            if i + 1 >= end:
                queue.popleft()
            else:
                head[1] = i + 1
            s = b.state[i]
            gone = b.chunk if i < b.n - 1 else b.last
            b.state[i] = _OUT
            b.n_res -= 1
            self.resident_bytes -= gone
            if s == _DIRTY:
                written += gone
            else:
                b.n_clean -= 1
        return written

    def _request(self, worker: int, at: float, read: int, written: int) -> float:
        """One request to the device; returns the time from ``at`` until it is served."""
        swap = self.swap
        assert swap is not None
        took = (read + swap.write_cost * written) / swap.read_bps * swap.penalty
        start = at
        if self._device_free > at:
            start = self._device_free
            took /= swap.queue_gain
        self._device_free = start + took
        stall = self._device_free - at
        self.stall_s[worker] = self.stall_s.get(worker, 0.0) + stall
        return stall
