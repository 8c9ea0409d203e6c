"""Task graphs: how a policy cuts a network into INIT, LOAD and EXECUTE tasks, and what waits for what.

The graphs of EdgeCaffe's modes. A graph belongs to one network and is shared by all its jobs; what depends
on several networks of a request (DeepEye) is a ``Link``. Task order within a graph is id order: INIT, LOAD 0,
EXECUTE 0, LOAD 1, ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..devices.cost import NetworkCost
    from ..devices.model import Runtime, SlowdownClass

WHOLE_NETWORK = -1
READY = "ready"


class Kind(IntEnum):
    """Kind of a task; the number is EdgeCaffe's type rank."""

    EXECUTE = 0
    LOAD = 1
    INIT = 2


@dataclass(slots=True, eq=False)
class Task:
    """INIT, LOAD or EXECUTE of a layer (or of the whole network), shared by all jobs of the network.

    Memory is booked from these numbers: ``start_bytes`` become resident when the task starts, ``end_bytes``
    leave when it ends; what a network still holds leaves when its last task is done.
    """

    network: NetworkCost
    kind: Kind
    layer: int
    duration_s: float
    start_bytes: int = 0
    end_bytes: int = 0
    queue: str = READY
    """Name of the ready queue the task waits in."""
    rank: float = 0.0
    """Order within the queue among tasks of equal job rank; smaller first, then by task id."""
    bound: SlowdownClass = "execute"
    """What slows it beside others and others beside it, see ``Runtime.slowdown``."""
    reserve_bytes: int = 0
    """What taking this task books until the network dies; see ``Ready.first(fitting=...)``."""
    index: int = -1
    successors: tuple[int, ...] = ()
    waits: int = 0
    sole: Task | None = None
    """The only successor, where that waits for nothing else: it is ready as soon as this task is done."""
    heap: list = field(default_factory=list, repr=False)
    """The heap this task waits in; bound by the scheduler."""


class NetworkGraph:
    """The tasks of one network, in id order, and their dependencies, ``edges`` of (before, after)."""

    def __init__(
        self,
        network: NetworkCost,
        tasks: Sequence[Task],
        edges: Iterable[tuple[int, int]],
        *,
        serial: bool = False,
        submit_bytes: int = 0,
        bulk: bool = False,
    ) -> None:
        self.network = network
        self.tasks = tuple(tasks)
        self.submit_bytes = submit_bytes
        """What becomes resident at submission already (version A builds networks there)."""
        self.bulk = bulk
        """Whether the network is loaded whole before it executes (``Swap.bulk_penalty``)."""
        self.serial = serial
        """Whether the network's first task waits for the last task of the network submitted before it."""
        followers: list[list[int]] = [[] for _ in self.tasks]
        waits = [0] * len(self.tasks)
        for before, after in dict.fromkeys(edges):
            followers[before].append(after)
            waits[after] += 1
        for index, task in enumerate(self.tasks):
            task.index = index
            task.successors = tuple(followers[index])
            task.waits = waits[index]
            if len(followers[index]) == 1 and waits[followers[index][0]] == 1:
                task.sole = self.tasks[followers[index][0]]
        self.waits = waits
        self.sources = tuple(index for index, count in enumerate(waits) if not count)
        self.held_bytes = submit_bytes + sum(t.start_bytes - t.end_bytes for t in self.tasks)
        self.reserve_bytes = 0

    def count_waits_of(self, index: int) -> None:
        """A link makes task ``index`` wait for another network's task too: its predecessors must count."""
        for task in self.tasks:
            if task.sole is self.tasks[index]:
                task.sole = None

    def reserve(self, index: int, count: int) -> None:
        """Taking task ``index`` books ``count`` bytes until the network dies."""
        self.reserve_bytes += count - self.tasks[index].reserve_bytes
        self.tasks[index].reserve_bytes = count

    @property
    def first(self) -> int:
        """Index of the first task."""
        return 0

    @property
    def last(self) -> int:
        """Index of the last task: when it is done, the network is finished."""
        return len(self.tasks) - 1

    def at(self, kind: Kind, layer: int) -> int:
        """Index of the task of this kind and layer."""
        for task in self.tasks:
            if task.kind == kind and task.layer == layer:
                return task.index
        raise KeyError(f"{self.network.name}: no {kind.name} of layer {layer}")


