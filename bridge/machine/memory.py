"""Memory whose pages come and go when the policy says so.

A ``Region`` holds weights or activations that the bridge owns: private anonymous memory at one address for
its whole life. Its pages appear when they are touched and leave when they are released. ``mapped.py`` has the
other kind, a file of weights shown in memory.

The other functions make the C library's allocator return what the runtime frees, so that resident memory
follows the policy and not the allocator's habits (``mallopt(3)``, ``malloc_trim(3)``).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

PAGE_BYTES = mmap.PAGESIZE
"""The kernel's page: 4 KiB, on a Raspberry Pi 5 mostly 16 KiB."""
HUGE_PAGE_FILE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")

_HUGE_PAGE_BYTES = 2 * 1024**2
_MALLOC_THRESHOLD_BYTES = 128 * 1024

# Linux constants that Python 3.11 does not name; the same number on x86-64 and arm64.
_MAP_NORESERVE = 0x4000
# glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_libc = ctypes.CDLL(None, use_errno=True)


class RegionError(ValueError):
    """A range lies outside the memory, the memory is closed, or a file cannot be mapped."""


def huge_page_bytes(file: Path = HUGE_PAGE_FILE) -> int:
    """Bytes of one transparent huge page: 2 MiB with 4 KiB pages, 32 MiB with 16 KiB pages.

    A kernel without huge pages has no such file; 2 MiB is then only an alignment.
    """
    try:
        return int(file.read_text())
    except FileNotFoundError:
        return _HUGE_PAGE_BYTES


def return_free_memory() -> bool:
    """Give the C library's free memory back to the kernel.

    True if some was given back; False if there was none, or if the C library has no ``malloc_trim``.
    """
    trim = getattr(_libc, "malloc_trim", None)
    return trim is not None and trim(ctypes.c_size_t(0)) == 1


