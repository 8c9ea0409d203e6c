"""This machine: what it is, what disturbed a measurement on it, and how a thread keeps its place.

A fact that the machine does not tell is None, in ``facts`` as in ``Disturbance``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_ROOT = Path("/")

# Parts of the implementer Arm (0x41), as in the kernel's arch/arm64/include/asm/cputype.h.
_ARM_CORES = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd0d": "Cortex-A77",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd44": "Cortex-X1",
    "0xd46": "Cortex-A510",
    "0xd47": "Cortex-A710",
}
# Bits of vcgencmd get_throttled: now; 16 higher: at some time since the start.
_THROTTLED = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_SINCE_START = 16
_BLAS_VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class HostError(ValueError):
    """The kernel does not let a thread run as asked; the message says what is allowed."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Equal cores that share one frequency range."""

    cpus: tuple[int, ...]
    core: str | None
    """Core type (``Cortex-A72``) or processor model."""
    capacity: int | None
    """The kernel's measure of speed; 1024 is the fastest core of the machine."""
    min_hz: float | None
    max_hz: float | None
    current_hz: float | None
    """Frequency of the first core when this was read."""
    governor: str | None


def clusters(root: Path = _ROOT) -> list[Cluster]:
    """The machine's cores in use, by core type, capacity and highest frequency; in the order of their cores.

    On x86 all are one cluster: their highest frequencies differ by sample, not by kind.
    """
    system = root / "sys/devices/system/cpu"
    info = _cpuinfo(root)
    groups: dict[tuple[object, ...], list[int]] = {}
    for cpu in _cpu_list(_text(system / "online")) or sorted(info):
        folder = system / f"cpu{cpu}"
        part = info.get(cpu, {}).get("CPU part")
        kind = (part, _text(folder / "cpu_capacity"), _text(folder / "cpufreq/cpuinfo_max_freq"))
        groups.setdefault(kind if part else (), []).append(cpu)
    return [_cluster(system, tuple(cpus), info.get(cpus[0], {})) for cpus in groups.values()]


def facts(root: Path = _ROOT) -> dict[str, Any]:
    """What is known of this machine and its software, ready for JSON.

    Frequencies in Hz, memory in bytes, temperatures in degrees Celsius. ``root`` is where ``proc``, ``sys``
    and ``etc`` lie; what no file tells (Python, BLAS, ``vcgencmd``) is asked of the running system.
    """
    found = clusters(root)
    info = _cpuinfo(root)
    models = {entry["model name"]: None for entry in info.values() if "model name" in entry}
    cores = {cluster.core: None for cluster in found if cluster.core is not None}
    throttled = _throttled_bits()
    return {
        "board": _board(root),
        "cpu": " + ".join(models or cores) or None,
        "architecture": platform.machine(),
        "clusters": [asdict(cluster) for cluster in found],
        "usable_cpus": sorted(os.sched_getaffinity(0)),
        "memory": _memory(root),
        "page_bytes": os.sysconf("SC_PAGE_SIZE"),
        "huge_pages": _chosen(_text(root / "sys/kernel/mm/transparent_hugepage/enabled")),
        "free_pages_go_to_host": gives_free_pages_back(root),
        "kernel": _text(root / "proc/sys/kernel/osrelease"),
        "os": _os_name(root),
        "virtualisation": _virtualisation(root, info),
        "temperatures": _temperatures(root),
        "throttled_now": _throttled_names(throttled),
        "throttled_since_start": None if throttled is None else _throttled_names(throttled >> _SINCE_START),
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        "onnxruntime": _version("onnxruntime"),
        "blas": _blas(),
        "blas_environment": {name: os.environ.get(name) for name in _BLAS_VARIABLES},
    }


def gives_free_pages_back(root: Path = _ROOT) -> bool:
    """Whether this is a virtual machine that reports free huge pages to its host, which takes them.

    Touching such a page again costs the guest milliseconds, now and then: small pages are steadier there.
    """
    reporting = root / "sys/module/page_reporting/parameters/page_reporting_order"
    devices = root / "sys/bus/virtio/devices"
    return reporting.exists() and devices.is_dir() and any(devices.iterdir())