class Link(NamedTuple):
    """Task ``after`` of job ``after_job`` waits for task ``before`` of job ``before_job`` (positions)."""

    before_job: int
    before: int
    after_job: int
    after: int


def _init(network: NetworkCost) -> Task:
    return Task(
        network,
        Kind.INIT,
        WHOLE_NETWORK,
        network.init_s,
        start_bytes=network.init_start_bytes,
        end_bytes=network.init_end_bytes,
        bound="init",
    )


def _load(network: NetworkCost, layer: int) -> Task:
    return Task(
        network,
        Kind.LOAD,
        layer,
        network.load_s[layer],
        start_bytes=network.load_start_bytes[layer],
        end_bytes=network.load_end_bytes[layer],
        bound="load",
    )


def _execute(network: NetworkCost, layer: int) -> Task:
    return Task(
        network,
        Kind.EXECUTE,
        layer,
        network.execute_s[layer],
        start_bytes=network.execute_start_bytes[layer],
        end_bytes=network.execute_end_bytes[layer],
        bound=network.execute_class[layer],
    )


def _built(network: NetworkCost, runtime: Runtime) -> int:
    """Bytes that building the network at submission makes resident (version A; B has INIT for it)."""
    return network.init_start_bytes - network.init_end_bytes if runtime.version == "A" else 0


def layer_tasks(network: NetworkCost, runtime: Runtime) -> list[Task]:
    """INIT (version B), then LOAD and EXECUTE of each layer in turn: the tasks of every layer-wise mode."""
    tasks = [_init(network)] if runtime.version == "B" else []
    for layer in range(len(network.load_s)):
        tasks += [_load(network, layer), _execute(network, layer)]
    return tasks


def bulk(
    network: NetworkCost, runtime: Runtime, *, serial: bool = False, chained: bool = False
) -> NetworkGraph:
    """Version B: INIT -> LOAD all -> EXECUTE all, three tasks.

    Version A has layer tasks whose loads wait for nothing and whose first execution waits for the network's
    last load only: with one first-in-first-out worker every network is loaded before any is executed.
    ``chained`` puts these loads into a chain too, so that the network has one first task.
    """
    if runtime.version == "A":
        tasks = layer_tasks(network, runtime)
        count = len(network.load_s)
        edges = [(2 * count - 2, 1)] + [(2 * i + 1, 2 * i + 3) for i in range(count - 1)]
        if chained:
            edges += [(2 * i, 2 * i + 2) for i in range(count - 1)]
        return NetworkGraph(network, tasks, edges, submit_bytes=_built(network, runtime), bulk=True)
    tasks = [
        _init(network),
        Task(
            network,
            Kind.LOAD,
            WHOLE_NETWORK,
            network.bulk_load_s,
            start_bytes=network.bulk_load_start_bytes,
            end_bytes=network.bulk_load_end_bytes,
            bound="load",
        ),
        Task(
            network,
            Kind.EXECUTE,
            WHOLE_NETWORK,
            network.bulk_execute_s,
            start_bytes=network.bulk_execute_start_bytes,
            end_bytes=network.bulk_execute_end_bytes,
            bound=network.bulk_execute_class,
        ),
    ]
    return NetworkGraph(network, tasks, [(0, 1), (1, 2)], serial=serial, bulk=True)


def linear(network: NetworkCost, runtime: Runtime, *, serial: bool = True) -> NetworkGraph:
    """INIT -> LOAD 0 -> EXECUTE 0 -> LOAD 1 -> EXECUTE 1 -> ..., one after the other."""
    tasks = layer_tasks(network, runtime)
    edges = [(i, i + 1) for i in range(len(tasks) - 1)]
    return NetworkGraph(network, tasks, edges, serial=serial, submit_bytes=_built(network, runtime))


