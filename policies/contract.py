"""The policy contract: a few small hooks, each returning a decision that the scheduler applies.

A policy never touches queues or clocks. ``Policy`` itself is a complete policy: whole networks in arrival
order, one worker. Override what differs:

- ``plan(networks, device)``: what is decided before the run: memory budgets, primitives, processors.
- ``workers(device)``: which workers exist, in the order in which idle ones ask.
- ``expand(network, device)``: the task graph of one network; ``links(graphs)`` adds what orders the
  networks of one request among each other.
- ``rank(job)``: who goes first among the jobs; smaller first, equal ranks in submission order.
- ``select(worker, ready, memory)``: the task this worker takes now, or None. Admission against memory is part
  of this decision.
- ``variant(job, ready, memory)``: another graph for a job that begins now, such as one with other primitives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .graph import Link, NetworkGraph, bulk

if TYPE_CHECKING:
    from ..devices.cost import NetworkCost
    from ..devices.model import Device
    from .ledger import Ledger
    from .ready import Entry, Ready
    from .scheduler import Job


MAX_WORKERS = 1000


class PlanError(ValueError):
    """A policy finds no plan for these networks on this device; the message says why and what would do."""


@dataclass(frozen=True, slots=True)
class Worker:
    """Takes one task at a time: a thread bound to a processor."""

    name: str
    processor: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Offline decisions of a policy, made before the run; what it leaves out stays as it is.

    Keys are the networks' own names (``NetworkCost.name``).
    """

    budgets_bytes: Mapping[str, int] = field(default_factory=dict)
    """Per network what it reserves while it is active, instead of its own ``reservation_bytes``."""
    costs: Mapping[str, NetworkCost] = field(default_factory=dict)
    """Per network what it costs under the plan, instead of what the device says of its runtime's choice."""
    primitives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Per network the primitive of each layer; what is replayed with the primitive library."""
    processors: Mapping[str, str] = field(default_factory=dict)
    """Per network the processor that executes it."""


class Policy:
    """Whole networks in arrival order on one worker; the base of every policy."""

    def plan(self, networks: Sequence[NetworkCost], device: Device) -> Plan | None:
        """Offline, before the run. None: nothing to decide."""
        return None

    def workers(self, device: Device) -> list[Worker]:
        """The workers, in the order in which idle ones ask."""
        return [Worker("worker 0", device.processors[0].name)]

    def expand(self, network: NetworkCost, device: Device) -> NetworkGraph:
        """The task graph of one network. Called once per network; its jobs share it."""
        return bulk(network, device.runtime)

    def links(self, graphs: Sequence[NetworkGraph]) -> list[Link]:
        """Dependencies between the networks of one request, in request order."""
        return []

    def rank(self, job: Job) -> float:
        """Who goes first: smaller first, equal ranks by task id. Called once, when the job is submitted."""
        return 0.0

    def select(self, worker: Worker, ready: Ready, memory: Ledger) -> Entry | None:
        """The entry of ``ready`` that this worker takes now, or None to stay idle until something changes."""
        return ready.first()

    def variant(self, job: Job, ready: Ready, memory: Ledger) -> NetworkGraph | None:
        """Another graph for a job whose first task is taken now, or None to keep the one it has.

        It must be a graph of the same network with the same tasks and edges; seconds, bytes and reservations
        may differ. Called only where a subclass has a ``variant`` of its own.
        """
        return None


def several_workers(device: Device, count: int) -> list[Worker]:
    """``count`` workers on the device's first processor. Raises ValueError for none or too many."""
    if not 1 <= count <= MAX_WORKERS:
        raise ValueError(f"workers is {count}, must lie in 1..{MAX_WORKERS}")
    return [Worker(f"worker {i}", device.processors[0].name) for i in range(count)]
