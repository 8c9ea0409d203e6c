"""A file of weights shown in memory: pages that come when they are needed and leave where there is no room.

Left alone, the kernel reads ahead of what is touched, by 128 KiB on a Raspberry Pi and by megabytes on a
server, and its throttle counts in slices of 100 ms. What a replay then shows is the machine it runs on, not
the device that the scenario describes. So a ``MappedFile`` brings in exactly what is asked for, at the
``Pace`` of the device's storage; what has to leave for it, the kernel decides.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator

import numpy as np

from .memory import PAGE_BYTES, Memory, RegionError, round_up
from .storage import PIECE_BYTES, Pace, pieces

# Linux's number, which Python 3.11 does not name; the same on x86-64 and arm64.
_MADV_POPULATE_READ = 22


class MappedFile(Memory):
    """A whole file as read-only memory: clean pages, read from the disk when they are wanted.

    What is released leaves the page cache too, so that the next touch reads the disk again.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Map ``path``. Raises RegionError where it is missing, empty or not a file."""
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                pages = mmap.mmap(self._fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
            except BaseException:
                os.close(self._fd)
                raise
        except (OSError, ValueError) as error:  # ValueError: empty
            raise RegionError(f"{os.fspath(path)}: cannot be mapped: {error}") from error
        super().__init__(memoryview(pages), os.fspath(path))
        self._advise(mmap.MADV_RANDOM, 0, self._size_bytes)  # no reading ahead

    def populate(self, offset: int, n: int, pace: Pace | None = None) -> None:
        """Bring the pages of the range into memory: those that are not there are read, at ``pace``."""
        if pace is None:
            for start, count in self._absent(offset, n, PIECE_BYTES):
                self._read(start, count)
        else:
            pace.read(self._absent(offset, n, pace.piece_bytes), self._read)

    def close(self) -> None:
        """Give the memory back and close the file; a second call does nothing. Views stay readable."""
        if self._memory is not None:
            super().close()
            os.close(self._fd)

    def _absent(self, offset: int, n: int, piece_bytes: int) -> Iterator[tuple[int, int]]:
        """(offset, bytes) of what is not in memory of the range's pages, in pieces."""
        first = offset // PAGE_BYTES
        absent = ~self._resident_pages(offset, n)
        if not absent.any():
            return
        absent = np.concatenate(([False], absent, [False]))
        for start, end in np.flatnonzero(np.diff(absent)).reshape(-1, 2).tolist():
            yield from pieces((first + start) * PAGE_BYTES, (end - start) * PAGE_BYTES, piece_bytes)

    def _read(self, offset: int, n: int) -> None:
        # One request, then wait for it: touching alone would read page by page.
        os.posix_fadvise(self._fd, offset, n, os.POSIX_FADV_WILLNEED)
        self._touch(offset, n)

    def _touch(self, offset: int, n: int) -> None:
        start = offset - offset % PAGE_BYTES
        try:
            self._advise(_MADV_POPULATE_READ, start, round_up(offset + n, PAGE_BYTES) - start)
        except OSError as error:
            if error.errno != errno.EINVAL:  # Linux before 5.14
                raise
            np.frombuffer(self.view(start, offset + n - start), np.uint8)[::PAGE_BYTES].max(initial=0)

    def _drop(self, offset: int, n: int) -> None:
        super()._drop(offset, n)
        # In this order: a page leaves the cache only when nobody maps it. From the file's begin, as the
        # kernel lets go of whole folios only: where other readers made large ones, what the range before
        # this reached into has stayed until now. What others map stays in any case.
        os.posix_fadvise(self._fd, 0, offset + n, os.POSIX_FADV_DONTNEED)
