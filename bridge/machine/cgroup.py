"""A memory limit that the kernel enforces: a child of our own control group.

Works with version 1 and 2 of the kernel's control groups (``cgroups(7)``). The new group lies below our own,
or in version 2 mostly beside it, so that the limits above stay in force. What does not fit is killed, and
counted: that is the verdict on a policy that cannot run in the memory it was given.

Page cache is charged to the group that reads a page first. Evict weight files before a group is filled.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import ClassVar, Self

_ROOT = Path("/")
_NAME = re.compile(r"edgesched-(\d+)-[0-9a-f]{8}")
_REMOVE_FOR_S = 5.0

_RUN_AS = "run as root, or in a group of your own: systemd-run --user --scope -p Delegate=yes COMMAND"
_SWITCH_ON = (
    "on Raspberry Pi OS add cgroup_enable=memory to the line in /boot/firmware/cmdline.txt and restart"
)


UNLIMITED_BYTES = 1 << 50
"""A limit that nothing reaches."""


class Unavailable(ValueError):
    """The kernel does not limit memory as asked; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class _Hierarchy:
    """A mounted tree of control groups and our own group in it."""

    top: Path
    own: Path

    def upwards(self) -> Iterator[Path]:
        """Our own group, its parent and so on up to the top."""
        yield self.own
        if self.own != self.top:
            for folder in self.own.parents:
                yield folder
                if folder == self.top:
                    return


class MemoryGroup(ABC):
    """A control group with a memory limit. ``create`` makes it, ``close`` removes it."""

    _usage_file: ClassVar[str]
    _events_file: ClassVar[str]

    def __init__(self, root: Path) -> None:
        """For ``create`` only: a group that does not exist yet."""
        self._root = root
        self._memory: Path
        self._home: Path | None = None
        """Our own group, while the new one exists."""

    @staticmethod
    def create(limit_bytes: int, swappiness: int = 0, root: Path = _ROOT) -> MemoryGroup:
        """Make a group that may hold ``limit_bytes``; nothing is left of it where that fails.

        Args:
            limit_bytes: memory of all its processes, their page cache included.
            swappiness: 0 forbids swapping, so that what is too much gets killed. More allows it; how eagerly
                (up to 100) can be told to version 1 only, version 2 follows the system.
            root: where ``proc`` and ``sys`` lie.

        Raises Unavailable.
        """
        if limit_bytes <= 0 or not 0 <= swappiness <= 100:
            raise Unavailable(
                f"needs a positive limit and a swappiness of 0 to 100, seen {limit_bytes}, {swappiness}"
            )
        trees = _hierarchies(root)
        group: MemoryGroup = _Version1(root) if "memory" in trees else _Version2(root)
        try:
            group._make(trees, f"edgesched-{os.getpid()}-{secrets.token_hex(4)}")
            group.limit(limit_bytes, swappiness)
        except BaseException:
            group.close()
            raise
        return group

    @property
    def name(self) -> str:
        """``edgesched-<pid>-<random>``."""
        return self._memory.name

    def add(self, pid: int) -> None:
        """Move a process into the group. What it has allocated before stays charged to its old group.

        Raises Unavailable where there is no such process or moving it is not permitted.
        """
        _write(self._memory / "cgroup.procs", str(pid))

    def usage_bytes(self) -> int:
        """Bytes charged now, exact to some 100 kB: the kernel counts in batches for each processor."""
        return int((self._memory / self._usage_file).read_text())

    @abstractmethod
    def peak_bytes(self) -> int | None:
        """Largest usage since ``create`` or the last ``reset_peak``; None before Linux 5.19 (version 2)."""

    @abstractmethod
    def reset_peak(self) -> bool:
        """Start ``peak_bytes`` anew. False before Linux 6.12 (version 2): then sample ``usage_bytes``."""

    def oom_kills(self) -> int:
        """How many processes of the group were killed because its limit was reached."""
        for line in (self._memory / self._events_file).read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        raise Unavailable(
            f"{self._memory / self._events_file}: does not count kills; needs Linux 4.13 or newer"
        )

    def close(self) -> None:
        """Kill what still runs in the group and remove it; a second call does nothing.

        If we are in it ourselves, we move back first. Raises Unavailable if it cannot be removed.
        """
        if self._home is not None:
            _remove(self._memory, self._home)
            self._home = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _make(self, trees: dict[str, _Hierarchy], name: str) -> None: ...

    @abstractmethod
    def limit(self, limit_bytes: int, swappiness: int = 0) -> None:
        """Change the limit, at most down to what can be reclaimed of what is held. Raises Unavailable."""

    def _make_folder(self, folder: Path, home: Path) -> None:
        try:
            folder.mkdir()
        except OSError as error:
            raise _refused(f"{folder}: cannot be made", error) from error
        self._memory, self._home = folder, home


class _Version1(MemoryGroup):
    """Every controller has a tree of its own."""

    _usage_file = "memory.usage_in_bytes"
    _events_file = "memory.oom_control"

    def peak_bytes(self) -> int:
        return int((self._memory / "memory.max_usage_in_bytes").read_text())

    def reset_peak(self) -> bool:
        _write(self._memory / "memory.max_usage_in_bytes", "0")
        return True

    def _make(self, trees: dict[str, _Hierarchy], name: str) -> None:
        own = trees["memory"].own
        self._make_folder(own / name, own)

    def limit(self, limit_bytes: int, swappiness: int = 0) -> None:
        _write(self._memory / "memory.limit_in_bytes", str(limit_bytes))
        _write(self._memory / "memory.swappiness", str(swappiness))
        with_swap = self._memory / "memory.memsw.limit_in_bytes"
        # Not there in kernels without swap accounting; swappiness 0 alone keeps this group from swapping.
        if swappiness == 0 and with_swap.exists():
            _write(with_swap, str(limit_bytes))


