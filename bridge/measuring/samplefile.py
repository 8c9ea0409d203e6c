"""The passes of a profile that is being measured, kept so that an interrupted one can go on.

The first line says what is measured, each other line holds one pass. A line counts when it is whole, so that
nothing but the last pass is lost whatever ends the process.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .passes import Held, Timed
from .samples import Config, Pass

MARK = "profile samples 1"


class SampleFileError(ValueError):
    """The file cannot be used, or belongs to another profile; the message says what to do."""


class SampleFile:
    """Passes at ``path``; ``passes`` are those of an earlier attempt.

    ``options`` is what is measured, ready for JSON: an attempt with other options is another profile.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        """Open or make the file. Raises SampleFileError."""
        self.path = path
        head = json.dumps({"edgesched": MARK, **options}, sort_keys=True)
        try:
            self._file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise SampleFileError(f"{path}: cannot be written: {error.strerror}") from error
        try:
            self._lock()
            self.passes = self._read(head)
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SampleFileError(f"{self.path}: another process is measuring this profile") from None

    def _read(self, head: str) -> list[Pass]:
        self._file.seek(0)
        text = self._file.read()
        whole, _, cut = text.rpartition("\n")
        if cut:
            os.ftruncate(self._file.fileno(), len(text.encode()) - len(cut.encode()))
        lines = whole.split("\n") if whole else []
        if not lines:
            self._write(head)
            return []
        if lines[0] != head:
            raise SampleFileError(
                f"{self.path}: holds the samples of a profile with other networks or options "
                f"({_difference(lines[0], head)}); give the same ones to go on, or remove the file"
            )
        return [self._pass(number, line) for number, line in enumerate(lines[1:], start=2)]

    def _pass(self, number: int, line: str) -> Pass:
        try:
            data = json.loads(line)
            return Pass(
                round=data["round"],
                config=Config(data["network"], data["threads"], data["what"]),
                disturbed=data["disturbed"],
                tasks=tuple(Timed(*row) for row in data["tasks"]),
                held=tuple(Held(*row) for row in data["held"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise SampleFileError(
                f"{self.path}: line {number} is damaged ({error}); remove the file"
            ) from None

    def append(self, each: Pass) -> None:
        """Keep one pass."""
        data = {"round": each.round, **each.config._asdict(), "disturbed": each.disturbed}
        self._write(json.dumps({**data, "tasks": each.tasks, "held": each.held}))

    def _write(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()

    def remove(self) -> None:
        """The profile is written: the samples are not needed any more."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _difference(seen: str, wanted: str) -> str:
    """The options in which two first lines differ."""
    try:
        old, new = json.loads(seen), json.loads(wanted)
        names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    except (ValueError, AttributeError):
        return "its first line is not ours"
    return ", ".join(names)
