"""``edgesched plan``: a primitive for every layer of a network, or a budget for every one of several."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .files import check_target, write_json
from .planned import (
    DEVICE_HELP,
    MEMORY_HELP,
    NETWORK_HELP,
    PROFILE_HELP,
    Memory,
    amounts,
    budget_bytes,
    bytes_text,
    chosen,
    network_of,
    options_of,
    plan_record,
    point_record,
    points_record,
    transforms,
)
from .terminal import console, seconds, share, significant, size, table

if TYPE_CHECKING:
    from rich.console import Console

    from ..devices.options import NetworkOptions
    from ..policies.planning.frontier import Frontier, Point
    from ..policies.planning.partition import Goal, Partition

app = typer.Typer(add_completion=False)

_NUMBER = re.compile(r"(\d{1,12}(?:\.\d{1,12})?(?:e-?\d{1,2})?)\s*(s|ms|us|µs)?")
_SECONDS = {None: 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}


NOTES = {"shared arena": "one after the other", "no limit": "beyond the budget, or with room to spare"}
"""What keeps to another rule than the partition."""


class Objective(StrEnum):
    """What a partition minimises (``policies.planning.partition``), without loading it."""

    sum = "sum"
    weighted = "weighted"
    deadline = "deadline"


@app.command()
def plan(
    networks: Annotated[
        list[str], typer.Argument(help=f"One or several. {NETWORK_HELP}", show_default=False)
    ],
    budget: Annotated[
        str | None,
        typer.Option(
            help="Memory for all of them: 2MB, 64KB, 512KiB; default: no limit.", show_default=False
        ),
    ] = None,
    memory: Annotated[Memory, typer.Option(help=MEMORY_HELP)] = Memory.peak_workspace,
    profile: Annotated[str | None, typer.Option(help=PROFILE_HELP, show_default=False)] = None,
    device: Annotated[str | None, typer.Option(help=DEVICE_HELP, show_default=False)] = None,
    objective: Annotated[
        Objective,
        typer.Option(help="Of several: the sum of times, a weighted sum, or the largest time / deadline."),
    ] = Objective.sum,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="AlexNet=2,VGG-16=0.5; those not named weigh 1.", show_default=False),
    ] = None,
    deadlines: Annotated[
        list[str] | None,
        typer.Option(help="AlexNet=50ms,VGG-16=0.4s; every network needs one.", show_default=False),
    ] = None,
    execute: Annotated[
        int | None,
        typer.Option(
            metavar="ROUNDS",
            min=1,
            help="Execute the plans on this machine, alone and at once.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the plan as JSON to this file.", show_default=False)
    ] = None,
) -> None:
    """Choose a primitive for every layer, within a memory budget; several networks share the budget.

    Exit code 1 where nothing fits.
    """
    from ..policies.planning.frontier import frontier

    check_target("--json", json)
    limit = budget_bytes(budget)
    goal = _goal(networks, objective, weights or [], deadlines or [])
    source, options = options_of(networks, profile, device)
    fronts = [frontier(each, memory.value) for each in options]
    planned = _Planned(source, memory, limit, options, fronts)
    screen = console()
    record = planned.one(screen) if len(networks) == 1 else planned.several(screen, goal)
    if execute is not None and planned.points:
        from .executed import execute as run

        record["executed"] = run(screen, options, planned.points, execute)
    if json is not None:
        write_json(json, {"planned_for": source, "memory": memory.value, "budget_bytes": limit, **record})
    if not record["fits"]:
        raise typer.Exit(1)


def _goal(networks: Sequence[str], objective: Objective, weights: list[str], deadlines: list[str]) -> Goal:
    """What to minimise, from the command line. Raises ``InputError`` and ``PartitionError``."""
    from ..devices.reading import InputError
    from ..policies.planning.partition import Goal

    for option, given, needs in (
        ("--weights", weights, Objective.weighted),
        ("--deadlines", deadlines, Objective.deadline),
    ):
        if bool(given) > (objective is needs):
            raise InputError(f"{option}: is for --objective {needs.value}, not {objective.value}")
    if objective is Objective.sum:
        return Goal()
    names = {network_of(each).name: None for each in networks}
    goal = Goal(
        objective.value,
        _named("--weights", weights, names, with_unit=False),
        _named("--deadlines", deadlines, names, with_unit=True),
    )
    missing = [name for name in names if name not in goal.deadlines_s] if goal.worst else []
    if missing:
        raise InputError(f"--deadlines: {', '.join(missing)} has none; write {missing[0]}=50ms")
    return goal


def _named(
    option: str, given: Sequence[str], names: Mapping[str, object], *, with_unit: bool
) -> dict[str, float]:
    """``NAME=NUMBER``, several separated by commas, by the networks' own names."""
    from ..devices.reading import InputError
    from ..traces.columns import near

    found: dict[str, float] = {}
    for part in (part.strip() for text in given for part in text.split(",")):
        name, _, value = part.rpartition("=")
        match = _NUMBER.fullmatch(value.strip().lower())
        if not name or match is None or (match[2] is not None and not with_unit):
            unit = "seconds, or a number with ms" if with_unit else "a number"
            raise InputError(f"{option} {part[:80]!r}: write NETWORK=VALUE, the value {unit}")
        own = network_of(name.strip()).name
        if own not in names:
            raise InputError(f"{option}: {name.strip()[:80]!r} is not planned; {near(own, names)}")
        if own in found:
            raise InputError(f"{option}: {own!r} stands there twice")
        found[own] = float(match[1]) * _SECONDS[match[2]]
    return found


