"""What other machines sent to this one: replays until their results were fetched, models for good.

    replays/SHA256/        of the package
        package.zip        as it came, and unpacked in content/
        lock               held by the process that replays, as long as it lives
        status.json  log   how far it is, and what it printed
        result/            the run's folder
    models/KEY/model.onnx  with its external weight files

All of it lies in the cache (``cache.cache_folder``). What goes on here does not depend on any connection.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, Self

UNDER_WAY = ("preparing", "replaying")
STATUS_BYTES = 8192
"""The status is written in place: renaming a file would make the disk write while it is measured."""
_MESSAGE = 1000
_CHUNK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MODEL_MANIFEST = "model.json"


class StoreError(ValueError):
    """What was asked for is not here or cannot be done; the message says why."""


@dataclass(frozen=True)
class Status:
    """How far a replay is.

    ``phase`` is unknown (nothing was received), received, preparing, replaying, done (there is a result) or
    failed. ``replication`` counts from 0; ``tasks`` of ``all_tasks`` are finished in it.
    """

    phase: str = "unknown"
    message: str = ""
    replication: int = 0
    replications: int = 1
    tasks: int = 0
    all_tasks: int = 0
    outcome: str = ""
    """Of the last replication, as in ``replay.OUTCOMES``, once the phase is done."""

    @classmethod
    def read(cls, data: dict[str, object]) -> Self:
        """The status in plain data. Raises StoreError for data that is none."""
        try:
            return cls(**data)  # type: ignore[arg-type]
        except TypeError as error:
            raise StoreError(f"not a replay's status: {error}") from error


class Received:
    """One replay that was sent here, known by the hash of its package; nothing need be there yet."""

    def __init__(self, sha256: str, cache: Path) -> None:
        """Raises StoreError where ``sha256`` is none."""
        self.sha256 = _checked(sha256)
        self.cache = cache
        self.folder = cache / "replays" / sha256
        self.package = self.folder / "package.zip"
        self.content = self.folder / "content"
        self.result = self.folder / "result"
        self.log = self.folder / "log"

    def status(self) -> Status:
        """How far it is; a replay whose process has gone without a result has failed."""
        alive = self.alive()  # first: it may end between the two questions
        status = self._read()
        if status.phase in UNDER_WAY and not alive:
            return replace(status, phase="failed", message=f"it ended without a word{self._last_words()}")
        return status

    def tell(self, status: Status) -> None:
        """Write the status down."""
        short = replace(status, message=status.message[:_MESSAGE])
        data = json.dumps(asdict(short)).encode()
        fd = os.open(self.folder / "status.json", os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(fd, data.ljust(STATUS_BYTES), 0)
        finally:
            os.close(fd)

    def alive(self) -> bool:
        """Whether its process runs."""
        try:
            with (self.folder / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def receive(self, stream: BinaryIO) -> None:
        """Take the package from ``stream`` and unpack it. Raises StoreError and PackageError."""
        from .package import open_package, unpack_package

        if self.folder.exists():
            return  # it has this very hash
        draft = self.folder.with_name(f".{self.sha256[:12]}.{secrets.token_hex(6)}.receiving")
        try:
            draft.mkdir(parents=True)
            if _copy(stream, draft / "package.zip") != self.sha256:
                raise StoreError("the package did not arrive whole")
            unpack_package(open_package(draft / "package.zip"), draft / "content")
            os.rename(draft, self.folder)
        except OSError as error:
            if not self.folder.exists():  # else someone else sent the same
                raise StoreError(f"{error.filename or draft}: {error.strerror}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        self.tell(Status("received"))

    def start(self) -> None:
        """Replay in a process of its own, which outlives whoever asked; nothing happens if it runs already.

        Raises StoreError where nothing was received, or another replay runs here.
        """
        if not self.content.is_dir():
            raise StoreError("no such replay was received")
        with _gate(self.cache):
            for other in replays(self.cache):
                if other.alive():
                    if other.sha256 == self.sha256:
                        return
                    raise StoreError(
                        f"another replay runs there, and two would disturb each other: wait for it, or stop "
                        f"it there with: python3 -m edgesched.bridge.remote.receive stop {other.sha256}"
                    )
            if self.status().phase == "done":
                return
            shutil.rmtree(self.result, ignore_errors=True)
            with (self.folder / "lock").open("w") as lock, self.log.open("wb") as log:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self.tell(Status("preparing"))
                child = subprocess.Popen(
                    [sys.executable, "-m", f"{__package__}.receive", "work", self.sha256],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # the connection's end does not reach it
                    pass_fds=(lock.fileno(),),  # it holds the lock as long as it lives
                )
                lock.write(f"{child.pid}\n")

    def stop(self) -> None:
        """Ask its process to end and to keep what was measured (SIGTERM)."""
        if self.alive():
            with _gate(self.cache):  # whoever starts it has written its number by then
                os.kill(int((self.folder / "lock").read_text()), signal.SIGTERM)

    def remove(self) -> None:
        """Forget it. Raises StoreError while it runs."""
        if self.alive():
            raise StoreError("it still runs; stop it first")
        gone = self.folder.with_name(f".{self.sha256[:12]}.{secrets.token_hex(6)}.removed")
        try:
            os.rename(self.folder, gone)
        except FileNotFoundError:
            return
        shutil.rmtree(gone, ignore_errors=True)

    def _read(self) -> Status:
        for _ in range(100):
            try:
                return Status.read(json.loads((self.folder / "status.json").read_text(encoding="utf-8")))
            except FileNotFoundError:
                break
            except ValueError:  # it is being written
                time.sleep(0.01)
        return Status("received" if self.content.is_dir() else "unknown")

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except FileNotFoundError:
            return ""
        return f": {lines[-1].strip()}" if lines else ""


def replays(cache: Path) -> Iterator[Received]:
    """All replays that were received and not removed."""
    for folder in sorted((cache / "replays").glob("*")):
        if _SHA256.fullmatch(folder.name):
            yield Received(folder.name, cache)


def model_path(key: str, cache: Path) -> Path:
    """Where the model of this key is kept; it need not be there."""
    return cache / "models" / key / "model.onnx"


def receive_model(stream: BinaryIO, key: str, cache: Path) -> None:
    """Take a model, as ``pack_model`` made it, from ``stream``. Raises StoreError and PackageError."""
    from .archive import PackageError, unpack
    from .package import model_key

    target = model_path(_checked(key), cache).parent
    if target.exists():
        return
    draft = target.with_name(f".{key[:12]}.{secrets.token_hex(6)}.receiving")
    try:
        draft.mkdir(parents=True)
        _copy(stream, draft / "model.zip")
        manifest = unpack(draft / "model.zip", _MODEL_MANIFEST, draft / "files", lambda name: True)
        if model_key({name: entry["sha256"] for name, entry in manifest["members"].items()}) != key:
            raise PackageError("the model that arrived is not the one that was announced")
        os.rename(draft / "files", target)
    except OSError as error:
        if not target.exists():  # else someone else sent the same
            raise StoreError(f"{error.filename or draft}: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def pack_model(files: dict[str, Path], path: Path) -> None:
    """Write a model's files as a zip for ``receive_model``. Raises PackageError."""
    from .archive import pack

    pack(path, _MODEL_MANIFEST, {"format": "edgesched model", "format_version": 1}, dict(files))


def _checked(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise StoreError(f"{sha256[:80]!r} is no SHA-256: 64 hexadecimal digits")
    return sha256


@contextmanager
def _gate(cache: Path) -> Iterator[None]:
    """One at a time decides what starts here."""
    with (cache / "replays" / ".gate").open("wb") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        yield


def _copy(stream: BinaryIO, path: Path) -> str:
    """Write a stream into a new file; returns its SHA-256."""
    digest = hashlib.sha256()
    with path.open("xb") as file:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()
