"""The memory of one job of a planned network, and its layers bound to it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...devices.relayout import Path
from ...policies.graph import WHOLE_NETWORK
from ...primitives.arena import Arena
from ...primitives.layers.layer import LayerPrimitive, LayerShape, laid_out
from ...primitives.layouts import Layout, as_chw, in_layout, transform
from ...primitives.primitive import FLOAT, Array, Primitive
from ...primitives.shape import ConvShape
from ..machine.memory import PAGE_BYTES, Region
from .steps import PlannedError

if TYPE_CHECKING:
    from .program import PlannedProgram


class PlannedJob:
    """The memory of one job at a time, with what each layer reads and writes bound to it."""

    def __init__(self, program: PlannedProgram) -> None:
        self.program = program
        self.area = Region(max(program.area_bytes, PAGE_BYTES))
        if program.huge:
            self.area.advise_huge(0, program.area_bytes)
        self.weights = program.weights()
        self.images = dict(program.images)
        self._outputs = [self._output(index) for index in range(len(program.steps))]
        self.arenas = [
            Arena(step.arena_bytes, self.area.view(at, step.arena_bytes))
            for step, at in zip(program.steps, program.placement.arenas, strict=True)
        ]
        """One for each layer, where the plan has put it."""
        self._calls = [self._call(index) for index in range(len(program.steps))]
        self._workspace = [0] * len(program.steps)
        self._open = False

    @property
    def arena_high_water_bytes(self) -> int:
        """The most that any layer has taken of its arena."""
        return max(arena.high_water_bytes for arena in self.arenas)

    @property
    def workspace_high_water_bytes(self) -> int:
        """The most that any primitive has taken, inputs transformed for it not counted."""
        return max(self._workspace)

    def init(self) -> None:
        """The area's pages appear."""
        self._open = True
        ctypes.memset(self.area.address, 0, self.program.area_bytes)

    def load(self, layer: int) -> None:
        """Read the layer's weights (``WHOLE_NETWORK``: those of all layers, one after the other)."""
        for index in self._indices(layer):
            file = self.program.files[index]
            if file is not None:
                size = self.program.stored[index].part_bytes
                file.read_into(self.weights.view(self.program.place(index), size), 0)

    def execute(self, layer: int) -> None:
        """Compute the layer (``WHOLE_NETWORK``: all of them in turn)."""
        for index in self._indices(layer):
            self._calls[index]()

    def free_weights(self, layer: int) -> None:
        """The pages of the layer's weights leave."""
        size = self.program.stored[layer].part_bytes
        if size:
            self.weights.release(self.program.place(layer), size)

    def close(self) -> None:
        """Everything leaves; the addresses serve another job."""
        if self._open:
            self._open = False
            self.weights.release(0, self.weights.size_bytes)
            self.area.release(0, self.area.size_bytes)
            self.program.end(self)

    def put(self, image: Array) -> None:
        """The image that the next inference reads: (C, H, W), or with a batch of 1."""
        index = next(iter(self.images))
        wanted = self.program.network.layers[index].output_shape
        if image.shape not in (wanted, wanted[1:]):
            raise PlannedError(f"{self.program.network.name}: seen an image {image.shape}, needs {wanted}")
        self.images[index] = np.ascontiguousarray(image, FLOAT).reshape(wanted[1:])

    def output(self, index: int) -> Array:
        """A copy of what a layer has written, chw; before another layer writes over it."""
        out = self._outputs[index]
        return (as_chw(out, self._layout(index)) if out.ndim == 3 else out).copy()

    def _layout(self, index: int) -> Layout:
        return self.program.steps[index].primitive.out_layout

    def _output(self, index: int) -> Array:
        program = self.program
        shape = laid_out(program.network.layers[index].output_shape[1:], self._layout(index))
        return _array(self.area, program.placement.outputs[index], shape)

    def _call(self, index: int) -> Callable[[], None]:
        """What computes the layer."""
        program = self.program
        step, stored = program.steps[index], program.stored[index]
        out, arena = self._outputs[index], self.arenas[index]
        sources = [self._outputs[source] for source in program.network.layers[index].inputs]
        values = _array(self.weights, program.place(index), (stored.weight_elements + stored.bias_elements,))
        weights, bias = values[: stored.weight_elements], values[stored.weight_elements :]
        kept_bias = bias if stored.bias_elements else None
        primitive, shape = step.primitive, step.shape
        moved = any(path.steps for path in step.transforms)

        def compute(inputs: Sequence[Array]) -> None:
            before, arena.high_water_bytes = arena.high_water_bytes, arena.used_bytes
            if isinstance(primitive, Primitive):
                assert isinstance(shape, ConvShape)
                primitive.run(inputs[0], weights, kept_bias, out, shape, arena)
            else:
                assert isinstance(primitive, LayerPrimitive)
                assert isinstance(shape, LayerShape)
                primitive.run(inputs, weights, out, shape, arena)
            taken = arena.high_water_bytes - arena.used_bytes
            self._workspace[index] = max(self._workspace[index], taken)
            arena.high_water_bytes = max(before, arena.high_water_bytes)

        def transformed() -> None:
            with arena.frame():
                compute([_moved(*each, arena) for each in zip(sources, step.stored, step.transforms)])  # noqa: B905

        if not sources:
            return lambda: compute([self.images[index]])
        return transformed if moved else lambda: compute(sources)

    def _indices(self, layer: int) -> Sequence[int]:
        return range(len(self.program.steps)) if layer == WHOLE_NETWORK else (layer,)


def _moved(source: Array, stored: Layout, path: Path, arena: Arena) -> Array:
    """The tensor in the layout at the end of the path; what lies between is given back."""
    if not path.steps:
        return source
    sides = as_chw(source, stored).shape
    last = arena.take(in_layout(sides, path.steps[-1]))
    with arena.frame():
        for layout in path.steps[:-1]:
            between = arena.take(in_layout(sides, layout))
            transform(source, stored, layout, between)
            source, stored = between, layout
        transform(source, stored, path.steps[-1], last)
    return last


def _array(region: Region, offset: int, shape: tuple[int, ...]) -> Array:
    """A float32 array on memory of the region."""
    count = int(np.prod(shape))
    return np.frombuffer(region.view(offset, count * FLOAT().itemsize), FLOAT).reshape(shape)