class _Planned:
    """What was planned, to be shown and recorded."""

    def __init__(
        self,
        source: str,
        memory: Memory,
        budget: int | None,
        options: Sequence[NetworkOptions],
        fronts: Sequence[Frontier],
    ) -> None:
        self.source = source
        self.memory = memory
        self.budget = budget
        self.options = options
        self.fronts = fronts
        self.points: list[Point] = []
        """The plan of each network, once it is found."""

    # -- one network --------------------------------------------------------------------------------------

    def one(self, screen: Console) -> dict[str, Any]:
        """Show the plan of the only network; the plan as plain data."""
        from ..policies.planning.memory import DoesNotFitError

        [options], [front] = self.options, self.fronts
        name = options.network.name
        least, fastest = front.points[0], front.points[-1]
        record: dict[str, Any] = {"network": name, "points": points_record(front)}
        try:
            point = fastest if self.budget is None else front.best(self.budget)
        except DoesNotFitError as error:
            screen.print(f"Verdict: {name} does not fit", style="bold red")
            self._bounds(screen, error.demand_bytes, [("would fit", f"{amounts(least)} (the least)")])
            return {**record, "fits": False, "demand_bytes": error.demand_bytes, "plan": None}
        self.points = [point]
        within = "" if self.budget is None else f" within {bytes_text(self.budget)}"
        screen.print(f"Verdict: {name} takes {amounts(point)}{within}", style="bold green")
        self._facts(
            screen,
            [
                ("planned for", self.source),
                ("memory", self.memory.words),
                ("fastest plan", _against(point, fastest)),
                ("least memory" if least.memory_bytes else "no workspace", _against(point, least)),
            ],
        )
        screen.print()
        _layers(screen, options, point)
        return {**record, "fits": True, "plan": plan_record(options, point)}

    # -- several ------------------------------------------------------------------------------------------

    def several(self, screen: Console, goal: Goal) -> dict[str, Any]:
        """Show how the networks share the budget; the partition as plain data."""
        from ..policies.planning.baselines import BASELINES, no_limit
        from ..policies.planning.memory import DoesNotFitError
        from ..policies.planning.partition import partition

        limit = no_limit(self.fronts, 0, goal).memory_bytes if self.budget is None else self.budget
        others = {name: find(self.fronts, limit, goal) for name, find in BASELINES.items()}
        record: dict[str, Any] = {
            "objective": goal.objective,
            "networks": [front.network for front in self.fronts],
            "points": [points_record(front) for front in self.fronts],
            "baselines": {name: _partition_record(other) for name, other in others.items()},
        }
        try:
            found = partition(self.fronts, limit, goal)
        except DoesNotFitError as error:
            screen.print(f"Verdict: {len(self.fronts)} networks do not fit", style="bold red")
            levers = [("would fit", f"a budget of {size(error.demand_bytes)}, each network its least memory")]
            if (arena := others["shared arena"]) is not None:
                say = _value(goal, arena.value)
                levers.append(("would fit", f"a shared arena, one network after the other: {say}"))
            self._bounds(screen, error.demand_bytes, levers)
            return {**record, "fits": False, "demand_bytes": error.demand_bytes, "partition": None}
        self.points = list(found.points)
        within = "" if self.budget is None else f" within {bytes_text(self.budget)}"
        late = goal.worst and found.value > 1
        screen.print(
            f"Verdict: {len(self.fronts)} networks, {_value(goal, found.value)} "
            f"with {size(found.memory_bytes)}{within}",
            style="bold yellow" if late else "bold green",
        )
        self._facts(screen, [("planned for", self.source), ("memory", f"{self.memory.words}, of each apart")])
        screen.print()
        self._shares(screen, goal, found)
        screen.print()
        if self.budget is None:
            screen.print("With --budget the networks share it out, and other ways of sharing stand beside.")
        else:
            _baselines(screen, goal, found, others)
        return {
            **record,
            "fits": True,
            "value": found.value,
            "memory_bytes": found.memory_bytes,
            "partition": [
                {
                    "network": front.network,
                    "budget_bytes": point.memory_bytes,
                    "plan": plan_record(own, point),
                }
                for front, own, point in zip(self.fronts, self.options, found.points, strict=True)
            ],
        }

    def _shares(self, screen: Console, goal: Goal, found: Partition) -> None:
        """One row a network: its budget, its time, and what the goal makes of it."""
        heads = ["budget", "bytes", "time", "to fastest"]
        extra = {"weighted": "weight", "deadline": "of deadline"}.get(goal.objective)
        heads += [] if extra is None else [extra]
        rows = table("network", *heads, right=heads)
        for front, point in zip(self.fronts, found.points, strict=True):
            fastest_s = front.points[-1].time_s
            cells = [size(point.memory_bytes), f"{point.memory_bytes:,}", seconds(point.time_s)]
            cells.append(f"{point.time_s / fastest_s:.3f}" if fastest_s else "-")
            if goal.objective == "weighted":
                cells.append(significant(goal.factor(front.network)))
            elif goal.objective == "deadline":
                cells.append(share(point.time_s * goal.factor(front.network)))
            rows.add_row(front.network, *cells)
        screen.print(rows)

    # -- both ---------------------------------------------------------------------------------------------

    def _bounds(self, screen: Console, demand: int, levers: Sequence[tuple[str, str]]) -> None:
        assert self.budget is not None
        short = demand - self.budget
        self._facts(
            screen,
            [
                ("planned for", self.source),
                ("memory", self.memory.words),
                ("needs at least", f"{size(demand)} ({demand:,} bytes)"),
                ("budget", f"{bytes_text(self.budget)} ({self.budget:,} bytes, {short:,} too few)"),
                *levers,
            ],
        )

    def _facts(self, screen: Console, facts: Sequence[tuple[str, str]]) -> None:
        rows = table("", "", wrap=("",))
        rows.show_header = False
        for what, value in facts:
            rows.add_row(what, value)
        screen.print(rows)


