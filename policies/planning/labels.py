"""All plans worth having, where memory adds up over the layers: sums of weights or of workspaces.

A label is a plan of a part of the network: its time, the bytes that add up, and its highest peak. A table
holds a set of labels for every combination of the layouts that it spans. Label A makes B superfluous where it
is as good in time, in added bytes, and in added bytes and peak together: then A with any plan of the rest is
as good as B with it. Peaks below the least that any plan has count as that.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .elimination import TooWideError, elimination_order
from .problem import Array, Cell, Problem, Stage

MOST_PAIRS = 400_000_000
"""Sums of two labels that may be formed in one search: some minutes."""
MOST_CELLS = 3**8
"""Sets of labels in a table."""
_BLOCK = 1 << 20
_SQUARE = 128
_NEVER = np.iinfo(np.int64).max
_EARLIER = np.triu(np.ones((_SQUARE, _SQUARE), bool), 1)


class TooManyError(ValueError):
    """There are too many plans worth having."""


class Labels(NamedTuple):
    """A set of labels: a column each, and where each label comes from."""

    time_ps: Array
    added_bytes: Array
    peak_bytes: Array
    origin: Array
    """For a layer's own labels (labels, 1): the option. For joined ones: the value of the decided variable
    and the position of the label in each of the joined tables."""

    def at(self, rows: Array) -> Labels:
        """Some of them."""
        return Labels(*(column[rows] for column in self))


@dataclass(frozen=True)
class Table:
    """Sets of labels by the positions of layouts; combinations that cannot be are missing."""

    scope: tuple[int, ...]
    cells: dict[Cell, Labels]
    stage: int | None = None
    """The layer whose options these are."""
    least_bytes: int = 0
    """The least that its layers can add."""


class LabelSearch:
    """The search of one problem. Raises ``TooWideError`` and ``TooManyError``."""

    def __init__(
        self, problem: Problem, at_most_bytes: int | None = None, most_pairs: int = MOST_PAIRS
    ) -> None:
        self.problem = problem
        self._pairs_left = most_pairs
        order, size = elimination_order(problem.scopes, problem.sizes)
        if size > MOST_CELLS:
            raise TooWideError(problem.options.network.name, size, MOST_CELLS)
        tables = [table for stage in problem.stages for table in self._tables(stage)]
        self._at_most_bytes = at_most_bytes
        self._least_bytes = sum(table.least_bytes for table in tables)
        place = {variable: at for at, variable in enumerate(order)}
        holding: dict[int, list[Table]] = {variable: [] for variable in order}
        for table in tables:
            holding[min(table.scope, key=place.__getitem__)].append(table)
        self._steps: list[tuple[int, list[Table], Table]] = []
        for variable in order:
            parts = sorted(holding.pop(variable), key=lambda t: sum(len(c.time_ps) for c in t.cells.values()))
            joined = self._joined(parts, variable)
            self._steps.append((variable, parts, joined))
            if (
                variable != order[-1]
            ):  # a table of no scope (a part connected with nothing) waits for the last
                holding[min(joined.scope, key=place.__getitem__, default=order[-1])].append(joined)

    def _tables(self, stage: Stage) -> Iterable[Table]:
        floor = self.problem.floor_bytes
        coupled = self.problem.coupled(stage)
        shape = [self.problem.sizes[source] for source in stage.sources] if coupled else []
        cells: dict[Cell, Labels] = {}
        for where, cell in stage.cells.items():
            option = np.array([[label.option] for label in cell])
            time = np.array([label.time_ps for label in cell], np.int64)
            added = np.array([label.added_bytes for label in cell], np.int64)
            workspace = np.array([label.workspace_bytes for label in cell], np.int64)
            if not coupled:
                peak = np.maximum(workspace + stage.base_bytes, floor)
                cells[where] = _own(Labels(time, added, peak, option))
                continue
            transforms, highest, held = stage.transforms
            for before in itertools.product(*(range(size) for size in shape)):
                at = (*before, where[0])
                if np.isfinite(transforms[at]):
                    peak = np.maximum(workspace + held[at], max(floor, int(highest[at])))
                    cells[*before, *where] = _own(Labels(time + int(transforms[at]), added, peak, option))
        least = min(label.added_bytes for cell in stage.cells.values() for label in cell)
        yield Table((*(stage.sources if coupled else ()), *stage.own), cells, stage.index, least)
        if not coupled:
            for edge in stage.edges:
                yield Table((edge.variable, stage.own[0]), self._constants(edge.time_ps))

    def _constants(self, time_ps: Array) -> dict[Cell, Labels]:
        return {
            (int(a), int(b)): Labels(
                time_ps[a, b][None].astype(np.int64),
                np.zeros(1, np.int64),
                np.full(1, self.problem.floor_bytes),
                np.zeros((1, 1), np.int64),
            )
            for a, b in np.argwhere(np.isfinite(time_ps))
        }

    def _joined(self, parts: Sequence[Table], variable: int) -> Table:
        """The tables' sum with the variable decided."""
        scope = tuple(sorted({other for table in parts for other in table.scope} - {variable}))
        least = sum(table.least_bytes for table in parts)
        cells: dict[Cell, Labels] = {}
        for where in itertools.product(*(range(self.problem.sizes[other]) for other in scope)):
            values = dict(zip(scope, where, strict=True))
            found = []
            for value in range(self.problem.sizes[variable]):
                values[variable] = value
                sets = [table.cells.get(tuple(values[other] for other in table.scope)) for table in parts]
                present = [labels for labels in sets if labels is not None and len(labels.time_ps)]
                if len(present) == len(parts):
                    found.append(self._sum(present, value))
            if found:
                union = Labels(*(np.concatenate(columns) for columns in zip(*found, strict=True)))
                if self._at_most_bytes is not None:
                    union = union.at(self._fitting(union, least, self._at_most_bytes))
                cells[where] = union.at(unbeaten(union)) if len(found) > 1 else union
        return Table(scope, cells, least_bytes=least)

    def _fitting(self, labels: Labels, least_bytes: int, at_most_bytes: int) -> Array:
        """The rows that may end within the budget, if the layers that are not among them add the least."""
        rest = self._least_bytes - least_bytes
        return np.flatnonzero(labels.added_bytes + labels.peak_bytes + rest <= at_most_bytes)

    def _sum(self, sets: Sequence[Labels], value: int) -> Labels:
        """Every combination of one label of each set that no other beats."""
        first = sets[0]
        count = len(first.time_ps)
        origin = np.stack([np.full(count, value), np.arange(count)], axis=1)
        total = Labels(first.time_ps, first.added_bytes, first.peak_bytes, origin)
        for other in sets[1:]:
            total = self._plus(total, other)
        return total

    def _plus(self, left: Labels, right: Labels) -> Labels:
        size = len(right.time_ps)
        self._pairs_left -= size * len(left.time_ps)
        if self._pairs_left < 0:
            raise TooManyError(
                f"{self.problem.options.network.name}: too many plans are worth having by "
                f"{self.problem.memory!r}; ask for a single budget (solve), for the frontier up to a lower "
                f"at_most_bytes, or by 'peak-workspace' or 'peak-live'"
            )
        kept: Labels | None = None
        rows = max(1, _BLOCK // size)
        for start in range(0, len(left.time_ps), rows):
            block = slice(start, start + rows)
            pairs = Labels(
                np.add.outer(left.time_ps[block], right.time_ps).ravel(),
                np.add.outer(left.added_bytes[block], right.added_bytes).ravel(),
                np.maximum.outer(left.peak_bytes[block], right.peak_bytes).ravel(),
                np.arange(start * size, start * size + size * len(left.time_ps[block])),
            )
            if kept is not None:
                pairs = Labels(*(np.concatenate(columns) for columns in zip(kept, pairs, strict=True)))
            kept = pairs.at(unbeaten(pairs)) if len(pairs.time_ps) > 1 else pairs
        assert kept is not None
        before, own = np.divmod(kept.origin, size)
        return kept._replace(origin=np.concatenate([left.origin[before], own[:, None]], axis=1))

    @property
    def labels(self) -> Labels | None:
        """Plans of the whole network; None where there is none."""
        return self._steps[-1][2].cells.get(())

    def choices(self, rows: Array) -> list[tuple[int, ...]]:
        """The options of some of the plans."""
        values: dict[int, Array] = {}
        at: dict[int, Array] = {id(self._steps[-1][2]): rows}
        chosen = np.zeros((len(rows), len(self.problem.stages)), np.int64)
        for variable, parts, joined in reversed(self._steps):
            own = at.pop(id(joined))
            values[variable] = np.zeros(len(rows), np.int64)
            part_rows = [np.zeros(len(rows), np.int64) for _ in parts]
            for where, which in _groups(joined.scope, values, len(rows)):
                origin = joined.cells[where].origin[own[which]]
                values[variable][which] = origin[:, 0]
                for number, rows_of in enumerate(part_rows, start=1):
                    rows_of[which] = origin[:, number]
            for table, rows_of in zip(parts, part_rows, strict=True):
                at[id(table)] = rows_of
                if table.stage is not None:
                    for where, which in _groups(table.scope, values, len(rows)):
                        chosen[which, table.stage] = table.cells[where].origin[rows_of[which], 0]
        return [tuple(row) for row in chosen.tolist()]


def _own(labels: Labels) -> Labels:
    """Labels of a layer's options, which beat one another only where their peaks count as the least."""
    alike = len(labels.time_ps) > 1 and (labels.peak_bytes == labels.peak_bytes.min()).sum() > 1
    return labels.at(unbeaten(labels)) if alike else labels


def _groups(scope: tuple[int, ...], values: dict[int, Array], count: int) -> list[tuple[Cell, Array]]:
    """The rows of every combination of values of the scope that occurs."""
    rows: dict[Cell, list[int]] = {}
    columns = [values[variable].tolist() for variable in scope]
    for row, cell in enumerate(zip(*columns, strict=True) if scope else [()] * count):
        rows.setdefault(cell, []).append(row)
    return [(cell, np.array(which)) for cell, which in rows.items()]


def unbeaten(labels: Labels) -> Array:
    """Rows of the labels that no other makes superfluous, and of equal ones one.

    Of labels with the same time a superfluous one may remain; that costs a little, and changes nothing.
    """
    time, added, peak = labels.time_ps, labels.added_bytes, labels.peak_bytes
    if len(time) < 2:
        return np.arange(len(time))
    if peak.min() == peak.max():
        order = np.argsort(time)
        return order[falls(added[order])]
    both = added + peak
    order = np.argsort(time)
    kept: list[Array] = []
    stairs = np.zeros(0, np.int64), np.zeros(0, np.int64)
    while len(order):
        block, order = order[:_SQUARE], order[_SQUARE:]
        a, b = added[block], both[block]
        beats = (a[:, None] <= a) & (b[:, None] <= b) & _EARLIER[: len(a), : len(a)]
        block = block[~beats.any(axis=0)]
        kept.append(block)
        a, b = np.concatenate([stairs[0], added[block]]), np.concatenate([stairs[1], both[block]])
        by = np.lexsort((b, a))
        below = falls(b[by])
        stairs = a[by][below], b[by][below]
        order = order[~_beaten(stairs, added[order], both[order])]
    return np.concatenate(kept)


def falls(values: Array) -> Array:
    """Where a value is below all before it: the rows that count, of rows in ascending memory."""
    below: Array = np.ones(len(values), bool)
    below[1:] = values[1:] < np.minimum.accumulate(values)[:-1]
    return below


def _beaten(stairs: tuple[Array, Array], added: Array, both: Array) -> Array:
    """Which are not below the stairs (ascending in the first, descending in the second)."""
    at = np.searchsorted(stairs[0], added, side="right") - 1
    least = np.concatenate([stairs[1], [_NEVER]])[at]
    result: Array = least <= both
    return result
