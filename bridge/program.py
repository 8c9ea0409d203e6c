"""Layer bundles made executable: sessions that stay, and for each job memory that comes and goes.

A session holds no weights. A job's weights and activations lie at fixed addresses, so that what each session
reads and writes is bound once; loading fills the addresses, freeing takes the pages behind them away.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..policies.graph import WHOLE_NETWORK
from .bundles.libraries import import_runtime
from .machine.host import gives_free_pages_back
from .machine.mapped import MappedFile
from .machine.memory import PAGE_BYTES, Region, huge_page_bytes
from .machine.storage import WeightsFile

if TYPE_CHECKING:
    from .bundles.bundle import Bundle
    from .machine.storage import Pace


class Program:
    """A network ready to be executed in this process, by any number of jobs at once.

    ``threads`` compute each layer. ``reads`` as in ``devices.model.Storage``; ``pace`` is shared by all
    programs of a run.
    """

    def __init__(
        self, bundle: Bundle, *, threads: int = 1, reads: str = "direct", pace: Pace | None = None
    ) -> None:
        self.bundle = bundle
        self.layers = bundle.layers
        self.sessions = [session(bundle.model_path(i), threads) for i in range(len(self.layers))]
        self.file = WeightsFile(bundle.weights_path, "cached" if reads == "cached" else "direct", pace)
        self.mapped = reads == "mapped"
        self.huge = not gives_free_pages_back()
        """Whether large buffers ask for huge pages."""
        self.images = {name: _image(bundle, name) for name in bundle.inputs}
        self._places, self._size_bytes = places_of([layer.weights_bytes for layer in self.layers])
        self._idle: list[JobMemory] = []

    @property
    def layer_count(self) -> int:
        """How many layers a job has."""
        return len(self.layers)

    def set_pace(self, pace: Pace | None) -> None:
        """Load at this pace from now on."""
        self.file.pace = pace

    def reserve(self, count: int) -> None:
        """Make the memory of ``count`` jobs ready (addresses and bindings; no page of it is resident)."""
        while len(self._idle) < count:
            self._idle.append(JobMemory(self))

    def begin(self) -> JobMemory:
        """Memory for one job."""
        return self._idle.pop() if self._idle else JobMemory(self)

    def end(self, memory: JobMemory) -> None:
        """The job is done; another one may have its memory."""
        self._idle.append(memory)

    def weights(self) -> Region | MappedFile:
        """New memory for all weights of one job."""
        if self.mapped:
            return MappedFile(self.bundle.weights_path)
        region = Region(max(self._size_bytes, PAGE_BYTES))
        for place, layer in zip(self._places, self.layers, strict=True):
            if layer.weights_bytes and self.huge:
                region.advise_huge(place, layer.weights_bytes)
        return region

    def place(self, layer: int) -> int:
        """Where a layer's weights lie in the memory that ``weights`` makes."""
        return self.layers[layer].weights_offset if self.mapped else self._places[layer]