def thread_switches() -> int:
    """How often the calling thread lost its processor without wanting to; costs about a microsecond."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters at one moment; see ``Disturbance`` for what they are."""

    thread: int
    time_s: float
    thread_cpu_s: float
    switches: int
    steal_s: float | None
    pressure_s: dict[str, float | None]
    load_1min: float | None
    throttled: int | None
    frequencies_hz: tuple[float | None, ...]

    @classmethod
    def take(cls, root: Path = _ROOT) -> Snapshot:
        """Read all counters, which takes milliseconds; around a single task use ``thread_switches``."""
        throttled = _throttled_bits()
        # The calling thread's own counters come last, so that reading the others is not counted.
        rest = (
            _steal_s(root),
            {what: _pressure_s(root, what) for what in ("cpu", "io", "memory")},
            _first_number(_text(root / "proc/loadavg")),
            throttled,
            tuple(cluster.current_hz for cluster in clusters(root)),
        )
        return cls(threading.get_ident(), time.monotonic(), time.thread_time(), thread_switches(), *rest)


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What may have disturbed a measurement between two snapshots."""

    elapsed_s: float
    thread_cpu_s: float | None
    """Processor time of the thread; None if the snapshots are from different threads."""
    switches: int | None
    """Times that thread lost its processor involuntarily; None as above."""
    steal_s: float | None
    """Time that a hypervisor gave to others, all processors together."""
    cpu_pressure_s: float | None
    """Time during which some task of the whole machine waited for a processor."""
    io_pressure_s: float | None
    memory_pressure_s: float | None
    load_1min: float | None
    """Load average at the end."""
    throttled: tuple[str, ...] | None
    """What holds a Raspberry Pi back at the end, or began to since the first snapshot."""
    frequency_change: float | None
    """Largest relative difference of a cluster's frequency between end and start; 0.1 is 10 %."""

    @classmethod
    def between(cls, before: Snapshot, after: Snapshot) -> Disturbance:
        """The difference of two snapshots."""
        same = before.thread == after.thread
        bits = None
        if before.throttled is not None and after.throttled is not None:
            bits = after.throttled | (after.throttled & ~before.throttled) >> _SINCE_START
        changes = [
            abs(new / old - 1)
            for old, new in zip(before.frequencies_hz, after.frequencies_hz, strict=False)
            if old and new
        ]
        names = _throttled_names(bits)
        return cls(
            elapsed_s=after.time_s - before.time_s,
            thread_cpu_s=after.thread_cpu_s - before.thread_cpu_s if same else None,
            switches=after.switches - before.switches if same else None,
            steal_s=_difference(before.steal_s, after.steal_s),
            cpu_pressure_s=_difference(before.pressure_s["cpu"], after.pressure_s["cpu"]),
            io_pressure_s=_difference(before.pressure_s["io"], after.pressure_s["io"]),
            memory_pressure_s=_difference(before.pressure_s["memory"], after.pressure_s["memory"]),
            load_1min=after.load_1min,
            throttled=None if names is None else tuple(names),
            frequency_change=max(changes, default=None),
        )


def pin(cpus: Iterable[int]) -> None:
    """Bind the calling thread to all of ``cpus``. Raises HostError where one of them cannot be used."""
    wanted = set(cpus)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, wanted)
        if os.sched_getaffinity(0) == wanted:
            return
        # The kernel leaves out processors that it does not have.
        os.sched_setaffinity(0, before)
        reason = "not all of them can be used"
    except (OSError, ValueError, OverflowError) as error:
        reason = str(error)
    online = _text(_ROOT / "sys/devices/system/cpu/online") or "unknown"
    raise HostError(f"cannot run on the processors {sorted(wanted)}: {reason}; this machine has {online}")


def raise_priority(nice: int) -> None:
    """Set the calling thread's nice value: -20 (first) to 19 (last). Raises HostError if not permitted."""
    if not -20 <= nice <= 19:
        raise HostError(f"a nice value is -20 to 19, seen {nice}")
    try:
        # On Linux, 0 is the calling thread and not its whole process.
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except PermissionError as error:
        raise HostError(
            f"nice {nice} is not permitted; run as root or raise the user's limit 'nice' (limits.conf)"
        ) from error


def _cluster(system: Path, cpus: tuple[int, ...], info: dict[str, str]) -> Cluster:
    folders = [system / f"cpu{cpu}" for cpu in cpus]
    part = info.get("CPU part")
    core = info.get("model name")
    if part is not None and info.get("CPU implementer") == "0x41":
        core = _ARM_CORES.get(part, f"Arm part {part}")
    capacity = _first_number(_text(folders[0] / "cpu_capacity"))
    lowest = [hz for folder in folders if (hz := _hz(folder / "cpufreq/cpuinfo_min_freq"))]
    highest = [hz for folder in folders if (hz := _hz(folder / "cpufreq/cpuinfo_max_freq"))]
    return Cluster(
        cpus=cpus,
        core=core,
        capacity=None if capacity is None else int(capacity),
        min_hz=min(lowest, default=None),
        max_hz=max(highest, default=None),
        current_hz=_hz(folders[0] / "cpufreq/scaling_cur_freq"),
        governor=_text(folders[0] / "cpufreq/scaling_governor"),
    )


