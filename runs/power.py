"""What a run's processors draw: watts of a board times seconds of a run.

A processor's numbers are those of its operating point with the highest frequency, at which layers were
measured: ``idle_w`` while nothing runs on it, ``busy_w`` while one worker does. Every further busy worker
adds the same, up to as many as there are cores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..devices.model import Device
    from ..policies.contract import Worker


@dataclass(frozen=True, slots=True)
class ProcessorPower:
    """The power of one processor, and the workers on it."""

    processor: str
    cores: int
    idle_w: float
    busy_w: float
    workers: tuple[int, ...]
    """Indices into the run's workers."""


def power_of(device: Device, workers: Sequence[Worker]) -> tuple[ProcessorPower, ...] | None:
    """One entry per processor; None unless the board knows idle and busy power of all of them.

    A worker that names no processor of the board is on the first one.
    """
    names = [processor.name for processor in device.processors]
    places = [names.index(w.processor) if w.processor in names else 0 for w in workers]
    found: list[ProcessorPower] = []
    for place, processor in enumerate(device.processors):
        point = max(processor.operating_points, key=lambda each: each.frequency_hz, default=None)
        if point is None or point.idle_w is None or point.busy_w is None:
            return None
        mine = tuple(index for index, on in enumerate(places) if on == place)
        found.append(ProcessorPower(processor.name, processor.cores, point.idle_w, point.busy_w, mine))
    return tuple(found)


def missing_power(device: Device) -> list[str]:
    """The keys of the board's file that energy needs and that are not there, empty where all are."""
    missing: list[str] = []
    for place, processor in enumerate(device.processors):
        points = processor.operating_points
        index = max(range(len(points)), key=lambda i: points[i].frequency_hz, default=0)
        where = f"processors[{place}].operating_points[{index}]"
        if not points:
            missing.append(f"{where}.frequency_hz")
        missing += [
            f"{where}.{key}"
            for key in ("idle_w", "busy_w")
            if not points or getattr(points[index], key) is None
        ]
    return missing


def energy_j(power: Sequence[ProcessorPower], busy_s: Sequence[float], end_s: float) -> float:
    """Joules of a run of ``end_s`` seconds; ``busy_s`` per worker.

    Sum over processors of idle_w * end_s + (busy_w - idle_w) * b, b being the busy seconds of its workers,
    at most cores * end_s.
    """
    return math.fsum(
        each.idle_w * end_s
        + (each.busy_w - each.idle_w)
        * min(math.fsum(busy_s[worker] for worker in each.workers), each.cores * end_s)
        for each in power
    )
