"""``edgesched frontier``: every plan of a network worth having, as a table and as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .files import check_folder, check_target, write_json
from .planned import (
    DEVICE_HELP,
    MEMORY_HELP,
    NETWORK_HELP,
    PROFILE_HELP,
    Memory,
    abbreviated,
    amounts,
    budget_bytes,
    bytes_text,
    chosen,
    convolutions,
    family,
    options_of,
    point_record,
    points_record,
)
from .terminal import console, seconds, size, table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from ..devices.options import NetworkOptions
    from ..policies.planning.frontier import Frontier, Point

app = typer.Typer(add_completion=False)

NEAR = 0.15
"""The least memory within this share of the fastest plan is marked (as TASO reports it)."""
SHOWN_POINTS = 60


@app.command()
def frontier(
    network: Annotated[str, typer.Argument(help=NETWORK_HELP, show_default=False)],
    memory: Annotated[Memory, typer.Option(help=MEMORY_HELP)] = Memory.peak_workspace,
    profile: Annotated[str | None, typer.Option(help=PROFILE_HELP, show_default=False)] = None,
    device: Annotated[str | None, typer.Option(help=DEVICE_HELP, show_default=False)] = None,
    budget: Annotated[
        str | None, typer.Option(help="Mark the fastest plan within it: 2MB, 512KiB.", show_default=False)
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the frontier, as PNG and PDF.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the figure.")] = Path("figures"),
    json: Annotated[
        Path | None, typer.Option(help="Write the points as JSON to this file.", show_default=False)
    ] = None,
) -> None:
    """Time against memory: the exact frontier of a network, each point a plan.

    Exit code 1 where no plan fits the budget.
    """
    from ..policies.planning import frontier as planning

    check_target("--json", json)
    if plot:
        check_folder("--out", out)
    limit = budget_bytes(budget)
    source, [options] = options_of([network], profile, device)
    found = planning.frontier(options, memory.value)
    marks = _Marks(found, limit)
    screen = console()
    screen.print(f"{options.network.name} on {source}: {len(found.points)} plans worth having", style="bold")
    screen.print(f"memory: {memory.words}")
    screen.print()
    rows = _table(options, found, marks)
    screen.print(rows)
    if rows.row_count < len(found.points):
        screen.print(f"{rows.row_count} of {len(found.points)} plans; --json has all of them")
    if marks.budgeted is None and limit is not None:
        screen.print(
            f"no plan fits {bytes_text(limit)}: {amounts(found.points[0])} is the least", style="bold red"
        )
    if json is not None:
        write_json(json, _record(options, source, memory, limit, found, marks))
    if plot:
        for path in _drawn(options, source, memory, limit, found, marks, out):
            print(path)
    if marks.budgeted is None and limit is not None:
        raise typer.Exit(1)


class _Marks:
    """The points of a frontier that have a name."""

    def __init__(self, found: Frontier, limit: int | None) -> None:
        self.knee = found.points.index(found.knee)
        self.near = found.points.index(found.within(NEAR))
        fitting = [] if limit is None else [p for p in found.points if p.memory_bytes <= limit]
        self.budgeted = len(fitting) - 1 if fitting else None

    @property
    def chosen(self) -> tuple[int, str]:
        """The point that the figure marks, and its name."""
        return (self.knee, "knee") if self.budgeted is None else (self.budgeted, "within budget")

    def of(self, at: int) -> str:
        """Names of one point."""
        names = []
        if at == self.knee:
            names.append("knee")
        if at == self.near:
            names.append(f"within {NEAR:.0%} of the fastest")
        if at == self.budgeted:
            names.append("within the budget")
        return ", ".join(names)

    def named(self) -> set[int]:
        """Every point that has a name."""
        return {self.knee, self.near} | (set() if self.budgeted is None else {self.budgeted})


def _table(options: NetworkOptions, found: Frontier, marks: _Marks) -> Table:
    heads = ("memory", "bytes", "time", "ratio")
    rows = table(*heads, "convolutions by", "", right=heads, gap=1, wrap=("convolutions by", ""))
    fastest_s = found.points[-1].time_s
    shown = _spread(len(found.points), marks.named())
    for at in shown:
        point = found.points[at]
        rows.add_row(
            size(point.memory_bytes),
            f"{point.memory_bytes:,}",
            seconds(point.time_s),
            f"{point.time_s / fastest_s:.3f}" if fastest_s else "-",
            _families(options, point),
            marks.of(at),
        )
    return rows


def _spread(count: int, always: Iterable[int]) -> list[int]:
    """All indices, or about ``SHOWN_POINTS`` of them with the two ends and ``always``."""
    if count <= SHOWN_POINTS:
        return list(range(count))
    regular = {round(at * (count - 1) / (SHOWN_POINTS - 1)) for at in range(SHOWN_POINTS)}
    return sorted(regular | set(always))


def _families(options: NetworkOptions, point: Point) -> str:
    """``3 winograd2d, 2 im2row``: how many convolutions each family computes."""
    own = chosen(options, point)
    found = [family(own[at].primitive) for at in convolutions(options)]
    counts = {each: found.count(each) for each in found}
    return ", ".join(f"{n} {each}" for each, n in sorted(counts.items(), key=lambda item: -item[1]))


def _record(
    options: NetworkOptions,
    source: str,
    memory: Memory,
    limit: int | None,
    found: Frontier,
    marks: _Marks,
) -> dict[str, Any]:
    budgeted = None if marks.budgeted is None else point_record(found.points[marks.budgeted])
    return {
        "network": options.network.name,
        "planned_for": source,
        "memory": memory.value,
        "budget_bytes": limit,
        "points": [
            {**record, "primitives": [each.primitive for each in chosen(options, point)]}
            for record, point in zip(points_record(found), found.points, strict=True)
        ],
        "layers": [layer.name for layer in options.network.layers],
        "knee": point_record(found.points[marks.knee]),
        "within_15_percent": point_record(found.points[marks.near]),
        "within_budget": budgeted,
    }


def _drawn(
    options: NetworkOptions,
    source: str,
    memory: Memory,
    limit: int | None,
    found: Frontier,
    marks: _Marks,
    out: Path,
) -> list[Path]:
    from ..sim.plots import save, time_against_memory
    from ..sim.plots.frontier import PlottedPlan

    places = convolutions(options)
    plans = []
    for point in found.points:
        own = [chosen(options, point)[at].primitive for at in places]
        plans.append(
            PlottedPlan(
                point.memory_bytes,
                point.time_s,
                tuple(family(name) for name in own),
                tuple(abbreviated(name) for name in own),
            )
        )
    at, label = marks.chosen
    figure = time_against_memory(
        plans,
        [options.network.layers[place].name for place in places],
        chosen=at,
        chosen_label=label,
        memory_label=memory.words,
        budget_bytes=limit,
        title=f"{options.network.name} on {Path(source).stem}",
    )
    out.mkdir(parents=True, exist_ok=True)
    name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in options.network.name)
    return save(figure, out / f"frontier-{name.lower()}-{memory.value}.png")
