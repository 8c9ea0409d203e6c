"""The scheduler: holds ready tasks and the memory ledger, asks the policy, and knows no clock.

A driver (``sim`` in virtual time, ``bridge`` in real time) makes three calls: ``submit`` when a request
arrived, ``next`` when a worker asks for work, ``finish`` when a task is done. Every call takes the driver's
time only to write it down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

from .contract import Policy, Worker
from .graph import READY, Link, NetworkGraph, Task
from .ledger import Ledger
from .ready import Entry, Ready

if TYPE_CHECKING:
    from ..devices.cost import NetworkCost
    from ..devices.model import Device


class DoesNotFit(Exception):
    """A task needs more than memory and swap hold together: a result of the run, not a crash."""

    def __init__(self, job: Job, task: Task | None, demand_bytes: int, limit_bytes: float) -> None:
        self.job = job
        self.task = task
        self.demand_bytes = demand_bytes
        self.limit_bytes = int(limit_bytes)
        what = f"{task.kind.name} of layer {task.layer}" if task else "submission"
        super().__init__(
            f"{job.network.name}: {what} needs {demand_bytes} bytes in all, there are {self.limit_bytes}"
        )


class Request:
    """One image's arrival: its jobs and how many of them are unfinished."""

    __slots__ = ("arrival_s", "deadline_s", "left", "row", "stream")

    def __init__(
        self,
        row: int,
        stream: int,
        arrival_s: float,
        deadline_s: float | Mapping[str, float] | None,
        left: int,
    ) -> None:
        self.row = row
        self.stream = stream
        self.arrival_s = arrival_s
        self.deadline_s = deadline_s
        """Relative to the arrival, for all networks or per network; None: no deadline."""
        self.left = left


class Job:
    """One network's inference for one request."""

    __slots__ = (
        "after",
        "base_id",
        "factors",
        "followers",
        "graph",
        "left",
        "position",
        "rank",
        "request",
        "row",
        "started",
        "waits",
    )

    def __init__(self, request: Request, position: int, row: int, graph: NetworkGraph) -> None:
        self.request = request
        self.position = position
        self.row = row
        self.graph = graph
        self.waits = graph.waits.copy()
        self.left = len(self.waits)
        self.base_id = -1
        self.rank = 0.0
        self.started = False
        self.after: dict[int, list[tuple[Job, int]]] | None = None
        """Per task index the tasks of other jobs that wait for it."""
        self.followers: list[Job] | None = None
        """Jobs of the request that are submitted when this one is done."""
        self.factors: Sequence[float] | None = None
        """Noise factor on each task's duration; None: none."""

    @property
    def network(self) -> NetworkCost:
        """The network and its costs on this device."""
        return self.graph.network

    @property
    def due_s(self) -> float:
        """Absolute deadline; inf without one."""
        deadline = self.request.deadline_s
        if isinstance(deadline, Mapping):
            deadline = deadline.get(self.network.name)
        return math.inf if deadline is None else self.request.arrival_s + deadline


class Composition:
    """The networks one kind of image needs, expanded by the policy: graphs, links, and who follows whom."""

    __slots__ = ("after", "graphs", "links", "plain")

    def __init__(self, graphs: Sequence[NetworkGraph], links: Sequence[Link], after: Sequence[int]) -> None:
        self.graphs = tuple(graphs)
        self.links = tuple(links)
        self.after = tuple(after)
        self.plain = not links and all(a < 0 for a in after) and not any(g.serial for g in graphs)