def partial(network: NetworkCost, runtime: Runtime, *, gated: bool = False) -> NetworkGraph:
    """INIT -> every LOAD (in no order); EXECUTE i waits for LOAD i and EXECUTE i-1 (EXECUTE 0 for INIT).

    ``gated``: in version A, which has no INIT, LOAD 0 takes its place before the other loads.
    """
    tasks = layer_tasks(network, runtime)
    first = 1 if runtime.version == "B" else 0
    edges = []
    for layer in range(len(network.load_s)):
        load, execute = first + 2 * layer, first + 2 * layer + 1
        edges.append((load, execute))
        if first or (gated and layer):
            edges.append((0, load))
        if layer:
            edges.append((execute - 2, execute))
        elif first:
            edges.append((0, execute))
    return NetworkGraph(network, tasks, edges, submit_bytes=_built(network, runtime))


CONVOLUTIONAL = "convolutional"
FULLY_CONNECTED = "fully-connected"


def deepeye(network: NetworkCost, runtime: Runtime) -> NetworkGraph:
    """DeepEye: convolutional layers in one queue, fully-connected ones in the other.

    Version B: INIT -> convolutional loads, chained; convolutional executions chained; INIT -> fully-connected
    loads, chained; the first fully-connected execution waits for all fully-connected loads and the last
    convolutional execution, the others for their load and predecessor. What orders the networks of a request
    are links (``deepeye_links``). Version A: loads wait for nothing, executions are chained.
    """
    split, count = network.network.conv_layers, len(network.load_s)
    tasks = layer_tasks(network, runtime)
    for task in tasks:
        is_conv = task.kind == Kind.INIT or task.layer < split
        task.queue = CONVOLUTIONAL if is_conv else FULLY_CONNECTED
    if runtime.version == "A":
        edges = [(2 * i, 2 * i + 1) for i in range(count)] + [
            (2 * i + 1, 2 * i + 3) for i in range(count - 1)
        ]
        return NetworkGraph(network, tasks, edges, submit_bytes=_built(network, runtime))
    load = [1 + 2 * i for i in range(count)]
    execute = [2 + 2 * i for i in range(count)]
    edges = []
    for layer in range(split):
        edges.append((load[layer - 1] if layer else 0, load[layer]))
        if layer:
            edges.append((execute[layer - 1], execute[layer]))
    for layer in range(split, count):
        edges.append((load[layer - 1] if layer > split else 0, load[layer]))
        edges.append((load[layer], execute[layer]))
        if layer == split:
            edges += [(load[other], execute[layer]) for other in range(split, count)]
        if layer:
            edges.append((execute[layer - 1], execute[layer]))
    return NetworkGraph(network, tasks, edges)


def deepeye_links(graphs: Sequence[NetworkGraph], *, frugal: bool = False) -> list[Link]:
    """What orders the networks of one request in DeepEye.

    INIT of network k waits for the last convolutional load of network k-1; the first convolutional execution
    of the first network waits for the last convolutional load of the last, that of network k for the last
    convolutional execution of k-1; the first fully-connected load of k waits for the last one of the nearest
    network before it that has any. Frugal: also for that network's last fully-connected execution.
    """
    links: list[Link] = []

    def last_conv(graph: NetworkGraph, offset: int) -> int:
        split = graph.network.network.conv_layers
        return 2 * (split - 1) + offset if split else 0

    before_conv = before_fc = None
    for k, graph in enumerate(graphs):
        split, count = graph.network.network.conv_layers, len(graph.network.load_s)
        if k:
            links.append(Link(k - 1, last_conv(graphs[k - 1], 1), k, 0))
        if split:
            if before_conv is None:
                last = len(graphs) - 1
                links.append(Link(last, last_conv(graphs[last], 1), k, 2))
            else:
                links.append(Link(before_conv, last_conv(graphs[before_conv], 2), k, 2))
            before_conv = k
        if split < count:
            if before_fc is not None:
                earlier = len(graphs[before_fc].network.load_s)
                links.append(Link(before_fc, 2 * earlier - 1, k, 1 + 2 * split))
                if frugal:
                    links.append(Link(before_fc, 2 * earlier, k, 1 + 2 * split))
            before_fc = k
    return list(dict.fromkeys(links))


GraphBuilder = Callable[["NetworkCost", "Runtime"], NetworkGraph]
