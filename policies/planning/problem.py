"""A network's options as the search sees them: whole numbers, one variable per layout to be decided.

A layer has a variable for the layout that it reads and one for the layout that it writes; a layer all of
whose options write what they read has a single one, and a layer without inputs has only the second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ...devices.options import NetworkOptions, Option
from ...primitives.layouts import Layout
from .memory import Memory
from .transforms import LONGEST_PS, PlanningError, paths, picoseconds

Array = np.ndarray[Any, Any]
Cell = tuple[int, ...]
"""Positions of layouts in the domains of a layer's variables."""


class Found(NamedTuple):
    """One plan, as a search counted it; pricing must count the same."""

    memory_bytes: int
    time_ps: int
    choice: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """One option of a layer in whole numbers."""

    option: int
    time_ps: int
    workspace_bytes: int
    """As far as it counts against the largest peak."""
    added_bytes: int
    """As far as it counts against a sum over the layers."""


@dataclass(frozen=True)
class Edge:
    """One input of a layer; arrays have the shape (layouts written, layouts read)."""

    variable: int
    """Variable of the layout in which the input is stored."""
    time_ps: Array
    """Float, infinite where it cannot be reached."""
    steps: Array
    tensor_bytes: int


@dataclass(frozen=True)
class Stage:
    """One layer."""

    index: int
    own: tuple[int, ...]
    """Its variables: that of what it reads and that of what it writes; one where both are the same, and one
    where it has no inputs."""
    cells: dict[Cell, tuple[Label, ...]]
    """By position in the domains of ``own``: the options that no other one beats, least workspace first."""
    edges: tuple[Edge, ...]
    base_bytes: int

    @cached_property
    def sources(self) -> tuple[int, ...]:
        """Variables of its inputs, each once."""
        return tuple(dict.fromkeys(edge.variable for edge in self.edges))

    @cached_property
    def least_bytes(self) -> int:
        """No choice has a lower peak here."""
        return self.base_bytes + min(label.workspace_bytes for cell in self.cells.values() for label in cell)

    @cached_property
    def most_bytes(self) -> int:
        """No choice has a higher peak here."""
        scratch = sum(int(edge.steps.max()) * edge.tensor_bytes for edge in self.edges)
        return (
            self.base_bytes
            + scratch
            + max(label.workspace_bytes for cell in self.cells.values() for label in cell)
        )

    @cached_property
    def transforms(self) -> tuple[Array, Array, Array]:
        """Time, highest bytes while transforming and bytes of the copies afterwards, the base included.

        By the layouts of ``sources`` and the one read: shape (layouts of each source, layouts read).
        """
        read = self.edges[0].steps.shape[1]
        sizes = {edge.variable: edge.steps.shape[0] for edge in self.edges}
        shape = (*(sizes[source] for source in self.sources), read)
        time, peak, held = np.zeros(shape), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for edge in self.edges:
            sides = [size if s == edge.variable else 1 for s, size in zip(self.sources, shape, strict=False)]
            steps = edge.steps.reshape(*sides, read)
            time = time + edge.time_ps.reshape(*sides, read)
            peak = np.maximum(peak, held + steps * edge.tensor_bytes)
            held = held + (steps > 0) * edge.tensor_bytes
        return time, peak + self.base_bytes, held + self.base_bytes


@dataclass(frozen=True)
class Problem:
    """A network to be planned under one definition of memory."""

    options: NetworkOptions
    memory: Memory
    sizes: dict[int, int]
    """Layouts in the domain of every variable."""
    stages: tuple[Stage, ...]
    floor_bytes: int = field(default=0)
    """No plan has a lower peak."""

    def coupled(self, stage: Stage) -> bool:
        """Whether what it transforms can decide the peak."""
        scratch = any(edge.tensor_bytes and edge.steps.any() for edge in stage.edges)
        return scratch and stage.most_bytes > self.floor_bytes

    @property
    def scopes(self) -> list[tuple[int, ...]]:
        """Which variables hang together: those of a layer, and those of each of its transforms; where these
        are coupled, all of them."""
        found: list[tuple[int, ...]] = []
        for stage in self.stages:
            if self.coupled(stage):
                found.append((*stage.sources, *stage.own))
            else:
                found += [stage.own, *((source, stage.own[0]) for source in stage.sources)]
        return found


