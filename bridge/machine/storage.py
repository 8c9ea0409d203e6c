"""Reading weights: from the real disk, at the pace of a slower one if wanted.

The kernel's own throttle lets reads of up to 1 MB through at full speed and then stalls for 100 ms. A layer's
weights need a steady rate, so the reader keeps it itself: each piece of a read books its time on a clock that
all threads share, and waits until that time is over.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

import numpy as np

from .host import gives_free_pages_back
from .memory import Region

DIRECT_BYTES = 4096
"""Offsets, lengths and addresses of direct reads are multiples of this."""
PIECE_BYTES = 256 * 1024
"""Bytes of a paced read that are booked at once: threads take turns after each piece."""

# A thread wakes 20 us late from a short sleep, and 60 to 120 us from a long one, in which the processor
# sleeps deeper. The end of a read comes after a short one, and is waited for awake. Longer is exacter by
# microseconds, and cost a thread that computes beside it 3 % for its turns at the interpreter.
_SHALLOW_S = 1e-3
_SPIN_S = 30e-6
_TIMER_SLACK_NS = 1000
_PR_SET_TIMERSLACK = 29  # linux/prctl.h

_libc = ctypes.CDLL(None, use_errno=True)


class StorageError(ValueError):
    """A file cannot be read as asked; the message says which, why and what works instead."""


def precise_timers() -> None:
    """Let the calling thread's sleeps end at most 1 us late by the kernel's intention (usual: 50 us).

    Threads that it starts afterwards inherit this. Real lateness depends on the processor's idle states.
    """
    zero = ctypes.c_ulong(0)
    if _libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(_TIMER_SLACK_NS), zero, zero, zero) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_TIMERSLACK): {os.strerror(code)}")


class Pace:
    """A disk's time, shared by all threads: one piece after the other, each of bytes / rate seconds.

    Two readers that take turns get half the rate each. Over any span the rate is exact: a piece of a read
    starts, on this clock, where the one before ended, not where its thread woke up. Time in which nobody
    wanted to read earns nothing.
    """

    def __init__(self, bytes_per_s: float, piece_bytes: int = PIECE_BYTES) -> None:
        """Raises StorageError unless the rate is positive and finite and pieces are multiples of 4096."""
        if not 0 < bytes_per_s < math.inf:
            raise StorageError(f"a pace needs a positive rate in bytes/s, seen {bytes_per_s}")
        if piece_bytes < DIRECT_BYTES or piece_bytes % DIRECT_BYTES:
            raise StorageError(
                f"pieces must be a positive multiple of {DIRECT_BYTES} bytes, seen {piece_bytes}"
            )
        self.bytes_per_s = float(bytes_per_s)
        self.piece_bytes = piece_bytes
        self._lock = threading.Lock()
        self._free_s = -math.inf

    def book(self, n: int, wanted_s: float) -> float:
        """Book the next free time for ``n`` bytes; returns when it ends (s, ``time.monotonic()``).

        ``wanted_s`` is when the read began, and for its later pieces the end of the piece before. A thread
        that comes late by more than one piece's time has lost the rest: the real disk was slower.
        """
        earliest = time.monotonic() - self.piece_bytes / self.bytes_per_s
        with self._lock:
            self._free_s = max(wanted_s, earliest, self._free_s) + n / self.bytes_per_s
            return self._free_s

    def take(self, n: int) -> None:
        """Wait until ``n`` bytes, wanted now, may be there."""
        wait_until(self.book(n, time.monotonic()))

    def read(self, pieces: Iterable[tuple[int, int]], read: Callable[[int, int], None]) -> None:
        """``read(offset, n)`` for each (offset, n) of ``pieces`` in turn; returns when all may be there.

        The real reads take their part of the booked time.
        """
        end_s = time.monotonic()
        for offset, n in pieces:
            _sleep_until(end_s)
            end_s = self.book(n, end_s)
            read(offset, n)
        wait_until(end_s)


def pieces(offset: int, n: int, piece_bytes: int) -> Iterator[tuple[int, int]]:
    """The range of ``n`` bytes from ``offset`` on as (offset, bytes) of at most ``piece_bytes`` each."""
    end = offset + n
    for start in range(offset, end, piece_bytes):
        yield start, min(piece_bytes, end - start)


def wait_until(end_s: float) -> None:
    """Return at ``end_s`` (s, ``time.monotonic()``), within some microseconds; at once if it is over.

    The last 30 us are spent awake, giving other Python threads their turn.
    """
    _sleep_until(end_s - _SHALLOW_S)
    _sleep_until(end_s - _SPIN_S)
    while time.monotonic() < end_s:
        time.sleep(0)


def _sleep_until(end_s: float) -> None:
    left = end_s - time.monotonic()
    if left > 0:
        time.sleep(left)


class WeightsFile:
    """A flat file of weights, opened for reading into memory that the caller owns.

    Any number of threads may read at once.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        mode: Literal["direct", "cached"] = "direct",
        pace: Pace | None = None,
    ) -> None:
        """Open ``path``; raises StorageError if that fails.

        Args:
            path: the file.
            mode: ``direct`` passes by the page cache (O_DIRECT), so that every read is a read of the disk;
                ``cached`` reads through it, and finds again what ``evict`` has not dropped.
            pace: the rate to keep; None reads as fast as the disk can.
        """
        self.path = Path(path)
        self.mode = mode
        self.pace = pace
        flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECT if mode == "direct" else 0)
        try:
            self._fd = os.open(path, flags)
        except OSError as error:
            raise self._refused(error) from error
        # What was just written must be on the disk before it can leave the cache. Read-only file systems
        # refuse, and have nothing to write.
        with contextlib.suppress(OSError):
            os.fsync(self._fd)

    @property
    def size_bytes(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._fd).st_size

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill ``view`` with the file's bytes from ``offset`` on.

        Returns when they are there and the pace allows. In mode ``direct`` the offset, the length and the
        view's address must be multiples of 4096. Raises StorageError if they are not, or if the file ends.
        """
        view = view.cast("B")
        if self.mode == "direct":
            self._check_direct(view, offset)
        if self.pace is None:
            self._read(view, offset)
            return
        self.pace.read(
            pieces(0, len(view), self.pace.piece_bytes),
            lambda start, n: self._read(view[start : start + n], offset + start),
        )

    def evict(self, offset: int = 0, n: int = 0) -> None:
        """Drop ``n`` bytes from ``offset`` on (0: all to the end) from the page cache: they are cold again.

        Only whole pages that nobody has mapped leave.
        """
        os.posix_fadvise(self._fd, offset, n, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, view: memoryview, offset: int) -> None:
        done = 0
        while done < len(view):
            try:
                n = os.preadv(self._fd, [view[done:]], offset + done)
            except OSError as error:
                raise self._refused(error) from error
            done += n
            # A direct read that stops within a block has met the end and cannot go on from there.
            if n == 0 or (self.mode == "direct" and n % DIRECT_BYTES):
                raise StorageError(
                    f"{self.path}: ends at byte {offset + done}, {offset + len(view)} bytes were expected"
                )

    def _check_direct(self, view: memoryview, offset: int) -> None:
        address = np.frombuffer(view, np.uint8).__array_interface__["data"][0] if len(view) else 0
        for what, value in (("offset", offset), ("length", len(view)), ("memory address", address)):
            if value % DIRECT_BYTES:
                raise StorageError(
                    f"{self.path}: direct reads need multiples of {DIRECT_BYTES}, seen {what} {value}"
                )

    def _refused(self, error: OSError) -> StorageError:
        text = f"{self.path}: cannot be read: {error.strerror}"
        if self.mode == "direct" and error.errno == errno.EINVAL:
            text = f"{self.path}: its file system refuses direct reads (O_DIRECT); use the mode 'cached'"
        return StorageError(text)


class ReadRate(NamedTuple):
    """What a disk can do with direct reads, into memory that appears with them as a load's does."""

    bytes_per_s: float
    """Median of the rounds."""
    spread: float
    """(fastest - slowest round) / median."""
    request_s: float
    """Median time of reading 4 KiB at a random place: what a read costs apart from its bytes."""


