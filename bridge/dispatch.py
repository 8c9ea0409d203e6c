"""What the engine adds to every task: runs of tasks that do nothing."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from ..devices.cost import network_cost
from ..policies.graph import WHOLE_NETWORK, Kind
from ..policies.linear import Linear
from ..runs.records import Records
from ..workloads.mix import together
from ..workloads.network import Layer, Network
from ..workloads.workload import RequestPlan
from . import here
from .engine import RealTimeEngine
from .journal import Journal

LAYERS = 10
GAP_S = 2e-3
"""From one request to the next: the worker waits again by then."""


class Dispatch(NamedTuple):
    """Seconds of tasks that do nothing."""

    continued_s: list[float]
    """Taken by the worker that ended the task before."""
    handed_over_s: list[float]
    """Taken by a worker that had to be woken for it."""


class _Nothing:
    """A backend and its executions: it does nothing."""

    def begin(self, network: str) -> _Nothing:
        return self

    def init(self) -> None:
        """Nothing."""

    def load(self, layer: int) -> None:
        """Nothing."""

    def execute(self, layer: int) -> None:
        """Nothing."""

    def free_weights(self, layer: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def measure(cpus: Sequence[int], requests: int) -> Dispatch:
    """Serve ``requests`` of a network that does nothing, with one worker on ``cpus``."""
    device = here.device("here")
    network = Network("nothing", tuple(Layer(f"layer {index}", "nothing") for index in range(LAYERS)))
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
    journal = Journal.create(1, requests, requests * (2 * LAYERS + 1))
    try:
        engine = RealTimeEngine(
            Linear(),
            device,
            plan,
            lambda scheduler: [scheduler.composition([cost])],
            Records(),
            journal,
            _Nothing(),
            [cpus],
        )
        engine.run()
        rows = journal.finished_tasks()
    finally:
        journal.close()
    took_s = rows["end_s"] - rows["start_s"]
    woken = rows["task"] == engine.compositions[0].graphs[0].at(Kind.INIT, WHOLE_NETWORK)
    return Dispatch(took_s[~woken].tolist(), took_s[woken].tolist())
