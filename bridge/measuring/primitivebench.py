"""Primitives of one layer, ready to be timed in the process of ``bench.py``, in memory as a plan has it.

All candidates share one input, output and workspace, and weights that are stored alike. Before each sample
something else is read, and then the input, so that the caches hold about what they do in an inference, where
other layers have run and the last one has written the input.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...primitives.arena import Arena
from ...primitives.catalogue import primitive as convolution
from ...primitives.layers import catalogue as others
from ...primitives.layers.layer import laid_out, layer_shape
from ...primitives.layouts import LAYOUTS, in_layout, transform, transform_name
from ...primitives.primitive import FLOAT, Array
from ...primitives.shape import CONVOLUTIONS, conv_shape
from ...workloads.network import Network
from ..machine.host import Disturbance, Snapshot, gives_free_pages_back
from ..machine.memory import PAGE_BYTES, Region
from ..planned.program import one_blas_thread
from ..planned.weights import layer_weights, prepared
from .passes import Timed, timed
from .samples import machine_disturbed

LOOK_S = 0.05
"""Seconds of samples after which to look whether something disturbed the machine."""


FILL_BYTES = 4 * 1024**2
"""Read before each sample. Fitted to three plans each of SqueezeNet 1.1, MobileNet v1 and ResNet-18, whose
layers were timed in turn with whole inferences (0.5 MiB of cache a processor, 32 MiB shared): with 4 MiB
they were 5.0 % off by medians and 4.7 % by means, with 8 MiB 6.8 % and 4.4 % (medians over plans). So both
are about as good; with 8 MiB plans of large workspaces looked up to 21 % slower than they are, with 4 MiB
up to 10 %."""


class PrimitiveBenchError(ValueError):
    """A primitive does not do what its formula says; the message says which."""


class Ready(NamedTuple):
    """A primitive that can be called, and the arrays that it reads."""

    call: Callable[[], None]
    inputs: Sequence[Array]
    arena: Arena


class PrimitiveBench:
    """What can be timed of one layer or tensor; as long as it is open, linear algebra has one thread."""

    def __init__(self) -> None:
        self._one_thread = ExitStack()
        self._one_thread.enter_context(one_blas_thread())
        self._fill = np.ones(FILL_BYTES // FLOAT().itemsize, FLOAT)
        self.ready: dict[str, Ready] = {}
        self._regions: list[Region] = []
        self._before: Snapshot | None = None

    def tensor(self, shape: tuple[int, ...]) -> dict[str, float]:
        """Make the transforms of an image (C, H, W) ready; returns what ``_warm_up`` does."""
        self.clear()
        source, out = (self._memory((int(np.prod(shape)),)) for _ in range(2))
        for before in LAYOUTS:
            for after in LAYOUTS:
                if before != after:
                    image = source.reshape(in_layout((shape[0], shape[1], shape[2]), before))
                    copy = out.reshape(in_layout((shape[0], shape[1], shape[2]), after))
                    call = partial(transform, image, before, after, copy)
                    self.ready[transform_name(before, after)] = Ready(call, [image], Arena(0))
        return self._warm_up(dict.fromkeys(self.ready, 0))

    def layer(
        self, network: Network, index: int, workspace: Mapping[str, int], seed: int
    ) -> dict[str, float]:
        """Make primitives of a layer ready, with the bytes of workspace that each must take.

        Returns what ``_warm_up`` does.

        The image is noise, the weights are those of ``planned.weights``.
        """
        self.clear()
        layer = network.layers[index]
        read = [network.layers[source].output_shape[1:] for source in layer.inputs] or [
            layer.output_shape[1:]
        ]
        rng = np.random.default_rng(seed)
        sources = [self._memory((int(np.prod(shape)),)) for shape in read]
        for each in sources:
            rng.standard_normal(len(each), np.float32, out=each)
        out = self._memory((int(np.prod(layer.output_shape[1:])),))
        most = max(workspace.values())
        arena = Arena(most, self._region(most).view(0, most))
        in_place = bool(layer.inputs) and not layer.output_bytes
        weights = layer_weights(network, index, seed)
        stored: dict[str, Array] = {}
        for name in workspace:
            primitive: Any
            primitive = convolution(name) if layer.op in CONVOLUTIONS else others.primitive(name)
            inputs = [
                each.reshape(laid_out(shape, primitive.in_layout))
                for each, shape in zip(sources, read, strict=True)
            ]
            result = out.reshape(laid_out(layer.output_shape[1:], primitive.out_layout))
            if in_place and primitive.in_place:
                result = inputs[0]
            values = np.empty(0, FLOAT)
            if weights:
                values = prepared(network, index, primitive, weights)
                digest = hashlib.sha1(values.data.cast("B"), usedforsecurity=False).hexdigest()
                if digest not in stored:
                    stored[digest] = self._memory(values.shape)
                    stored[digest][...] = values
                values = stored[digest]
            if layer.op in CONVOLUTIONS:
                conv = conv_shape(network, index)
                count = primitive.weight_elements(conv)
                bias = values[count:] if "bias" in weights else None
                call = partial(primitive.run, inputs[0], values[:count], bias, result, conv, arena)
            else:
                call = partial(primitive.run, inputs, values, result, layer_shape(network, index), arena)
            self.ready[name] = Ready(call, inputs, arena)
        return self._warm_up(workspace)

    def _warm_up(self, workspace: Mapping[str, int]) -> dict[str, float]:
        """Call everything twice (the first time compiles); the seconds of the second call."""
        seconds = {}
        for name, ready in self.ready.items():
            ready.arena.reset()
            ready.call()
            if ready.arena.high_water_bytes != workspace[name]:
                raise PrimitiveBenchError(
                    f"{name} took {ready.arena.high_water_bytes} bytes of workspace, its formula says "
                    f"{workspace[name]}"
                )
            start_s = time.monotonic()
            ready.call()
            seconds[name] = time.monotonic() - start_s
        return seconds

    def samples(self, names: Sequence[str]) -> list[tuple[str, list[Timed]]]:
        """One sample of each, in the order given, with what disturbed the machine meanwhile."""
        found: list[tuple[str, list[Timed]]] = []
        group: list[Timed] = []
        since_s = time.monotonic()
        if self._before is None:
            self._before = Snapshot.take()
        for at, name in enumerate(names):
            ready = self.ready[name]
            self._fill.max()
            for each in ready.inputs:
                each.max()
            group.append(timed(name, 0, ready.call))
            if at == len(names) - 1 or time.monotonic() - since_s > LOOK_S:
                before, self._before = self._before, Snapshot.take()
                found.append((machine_disturbed(Disturbance.between(before, self._before)), group))
                group, since_s = [], time.monotonic()
        return found

    def close(self) -> None:
        """Give everything back."""
        self.clear()
        self._one_thread.close()

    def clear(self) -> None:
        """Give all memory of the layer back."""
        self.ready.clear()
        self._before = None
        for region in self._regions:
            region.close()
        self._regions.clear()

    def _memory(self, shape: tuple[int, ...]) -> Array:
        return _array(shape, self._regions)

    def _region(self, size_bytes: int) -> Region:
        region = _region(size_bytes)
        self._regions.append(region)
        return region


def _array(shape: tuple[int, ...], kept: list[Region]) -> Array:
    """A float32 array in a region of its own, which is added to ``kept``."""
    size_bytes = int(np.prod(shape)) * FLOAT().itemsize
    region = _region(size_bytes)
    kept.append(region)
    array = np.frombuffer(region.view(0, size_bytes), FLOAT).reshape(shape)
    array.fill(0)
    return array


def _region(size_bytes: int) -> Region:
    region = Region(max(size_bytes, PAGE_BYTES))
    if not gives_free_pages_back():
        region.advise_huge(0, size_bytes)
    return region