def measure_read_rate(
    folder: str | os.PathLike[str], size_bytes: int = 64 * 1024**2, rounds: int = 5
) -> ReadRate:
    """Measure the disk that holds ``folder`` with direct reads of a temporary file of ``size_bytes``.

    The file has no name and goes with the process, whatever ends it. Raises StorageError where nothing can be
    written, the file system refuses direct reads, or the size is not a positive multiple of 4096.
    """
    if size_bytes <= 0 or size_bytes % DIRECT_BYTES or rounds < 1:
        raise StorageError(
            f"needs a positive multiple of {DIRECT_BYTES} bytes and a round, seen {size_bytes}, {rounds}"
        )
    try:
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by the with below
        _write_random(file.fileno(), size_bytes)
    except OSError as error:
        raise StorageError(f"{os.fspath(folder)}: cannot write a test file: {error.strerror}") from error
    # /proc opens the nameless file a second time, with O_DIRECT.
    with file, WeightsFile(f"/proc/self/fd/{file.fileno()}") as weights, Region(size_bytes) as region:
        view = region.view(0, size_bytes)
        if not gives_free_pages_back():
            region.advise_huge(0, size_bytes)
        rates = []
        for _ in range(rounds):
            rates.append(size_bytes / _read_s(weights, view, 0))
            region.release(0, size_bytes)
        places = np.random.default_rng(0).integers(0, size_bytes // DIRECT_BYTES, 200) * DIRECT_BYTES
        requests = [_read_s(weights, view[:DIRECT_BYTES], int(place)) for place in places]
    median = statistics.median(rates)
    return ReadRate(median, (max(rates) - min(rates)) / median, statistics.median(requests))


def _write_random(fd: int, size_bytes: int) -> None:
    """Bytes that no file system can store in less."""
    left = size_bytes
    while left:
        left -= os.write(fd, os.urandom(min(left, 1024**2)))
    os.fsync(fd)


def _read_s(weights: WeightsFile, view: memoryview, offset: int) -> float:
    start = time.perf_counter()
    weights.read_into(view, offset)
    return time.perf_counter() - start