def problem(options: NetworkOptions, memory: Memory) -> Problem:
    """The network as the search sees it. Raises ``PlanningError`` for numbers that are none."""
    domains: dict[int, list[Layout]] = {}
    own: list[tuple[int, ...]] = []
    for index, (layer, each) in enumerate(zip(options.network.layers, options.layers, strict=True)):
        written = list(dict.fromkeys(option.out_layout for option in each))
        if layer.inputs:
            domains[2 * index] = list(dict.fromkeys(option.in_layout for option in each))
        if layer.inputs and all(option.in_layout == option.out_layout for option in each):
            own.append((2 * index,))
            continue
        domains[2 * index + 1] = written
        own.append((2 * index, 2 * index + 1) if layer.inputs else (2 * index + 1,))
    stages = tuple(_stage(options, memory, index, own, domains) for index in range(len(own)))
    slowest = sum(
        max(label.time_ps for cell in stage.cells.values() for label in cell)
        + sum(int(edge.time_ps[np.isfinite(edge.time_ps)].max(initial=0)) for edge in stage.edges)
        for stage in stages
    )
    if slowest >= LONGEST_PS:
        raise PlanningError(
            f"{options.network.name}: a plan may take {slowest / 1e12:.3g} s; the planner counts "
            f"picoseconds up to {LONGEST_PS / 1e12:.0f} s"
        )
    floor = max(stage.least_bytes for stage in stages)
    return Problem(options, memory, {at: len(each) for at, each in domains.items()}, stages, floor)


def _stage(
    options: NetworkOptions,
    memory: Memory,
    index: int,
    own: list[tuple[int, ...]],
    domains: dict[int, list[Layout]],
) -> Stage:
    layer = options.network.layers[index]
    live = memory in ("peak-live", "total")
    cells: dict[Cell, list[Label]] = {}
    for at, option in enumerate(options.layers[index]):
        layouts = (option.in_layout, option.out_layout)[-len(own[index]) :]
        where = tuple(domains[v].index(layout) for v, layout in zip(own[index], layouts, strict=True))
        cells.setdefault(where, []).append(_label(at, option, memory, layer.name))
    edges = []
    for source in layer.inputs:
        before, after = domains[own[source][-1]], domains[own[index][0]]
        found = paths(options.transform_s[source], f"{options.network.layers[source].name}: transform_s")
        way = [[found.get((a, b)) for b in after] for a in before]
        edges.append(
            Edge(
                own[source][-1],
                np.array([[np.inf if p is None else p.time_ps for p in row] for row in way], float),
                np.array([[0 if p is None else p.steps for p in row] for row in way], np.int64),
                options.tensor_bytes[source] if live else 0,
            )
        )
    return Stage(
        index,
        own[index],
        {where: _unbeaten(labels) for where, labels in cells.items()},
        tuple(edges),
        options.live_bytes[index] if live else 0,
    )


def _label(at: int, option: Option, memory: Memory, layer: str) -> Label:
    if option.workspace_bytes < 0 or option.weight_bytes < 0:
        raise PlanningError(f"{layer}, {option.primitive}: bytes must be at least 0")
    added = {"total": option.weight_bytes, "no-reuse": option.workspace_bytes}.get(memory, 0)
    return Label(
        at,
        picoseconds(option.execute_s, f"{layer}, {option.primitive}: execute_s"),
        0 if memory == "no-reuse" else option.workspace_bytes,
        added,
    )


def _unbeaten(labels: list[Label]) -> tuple[Label, ...]:
    """Those of which no other is as good in everything, least workspace first."""
    kept: list[Label] = []
    for label in sorted(labels, key=lambda own: (own.workspace_bytes, own.added_bytes, own.time_ps)):
        if not any(k.time_ps <= label.time_ps and k.added_bytes <= label.added_bytes for k in kept):
            kept.append(label)
    return tuple(kept)
