"""Samples of a profile: which of them were disturbed, and what the others come to.

A pass is one inference of one network, with one number of threads and one way to load. A sample is one task
of it. Something else on the machine disturbs single tasks (the thread had to wait) or whole passes (the
machine itself became slower); what it disturbed tells nothing about the layer and is left out.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ..machine.host import Disturbance
from .passes import LOAD, Held, Timed

Statistic = Literal["median", "mean"]
What = Literal["direct", "cached", "stretch", "memory", "primitive"]
"""Loading past the page cache, loading through it, past it and all layers at a stretch, looking at memory
instead of the clock; or a layer alone, its primitives as tasks, and its key for the network."""

MIN_CLEAN = 3
"""So many undisturbed samples are wanted of every task."""
FREQUENCY_CHANGE = 0.05
WAIT_SHARE = 0.15
WAIT_S = 50e-6
MEMORY_NOISE_BYTES = 256 * 1024
"""The kernel counts resident pages in batches: less than this is none."""


DIGITS = 9
"""Decimal places of seconds: the clock counts nanoseconds."""


class Config(NamedTuple):
    """What a pass measures."""

    network: str
    threads: int
    what: What


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of one round; ``disturbed`` says what happened to the machine meanwhile ("" if nothing)."""

    round: int
    config: Config
    disturbed: str = ""
    tasks: tuple[Timed, ...] = ()
    held: tuple[Held, ...] = ()


class Cell(NamedTuple):
    """What the samples of one task come to."""

    seconds: float
    sd_s: float
    samples: int
    clean: bool
    """False: too few samples were undisturbed, so all were used."""


def machine_disturbed(disturbance: Disturbance) -> str:
    """What happened to the machine as a whole; "" if nothing."""
    if disturbance.steal_s:
        return "time stolen by the hypervisor"
    if disturbance.throttled:
        return "throttled"
    if disturbance.frequency_change is not None and disturbance.frequency_change > FREQUENCY_CHANGE:
        return "frequency changed"
    return ""


def task_disturbed(task: Timed, threads: int) -> str:
    """What happened to the thread; "" if nothing.

    A task that one thread computes takes no longer than its processor time; loading waits for the disk.
    """
    if task.switches:
        return "preempted"
    alone = threads == 1 and task.task != LOAD
    if alone and task.seconds > task.cpu_s * (1 + WAIT_SHARE) + WAIT_S:
        return "kept waiting"
    return ""


@dataclass
class _Samples:
    clean: list[float] = field(default_factory=list)
    disturbed: list[float] = field(default_factory=list)


class Samples:
    """All samples of a profile, by what was measured, task and layer."""

    def __init__(self, passes: Iterable[Pass] = (), *, keep_disturbed: bool = False) -> None:
        """``keep_disturbed``: every task takes as much longer as disturbances made all of its kind take.

        What disturbs (a host that takes the processor away) falls on all tasks alike, in lumps that are
        larger than most tasks. All samples together tell its share; those of one layer would not.
        """
        self._keep_disturbed = keep_disturbed
        self._slowed: dict[str, float] = {}
        """By kind of task, how much longer it takes with disturbances; of the samples so far."""
        self._cells: dict[Config, dict[tuple[str, int], _Samples]] = {}
        self._held: dict[Config, list[tuple[Held, ...]]] = {}
        self.taken: set[tuple[int, Config]] = set()
        """Rounds and what was measured in them."""
        self.count = 0
        """Timed samples, disturbed ones included."""
        self.disturbed: Counter[str] = Counter()
        """How many were disturbed, by what."""
        for each in passes:
            self.add(each)

    def add(self, each: Pass) -> None:
        """Take the samples of one pass."""
        self.taken.add((each.round, each.config))
        self._slowed.clear()
        if each.config.what == "memory":
            self._held.setdefault(each.config, []).append(each.held)
            return
        cells = self._cells.setdefault(each.config, {})
        for task in each.tasks:
            reason = each.disturbed or task_disturbed(task, each.config.threads)
            cell = cells.setdefault((task.task, task.layer), _Samples())
            (cell.disturbed if reason else cell.clean).append(task.seconds)
            self.count += 1
            if reason:
                self.disturbed[reason] += 1

    def lacks(self, config: Config, wanted: int = MIN_CLEAN) -> bool:
        """Whether some task has fewer than ``wanted`` clean samples."""
        cells = self._cells.get(config, {})
        if self._keep_disturbed:
            return not cells
        return not cells or any(len(cell.clean) < wanted for cell in cells.values())

    def clean_counts(self, config: Config) -> dict[tuple[str, int], int]:
        """Undisturbed samples of each task and layer; 0 where all were disturbed."""
        return {key: len(cell.clean) for key, cell in self._cells.get(config, {}).items()}

    def cell(
        self, config: Config, task: str, layer: int, statistic: Statistic, wanted: int = MIN_CLEAN
    ) -> Cell:
        """What one task took: of its clean samples, or of all where fewer than ``wanted`` are clean."""
        found = self._cells[config][task, layer]
        if self._keep_disturbed:
            seconds = middle(found.clean or found.disturbed, statistic)
            if found.clean:
                seconds *= self._slowing(task)
            every = found.clean + found.disturbed
            return Cell(round(seconds, DIGITS), round(statistics.pstdev(every), DIGITS), len(every), True)
        clean = len(found.clean) >= wanted
        used = found.clean if clean else found.clean + found.disturbed
        sd_s = statistics.pstdev(used)
        return Cell(round(middle(used, statistic), DIGITS), round(sd_s, DIGITS), len(used), clean)

    def _slowing(self, task: str) -> float:
        """The time of all samples of this kind of task over what they take undisturbed, at least 1."""
        if task not in self._slowed:
            took_s = clean_s = 0.0
            for cells in self._cells.values():
                for (kind, _), cell in cells.items():
                    if kind == task and cell.clean:
                        took_s += math.fsum(cell.clean) + math.fsum(cell.disturbed)
                        clean_s += statistics.fmean(cell.clean) * (len(cell.clean) + len(cell.disturbed))
            self._slowed[task] = max(1.0, took_s / clean_s) if clean_s else 1.0
        return self._slowed[task]

    def memory(self, config: Config) -> dict[int, Held]:
        """Per layer (-1: the whole network) the medians over the passes; empty where none could be made.

        What the kernel's counting alone may have made of nothing is 0.
        """
        found: dict[int, Held] = {}
        for rows in zip(*self._held.get(config, ()), strict=True):
            workspace, peak, held = (int(statistics.median(row[at] for row in rows)) for at in (1, 2, 3))
            found[rows[0].layer] = Held(rows[0].layer, _rounded(workspace), peak, _rounded(held))
        return found


def middle(values: Sequence[float], statistic: Statistic) -> float:
    """The median or the mean."""
    return statistics.median(values) if statistic == "median" else statistics.fmean(values)


def _rounded(count: int) -> int:
    return count if count >= MEMORY_NOISE_BYTES else 0