def _text(file: Path) -> str | None:
    """Content without white space or zero bytes around it; None if there is no file, or nothing in it."""
    try:
        return file.read_text(errors="replace").strip("\0 \t\n") or None
    except OSError:
        return None


def _first_number(text: str | None) -> float | None:
    try:
        return float(text.split()[0]) if text else None
    except ValueError:
        return None


def _hz(file: Path) -> float | None:
    khz = _first_number(_text(file))
    return None if khz is None else khz * 1000


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _cpu_list(text: str | None) -> list[int]:
    """``0-3,5`` as numbers."""
    cpus: list[int] = []
    for part in (text or "").split(",") if text else []:
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def _cpuinfo(root: Path) -> dict[int, dict[str, str]]:
    """/proc/cpuinfo by processor."""
    result: dict[int, dict[str, str]] = {}
    for block in (_text(root / "proc/cpuinfo") or "").split("\n\n"):
        entry = {}
        for line in block.splitlines():
            key, _, value = line.partition(":")
            entry[key.strip()] = value.strip()
        if entry.get("processor", "").isdigit():
            result[int(entry["processor"])] = entry
    return result


def _board(root: Path) -> str | None:
    return _text(root / "proc/device-tree/model") or _text(root / "sys/class/dmi/id/product_name")


def _memory(root: Path) -> dict[str, int | None]:
    found = {}
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        key, _, value = line.partition(":")
        kib = _first_number(value)
        if kib is not None:
            found[key] = int(kib) * 1024
    names = {"total_bytes": "MemTotal", "available_bytes": "MemAvailable", "swap_bytes": "SwapTotal"}
    return {name: found.get(key) for name, key in names.items()}


def _chosen(text: str | None) -> str | None:
    """The word in brackets: ``always [madvise] never``."""
    match = re.search(r"\[(\w+)\]", text or "")
    return match[1] if match else None


def _os_name(root: Path) -> str | None:
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', _text(root / "etc/os-release") or "", re.MULTILINE)
    return match[1] if match else None


def _virtualisation(root: Path, info: dict[int, dict[str, str]]) -> str | None:
    """A hint, not proof: the hypervisor's name or that there is one, and whether this is a container."""
    hypervisor = _text(root / "sys/hypervisor/type") or _text(root / "proc/device-tree/hypervisor/compatible")
    if hypervisor is None and any("hypervisor" in entry.get("flags", "").split() for entry in info.values()):
        hypervisor = "hypervisor"
    container = (root / ".dockerenv").exists() or (root / "run/systemd/container").exists()
    return " + ".join(filter(None, (hypervisor, "container" if container else None))) or None


def _temperatures(root: Path) -> dict[str, float] | None:
    found = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        millidegrees = _first_number(_text(zone / "temp"))
        if millidegrees is not None:
            found[f"{zone.name} {_text(zone / 'type') or ''}".strip()] = millidegrees / 1000
    return found or None


def _steal_s(root: Path) -> float | None:
    fields = (_text(root / "proc/stat") or "").split("\n", 1)[0].split()
    # cpu user nice system idle iowait irq softirq steal ...
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else None


def _pressure_s(root: Path, what: str) -> float | None:
    match = re.search(r"^some .*\btotal=(\d+)", _text(root / "proc/pressure" / what) or "", re.MULTILINE)
    return int(match[1]) / 1e6 if match else None


def _throttled_bits() -> int | None:
    command = shutil.which("vcgencmd")
    if command is None:
        return None
    try:
        answer = subprocess.run([command, "get_throttled"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"throttled=0x([0-9a-fA-F]+)", answer.stdout)
    return int(match[1], 16) if match else None


def _throttled_names(bits: int | None) -> list[str] | None:
    return None if bits is None else [name for bit, name in _THROTTLED.items() if bits >> bit & 1]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _blas() -> list[dict[str, Any]]:
    """The linear algebra that numpy uses: as loaded where threadpoolctl tells, else as numpy was built."""
    import numpy as np

    if importlib.util.find_spec("threadpoolctl") is not None:
        loaded = importlib.import_module("threadpoolctl").threadpool_info()
        return [{key: value for key, value in library.items() if key != "filepath"} for library in loaded]
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return [{key: built[key] for key in ("name", "version", "openblas configuration") if key in built}]
