"""How all kernels are compiled: without the interpreter's lock, kept on disk, free to reorder sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])

# Not "nnan" and "ninf": what a pooling or a rectifier does with them must not depend on the compiler.
REORDER = {"reassoc", "contract", "nsz", "arcp"}


def kernel(function: F) -> F:
    """Compile a loop at its first call; the machine code is kept beside the source or in the user's cache."""
    return numba.njit(nogil=True, cache=True, fastmath=REORDER, error_model="numpy")(function)  # type: ignore[return-value]
