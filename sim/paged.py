"""Memory as it really lies: every blob of every job under the pager, and what each task touches.

A job's blobs are its layers' weights, outputs, im2col buffers and other buffers, and the transient copies of
a load; ``devices/paging.py`` says what touching them costs when they do not all fit.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..devices import access
from ..devices.access import Program
from ..devices.model import Swap
from ..devices.paging import Pager, SwapModel
from ..policies.graph import WHOLE_NETWORK, Kind
from ..workloads.network import FLOAT32_BYTES

if TYPE_CHECKING:
    from ..devices.cost import NetworkCost
    from ..devices.model import Device, Runtime
    from ..policies.graph import NetworkGraph, Task
    from ..policies.ledger import Ledger
    from ..policies.scheduler import Job
    from ..workloads.network import Network

MAPPED = SwapModel(read_bps=1.0, write_cost=0.0)
"""Mapped weights: clean pages, nothing is ever written; the rate is the storage's."""
Blob = tuple[str, int]
"""(kind of buffer, layer); the job is added when a job touches it."""
WEIGHTS, OUTPUT, IM2COL, OTHER, COPY = "weights", "output", "im2col", "other", "copy"
ARENA: Blob = ("arena", WHOLE_NETWORK)
_KINDS = {"convolution": "conv", "depthwise": "conv", "fully-connected": "fc"}
SLICE_S = 0.05
"""Longest compute between two looks at what runs beside it, while a task pages."""
_NOTHING = Program(((1.0, ()),))


@dataclass(slots=True)
class _Touches:
    """What a task does to memory: blobs it allocates, those it touches and how, those it releases."""

    allocates: list[tuple[Blob, int]]
    program: Program
    blobs: list[Blob | None]
    releases: list[Blob]