def _value(goal: Goal, value: float) -> str:
    """What the goal minimises, in words."""
    if goal.objective == "deadline":
        return f"{'late: ' if value > 1 else ''}the tightest takes {share(value)} of its deadline"
    return f"{'a weighted' if goal.objective == 'weighted' else 'a'} sum of {seconds(value)}"


def _baselines(screen: Console, goal: Goal, found: Partition, others: Mapping[str, Partition | None]) -> None:
    """The partition and simpler ways of sharing, with what the goal minimises."""
    what = "largest of deadline" if goal.worst else "weighted sum" if goal.objective == "weighted" else "sum"
    heads = ("memory", what, "to best")
    rows = table("way of sharing", *heads, "", right=heads)
    for name, other in {"best partition": found, **others}.items():
        if other is None:
            rows.add_row(name, "", "", "", "does not fit")
            continue
        value = share(other.value) if goal.worst else seconds(other.value)
        ratio = f"{other.value / found.value:.3f}" if found.value else "-"
        rows.add_row(name, size(other.memory_bytes), value, ratio, NOTES.get(name, ""))
    screen.print(rows)


def _partition_record(found: Partition | None) -> dict[str, Any] | None:
    if found is None:
        return None
    points = [point_record(point) for point in found.points]
    return {"memory_bytes": found.memory_bytes, "value": found.value, "points": points}


def _against(point: Point, other: Point) -> str:
    """The other plan, and how it compares."""
    if other.choice == point.choice:
        return f"{amounts(other)}: this one"
    return f"{amounts(other)}: {significant(other.time_s / point.time_s, 3)} times this one's time"


def _layers(screen: Console, options: NetworkOptions, point: Point) -> None:
    """One row a layer: what computes it and what that takes."""
    from ..policies.planning.pricing import price
    from ..policies.planning.transforms import PICO

    found = price(options, point.choice)
    heads = ("ms", "workspace")
    rows = table(
        "layer",
        "primitive",
        "layouts",
        *heads,
        "transforms",
        right=heads,
        gap=1,
        wrap=("layer", "transforms"),
    )
    for index, (layer, own, cost) in enumerate(
        zip(options.network.layers, chosen(options, point), found.layers, strict=True)
    ):
        moved = transforms(options, point, index)
        said = f"{', '.join(dict.fromkeys(moved))} {seconds(cost.transform_ps / PICO)}" if moved else ""
        layouts = own.in_layout if own.in_layout == own.out_layout else f"{own.in_layout} > {own.out_layout}"
        workspace = size(own.workspace_bytes) if own.workspace_bytes else "-"
        rows.add_row(layer.name, own.primitive, layouts, significant(own.execute_s * 1e3, 3), workspace, said)
    screen.print(rows)
