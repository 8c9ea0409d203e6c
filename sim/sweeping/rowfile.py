"""The result file of a sweep: JSON Lines, append-only, one line per finished point.

A line is ``{"key": KEY, ...what the point's function returned}``, or
``{"key": KEY, "error": {"type": ..., "message": ..., "quarantined": bool}}``. The last line of a key counts.
A float is written by ``repr``, so it comes back bit for bit; a non-finite one is ``NaN``, ``Infinity`` or
``-Infinity``, which Python's json and pandas read back. No line holds a clock's value, a host or a path.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

RESERVED = frozenset({"key", "error"})
"""Keys of a line that a point's function must not return."""


class RowFileError(RuntimeError):
    """The result file does not do; the rows in it are kept."""


class LockedError(RowFileError):
    """Another sweep is writing the same file."""


class CorruptFileError(RowFileError):
    """A line of the result file, not the last, is no row."""


class MissingPointsError(RowFileError):
    """A point has no row yet."""


def row_line(key: str, row: Mapping[str, Any]) -> str:
    """The line of a point's result. Raises ValueError for a reserved key, TypeError for what JSON cannot."""
    if taken := sorted(RESERVED & row.keys()):
        raise ValueError(f"a point must not return the key {taken[0]!r}")
    return json.dumps({"key": key, **row})


def error_line(key: str, kind: str, message: str, quarantined: bool = False) -> str:
    """The line of a point that failed with an error of that ``kind``, or was given up."""
    return json.dumps({"key": key, "error": {"type": kind, "message": message, "quarantined": quarantined}})


def merge(path: Path, order: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of ``path`` for the keys of ``order``, in that order.

    They do not depend on the number of workers, on who finished first, nor on kills and restarts.
    Raises MissingPointsError if a key has no row, CorruptFileError as ``Journal``, FileNotFoundError.
    """
    wanted = set(order)
    rows = {row["key"]: row for _, row in _scan(path) if row["key"] in wanted}
    if missing := [key for key in order if key not in rows]:
        count = f"{len(missing)} of {len(order)}"
        raise MissingPointsError(f"{path}: {count} points have no row yet, first {missing[0]}")
    return [rows[key] for key in order]


def _scan(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(offset of its end in bytes, row) of each line; a torn last line is left out."""
    end = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                row = None
            if not isinstance(row, dict) or "key" not in row:
                if file.read(1):
                    raise CorruptFileError(f"{path}: line {number} is no row of a sweep")
                return
            end += len(line)
            yield end, row


class Journal:
    """The result file, locked for one driver. ``errors``: for each key that has a row, its error or None.

    A torn last line is cut off. Raises LockedError if another driver has the file, CorruptFileError for a
    line before the last that is no row.
    """

    def __init__(self, path: Path, keys: Iterable[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            wanted, size = set(keys), 0
            self.errors: dict[str, dict[str, Any] | None] = {}
            for end, row in _scan(path):
                size = end
                if row["key"] in wanted:
                    self.errors[row["key"]] = row.get("error")
            os.ftruncate(self._fd, size)
        except BlockingIOError:
            os.close(self._fd)
            raise LockedError(f"{path}: another sweep is writing it; wait, or choose another file") from None
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, lines: Iterable[str]) -> None:
        """Hand complete lines to the operating system: the death of this process cannot lose them."""
        data = "".join(f"{line}\n" for line in lines).encode()
        while data:
            data = data[os.write(self._fd, data) :]

    def close(self) -> None:
        """Force the file to the disk and give up the lock."""
        os.fsync(self._fd)
        os.close(self._fd)
