"""What the engine adds to every task: runs of tasks that time themselves."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...devices.cost import network_cost
from ...policies.graph import WHOLE_NETWORK, Kind
from ...policies.linear import Linear
from ...workloads.mix import together
from ...workloads.network import Layer, Network
from ...workloads.workload import RequestPlan
from ..engine import RealTimeEngine
from ..journal import Journal
from . import here

LAYERS = 10
GAP_S = 25e-3
"""From one request to the next: the worker waits again by then."""
WAIT_S = 0.5e-3
SWEPT_BYTES = 8 << 20


class Dispatch(NamedTuple):
    """Seconds of tasks beyond what their work took."""

    continued_s: list[float]
    """Taken by the worker that ended the task before."""
    handed_over_s: list[float]
    """Taken by a worker that had to be woken for it."""


class _Working:
    """A backend and its executions: loads wait, executions sweep memory, and each call times itself.

    Tasks that do nothing would show the engine with warm caches, at half of what it costs between real ones.
    """

    def __init__(self) -> None:
        self.inside_s: list[float] = []
        """Per task, in order of their start: seconds in the backend."""
        self._swept = np.zeros(SWEPT_BYTES // 8)

    def begin(self, network: str) -> _Working:
        return self

    def init(self) -> None:
        """Nothing."""
        self.inside_s.append(0.0)

    def load(self, layer: int) -> None:
        """Wait, as for a slow disk."""
        began_s = time.monotonic()
        time.sleep(WAIT_S)
        self.inside_s.append(time.monotonic() - began_s)

    def execute(self, layer: int) -> None:
        """Read more than the caches hold."""
        began_s = time.monotonic()
        self._swept.sum()
        self.inside_s.append(time.monotonic() - began_s)

    def free_weights(self, layer: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def measure(cpus: Sequence[int], requests: int) -> Dispatch:
    """Serve ``requests`` of a network that only waits and sweeps memory, with one worker on ``cpus``."""
    device = here.device("here")
    network = Network("working", tuple(Layer(f"layer {index}", "working") for index in range(LAYERS)))
    nothing_s = (0.0,) * LAYERS
    cost = network_cost(network, device.runtime, init_s=0.0, load_s=nothing_s, execute_s=nothing_s)
    plan = RequestPlan(
        streams=("requests",),
        deadline_s=[None],
        compositions=[together((network.name,))],
        gap_s=array("d", [GAP_S] * requests),
        stream=array("i", [0] * requests),
        composition=array("i", [0] * requests),
    )
    working = _Working()
    journal = Journal.create(1, requests, requests * (2 * LAYERS + 1))
    try:
        engine = RealTimeEngine(
            Linear(),
            device,
            plan,
            lambda scheduler: [scheduler.composition([cost])],
            journal,
            working,
            [cpus],
        )
        engine.run()
        rows = journal.finished_tasks()
    finally:
        journal.close()
    took_s = rows["end_s"] - rows["start_s"] - np.array(working.inside_s)
    woken = rows["task"] == engine.compositions[0].graphs[0].at(Kind.INIT, WHOLE_NETWORK)
    return Dispatch(took_s[~woken].tolist(), took_s[woken].tolist())
