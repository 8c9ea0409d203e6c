"""Replay on another machine, reached over ssh: ``edgesched replay SCENARIO --device ssh://user@host``.

The other machine does everything itself (``receive.py``); this side brings the package and the models that it
lacks, looks on, and fetches the results. The replay does not depend on the line: it goes on when the line
drops, and whoever comes later with the same package finds it running or done.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ...runs.folder import OURS, FolderError, open_run
from ..interrupts import Interrupts
from .archive import MAX_BYTES, sha256_of, unpack
from .package import Model, Package
from .probe import RemoteError, Tell, answers, check
from .receive import RESULT_MANIFEST
from .ssh import Address, Line, SshError
from .store import UNDER_WAY, Status, pack_model

PATIENCE_S = 600.0
"""So long a dropped line is tried again."""
LONGEST_PAUSE_S = 30.0
MOST_TRIES = 10
"""So often a command is tried on new lines that drop at once."""
_COPY_BYTES = 1 << 20

Progress = Callable[[Status], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """What is asked of the other machine."""

    package: Package
    models: Mapping[str, Model]
    """By the networks that name them."""
    python: str = "python3"
    """The Python there in which edgesched is installed; a relative path begins in the home folder."""


def replay_on(
    address: Address,
    job: Job,
    folder: Path,
    *,
    tell: Tell,
    progress: Progress | None = None,
    keep: Callable[[Path], object] | None = None,
) -> Status:
    """Replay on the machine at ``address`` and put the results into the new folder ``folder``.

    Finds a replay of the same package running or done there, and then does not start another. An interrupt
    (SIGINT, SIGTERM) ends the replay there, and what was measured is fetched; a second one leaves it running.
    ``keep`` is called with the folder before the other side forgets its results.

    Returns the last status. Raises RemoteError, SshError, and KeyboardInterrupt where nothing was measured.
    """
    with Interrupts() as interrupts, Line(address) as line:
        device = _Device(line, job, tell)
        if not device.python or device.python.startswith("-"):
            raise RemoteError(f"{job.python!r} is no Python to run on {address.host}")
        line.connect()
        check(line, device.python, tell)
        try:
            status = device.replay(progress)
        except KeyboardInterrupt:
            interrupts.answered()
            tell(f"stopping the replay on {address.host}, fetching what was measured")
            device.steadily(lambda: device.ask("stop"))
            status = device.watch(None)
            if status.phase != "done":
                device.steadily(lambda: device.ask("remove"))
                raise
        if status.phase != "done":
            device.steadily(lambda: device.ask("remove"))
            gone = "the replay is not there any more: someone else fetched or removed it"
            raise RemoteError(f"{address.host}: {status.message or gone}")
        device.fetch(folder)
        if keep is not None:
            keep(folder)
        device.steadily(lambda: device.ask("remove"))
        return status


class _Device:
    """The other machine, as far as this job goes."""

    def __init__(self, line: Line, job: Job, tell: Tell) -> None:
        self.line = line
        self.job = job
        self.tell = tell
        self.host = line.address.host
        self.sha256 = job.package.sha256

    def replay(self, progress: Progress | None) -> Status:
        """Send what is missing, start, look on; returns the last status."""
        status = self.steadily(self.status)
        if status.phase not in ("done", *UNDER_WAY):
            self.steadily(self.send)
            status = self.steadily(lambda: Status.read(self.ask("start")))
        else:
            how = "done" if status.phase == "done" else "under way"
            self.tell(f"{self.host}: this replay is {how} there")
        return status if status.phase == "done" else self.watch(progress)

    def send(self) -> None:
        """The package, and the models that the other side does not have."""
        with self.job.package.path.open("rb") as file:
            missing = self.ask("put", file)["missing"]
        for name in missing:
            model = self.job.models[name]
            with tempfile.TemporaryDirectory(prefix="edgesched-") as scratch:
                packed = Path(scratch) / "model.zip"
                pack_model(dict(model.files), packed)
                self.tell(f"{name}: sending {packed.stat().st_size / 1e6:.1f} MB, once for this device")
                with packed.open("rb") as file:
                    self.call(["put-model", model.key], file)

    def status(self) -> Status:
        """How far it is."""
        return Status.read(self.ask("status"))

    def watch(self, progress: Progress | None) -> Status:
        """Look on until it ends, over as many lines as that takes."""
        said = ""

        def look() -> Status:
            nonlocal said
            status: Status | None = None
            with self.line.running(self.words("watch", self.sha256)) as there:
                for answer in answers(there):
                    status = Status.read(self.checked(answer))
                    if status.message not in ("", said) and status.phase in UNDER_WAY:
                        said = status.message
                        self.tell(f"{self.host}: {said}")
                    if progress is not None:
                        progress(status)
                there.wait()
            if status is None or status.phase in UNDER_WAY:
                raise SshError(f"{self.host}: the line went down", dropped=True)
            return status

        return self.steadily(look)

    def fetch(self, folder: Path) -> None:
        """Bring the result here and check it."""

        def bring(path: Path) -> None:
            with self.line.running(self.words("fetch", self.sha256)) as there:
                answer = next(answers(there), None)
                if answer is None:
                    there.wait()
                    raise RemoteError(f"{self.host}: no result came: {there.said()}")
                left = int(self.checked(answer)["bytes"])
                if not 0 < left <= MAX_BYTES:
                    raise RemoteError(
                        f"{self.host}: a result of {left} bytes, at most {MAX_BYTES} are fetched"
                    )
                with path.open("wb") as file:
                    while left and (chunk := there.stdout.read(min(left, _COPY_BYTES))):
                        left -= file.write(chunk)
                if left or sha256_of(path) != answer["sha256"]:
                    raise SshError(f"{self.host}: the line went down", dropped=True)

        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".edgesched-") as scratch:
            packed = Path(scratch) / "result.zip"
            self.steadily(lambda: bring(packed))
            manifest = unpack(packed, RESULT_MANIFEST, folder, lambda name: name in OURS)
        if manifest.get("package") != self.sha256:
            raise RemoteError(f"{self.host}: the result that came back is of another replay")
        try:
            facts = open_run(folder).replay()
        except (FolderError, OSError, ValueError) as error:
            raise RemoteError(f"{self.host}: what came back is not a result: {error}") from error
        if facts is None:
            raise RemoteError(f"{self.host}: what came back is not a replay's result")

    def steadily(self, action: Callable[[], T]) -> T:
        """Do it, again on a new line when the line drops. Raises SshError once patience is at its end."""
        tries = 0
        while True:
            began_s = time.monotonic()
            try:
                return action()
            except SshError as error:
                tries = 1 if time.monotonic() - began_s > LONGEST_PAUSE_S else tries + 1
                if not error.dropped or tries > MOST_TRIES:
                    raise
                self.tell(f"{error}; connecting again, the replay does not depend on it")
            self.connect_again()

    def connect_again(self) -> None:
        """A new line, for which it waits up to ``PATIENCE_S``."""
        end_s = time.monotonic() + PATIENCE_S
        pause_s = 1.0
        while True:
            try:
                return self.line.connect()
            except SshError as error:
                if not error.dropped or time.monotonic() > end_s:
                    raise SshError(f"{error}. Given up; the same command later goes on from there") from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    @property
    def python(self) -> str:
        return self.job.python.removeprefix("~/")

    def words(self, *words: str) -> list[str]:
        return [self.python, "-m", f"{__package__}.receive", *words]

    def ask(self, verb: str, stdin: Any = None) -> dict[str, Any]:
        """The answer to a word about this replay."""
        return self.call([verb, self.sha256], stdin)

    def call(self, words: Sequence[str], stdin: Any = None) -> dict[str, Any]:
        """The answer to any word. Raises RemoteError where it is an error, SshError where none came."""
        with self.line.running(self.words(*words), stdin) as there:
            found = list(answers(there))
            code = there.wait()
            if not found:
                raise RemoteError(f"{self.host}: {words[0]}: {there.said() or f'exit code {code}'}")
            return self.checked(found[-1])

    def checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        if "error" in answer:
            raise RemoteError(f"{self.host}: {answer['error']}")
        return answer