class _Version2(MemoryGroup):
    """One tree; a group with processes in it hands no controllers to children, only the top may."""

    _usage_file = "memory.current"
    _events_file = "memory.events"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._peak_fd: int | None = None

    def peak_bytes(self) -> int | None:
        if self._peak_fd is not None:
            return int(os.pread(self._peak_fd, 64, 0))
        file = self._memory / "memory.peak"
        return int(file.read_text()) if file.exists() else None

    def reset_peak(self) -> bool:
        # The new peak is seen through the same open file only.
        if self._peak_fd is None:
            with suppress(OSError):
                self._peak_fd = os.open(self._memory / "memory.peak", os.O_RDWR | os.O_CLOEXEC)
        if self._peak_fd is None:
            return False
        try:
            os.pwrite(self._peak_fd, b"reset\n", 0)
        except OSError:
            self._close_peak()
            return False
        return True

    def close(self) -> None:
        self._close_peak()
        super().close()

    def _close_peak(self) -> None:
        if self._peak_fd is not None:
            os.close(self._peak_fd)
            self._peak_fd = None

    def _make(self, trees: dict[str, _Hierarchy], name: str) -> None:
        tree = trees.get("")
        if tree is None:
            raise Unavailable("no control groups are mounted, so nothing limits memory")
        present = (tree.top / "cgroup.controllers").read_text().split()
        if "memory" not in present:
            raise Unavailable(f"{tree.top}: the kernel's memory controller is off; {_SWITCH_ON}")
        reasons = []
        for parent in tree.upwards():
            try:
                _hand_down(parent)
                self._make_folder(parent / name, tree.own)
            except Unavailable as error:
                reasons.append(str(error))
                continue
            return
        raise Unavailable(f"no control group could be made; {_RUN_AS}. Tried: {'; '.join(reasons)}")

    def limit(self, limit_bytes: int, swappiness: int = 0) -> None:
        _write(self._memory / "memory.max", str(limit_bytes))
        swap = self._memory / "memory.swap.max"
        if swappiness > 0:
            return
        if swap.exists():
            _write(swap, "0")
        elif len((self._root / "proc/swaps").read_text().splitlines()) > 1:
            raise Unavailable(f"{swap}: not there, so swapping cannot be forbidden; run swapoff -a first")


def sweep_stale(root: Path = _ROOT) -> list[str]:
    """Remove groups whose maker has died without ``close``; returns their names.

    A group in which something still runs is left alone.
    """
    removed = []
    for key, tree in _hierarchies(root).items():
        for parent in tree.upwards() if key == "" else [tree.own]:
            for folder in sorted(parent.glob("edgesched-*")):
                match = _NAME.fullmatch(folder.name)
                if match and not (root / "proc" / match[1]).exists():
                    with suppress(OSError):
                        folder.rmdir()
                        removed.append(folder.name)
    return removed


def _hierarchies(root: Path) -> dict[str, _Hierarchy]:
    """Mounted trees that we are in: by controller (version 1), version 2 under the empty name."""
    own = {}
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    found: dict[str, _Hierarchy] = {}
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        place, _, kind = line.partition(" - ")
        shown, mounted = place.split()[3:5]
        file_system, _, options = kind.split()[:3]
        keys = {"cgroup": options.split(","), "cgroup2": [""]}.get(file_system, [])
        for key in own.keys() & set(keys):
            group, top = PurePosixPath(own[key]), root / mounted.lstrip("/")
            # A container sees a part of the tree, from ``shown`` on, and may itself lie elsewhere.
            if ".." not in group.parts and group.is_relative_to(shown):
                found.setdefault(key, _Hierarchy(top, top / group.relative_to(shown)))
    return found


def _hand_down(parent: Path) -> None:
    """See to it that children of ``parent`` have the memory controller; raises Unavailable."""
    file = parent / "cgroup.subtree_control"
    if "memory" not in file.read_text().split():
        _write(file, "+memory")
    # Moving a process asks for this right on the group above both.
    if not os.access(parent / "cgroup.procs", os.W_OK):
        raise Unavailable(f"{parent}: processes must not be moved here")


def _remove(folder: Path, home: Path) -> None:
    end_s = time.monotonic() + _REMOVE_FOR_S
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > end_s:
                raise Unavailable(f"{folder}: cannot be removed: {error.strerror}") from error
        for pid in map(int, (folder / "cgroup.procs").read_text().split()):
            if pid == os.getpid():
                _write(home / "cgroup.procs", str(pid))
            elif pid > 0:  # 0 is a process that our container does not see; kill(0) would be all of ours
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)  # killed processes need a moment to leave


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise _refused(f"{file}: cannot be set to {text}", error) from error


def _refused(what: str, error: OSError) -> Unavailable:
    advice = f"; {_RUN_AS}" if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else ""
    return Unavailable(f"{what}: {error.strerror}{advice}")
