"""What the replaying process holds before any network: the base of every policy's memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

from ...devices.model import Cost, OpRates
from .. import process as replaying
from ..bundles.bundle import Bundle
from ..journal import READY, Journal
from ..machine.cgroup import UNLIMITED_BYTES, MemoryGroup, Unavailable
from . import here

_BOARD = "board.yaml"
_POLL_S = 0.02


class BaseError(ValueError):
    """The replaying process could not be started; the message says why."""


class Base(NamedTuple):
    """Resident bytes, and who counted them."""

    size_bytes: int
    counted_by: str


def measure(bundle: Bundle) -> Base:
    """Let a replaying process prepare one network, and look when it is ready to run it.

    Counted as a replay's memory limit counts, by a control group. Where there can be none: what is resident
    of the process, libraries that it shares with others included. Raises BaseError.
    """
    book = Journal.create(1, 1, 2 * len(bundle.layers) + 1)
    try:
        with tempfile.TemporaryDirectory(prefix="edgesched-") as folder:
            board = here.device("here").model_copy(update={"cost": Cost(execute={"other": OpRates()})})
            (Path(folder) / _BOARD).write_text(json.dumps(board.model_dump(mode="json", exclude_none=True)))
            order = _order(bundle, Path(folder), book)
            try:
                with MemoryGroup.create(UNLIMITED_BYTES) as group:
                    return _measured(order, book, group)
            except Unavailable:
                return _measured(order, book, None)
    finally:
        book.close()


def _order(bundle: Bundle, folder: Path, book: Journal) -> dict[str, Any]:
    """One request of the network, as ``process.py`` wants to be told."""
    network = f"{bundle.name}.onnx"
    return {
        "scenario": {
            "device": {"board": _BOARD},
            "workload": {"arrivals": {"process": "single-stream"}, "networks": [network]},
            "policy": {"name": "linear"},
            "run": {"requests": 1},
        },
        "folder": str(folder),
        "replication": 0,
        "bundles": {network: str(bundle.folder)},
        "journal": book.fd,
        "capacity": book.capacity,
        "cpus": [[]],
        "reserve": 1,
        "guarded": True,
        "nice": 0,
    }


def _measured(order: dict[str, Any], book: Journal, group: MemoryGroup | None) -> Base:
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{replaying.__name__}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            pass_fds=(book.fd,),
            start_new_session=True,
            text=True,
        )
        try:
            if group is not None:
                group.add(process.pid)
            assert process.stdin is not None
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            while book.phase < READY and process.poll() is None:
                time.sleep(_POLL_S)
            if book.phase != READY:
                raise BaseError(f"a replay could not be prepared: {_last_line(complaints)}")
            if group is not None:
                return Base(group.usage_bytes(), "its control group")
            return Base(_resident_bytes(process.pid), "its resident pages, as there is no control group")
        finally:
            process.kill()
            process.communicate()


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _last_line(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace").strip().splitlines()[-1:][0]
