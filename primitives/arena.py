"""The arena: one piece of memory that is handed in, of which primitives take their workspace."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

CACHE_LINE_BYTES = 64


class ArenaError(MemoryError):
    """More was taken than the arena holds; ``demand_bytes`` is what would have been needed."""

    def __init__(self, demand_bytes: int, size_bytes: int) -> None:
        self.demand_bytes = demand_bytes
        super().__init__(f"needs {demand_bytes} bytes of workspace, the arena has {size_bytes}")


class Arena:
    """``size_bytes`` of memory, taken and given back like a stack.

    What is taken lies side by side without gaps, so that ``high_water_bytes`` is the sum of what was taken at
    once, to the byte. The memory is not cleared.

    >>> arena = Arena(1024)
    >>> with arena.frame():
    ...     columns = arena.take((8, 16))
    >>> arena.used_bytes, arena.high_water_bytes
    (0, 512)
    """

    def __init__(self, size_bytes: int, buffer: Any = None) -> None:
        """``buffer``: memory to use instead of allocating it, at least ``size_bytes`` of it."""
        if buffer is None:
            raw = np.empty(size_bytes + CACHE_LINE_BYTES, np.uint8)
            start = -raw.ctypes.data % CACHE_LINE_BYTES
            self._memory = raw[start : start + size_bytes]
        else:
            self._memory = np.frombuffer(buffer, np.uint8, size_bytes)
        self.size_bytes = size_bytes
        self.used_bytes = 0
        self.high_water_bytes = 0

    def take(self, shape: tuple[int, ...] | int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
        """A dense array on the memory above what is taken, with whatever lies there.

        Raises ``ArenaError`` where the arena is too small.
        """
        kind = np.dtype(dtype)
        sides = (shape,) if isinstance(shape, int) else shape
        start = self.used_bytes
        end = start + math.prod(sides) * kind.itemsize
        if end > self.size_bytes:
            raise ArenaError(end, self.size_bytes)
        self.used_bytes = end
        if end > self.high_water_bytes:
            self.high_water_bytes = end
        return np.ndarray(sides, kind, self._memory, start)

    @contextmanager
    def frame(self) -> Iterator[None]:
        """What is taken inside is given back at the end."""
        before = self.used_bytes
        try:
            yield
        finally:
            self.used_bytes = before

    def reset(self) -> None:
        """Give everything back and forget the high-water mark."""
        self.used_bytes = self.high_water_bytes = 0