class Scheduler:
    """Applies one policy on one device.

    ``clock`` tells the driver's time to policies that ask; ``on_start(job)`` is called when a job's first
    task is taken, ``on_done(job)`` when its last one is done.
    """

    def __init__(
        self,
        policy: Policy,
        device: Device,
        *,
        clock: Callable[[], float],
        on_start: Callable[[Job], None],
        on_done: Callable[[Job], None],
    ) -> None:
        self.policy = policy
        self.device = device
        self.ready = Ready(clock)
        self.memory = Ledger(
            device.memory.usable_bytes, device.memory.base_bytes, device.runtime.reserved_base_bytes
        )
        self.workers = policy.workers(device)
        self._select = policy.select
        self._in_order = type(policy).select is Policy.select
        self._varies = type(policy).variant is not Policy.variant
        self._in_order_heap = self.ready.heap_of(READY, 0)
        self.on_book: Callable[[int], None] | None = None
        """Told what is resident after a network was built at submission (version A); for traces."""
        self._on_start = on_start
        self._on_done = on_done
        self._graphs: dict[int, NetworkGraph] = {}
        self._bound: set[NetworkGraph] = set()
        self._next_id = 0
        self._by_readiness = device.runtime.version == "A"
        self._readiness = 0
        self._tail: Job | None = None
        swap = device.memory.swap
        self.hard_limit_bytes: float = device.memory.usable_bytes + (0 if swap is None else swap.total_bytes)
        if device.storage.reads == "mapped":
            self.hard_limit_bytes = math.inf  # clean pages leave; what does not is small
        """What memory and swap hold together; a driver that has another guard (a cgroup) lifts it."""

    def graph(self, network: NetworkCost) -> NetworkGraph:
        """The policy's graph of a network, made once, its tasks bound to their heaps."""
        key = id(network)
        if key not in self._graphs:
            graph = self.policy.expand(network, self.device)
            self._bind(graph)
            self._graphs[key] = graph
        return self._graphs[key]

    def _bind(self, graph: NetworkGraph) -> None:
        """Tell the graph's tasks the heaps they wait in."""
        for task in graph.tasks:
            task.heap = self.ready.heap_of(task.queue, task.reserve_bytes)
            if task.heap is not self._in_order_heap:
                self._in_order = False
            if self._by_readiness:
                task.sole = None  # what becomes ready is numbered then, see _push
        self._bound.add(graph)

    def composition(self, networks: Sequence[NetworkCost], after: Sequence[int] | None = None) -> Composition:
        """Expand the networks of one kind of request; ``after[i]`` is the job that i follows, or -1."""
        graphs = [self.graph(network) for network in networks]
        after = [-1] * len(graphs) if after is None else after
        links: list[Link] = []
        for leader in sorted(set(after)):
            # Jobs that follow the same leader are submitted together: to the policy a request of their own.
            stage = [position for position, a in enumerate(after) if a == leader]
            for link in self.policy.links([graphs[position] for position in stage]):
                links.append(Link(stage[link.before_job], link.before, stage[link.after_job], link.after))
                graphs[stage[link.after_job]].count_waits_of(link.after)
        return Composition(graphs, links, after)

    def submit(self, request: Request, composition: Composition, first_row: int, factors: Any = None) -> None:
        """A request arrived: its jobs get rows from ``first_row`` on, tasks that wait for nothing are ready.

        ``factors`` holds the noise factors of each job's tasks, or None.
        """
        jobs = [Job(request, i, first_row + i, graph) for i, graph in enumerate(composition.graphs)]
        if factors is not None:
            for job, own in zip(jobs, factors, strict=True):
                job.factors = own
        if composition.plain:
            for job in jobs:
                self._enter(job)
            return
        for link in composition.links:
            before, after = jobs[link.before_job], jobs[link.after_job]
            after.waits[link.after] += 1
            if before.after is None:
                before.after = {}
            before.after.setdefault(link.before, []).append((after, link.after))
        now = []
        for job, leader in zip(jobs, composition.after, strict=True):
            if leader < 0:
                now.append(job)
            elif jobs[leader].followers is None:
                jobs[leader].followers = [job]
            else:
                jobs[leader].followers.append(job)  # type: ignore[union-attr]
        for job in now:
            self._enter(job)

    def _enter(self, job: Job) -> None:
        """Give the job its ids and rank and make its source tasks ready."""
        graph = job.graph
        job.base_id = self._next_id
        self._next_id += len(graph.tasks)
        job.rank = self.policy.rank(job)
        if graph.submit_bytes:
            self._book(graph.submit_bytes, job)
        if graph.serial:
            tail = self._tail
            if tail is not None and tail.left:
                job.waits[0] += 1
                if tail.after is None:
                    tail.after = {}
                tail.after.setdefault(tail.graph.last, []).append((job, 0))
            self._tail = job
        waits = job.waits
        for index in graph.sources:
            if not waits[index]:
                self._push(job, graph.tasks[index])

    def _push(self, job: Job, task: Task) -> None:
        if self._by_readiness:
            number = self._readiness
            self._readiness = number + 1
        else:
            number = job.base_id + task.index
        heappush(task.heap, (job.rank, task.rank, number, job, task))

    def _book(self, count: int, job: Job) -> None:
        memory = self.memory
        memory.resident_bytes += count
        if memory.resident_bytes > memory.peak_bytes:
            self._raise_peak(memory.resident_bytes, job, None)
        if self.on_book is not None:
            self.on_book(memory.resident_bytes)

    def _raise_peak(self, resident_bytes: int, job: Job, task: Task | None) -> None:
        self.memory.peak_bytes = resident_bytes
        if resident_bytes > self.hard_limit_bytes:
            raise DoesNotFit(job, task, resident_bytes, self.hard_limit_bytes)

    def next(self, worker: Worker) -> Entry | None:
        """The worker asks: the entry (…, job, task) it starts now, taken and booked, or None."""
        if self._in_order:
            # The contract's own select(): ready.first(). Not asking it saves a tenth of a task's time.
            heap = self._in_order_heap
            if not heap:
                return None
            entry = heappop(heap)
            _, _, _, job, task = entry
        else:
            chosen = self._select(worker, self.ready, self.memory)
            if chosen is None:
                return None
            entry = chosen
            _, _, _, job, task = entry
            heap = task.heap
            if heap and heap[0] is entry:
                heappop(heap)
            else:
                self._remove(heap, entry)
        memory = self.memory
        if self._varies and not job.started:
            entry = self._varied(entry)
            task = entry[4]
        memory.resident_bytes = resident = memory.resident_bytes + task.start_bytes
        if resident > memory.peak_bytes:
            self._raise_peak(resident, job, task)
        if not job.started:
            self._start(job)
        if task.reserve_bytes:
            memory.reserved_bytes += task.reserve_bytes
        return entry

    def _varied(self, entry: Entry) -> Entry:
        """The entry of a job that begins, on the graph that the policy wants it to have."""
        rank, task_rank, number, job, task = entry
        graph = self.policy.variant(job, self.ready, self.memory)
        if graph is None or graph is job.graph:
            return entry
        if graph.network.name != job.network.name or graph.waits != job.graph.waits:
            raise ValueError(
                f"policy {type(self.policy).__name__}: variant() of {job.network.name} returned a graph of "
                f"{graph.network.name} with {len(graph.tasks)} tasks; it must have the same tasks and edges"
            )
        if graph not in self._bound:
            self._bind(graph)
        job.graph = graph
        return rank, task_rank, number, job, graph.tasks[task.index]

    def _start(self, job: Job) -> None:
        job.started = True
        self.memory.active += 1
        self._on_start(job)

    def _remove(self, heap: list[Entry], entry: Entry) -> None:
        for position, other in enumerate(heap):
            if other is entry:
                heap[position] = heap[-1]
                heap.pop()
                heapify(heap)
                return
        raise LookupError(
            f"policy {type(self.policy).__name__}: select() returned what is no ready task: {entry!r}"
        )

    def free(self, task: Task) -> None:
        """The task has ended and its memory is free, but the orchestrator has not noticed yet."""
        self.memory.resident_bytes -= task.end_bytes

    def finish(self, job: Job, task: Task, *, freed: bool = False) -> None:
        """The task is done: free what it frees, make its successors ready, end the job if it was the last.

        ``freed``: ``free`` was called when it ended.
        """
        if not freed:
            self.memory.resident_bytes -= task.end_bytes
        ready = task.sole
        if ready is not None:
            # _push, written out for the usual case: this runs once a task.
            heappush(ready.heap, (job.rank, ready.rank, job.base_id + ready.index, job, ready))
        elif task.successors:
            waits = job.waits
            tasks = job.graph.tasks
            for index in task.successors:
                left = waits[index] - 1
                waits[index] = left
                if not left:
                    self._push(job, tasks[index])
        if job.after is not None:
            for other, index in job.after.pop(task.index, ()):
                other.waits[index] -= 1
                if not other.waits[index] and other.base_id >= 0:
                    self._push(other, other.graph.tasks[index])
        job.left = left = job.left - 1
        if not left:
            self._end(job)

    def _end(self, job: Job) -> None:
        memory = self.memory
        graph = job.graph
        memory.active -= 1
        memory.reserved_bytes -= graph.reserve_bytes
        memory.resident_bytes -= graph.held_bytes
        if job is self._tail:
            self._tail = None
        request = job.request
        request.left -= 1
        self._on_done(job)
        if job.followers is not None:
            for follower in job.followers:
                self._enter(follower)
