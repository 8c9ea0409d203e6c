"""An ssh server of the test's own on this machine: own keys, own port, own configuration."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

import pytest

SERVER = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
SetEnv EDGESCHED_CACHE={folder}/cache
ForceCommand echo a login shell may print; eval "$SSH_ORIGINAL_COMMAND"
"""
CLIENT = """\
IdentityFile {folder}/user
IdentitiesOnly yes
UserKnownHostsFile {folder}/known
GlobalKnownHostsFile none
"""


@dataclass(frozen=True)
class Server:
    """Where the server is; ``options`` is for EDGESCHED_SSH_OPTIONS."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"ssh://{getuser()}@127.0.0.1:{self.port}"

    @property
    def options(self) -> str:
        return f"-F {self.folder}/client"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """A running server; skips the test where there is none to run."""
    program = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if program is None or shutil.which("ssh") is None:
        pytest.skip("needs sshd and ssh (Debian: openssh-server, openssh-client)")
    if os.getuid() == 0:
        try:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd, as root, insists on it
        except OSError as error:
            pytest.skip(f"sshd needs /run/sshd: {error}")
    for name in ("host", "user"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
        subprocess.run(make, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "server").write_text(SERVER.format(port=port, folder=folder))
    (folder / "client").write_text(CLIENT.format(folder=folder))
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-D", "-e", "-f", str(folder / "server")], stdin=subprocess.DEVNULL, stderr=log
        )
    try:
        _wait(process, port, folder / "log")
        yield Server(folder, port)
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            pytest.skip(f"sshd does not run here: {log.read_text(errors='replace').strip()[-300:]}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail("sshd did not listen")
