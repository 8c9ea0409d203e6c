"""``edgesched sweep``: run the grid of a scenario, and say which policy to choose where."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..sim.objectives import Objective
from .choices import SHOWN_PLACES, amount, number, show_choices
from .files import check_folder
from .terminal import console, interval, table

if TYPE_CHECKING:
    from rich.table import Table

    from ..sim.sweeping.sweep import Sweep


def sweep(
    scenario: Annotated[
        Path, typer.Argument(help="The scenario with a sweep, a YAML file.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; default: results/NAME.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per processor.", show_default=False)
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Dask scheduler to run on, e.g. tcp://host:8786.", show_default=False
        ),
    ] = None,
    objective: Annotated[
        Objective, typer.Option(help="What the recommendation and the curves compare.", case_sensitive=False)
    ] = Objective.mean,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Set a key of the scenario. Repeatable."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed points again.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Go on in a folder of another scenario.")] = False,
) -> None:
    """Run every point of a scenario's sweep; started again, it goes on where it was.

    Writes points.csv, means.csv, recommendation.csv and response-time curves. Of a finished sweep, another
    objective writes its own recommendation and curves beside the others; nothing is run again.
    """
    from ..runs.load import InputError, parse_setting, read_source
    from ..sim.sweeping.figures import draw_curves
    from ..sim.sweeping.sweep import FIGURES, run_sweep

    check_folder("--out", out)
    source = read_source(scenario, dict(parse_setting(text) for text in setting or ()))
    name = source.data.get("name") or scenario.stem
    if out is None:
        if not isinstance(name, str) or Path(name).name != name or name.startswith("."):
            raise InputError(f"{scenario}: name: must do as a folder's name, seen {name!r}; or give --out")
        out = Path("results") / name
        check_folder("--out", out)
    with _progress() as progress:
        done = run_sweep(
            source,
            out,
            workers=workers or _processors(),
            cluster=cluster,
            retry_failed=retry_failed,
            force=force,
            objective=objective,
            progress=progress,
        )
    figures = draw_curves(done.means, done.axes, out / FIGURES, objective)
    _show(done, figures)
    if done.report.failed:
        raise typer.Exit(1)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _progress() -> Iterator[Callable[[int, int, int], None] | None]:
    """A bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield None
        return
    columns = (
        TextColumn("points"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("", total=None)

        def tell(finished: int, total: int, failed: int) -> None:
            bar.update(
                task, completed=finished, total=total, description=f"{failed} failed" if failed else ""
            )

        yield tell


def _show(done: Sweep, figures: list[Path]) -> None:
    screen = console()
    report = done.report
    kept = f", {report.resumed} of them from before" if report.resumed else ""
    screen.print(
        f"{report.total} runs{kept}; {report.failed} failed",
        style="bold red" if report.failed else "bold green",
    )
    for error in done.errors[:5]:
        screen.print(f"  failed: {error}", style="red")
    if len(done.choice):
        screen.print()
        show_choices(screen, done.choice, done.axes, done.objective, done.objective.choice_file)
    elif len(done.means):
        screen.print()
        screen.print(_means(done))
    screen.print()
    choice = f", {done.objective.choice_file}" if len(done.choice) else ""
    screen.print(f"tables in {done.folder}: points.csv, means.csv{choice}")
    for figure in figures:
        if figure.suffix == ".png":
            screen.print(f"figure: {figure} (and .pdf)")


def _means(done: Sweep) -> Table:
    from ..sim.sweeping.figures import short, value_label

    heads, column = [short(axis) for axis in done.axes], done.objective.column
    show = amount(done.objective)
    rows = table(*heads, done.objective.label, "95 % interval", "status", right=(done.objective.label,))
    for row in done.means.head(SHOWN_PLACES).to_dict("records"):
        rows.add_row(
            *(value_label(axis, row[axis]) for axis in done.axes),
            show(number(row.get(column))),
            interval(number(row.get(f"{column}_lo")), number(row.get(f"{column}_hi")), show),
            f"{row['status']}{', saturated' if row.get('saturated') is True else ''}",
        )
    return rows
