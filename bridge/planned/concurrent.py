"""Execute planned networks on this machine: each alone, then all at once, each on its own processor."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ...policies.graph import WHOLE_NETWORK
from ..machine.host import pin
from .program import PlannedError, PlannedProgram, one_blas_thread
from .reference import reference_outputs


@dataclass(frozen=True, slots=True)
class ExecutedNetwork:
    """One network of several that were executed together."""

    network: str
    cpu: int
    solo_s: tuple[float, ...]
    """Seconds of each inference with nothing else of ours running; weights resident."""
    together_s: tuple[float, ...]
    """The same while all the others were running without a pause."""
    solo_cpu_s: tuple[float, ...]
    """Seconds of processor time of the thread, of the same inferences as ``solo_s``."""
    together_cpu_s: tuple[float, ...]
    workspace_high_water_bytes: int
    arena_high_water_bytes: int
    """Workspace and inputs transformed beside it."""
    area_bytes: int
    weight_bytes: int
    relative_error: float
    """Largest difference of an output from the reference, by the largest value of the reference."""

    @property
    def solo_median_s(self) -> float:
        """Median alone."""
        return statistics.median(self.solo_s)

    @property
    def together_median_s(self) -> float:
        """Median with the others."""
        return statistics.median(self.together_s)


@dataclass(frozen=True, slots=True)
class ExecutedTogether:
    """Networks executed alone and together."""

    networks: tuple[ExecutedNetwork, ...]
    rounds: int


def execute_together(
    programs: Sequence[PlannedProgram], rounds: int, *, cpus: Sequence[int] | None = None
) -> ExecutedTogether:
    """Time ``rounds`` inferences of every program alone, in turn, and then at least as many of all at once.

    Each in a thread on its own processor of ``cpus`` (default: those that this process may use). At once they
    run without a pause until the slowest has done its rounds, so that nobody ever runs alone. Outputs are
    compared with those of the same network computed plainly (``reference.py``). Raises ``PlannedError`` where
    there are fewer processors than programs, or no rounds.
    """
    usable = sorted(os.sched_getaffinity(0)) if cpus is None else list(cpus)
    if rounds < 1 or not programs:
        raise PlannedError(f"needs a network and a round, seen {len(programs)} and {rounds}")
    if len(usable) < len(programs):
        raise PlannedError(f"{len(programs)} networks at once need as many processors, seen {usable}")
    with one_blas_thread():
        errors = [_relative_error(program) for program in programs]
        pools = [
            ThreadPoolExecutor(1, initializer=pin, initargs=((cpu,),))
            for cpu, _ in zip(usable, programs)  # noqa: B905
        ]
        try:
            for pool, program in zip(pools, programs, strict=True):
                pool.submit(_timed, program).result()
            solo: list[list[tuple[float, float]]] = [[] for _ in programs]
            for _ in range(rounds):
                for pool, program, own in zip(pools, programs, solo, strict=True):
                    own.append(pool.submit(_timed, program).result())
            together = _together(pools, programs, rounds)
        finally:
            for pool in pools:
                pool.shutdown()
    found = []
    for at, program in enumerate(programs):
        found.append(
            ExecutedNetwork(
                program.network.name,
                usable[at],
                tuple(wall for wall, _ in solo[at]),
                tuple(wall for wall, _ in together[at]),
                tuple(cpu for _, cpu in solo[at]),
                tuple(cpu for _, cpu in together[at]),
                program.own.workspace_high_water_bytes,
                program.own.arena_high_water_bytes,
                program.area_bytes,
                program.weight_bytes,
                errors[at],
            )
        )
    return ExecutedTogether(tuple(found), rounds)


def _together(
    pools: Sequence[ThreadPoolExecutor], programs: Sequence[PlannedProgram], rounds: int
) -> list[list[tuple[float, float]]]:
    """Samples of all programs, each running until every other one has its rounds."""
    start = threading.Barrier(len(programs))
    left = len(programs)
    lock = threading.Lock()
    done = threading.Event()

    def repeat(program: PlannedProgram) -> list[tuple[float, float]]:
        nonlocal left
        start.wait()
        own: list[tuple[float, float]] = []
        while not done.is_set():
            sample = _timed(program)
            if done.is_set() and len(own) >= rounds:
                break  # somebody had stopped meanwhile
            own.append(sample)
            if len(own) == rounds:
                with lock:
                    left -= 1
                    if not left:
                        done.set()
        return own

    running = [pool.submit(repeat, program) for pool, program in zip(pools, programs, strict=True)]
    return [each.result() for each in running]


def _timed(program: PlannedProgram) -> tuple[float, float]:
    job = program.own
    cpu_s, start_s = time.thread_time(), time.monotonic()
    job.execute(WHOLE_NETWORK)
    return time.monotonic() - start_s, time.thread_time() - cpu_s


def _relative_error(program: PlannedProgram) -> float:
    worst = 0.0
    found = program.run()
    for name, wanted in reference_outputs(program).items():
        scale = float(np.abs(wanted).max()) or 1.0
        worst = max(worst, float(np.abs(found[name] - wanted).max()) / scale)
    return worst
