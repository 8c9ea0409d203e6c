"""Planned networks made executable: each layer with its primitive, each job in memory that comes and goes.

A job's outputs, transformed inputs and workspaces lie in one area, planned offset by offset; every layer's
primitive is handed an arena of exactly the bytes that the plan gives it. Weights lie as their primitives
store them, in files that a job loads layer by layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...devices.options import Choice, NetworkOptions
from ...policies.graph import WHOLE_NETWORK
from ...primitives.primitive import Array
from ..machine.host import gives_free_pages_back
from ..machine.memory import PAGE_BYTES, Region
from ..machine.storage import WeightsFile
from ..program import places_of
from .job import PlannedJob
from .steps import PlannedError, Step, placed, steps_of
from .weights import stored_layers

if TYPE_CHECKING:
    from ..machine.storage import Pace


class PlannedProgram:
    """A network as planned, ready to be executed in this process, by any number of jobs at once.

    ``choice`` is the plan: for each layer the index of its option. ``seed`` is that of the random weights,
    which are those of the model that ``bundles/generate.py`` writes; they are kept in ``cache``. ``reads`` is
    ``direct`` or ``cached``, as in ``devices.model.Storage``; ``pace`` is shared by all programs of a run.
    One thread computes: see ``one_blas_thread``. Raises ``PlannedError``.
    """

    def __init__(
        self,
        options: NetworkOptions,
        choice: Choice,
        *,
        seed: int = 0,
        cache: Path | None = None,
        reads: str = "cached",
        pace: Pace | None = None,
    ) -> None:
        self.options = options
        self.network = options.network
        self.seed = seed
        self.steps = steps_of(options, choice)
        self.placement = placed(self.network, self.steps)
        if reads not in ("direct", "cached"):
            raise PlannedError(
                f"{self.network.name}: weights of a plan are read 'direct' or 'cached', not {reads!r}"
            )
        primitives = {index: step.primitive for index, step in enumerate(self.steps)}
        self.stored = stored_layers(self.network, primitives, seed=seed, cache=cache)
        self.files = [
            WeightsFile(each.path, "direct" if reads == "direct" else "cached", pace) if each.path else None
            for each in self.stored
        ]
        self.huge = not gives_free_pages_back()
        """Whether large buffers ask for huge pages."""
        self.images = {
            index: np.random.default_rng(0).standard_normal(layer.output_shape[1:], dtype=np.float32)
            for index, layer in enumerate(self.network.layers)
            if not layer.inputs
        }
        self._places, self._weights_bytes = places_of([each.part_bytes for each in self.stored])
        self._idle: list[PlannedJob] = []
        self._own: PlannedJob | None = None

    @property
    def layer_count(self) -> int:
        """How many layers a job has."""
        return len(self.steps)

    @property
    def area_bytes(self) -> int:
        """Bytes of one job's outputs, transformed inputs and workspaces, as they are placed."""
        return self.placement.area_bytes

    @property
    def workspace_bytes(self) -> int:
        """The plan's largest workspace."""
        return max(step.workspace_bytes for step in self.steps)

    @property
    def arena_bytes(self) -> int:
        """The plan's largest workspace with the transformed inputs beside it."""
        return max(step.arena_bytes for step in self.steps)

    @property
    def live_bytes(self) -> int:
        """The most at any instant of outputs, transformed inputs and workspace: ``area_bytes`` at best."""
        live = zip(self.network.live_bytes, self.steps, strict=True)
        return max(outputs + step.arena_bytes for outputs, step in live)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights as stored."""
        return sum(each.size_bytes for each in self.stored)

    def set_pace(self, pace: Pace | None) -> None:
        """Load at this pace from now on."""
        for file in self.files:
            if file is not None:
                file.pace = pace

    def reserve(self, count: int) -> None:
        """Make the memory of ``count`` jobs ready (addresses only; no page of it is resident)."""
        while len(self._idle) < count:
            self._idle.append(PlannedJob(self))

    def begin(self) -> PlannedJob:
        """Memory for one job."""
        return self._idle.pop() if self._idle else PlannedJob(self)

    def end(self, memory: PlannedJob) -> None:
        """The job is done; another one may have its memory."""
        self._idle.append(memory)

    def weights(self) -> Region:
        """New memory for all weights of one job."""
        region = Region(max(self._weights_bytes, PAGE_BYTES))
        for at, stored in zip(self._places, self.stored, strict=True):
            if stored.part_bytes and self.huge:
                region.advise_huge(at, stored.part_bytes)
        return region

    def place(self, layer: int) -> int:
        """Where a layer's weights lie in the memory that ``weights`` makes."""
        return self._places[layer]

    @property
    def own(self) -> PlannedJob:
        """A job of the program's own that stays, all its weights loaded."""
        if self._own is None:
            self._own = PlannedJob(self)
            self._own.init()
            self._own.load(WHOLE_NETWORK)
        return self._own

    def run(self, image: Array | None = None) -> dict[str, Array]:
        """One inference with resident weights; the outputs by layer, chw, copied.

        ``image`` (C, H, W) or with a batch of 1; None: the noise that stands for one.
        """
        if image is not None:
            self.own.put(image)
        self.own.execute(WHOLE_NETWORK)
        ends = [index for index, readers in enumerate(self.network.consumers) if not readers]
        return {self.network.layers[index].name: self.own.output(index) for index in ends}

    def execute(self, layer: int) -> None:
        """Compute one layer of that inference."""
        self.own.execute(layer)

    def close(self) -> None:
        """Give the memory of ``run`` back and close the files; a second call does nothing."""
        if self._own is not None:
            self._own.close()
            self._own = None
        for file in self.files:
            if file is not None:
                file.close()


class PlannedPrograms:
    """The backend of a replay: the programs of all its networks, by the scenario's names."""

    def __init__(self, programs: Mapping[str, PlannedProgram]) -> None:
        self.programs = programs

    def begin(self, network: str) -> PlannedJob:
        """Memory for one job of the network."""
        return self.programs[network].begin()


def one_blas_thread() -> Any:
    """From now on the linear algebra of numpy and scipy computes in the thread that calls it.

    Returns a context manager, whose end restores what was before; without ``with`` it stays so.
    """
    import scipy.linalg.cython_blas  # noqa: F401 - scipy's own library must be loaded to be told
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")


__all__ = ["PlannedError", "PlannedJob", "PlannedProgram", "PlannedPrograms", "Step", "one_blas_thread"]