def fix_malloc_thresholds() -> bool:
    """From now on every freed block of 128 KiB or more returns to the kernel at once.

    glibc raises its threshold, up to 32 MiB, with each large block that is freed, and then keeps such blocks.
    Setting the threshold stops that. False if the C library has no ``mallopt``.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is None:
        return False
    return all(
        mallopt(option, _MALLOC_THRESHOLD_BYTES) == 1 for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)
    )


class Memory:
    """What both kinds of memory share: bounds, views, advice to the kernel, closing."""

    def __init__(self, memory: memoryview, name: str) -> None:
        self._memory: memoryview | None = memory
        self._name = name
        self._size_bytes = len(memory)
        # numpy tells the address of read-only memory too, which ctypes refuses.
        self._address = int(np.frombuffer(memory, np.uint8).__array_interface__["data"][0])

    @property
    def address(self) -> int:
        """Address of the first byte; it never changes."""
        return self._address

    @property
    def size_bytes(self) -> int:
        """Bytes from the first to the last."""
        return self._size_bytes

    def view(self, offset: int, n: int) -> memoryview:
        """The ``n`` bytes from ``offset`` on, not copied. Raises RegionError outside the memory."""
        return self._open_memory(offset, n)[offset : offset + n]

    def resident_bytes(self, offset: int = 0, n: int | None = None) -> int:
        """Bytes in memory of the pages that the range touches (``mincore(2)``); ``n`` None: to the end."""
        n = self._size_bytes - offset if n is None else n
        return int(np.count_nonzero(self._resident_pages(offset, n))) * PAGE_BYTES

    def _resident_pages(self, offset: int, n: int) -> np.ndarray[Any, Any]:
        """For each page that the range touches whether it is in memory."""
        self._open_memory(offset, n)
        start = offset - offset % PAGE_BYTES
        pages = -(-(offset + n - start) // PAGE_BYTES)
        states = np.zeros(pages, np.uint8)
        _call("mincore", self._address + start, pages * PAGE_BYTES, ctypes.c_void_p(states.ctypes.data))
        return (states & 1) != 0  # the other bits say nothing

    def release(self, offset: int, n: int) -> None:
        """Give back the whole pages within the range.

        Bytes of a page that the range covers only in part stay; the last page ends with the memory.
        """
        self._open_memory(offset, n)
        end = offset + n
        last = round_up(end, PAGE_BYTES) if end == self._size_bytes else end - end % PAGE_BYTES
        start = round_up(offset, PAGE_BYTES)
        if last > start:
            self._drop(start, last - start)

    def close(self) -> None:
        """Give the whole memory back; a second call does nothing.

        Views taken before keep the addresses, not the bytes: anonymous memory then reads as zero.
        """
        if self._memory is not None:
            self.release(0, self._size_bytes)
            # The mapping goes with its last view. Unmapping under a view would end the process.
            self._memory = None

    def _drop(self, offset: int, n: int) -> None:
        """``release`` of whole pages."""
        self._advise(mmap.MADV_DONTNEED, offset, n)

    def _open_memory(self, offset: int, n: int) -> memoryview:
        if self._memory is None:
            raise RegionError(f"{self._name} is closed")
        if offset < 0 or n < 0 or offset + n > self._size_bytes:
            raise RegionError(
                f"{self._name}: bytes {offset} to {offset + n} asked for, it has 0 to {self._size_bytes}"
            )
        return self._memory

    def _advise(self, advice: int, offset: int, n: int) -> None:
        # Not mmap.madvise: that one keeps the interpreter's lock, and freeing 150 MB takes 13 ms.
        _call("madvise", self._address + offset, n, ctypes.c_int(advice))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Region(Memory):
    """Private anonymous memory at a fixed address that starts on a huge-page border.

    Nothing is resident at first. A page appears when it is touched, and alone unless ``advise_huge`` says
    otherwise, also where the system gives huge pages to everybody. Released pages read as zero.
    """

    def __init__(self, size_bytes: int) -> None:
        """Reserve addresses for ``size_bytes``; RegionError if that is not positive, OSError if too many."""
        if size_bytes <= 0:
            raise RegionError(f"a region needs a positive size, seen {size_bytes} bytes")
        self._huge_bytes = huge_page_bytes()
        size = round_up(size_bytes, PAGE_BYTES)
        pages = mmap.mmap(-1, size + self._huge_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
        whole = memoryview(pages)
        first = -int(np.frombuffer(whole, np.uint8).__array_interface__["data"][0]) % self._huge_bytes
        super().__init__(whole[first : first + size_bytes], "region")
        self._try_advice(mmap.MADV_NOHUGEPAGE, 0, size)

    def advise_huge(self, offset: int, n: int) -> int:
        """Let the kernel use huge pages inside the range; bytes for which it may, 0 if it has none.

        Only whole huge pages within the range, so that no more than its bytes ever become resident. Large
        reads then cost about a quarter of the processor time, releasing less. Call before pages are touched.
        """
        self._open_memory(offset, n)
        start = round_up(offset, self._huge_bytes)
        size = (offset + n) // self._huge_bytes * self._huge_bytes - start
        return size if size > 0 and self._try_advice(mmap.MADV_HUGEPAGE, start, size) else 0

    def _try_advice(self, advice: int, offset: int, n: int) -> bool:
        try:
            self._advise(advice, offset, n)
        except OSError as error:
            if error.errno != errno.EINVAL:  # what a kernel built without huge pages answers
                raise
            return False
        return True


def round_up(value: int, step: int) -> int:
    """The first multiple of ``step`` from ``value`` on."""
    return -(-value // step) * step


def _call(name: str, address: int, n: int, last: ctypes.c_int | ctypes.c_void_p) -> None:
    """The C function ``name(address, n, last)``; raises OSError where it returns an error."""
    if getattr(_libc, name)(ctypes.c_void_p(address), ctypes.c_size_t(n), last) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