class PagedMemory:
    """The pager of one run with the blobs of its jobs.

    While all that the ledger counts fits, the pager sleeps: tasks are only noted down, per job as [number,
    task, ended]. When something no longer fits, it wakes to exactly the state it would have had. Runs that
    never page are 1.6 times as fast for it.

    With mapped weights (``Storage.reads``) what pages is the weights' file, there is no other swap, and the
    pager is awake from the start, because loading itself is paging.
    """

    def __init__(self, device: Device, ledger: Ledger, workers: int, bulk: bool) -> None:
        memory = device.memory
        self._ledger = ledger
        self._mapped = device.storage.reads == "mapped"
        self._asleep = not self._mapped
        self._notes: dict[int, list[list[Any]]] = {}
        self._number = 0
        swap = memory.swap or Swap(total_bytes=0, read_bytes_per_s=1.0)
        self.runtime: Runtime = device.runtime
        model = SwapModel(
            read_bps=swap.read_bytes_per_s,
            write_cost=swap.write_cost,
            queue_gain=swap.queue_gain if workers > 1 else 1.0,
            penalty=swap.bulk_penalty if bulk else 1.0,
        )
        if self._mapped:
            storage = device.storage
            rate = storage.pace_bytes_per_s or storage.read_bytes_per_s
            if rate is None:
                raise ValueError("mapped weights need storage.read_bytes_per_s or storage.pace_bytes_per_s")
            model = replace(MAPPED, read_bps=rate)
        self.pager = Pager(
            memory.usable_bytes,
            memory.base_bytes,
            model,
            # One worker has nobody to take turns with: its tasks need no slices.
            quantum_s=SLICE_S if workers > 1 else math.inf,
            request_bytes=swap.request_bytes if workers > 1 else math.inf,
            min_chunk=swap.chunk_bytes,
            max_chunks=swap.blob_chunks,
        )
        self._touches: dict[Task, _Touches] = {}
        self._held: dict[int, set[Blob]] = {}

    def submit(self, row: int, graph: NetworkGraph) -> tuple[Program, list[Hashable]]:
        """Version A builds the network of job ``row`` at submission: what filling its weights touches."""
        self._wake()
        blobs = _weight_blobs(graph.network.network)
        self._allocate(row, blobs)
        return access.fill_program(len(blobs)), [(row, *blob) for blob, _ in blobs]

    def begin(
        self, worker: int, job: Job, task: Task, work_s: float, now_s: float, slowdown: float
    ) -> float | None:
        """Start a task.

        None: all it touches is resident, or becomes so without a fault, and it just computes. Else the
        first instant at which ``pager.advance`` is due.
        """
        row = job.row
        if self._asleep:
            ledger = self._ledger
            if ledger.resident_bytes <= ledger.limit_bytes:  # type: ignore[operator]
                self._number += 1
                self._notes.setdefault(row, []).append([self._number, task, False])
                return None
            self._wake()
        touches = self._of(task)
        self._allocate(row, touches.allocates)
        if self._mapped and task.kind == Kind.LOAD:
            work_s = 0.0  # loading is nothing but reading
        blobs = [None if blob is None else (row, *blob) for blob in touches.blobs]
        if self.pager.settle(touches.program, blobs):
            return None
        return self.pager.begin(worker, work_s, touches.program, blobs, now_s, slowdown)

    def end(self, job: Job, task: Task) -> None:
        """The task is done: what it alone needed is released."""
        if self._asleep:
            for note in reversed(self._notes[job.row]):
                if note[1] is task:
                    note[2] = True
                    return
        self._release(job.row, self._of(task).releases)

    def die(self, job: Job) -> None:
        """The network is destroyed: everything it still holds is released."""
        if self._asleep:
            self._notes.pop(job.row, None)
            return
        for blob in sorted(self._held.pop(job.row, ())):
            self.pager.release((job.row, *blob))
        self._asleep = not self._held and not self._mapped

    def _wake(self) -> None:
        """Bring the pager to where the tasks noted down would have brought it; none of them faulted."""
        if not self._asleep:
            return
        self._asleep = False
        notes = [(*note, row) for row, own in self._notes.items() for note in own]
        for _, task, ended, row in sorted(notes, key=lambda note: note[0]):
            touches = self._of(task)
            self._allocate(row, touches.allocates)
            self.pager.settle(
                touches.program, [None if blob is None else (row, *blob) for blob in touches.blobs]
            )
            if ended:
                self._release(row, touches.releases)
        self._notes.clear()

    def _release(self, row: int, blobs: list[Blob]) -> None:
        held = self._held[row]
        for blob in blobs:
            if blob in held:
                held.remove(blob)
                self.pager.release((row, *blob))

    def _allocate(self, row: int, blobs: list[tuple[Blob, int]]) -> None:
        held = self._held.setdefault(row, set())
        for blob, size in blobs:
            held.add(blob)
            stored = self._mapped and blob[0] == WEIGHTS
            self.pager.allocate((row, *blob), size, stored=stored, pinned=self._mapped and not stored)

    def _of(self, task: Task) -> _Touches:
        touches = self._touches.get(task)
        if touches is None:
            touches = self._touches[task] = self._make(task)
        return touches

    def _make(self, task: Task) -> _Touches:
        network = task.network.network
        by_layer = self.runtime.weights_lifetime == "layer"
        copies = network.load_copies if self.runtime.load_copies else 0
        arena_bytes = task.network.arena_bytes
        if task.kind == Kind.INIT:
            made = [] if by_layer else _weight_blobs(network)
            if arena_bytes:
                made.append((ARENA, arena_bytes))
            return _Touches(made, access.fill_program(len(made)), [blob for blob, _ in made], [])
        if task.kind == Kind.LOAD:
            return _loading(network, task.layer, copies, by_layer)
        if task.layer == WHOLE_NETWORK:
            return _executing_all(task.network)
        alive = self.runtime.outputs_lifetime == "liveness"
        return _executing(network, task.layer, by_layer, alive, arena_bytes > 0)


def _weight_blobs(network: Network) -> list[tuple[Blob, int]]:
    sizes = [layer.weight_bytes for layer in network.layers]
    return [((WEIGHTS, index), size) for index, size in enumerate(sizes) if size]