class JobMemory:
    """The memory of one job at a time, with what each layer reads and writes bound to it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.arena = Region(max(program.bundle.arena_bytes, PAGE_BYTES))
        if program.huge:
            self.arena.advise_huge(0, program.bundle.arena_bytes)
        self.weights = program.weights()
        self._bindings = [self._binding(index) for index in range(len(program.layers))]
        self._runs: list[Callable[[Any], None]] = [s.run_with_iobinding for s in program.sessions]
        self._inputs = [
            (self.arena.address + program.bundle.tensors[name].offset, image)
            for name, image in program.images.items()
        ]
        self._open = False

    def _binding(self, index: int) -> Any:
        program = self.program
        layer = program.layers[index]
        tensors = program.bundle.tensors
        binding = program.sessions[index].io_binding()
        base = self.weights.address + program.place(index)
        for weight in layer.weights:
            binding.bind_input(
                weight.name, "cpu", 0, np.dtype(weight.dtype), list(weight.shape), base + weight.offset
            )
        for name in layer.inputs:
            tensor = tensors[name]
            where = self.arena.address + tensor.offset
            binding.bind_input(name, "cpu", 0, np.dtype(tensor.dtype), list(tensor.shape), where)
        for name in layer.outputs:
            tensor = tensors[name]
            where = self.arena.address + tensor.offset
            binding.bind_output(name, "cpu", 0, np.dtype(tensor.dtype), list(tensor.shape), where)
        return binding

    def init(self) -> None:
        """The arena's pages appear, the image lies in it."""
        self._open = True
        ctypes.memset(self.arena.address, 0, self.program.bundle.arena_bytes)
        for address, image in self._inputs:
            ctypes.memmove(address, image.ctypes.data, image.nbytes)

    def load(self, layer: int) -> None:
        """Read the layer's weights (``WHOLE_NETWORK``: those of all layers, one after the other)."""
        for index in self._indices(layer):
            spec = self.program.layers[index]
            if not spec.weights_bytes:
                continue
            if not self._bring_in(index):
                view = self.weights.view(self.program.place(index), spec.weights_bytes)
                self.program.file.read_into(view, spec.weights_offset)

    def execute(self, layer: int) -> None:
        """Compute the layer (``WHOLE_NETWORK``: all of them in turn)."""
        for index in self._indices(layer):
            self._bring_in(index)
            self._runs[index](self._bindings[index])

    def _bring_in(self, index: int) -> bool:
        """Read what is not there of a layer's mapped weights; False if weights are not mapped."""
        if not isinstance(self.weights, MappedFile):
            return False
        spec = self.program.layers[index]
        if spec.weights_bytes:
            self.weights.populate(spec.weights_offset, spec.weights_bytes, self.program.file.pace)
        return True

    def free_weights(self, layer: int) -> None:
        """The pages of the layer's weights leave."""
        spec = self.program.layers[layer]
        if spec.weights_bytes:
            self.weights.release(self.program.place(layer), spec.weights_bytes)

    def close(self) -> None:
        """Everything leaves; the addresses and bindings serve another job."""
        if self._open:
            self._open = False
            self.weights.release(0, self.weights.size_bytes)
            self.arena.release(0, self.arena.size_bytes)
            self.program.end(self)

    def output(self, name: str) -> np.ndarray[Any, Any]:
        """A copy of one of the network's outputs; before ``close``."""
        tensor = self.program.bundle.tensors[name]
        kind = np.dtype(tensor.dtype)
        count = int(np.prod(tensor.shape))
        view = self.arena.view(tensor.offset, count * kind.itemsize)
        return np.frombuffer(view, kind).reshape(tensor.shape).copy()

    def put(self, name: str, value: np.ndarray[Any, Any]) -> None:
        """Put another image into the arena; after ``init``."""
        tensor = self.program.bundle.tensors[name]
        given = np.ascontiguousarray(value, dtype=np.dtype(tensor.dtype))
        if given.shape != tuple(tensor.shape):
            raise ValueError(f"{name}: seen shape {given.shape}, needs {tuple(tensor.shape)}")
        ctypes.memmove(self.arena.address + tensor.offset, given.ctypes.data, given.nbytes)

    def _indices(self, layer: int) -> Sequence[int]:
        return range(len(self.program.layers)) if layer == WHOLE_NETWORK else (layer,)


class Programs:
    """The backend of a replay: the programs of all its networks, by the scenario's names."""

    def __init__(self, programs: Mapping[str, Program]) -> None:
        self.programs = programs

    def begin(self, network: str) -> JobMemory:
        """Memory for one job of the network."""
        return self.programs[network].begin()


def session(path: Any, threads: int) -> Any:
    """An onnxruntime session that runs a layer's model as it stands, and keeps no memory of its own."""
    ort = import_runtime()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def places_of(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Places of the layers' weights, large ones where huge pages begin, and the bytes they take in all."""
    huge = huge_page_bytes()
    places, end = [], 0
    for size in sizes:
        step = huge if size >= huge else PAGE_BYTES
        start = -(-end // step) * step
        places.append(start)
        end = start + size
    return places, end


def _image(bundle: Bundle, name: str) -> np.ndarray[Any, Any]:
    """What stands for the image: noise, the same every time."""
    tensor = bundle.tensors[name]
    kind = np.dtype(tensor.dtype)
    rng = np.random.default_rng(0)
    if kind.kind == "f":
        return rng.standard_normal(tensor.shape, dtype=np.float32).astype(kind)
    return np.zeros(tensor.shape, kind)
