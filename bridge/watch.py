"""Watch the process that replays: start it, put its limit into force, and tell how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import journal
from .interrupts import collected
from .journal import Journal
from .machine.cgroup import MemoryGroup
from .process import CRASHED, DOES_NOT_FIT

if TYPE_CHECKING:
    from ..devices.model import Device

POLL_S = 0.05

Progress = Callable[[int, int], None]
"""Told (finished tasks, all tasks) of the run."""


class ReplayError(ValueError):
    """A scenario cannot be replayed here; the message says why and what would help."""


class Watch:
    """The replaying process from start to end."""

    def __init__(
        self,
        group: MemoryGroup | None,
        book: Journal,
        order: dict[str, Any],
        tasks: int,
        complaints: Any,
        progress: Progress | None,
    ) -> None:
        self.group = group
        self.book = book
        self.order = order
        self.tasks = tasks
        self.complaints = complaints
        self.progress = progress
        self.message = ""
        self.memory: dict[str, Any] = {}
        self.refused: dict[str, Any] | None = None
        """What the ledger refused, where it was the only guard."""

    def run(self, device: Device) -> str:
        """Start, guard and watch; returns the outcome."""
        with collected() as interrupted:
            process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.complaints,
                pass_fds=(self.book.fd,),
                start_new_session=True,  # an interrupt at the terminal is for us only
                text=True,
            )
            try:
                if self.group is not None:
                    self.group.add(process.pid)
                self._tell(process, json.dumps(self.order))
                self._wait(process, interrupted, until=journal.READY)
                if process.poll() is None and not interrupted:
                    self._guard(device)
                    self._tell(process, "go")
                    self._wait(process, interrupted, until=None)
            finally:
                process.kill()
                answer, _ = process.communicate()
        self._measure()
        if interrupted and self.book.phase != journal.DONE:
            self.message = f"interrupted by {signal.Signals(interrupted[0]).name}"
            return "interrupted"
        return self._outcome(process.returncode, answer)

    @staticmethod
    def _tell(process: subprocess.Popen[str], line: str) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died; its exit code says of what

    def _wait(self, process: subprocess.Popen[str], interrupted: list[int], until: int | None) -> None:
        while process.poll() is None and not interrupted:
            if until is not None and self.book.phase >= until:
                return
            if self.progress is not None and until is None:
                self.progress(self.book.finished(), self.tasks)
            time.sleep(POLL_S)

    def _guard(self, device: Device) -> None:
        """Put the limit into force: as much beyond the process's base as the board leaves beyond its own."""
        if self.group is None:
            return
        base = self.group.usage_bytes()
        self.memory["base_bytes"] = base
        room = device.memory.usable_bytes - device.memory.base_bytes
        if base + room < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            self.group.limit(base + room)
            self.memory["limit_bytes"] = base + room
        self.group.reset_peak()

    def _measure(self) -> None:
        if self.group is None:
            return
        self.memory["peak_bytes"] = self.group.peak_bytes()
        self.memory["oom_kills"] = self.group.oom_kills()

    def _outcome(self, code: int, answer: str) -> str:
        if self.book.phase == journal.DONE:
            return "done"
        if self.memory.get("oom_kills"):
            self.message = "killed by the kernel: the memory limit was reached"
            return "out of memory"
        said = json.loads(answer) if answer.strip() else {}
        self.refused = said.get("does_not_fit")
        if code == DOES_NOT_FIT:
            self.message = str(said["error"])
            return "out of memory"
        if code == CRASHED:
            self.message = str(said.get("error", "the replaying process failed"))
        else:
            self.complaints.seek(0)
            last = self.complaints.read().decode(errors="replace").strip().splitlines()[-1:] or [""]
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self.message = f"the replaying process ended with {name}: {last[0]}".rstrip(": ")
        if self.book.phase in (journal.PREPARING, journal.FAILED) and not self.book.finished():
            raise ReplayError(f"preparing failed: {self.message}")
        return "crashed"
