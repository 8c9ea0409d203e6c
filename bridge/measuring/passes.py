"""One inference, layer by layer as in a replay, with a stopwatch or with a look at memory.

The order of the tasks is that of one job alone: INIT, LOAD 0, EXECUTE 0, LOAD 1, ..., or at a stretch: INIT,
LOAD of all layers, EXECUTE of all. A layer's weights leave with the end of its EXECUTE, and what the job
still holds with the end of the last one, as ``engine.py`` does.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ...policies.graph import WHOLE_NETWORK
from ..machine.memory import return_free_memory
from ..program import Program

INIT, LOAD, EXECUTE = "init", "load", "execute"
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): the peak becomes what is resident now


class Timed(NamedTuple):
    """What one task took: by the clock, of the processor, and how often the thread was made to wait."""

    task: str
    layer: int
    seconds: float
    cpu_s: float
    switches: int


class Held(NamedTuple):
    """Resident bytes of one layer, beyond what the process had before the inference.

    ``workspace`` is the most while it executed, beyond what was resident before that; ``peak`` the most from
    the begin of its LOAD to the end of its EXECUTE, ``held`` what remained. The network's own row has layer
    -1: the most of all, and what remained at the end.
    """

    layer: int
    workspace_bytes: int
    peak_bytes: int
    held_bytes: int


def timed_pass(program: Program) -> list[Timed]:
    """Time every task of one inference, in the calling thread."""
    return [timed(task, layer, call) for task, layer, call in _tasks(program)]


def timed_stretch(program: Program) -> list[Timed]:
    """Time the tasks of one inference at a stretch, in the calling thread; their layer is -1."""
    job = program.begin()

    def execute() -> None:
        job.execute(WHOLE_NETWORK)
        job.close()

    tasks: tuple[tuple[str, Callable[[], object]], ...] = (
        (INIT, job.init),
        (LOAD, lambda: job.load(WHOLE_NETWORK)),
        (EXECUTE, execute),
    )
    try:
        return [timed(task, WHOLE_NETWORK, call) for task, call in tasks]
    finally:
        job.close()


def timed(task: str, layer: int, call: Callable[[], object]) -> Timed:
    """Time one call. What the engine adds around it is the device's ``dispatch_s``."""
    switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
    cpu_s = time.thread_time()
    start_s = time.monotonic()
    call()
    end_s = time.monotonic()
    cpu_s = time.thread_time() - cpu_s
    switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw - switches
    return Timed(task, layer, end_s - start_s, cpu_s, switches)


def memory_pass(program: Program) -> list[Held]:
    """Resident bytes of every layer of one inference; the whole network last.

    Empty where the kernel does not reset peaks (built without CONFIG_PROC_PAGE_MONITOR). The kernel counts
    pages in batches, so that each number may be some 100 kB off.
    """
    return_free_memory()
    if not _reset_peak():
        return []
    base, _ = _resident()
    found: list[Held] = []
    loading = 0
    for task, layer, call in _tasks(program):
        _reset_peak()
        before, _ = _resident()
        call()
        after, peak = _resident()
        if task == LOAD:
            loading = peak
        elif task == EXECUTE:
            most = max(loading, peak) - base
            found.append(Held(layer, max(0, peak - before), most, max(0, after - base)))
    whole = Held(WHOLE_NETWORK, 0, max(held.peak_bytes for held in found), found[-1].held_bytes)
    return [*found, whole]


def _tasks(program: Program) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Every task of one job in order: kind, layer, what does it. They must be called in turn."""
    job = program.begin()
    last = program.layer_count - 1

    def executed(layer: int) -> None:
        job.execute(layer)
        job.free_weights(layer)
        if layer == last:
            job.close()

    try:
        yield INIT, WHOLE_NETWORK, job.init
        for layer in range(program.layer_count):
            yield LOAD, layer, lambda layer=layer: job.load(layer)  # type: ignore[misc]
            yield EXECUTE, layer, lambda layer=layer: executed(layer)  # type: ignore[misc]
    finally:
        job.close()


def _reset_peak() -> bool:
    with suppress(OSError):
        _RESET.write_text(_RESET_PEAK)
        return True
    return False


def _resident() -> tuple[int, int]:
    """Bytes resident now, and the most since the peak was reset."""
    found = {}
    for line in _STATUS.read_text().splitlines():
        key, _, value = line.partition(":")
        if key in ("VmRSS", "VmHWM"):
            found[key] = int(value.split()[0]) * 1024
    return found["VmRSS"], found["VmHWM"]
