"""SIGINT and SIGTERM: raised as KeyboardInterrupt without one being lost, held back, or only collected.

Python raises an interrupt wherever the program happens to be. In a destructor or a weak reference's callback
it is dropped there with a complaint; in the middle of importing a compiled package it comes out as an
ImportError, or the process dies (of 100 interrupts while onnx and onnxruntime were imported, 2 were lost, 7
were an ImportError, 1 a segmentation fault). So those imports hold interrupts back (``held``), and a command
remembers that it was interrupted (``Interrupts``).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def collected() -> Iterator[list[int]]:
    """Collect the numbers of interrupts; none is raised."""
    seen: list[int] = []
    with _handled(lambda number, _: seen.append(number)):
        yield seen


@contextmanager
def held() -> Iterator[None]:
    """Interrupts take effect when this has ended, as they would have before."""
    with collected() as seen:
        yield
    for number in seen:
        signal.raise_signal(number)


class Interrupts:
    """A context in which SIGTERM is an interrupt as SIGINT is, and none is lost.

    On the way out, whatever exception an interrupt has become is KeyboardInterrupt again, until ``answered``.
    """

    def __init__(self) -> None:
        self.seen: list[int] = []
        self._handled = _handled(self._raise)

    def __enter__(self) -> Self:
        self._handled.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handled.__exit__(None, None, None)
        if self.seen and isinstance(error, Exception):
            raise KeyboardInterrupt from error

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was an interrupt, in case it came to nothing."""
        if self.seen:
            raise KeyboardInterrupt

    def answered(self) -> None:
        """What is raised from now on has other reasons."""
        self.seen.clear()

    def _raise(self, number: int, frame: Any) -> None:
        self.seen.append(number)
        raise KeyboardInterrupt


@contextmanager
def _handled(handler: Callable[[int, Any], object]) -> Iterator[None]:
    before: dict[int, Any] = {}
    for number in NUMBERS:
        try:
            before[int(number)] = signal.signal(number, handler)
        except ValueError:  # not the main thread: whoever is decides
            break
    try:
        yield
    finally:
        for which, was in before.items():
            signal.signal(which, was)