def _loading(network: Network, layer: int, copies: int, by_layer: bool) -> _Touches:
    """LOAD of one layer, or of all: transient copies, then the weights."""
    whole = layer == WHOLE_NETWORK
    sizes = [x.weight_bytes for x in network.layers] if whole else [network.layers[layer].weight_bytes]
    total = sum(sizes)
    if not total:
        return _Touches([], _NOTHING, [], [])
    temporary: list[tuple[Blob, int]] = [((f"{COPY} {q}", layer), total) for q in range(copies)]
    first = 0 if whole else layer
    weights: list[Blob | None] = [(WEIGHTS, first + i) if size else None for i, size in enumerate(sizes)]
    allocates = list(temporary)
    if by_layer:
        allocates += [((WEIGHTS, first + i), size) for i, size in enumerate(sizes) if size]
    return _Touches(
        allocates,
        access.bulk_load_program(copies, tuple(sizes)),
        [*(blob for blob, _ in temporary), *weights],
        [blob for blob, _ in temporary],
    )


def _layer_blobs(
    network: Network, index: int, arena: bool
) -> tuple[list[tuple[Blob, int]], list[Blob | None]]:
    """What executing a layer allocates, and its blobs by the positions of ``access.layer_program``.

    In an ``arena`` outputs are no buffers of their own: what a layer reads and writes lies there.
    """
    layer = network.layers[index]
    output_bytes = 0 if arena else layer.output_bytes
    sizes = {IM2COL: layer.workspace_bytes, OTHER: layer.scratch_bytes, OUTPUT: output_bytes}
    allocates: list[tuple[Blob, int]] = [((kind, index), size) for kind, size in sizes.items() if size]
    source = network.buffer_of[layer.inputs[0]] if layer.inputs else None
    has_source = source is not None and network.layers[source].output_bytes > 0
    result: Blob | None = (OUTPUT, index) if layer.output_bytes else None
    blobs: list[Blob | None] = [
        ARENA if arena else (OUTPUT, source) if has_source and source is not None else None,
        (WEIGHTS, index) if layer.weight_bytes else None,
        (IM2COL, index) if layer.workspace_bytes else None,
        (OTHER, index) if layer.scratch_bytes else None,
        ARENA if arena else result,
    ]
    return allocates, blobs


def _layer_program(network: Network, index: int) -> Program:
    layer = network.layers[index]
    # A network that a profile tells has no shapes.
    elements = math.prod(layer.output_shape) if layer.output_shape else layer.output_bytes // FLOAT32_BYTES
    kind = _KINDS.get(layer.op, "other")
    return access.layer_program(
        kind,
        has_weights=layer.weight_bytes > 0,
        has_im2col=layer.workspace_bytes > 0,
        has_other=layer.scratch_bytes > 0,
        in_place=layer.output_bytes == 0,
        depth=max(1, round(layer.macs / elements)) if elements else 1,
        groups=max(1, layer.attributes.get("groups", 1)) if kind == "conv" else 1,
        batch=max(1, layer.output_shape[0]) if kind == "conv" and layer.output_shape else 1,
    )


def _executing(network: Network, index: int, by_layer: bool, liveness: bool, arena: bool) -> _Touches:
    """EXECUTE of one layer; its own buffers go when it is done."""
    allocates, blobs = _layer_blobs(network, index, arena)
    releases: list[Blob] = [blob for blob, _ in allocates if blob[0] != OUTPUT]
    if by_layer:
        releases.append((WEIGHTS, index))
    if liveness:
        releases += [(OUTPUT, owner) for owner, last in enumerate(network.last_use) if last == index]
    return _Touches(allocates, _layer_program(network, index), blobs, releases)


def _executing_all(cost: NetworkCost) -> _Touches:
    """EXECUTE of the whole network: all layers in turn, nothing dropped between them."""
    network = cost.network
    allocates: list[tuple[Blob, int]] = []
    position: dict[Blob, int] = {}
    parts = []
    for index in range(len(network.layers)):
        own, blobs = _layer_blobs(network, index, cost.arena_bytes > 0)
        allocates += own
        where = [-1 if blob is None else position.setdefault(blob, len(position)) for blob in blobs]
        parts.append((_layer_program(network, index), cost.execute_s[index], where))
    return _Touches(allocates, access.join_programs(parts), list(position), [])
