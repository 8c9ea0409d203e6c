"""A line to another machine: the system's ``ssh``, one connection for many commands.

The connection (ssh's ControlMaster) is a child of this process with its socket in a private temporary folder;
both are gone when the line is closed. Passwords are never asked for: log in with a key. What ssh needs beyond
its usual configuration goes into ``EDGESCHED_SSH_OPTIONS``, e.g. ``-F my-config -i my-key``.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

OPTIONS = "EDGESCHED_SSH_OPTIONS"
CONNECT_S = 15
ALIVE_S = 5
"""A connection on which nothing came back three times in a row, so many seconds apart, is given up."""
_LOST = 255
"""Exit code with which ssh tells that it failed itself."""
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]")
_URL = re.compile(
    r"ssh://(?:(?P<user>[^@/]*)@)?(?P<host>\[[^\]/@]*\]|[^:/@\[\]]*)(?::(?P<port>[0-9]{1,5}))?/?"
)
_SOCKET_FOLDER = 60
"""Most bytes of the path in which the folder for the socket is made: sockets' own paths have at most 107."""
_POLL_S = 0.02


class SshError(ValueError):
    """The other machine cannot be reached; the message says why. ``dropped``: trying again may help."""

    def __init__(self, message: str, *, dropped: bool = False) -> None:
        super().__init__(message)
        self.dropped = dropped


@dataclass(frozen=True, slots=True)
class Address:
    """Where a device is; None: what ssh's own configuration says."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """The address in ``ssh://user@host:port`` (user and port may be left out). Raises SshError."""
        wrong = f"{url[:200]!r} is no device: must be ssh://user@host:port, user and port may be left out"
        parts = _URL.fullmatch(url)
        if parts is None:
            raise SshError(wrong)
        user, host, port = parts["user"], parts["host"], parts["port"]
        if user is not None and ":" in user:
            raise SshError(f"ssh://{host}: passwords are not taken from the command line: log in with a key")
        if user is not None and not _USER.fullmatch(user):
            raise SshError(f"{wrong} (not a user: {user!r})")
        if not _HOST.fullmatch(host):
            raise SshError(f"{wrong} (not a host: {host!r})")
        if port is not None and not 1 <= int(port) <= 65535:
            raise SshError(f"{wrong} (not a port: {port})")
        return cls(host.strip("[]"), user, None if port is None else int(port))

    def __str__(self) -> str:
        return self.host if self.user is None else f"{self.user}@{self.host}"

    @property
    def words(self) -> list[str]:
        """For ssh's command line; what follows them is the command."""
        user = [] if self.user is None else ["-l", self.user]
        port = [] if self.port is None else ["-p", str(self.port)]
        return [*user, *port, "--", self.host]


class Line:
    """A connection, open from ``connect`` to ``close``; commands are run by the other side's login shell."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._folder: str | None = None
        self._master: subprocess.Popen[bytes] | None = None

    def connect(self) -> None:
        """Open the connection, anew if there was one. Raises SshError."""
        if shutil.which("ssh") is None:
            raise SshError("there is no program ssh here; on Debian: sudo apt-get install openssh-client")
        self.close()
        usual = tempfile.gettempdir()
        short = len(os.fsencode(usual)) <= _SOCKET_FOLDER
        self._folder = tempfile.mkdtemp(prefix="edgesched-", dir=usual if short else "/tmp")
        complaints = Path(self._folder) / "complaints"
        with complaints.open("wb") as stderr:
            # It ends when this process does, whatever ends it: cat then reads the end of its input.
            self._master = subprocess.Popen(
                ["ssh", "-M", *self._options(), *self.address.words, "cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,  # an interrupt at the terminal is for us only
            )
        end_s = time.monotonic() + CONNECT_S + 5
        while not self._socket.exists():
            if self._master.poll() is not None or time.monotonic() > end_s:
                said = complaints.read_text(errors="replace").strip().splitlines()
                self.close()
                raise self._refused(said[-1] if said else "no answer")
            time.sleep(_POLL_S)

    def close(self) -> None:
        """Close the connection and remove its folder; a second call does nothing."""
        if self._master is not None:
            assert self._master.stdin is not None
            with contextlib.suppress(OSError):
                self._master.stdin.close()
            self._master.terminate()
            try:
                self._master.wait(5)
            except subprocess.TimeoutExpired:
                self._master.kill()
                self._master.wait()
            self._master = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def running(self, words: Sequence[str], stdin: IO[bytes] | None = None) -> Iterator[Running]:
        """Run a command there; it is let go when the block ends. Raises SshError if the line is down."""
        if self._master is None or self._master.poll() is not None:
            raise SshError(f"{self.address}: the line is down", dropped=True)
        with tempfile.TemporaryFile() as complaints:
            process = subprocess.Popen(
                ["ssh", "-o", "ControlMaster=no", *self._options(), *self.address.words, shlex.join(words)],
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.PIPE,
                stderr=complaints,
                start_new_session=True,
            )
            try:
                yield Running(self.address, process, complaints)
            finally:
                process.kill()
                process.communicate()

    @property
    def _socket(self) -> Path:
        assert self._folder is not None
        return Path(self._folder) / "line"

    def _options(self) -> list[str]:
        """ssh takes the first value that it finds of an option: ours cannot be changed, others can."""
        fixed = {
            "ControlPersist": "no",
            "BatchMode": "yes",
            "ConnectTimeout": str(CONNECT_S),
            "ServerAliveInterval": str(ALIVE_S),
            "ServerAliveCountMax": "3",
            "ClearAllForwardings": "yes",
            "PermitLocalCommand": "no",
            "RequestTTY": "no",
            "LogLevel": "ERROR",
        }
        own = [word for name, value in fixed.items() for word in ("-o", f"{name}={value}")]
        try:
            return [
                "-T",
                "-a",
                "-x",
                "-S",
                str(self._socket),
                *own,
                *shlex.split(os.environ.get(OPTIONS, "")),
            ]
        except ValueError as error:
            raise SshError(f"{OPTIONS}: {error}") from error

    def _refused(self, said: str) -> SshError:
        url = " ".join(self.address.words).replace("-- ", "")
        hint = ""
        if "Host key verification failed" in said or "host key" in said:
            hint = f"; log in once by hand to see and accept its key: ssh {url}"
        elif "Permission denied" in said:
            hint = f"; a key must be accepted there without a password: ssh-copy-id {url}"
        final = bool(hint) or "Bad configuration" in said
        return SshError(f"{self.address}: no connection: {said}{hint}", dropped=not final)


class Running:
    """A command on the other machine."""

    def __init__(self, address: Address, process: subprocess.Popen[bytes], complaints: IO[bytes]) -> None:
        self.address = address
        self._process = process
        self._complaints = complaints
        assert process.stdout is not None
        self.stdout: IO[Any] = process.stdout

    def wait(self) -> int:
        """Its exit code, once its output was read. Raises SshError where the line went down meanwhile."""
        code = self._process.wait()
        if code == _LOST or code < 0:
            raise SshError(f"{self.address}: {self.said() or 'the line went down'}", dropped=True)
        return code

    def said(self) -> str:
        """The last line of what it complained."""
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""
