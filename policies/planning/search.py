"""The fastest plan for every bound on the peak at once, where memory is the largest of the layers' peaks.

A table holds picoseconds by the layouts of some variables and by the bound: one column for each value that
the peak can take. The bounds are taken a few hundred at a time, so that tables stay small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .elimination import TooWideError, elimination_order
from .problem import Array, Found, Label, Problem, Stage

COLUMNS = 512
"""Bounds at a time, fewer where tables are large."""
MOST_CELLS = 3**11
"""Of a table, for each bound."""
_TABLE = 1 << 22

Cost = Callable[[Label], int]


class Table(NamedTuple):
    """``values`` by the layouts of ``scope``; the last axis is the bound, of length 1 where all are alike."""

    scope: tuple[int, ...]
    values: Array


class Search:
    """The search of one problem. Raises ``TooWideError``."""

    def __init__(self, problem: Problem, most_cells: int = MOST_CELLS) -> None:
        self.problem = problem
        self.order, cells = elimination_order(problem.scopes, problem.sizes)
        if cells > most_cells:
            raise TooWideError(problem.options.network.name, cells, most_cells)
        self._columns = max(8, min(COLUMNS, _TABLE // cells))

    def bounds(self, at_most_bytes: int | None = None) -> Array:
        """Every value that the peak can take, ascending."""
        values = [np.array([self.problem.floor_bytes], np.int64)]
        values.extend(peaks(self.problem, stage) for stage in self.problem.stages)
        found = np.unique(np.concatenate(values))
        found = found[found >= self.problem.floor_bytes]
        return found if at_most_bytes is None else found[found <= at_most_bytes]

    def costs(
        self, bounds: Array, cost: Cost = lambda label: label.time_ps, transforms: bool = True
    ) -> Array:
        """The least cost within every bound (ascending); infinite where there is no plan."""
        parts = [Columns(self, part, cost, transforms).least for part in self._parts(bounds)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def staircase(self, bounds: Array) -> list[Found]:
        """The fastest plan at every bound (ascending) at which the least time falls."""
        found: list[Found] = []
        best = np.inf
        for part in self._parts(bounds):
            columns = Columns(self, part)
            before = np.minimum.accumulate(np.concatenate([[best], columns.least]))
            falls = np.flatnonzero(columns.least < before[:-1])
            best = before[-1]
            times = columns.least[falls].astype(np.int64).tolist()
            found.extend(map(Found, part[falls].tolist(), times, columns.choices(falls)))
        return found

    def _parts(self, bounds: Array) -> list[Array]:
        return [bounds[at : at + self._columns] for at in range(0, len(bounds), self._columns)]


class Columns:
    """The search for some bounds."""

    def __init__(
        self,
        search: Search,
        bounds: Array,
        cost: Cost = lambda label: label.time_ps,
        transforms: bool = True,
    ) -> None:
        self.problem, self.bounds = search.problem, bounds
        self._cost, self._transforms = cost, transforms
        self._steps: list[tuple[int, list[Table]]] = []
        holding: dict[int, list[Table]] = {variable: [] for variable in self.problem.sizes}
        place = {variable: at for at, variable in enumerate(search.order)}
        for table in self._tables():
            holding[min(table.scope, key=place.__getitem__)].append(table)
        constant = np.zeros(1)
        for variable in search.order:
            tables = holding.pop(variable)
            self._steps.append((variable, tables))
            joined = joined_table(tables, variable)
            if joined.scope:
                holding[min(joined.scope, key=place.__getitem__)].append(joined)
            else:
                constant = constant + joined.values
        self.least: Array = np.broadcast_to(constant, bounds.shape)

    def _tables(self) -> list[Table]:
        tables = []
        for stage in self.problem.stages:
            if self.problem.coupled(stage) and stage.most_bytes > self.bounds[0]:
                tables.append(self._coupled(stage))
                continue
            shape = tuple(self.problem.sizes[variable] for variable in stage.own)
            fits_all = all(
                stage.base_bytes + label.workspace_bytes <= self.bounds[0]
                for cell in stage.cells.values()
                for label in cell
            )
            own = self.bounds[:1] if fits_all else self.bounds
            values = np.full((*shape, len(own)), np.inf)
            for where, cell in stage.cells.items():
                values[where] = self._fastest(cell, own - stage.base_bytes)
            tables.append(Table(stage.own, values))
            tables.extend(
                Table((edge.variable, stage.own[0]), self._transform(edge.time_ps)[..., None])
                for edge in stage.edges
            )
        return tables

    def _transform(self, time_ps: Array) -> Array:
        return time_ps if self._transforms else np.where(np.isfinite(time_ps), 0.0, np.inf)

    def _coupled(self, stage: Stage) -> Table:
        """The table of a layer whose transforms count: over the layouts of its inputs and its own."""
        time, peak, held = stage.transforms
        shape = (*time.shape[:-1], *(self.problem.sizes[variable] for variable in stage.own))
        values = np.full((*shape, len(self.bounds)), np.inf)
        for where, cell in stage.cells.items():
            read = where[0]
            fastest = self._fastest(cell, self.bounds - held[..., read, None])
            fits = peak[..., read, None] <= self.bounds
            within = np.where(fits, fastest + self._transform(time[..., read])[..., None], np.inf)
            place: tuple[Any, ...] = (..., *where, slice(None))
            values[place] = within
        return Table((*stage.sources, *stage.own), values)

    def _fastest(self, cell: tuple[Label, ...], room: Array) -> Array:
        """Cost of the best option within the room; infinite where none fits."""
        best = np.minimum.accumulate(np.array([self._cost(label) for label in cell], float))
        costs: Array = np.concatenate([[np.inf], best])[self._fitting(cell, room)]
        return costs

    @staticmethod
    def _fitting(cell: tuple[Label, ...], room: Array) -> Array:
        """How many options of the cell (least workspace first) fit."""
        return np.searchsorted(np.array([label.workspace_bytes for label in cell]), room, side="right")

    def choices(self, columns: Array) -> list[tuple[int, ...]]:
        """The options of the best plan at each of the columns."""
        if not len(columns):
            return []
        values: dict[int, Array] = {}
        for variable, tables in reversed(self._steps):
            total = np.zeros((len(columns), self.problem.sizes[variable]))
            for table in tables:
                where = tuple(
                    np.arange(total.shape[1])[None, :] if other == variable else values[other][:, None]
                    for other in table.scope
                )
                at = columns[:, None] if table.values.shape[-1] > 1 else 0
                total += table.values[(*where, at)]
            values[variable] = total.argmin(axis=1)
        chosen = [self._options(stage, values, columns) for stage in self.problem.stages]
        return list(zip(*(each.tolist() for each in chosen), strict=True))

    def _options(self, stage: Stage, values: dict[int, Array], columns: Array) -> Array:
        """The option of one layer at each of the columns, given the layouts."""
        room = self.bounds[columns] - stage.base_bytes
        if stage.edges:
            held = stage.transforms[2]
            where = tuple(values[source] for source in stage.sources)
            room = self.bounds[columns] - held[(*where, values[stage.own[0]])]
        found = np.zeros(len(columns), np.int64)
        for position, cell in stage.cells.items():
            here = np.logical_and.reduce(
                [values[variable] == at for variable, at in zip(stage.own, position, strict=True)]
            )
            rows = np.flatnonzero(here)
            if len(rows):
                costs = [self._cost(label) for label in cell]
                best = [min(range(n + 1), key=costs.__getitem__) for n in range(len(cell))]
                at = self._fitting(cell, room[rows]) - 1
                found[rows] = np.array([label.option for label in cell])[np.array(best)[at]]
        return found


def joined_table(tables: list[Table], variable: int) -> Table:
    """The sum of the tables with the variable decided for the best."""
    scope = tuple(sorted({other for table in tables for other in table.scope} - {variable}))
    axes = (*scope, variable)
    total: Array | None = None
    for table in sorted(tables, key=lambda each: each.values.size):
        present = [table.scope.index(other) for other in axes if other in table.scope]
        values = table.values.transpose(*present, len(table.scope))
        shape = iter(values.shape)
        values = values.reshape(*(next(shape) if other in table.scope else 1 for other in axes), -1)
        total = values if total is None else total + values
    assert total is not None
    return Table(scope, total.min(axis=-2))


def peaks(problem: Problem, stage: Stage) -> Array:
    """Every value that the peak of a layer can take, as far as it can decide the plan's."""
    labels = [label.workspace_bytes for cell in stage.cells.values() for label in cell]
    own = np.unique(np.array(labels, np.int64))
    if not problem.coupled(stage):
        return own + stage.base_bytes
    time, peak, held = stage.transforms
    reachable = np.isfinite(time)
    return np.unique(np.concatenate([peak[reachable], np.add.outer(np.unique(held[reachable]), own).ravel()]))
