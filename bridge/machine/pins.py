"""Which processors of this machine the workers of a board are pinned to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import host

if TYPE_CHECKING:
    from ...devices.model import Device
    from ...policies.contract import Worker


def cpus_of(device: Device, workers: Sequence[Worker]) -> list[list[int]]:
    """The processors that each worker is pinned to.

    A processor of the board is a cluster of this machine where both have as many; else any processor of it.
    Workers take the cluster's processors in turn, as many each as the runtime has threads.
    """
    clusters = host.clusters()
    usable = sorted(os.sched_getaffinity(0))
    threads = device.runtime.threads
    found = {}
    for index, processor in enumerate(device.processors):
        alike = len(clusters) == len(device.processors)
        mine = [cpu for cpu in clusters[index].cpus if cpu in usable] if alike else []
        found[processor.name] = mine or usable
    next_of: Counter[str] = Counter()
    pins = []
    for worker in workers:
        cpus = found.get(worker.processor, usable)
        first = next_of[worker.processor]
        pins.append(sorted({cpus[(first + i) % len(cpus)] for i in range(threads)}))
        next_of[worker.processor] += threads
    return pins
