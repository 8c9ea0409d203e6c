"""The same problem as a mixed-integer programme for HiGHS, where tables or label sets would be too large.

Binary variables say which option a layer has. For every input a flow says from which layout into which it
goes; given the options it is decided. One more variable is the highest peak. Times are counted in
microseconds and bytes in KiB, so that the solver's tolerances (1e-6) are a picosecond and less than a byte.
It may take a variable for whole that is not quite: plans are priced before they are believed, and one beyond
the budget is excluded and solved again.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .memory import DoesNotFitError
from .pricing import Pricer
from .problem import Array, Found, Problem, Stage
from .transforms import NoPlanError, PlanningError

MOST_SOLVES = 400
"""Points of a frontier that are searched one after the other."""
_KIB = 1024.0
_MICRO = 1e6
"""Picoseconds in a microsecond."""

Row = tuple[dict[int, float], float, float]
"""Coefficients by column, least and largest value."""


class Programme:
    """The programme of one problem. Raises ``PlanningError`` without scipy."""

    def __init__(self, problem: Problem) -> None:
        try:
            import scipy.optimize  # noqa: F401
        except ImportError as error:
            raise PlanningError(
                f"{problem.options.network.name}: a network this entangled is planned by HiGHS, which needs "
                f"scipy: pip install 'edgesched[primitives]'"
            ) from error
        self.problem = problem
        self._pricer = Pricer(problem.options)
        self._peak = 0
        self._time: list[float] = [0.0]
        self._memory: list[float] = [0.0 if problem.memory == "no-reuse" else 1.0]
        self._whole: list[int] = [0]
        self._columns: list[list[tuple[int, int]]] = []
        """Per layer: the option and its column."""
        self._rows: list[Row] = []
        written: dict[int, dict[int, list[int]]] = {}
        for stage in problem.stages:
            self._layer(stage, written)

    def _column(self, time_ps: float, memory_bytes: float, whole: bool) -> int:
        self._time.append(time_ps / _MICRO)
        self._memory.append(memory_bytes / _KIB)
        self._whole.append(int(whole))
        return len(self._time) - 1

    def _layer(self, stage: Stage, written: dict[int, dict[int, list[int]]]) -> None:
        read: dict[int, list[int]] = {}
        out: dict[int, list[int]] = {}
        columns, workspace = [], {}
        for where, cell in stage.cells.items():
            for label in cell:
                column = self._column(label.time_ps, label.added_bytes, True)
                columns.append((label.option, column))
                workspace[column] = label.workspace_bytes / _KIB
                read.setdefault(where[0], []).append(column)
                out.setdefault(where[-1], []).append(column)
        self._columns.append(columns)
        self._rows.append(({column: 1.0 for _, column in columns}, 1.0, 1.0))
        written[stage.own[-1]] = out
        held: dict[int, float] = {}
        room = -stage.base_bytes / _KIB
        for edge in stage.edges:
            tensor = edge.tensor_bytes / _KIB
            flow = {
                (int(a), int(b)): self._column(edge.time_ps[a, b], 0.0, False)
                for a, b in np.argwhere(np.isfinite(edge.time_ps))
            }
            for side, layers in ((0, written[edge.variable]), (1, read)):
                for layout in range(edge.time_ps.shape[side]):
                    row = {column: -1.0 for pair, column in flow.items() if pair[side] == layout}
                    row |= dict.fromkeys(layers.get(layout, ()), 1.0)
                    self._rows.append((row, 0.0, 0.0))
            steps = {column: int(edge.steps[pair]) for pair, column in flow.items()}
            if tensor and 2 in steps.values():
                walked = {column: count * tensor for column, count in steps.items() if count}
                self._rows.append((held | walked | {self._peak: -1.0}, -math.inf, room))
            held |= {column: tensor for column, count in steps.items() if count and tensor}
        self._rows.append((held | workspace | {self._peak: -1.0}, -math.inf, room))

    def fastest(self, budget_bytes: int | None) -> Found | None:
        """The fastest plan within the budget; None where none fits."""
        limit = [] if budget_bytes is None else [(self._memory, budget_bytes / _KIB)]
        return self._solve(self._time, limit, budget_bytes)

    def smallest(self, time_ps: int | None = None) -> Found | None:
        """The plan of least memory, at most that slow."""
        limit = [] if time_ps is None else [(self._time, (time_ps + 0.5) / _MICRO)]
        return self._solve(self._memory, limit, None)

    def best(self, budget_bytes: int) -> Found:
        """The fastest plan within the budget, and of those the smallest. Raises ``DoesNotFitError``."""
        found = self.fastest(budget_bytes)
        if found is None:
            least = self.smallest()
            name = self.problem.options.network.name
            if least is None:
                raise NoPlanError(f"{name}: no choice of primitives can be connected by transforms")
            raise DoesNotFitError(f"{name} ({self.problem.memory})", least.memory_bytes, budget_bytes)
        smaller = self.smallest(found.time_ps)
        return found if smaller is None or smaller.time_ps > found.time_ps else smaller

    def sweep(self, at_most_bytes: int | None, most_solves: int = MOST_SOLVES) -> list[Found]:
        """The frontier, one budget after the other: each a byte below the last plan's memory.

        Raises ``PlanningError`` where there are more points than ``most_solves``.
        """
        points: list[Found] = []
        budget = at_most_bytes
        for _ in range(most_solves):
            found = self.fastest(budget)
            if found is None:
                return points[::-1]
            if points and points[-1].time_ps == found.time_ps:
                points.pop()
            points.append(found)
            budget = found.memory_bytes - 1
        raise PlanningError(
            f"{self.problem.options.network.name}: the frontier by {self.problem.memory!r} has more than "
            f"{most_solves} points that must be solved one by one; ask for a single budget (solve), for an "
            f"at_most_bytes below {budget}, or for 'peak-workspace'"
        )

    def _solve(
        self, aim: list[float], limits: list[tuple[list[float], float]], budget_bytes: int | None
    ) -> Found | None:
        excluded: list[Row] = []
        while True:
            values = self._run(aim, limits, excluded)
            if values is None:
                return None
            choice = tuple(max(own, key=lambda c: values[c[1]])[0] for own in self._columns)
            price = self._pricer.price(choice)
            found = Found(price.memory_bytes(self.problem.memory), price.time_ps, choice)
            if budget_bytes is None or found.memory_bytes <= budget_bytes:
                return found
            picked = [c for own, at in zip(self._columns, choice, strict=True) for o, c in own if o == at]
            excluded.append((dict.fromkeys(picked, 1.0), -math.inf, len(picked) - 1.0))

    def _run(
        self, aim: list[float], limits: list[tuple[list[float], float]], excluded: list[Row]
    ) -> Array | None:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        rows = [*self._rows, *excluded]
        rows += [({c: v for c, v in enumerate(each) if v}, -math.inf, most) for each, most in limits]
        data = [v for row, _, _ in rows for v in row.values()]
        columns = [c for row, _, _ in rows for c in row]
        ends = np.cumsum([0, *(len(row) for row, _, _ in rows)])
        matrix = csr_array((data, columns, ends), shape=(len(rows), len(self._time)))
        upper = np.ones(len(self._time))
        upper[self._peak] = np.inf
        result: Any = milp(
            np.array(aim),
            constraints=LinearConstraint(matrix, [r[1] for r in rows], [r[2] for r in rows]),
            integrality=np.array(self._whole),
            bounds=Bounds(0, upper),
            options={"mip_rel_gap": 0.0},
        )
        if result.status == 2:
            return None
        if result.status != 0:
            raise PlanningError(f"{self.problem.options.network.name}: HiGHS gave up: {result.message}")
        values: Array = result.x
        return values
