"""``edgesched plot``: figures from the folders of sweeps and runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..sim.objectives import Objective
from .files import check_folder

if TYPE_CHECKING:
    from ..runs.folder import RunFolder


class Figure(StrEnum):
    """What to draw."""

    curves = "curves"
    cdf = "cdf"
    memory = "memory"
    timeline = "timeline"


def plot(
    folders: Annotated[
        list[Path], typer.Argument(help="A sweep's folder, or the folders of runs.", show_default=False)
    ],
    kind: Annotated[
        Figure | None,
        typer.Option(
            help="curves of a sweep; of runs: cdf, memory, timeline.",
            show_default=False,
            case_sensitive=False,
        ),
    ] = None,
    objective: Annotated[
        Objective, typer.Option(help="What curves show.", case_sensitive=False)
    ] = Objective.mean,
    from_s: Annotated[
        float | None, typer.Option(help="memory, timeline: begin at this time.", show_default=False)
    ] = None,
    to_s: Annotated[
        float | None, typer.Option(help="memory, timeline: end at this time.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for PNG and PDF; default: figures in the first folder.", show_default=False
        ),
    ] = None,
) -> None:
    """Draw response-time curves, distributions, memory over time or a timeline, as PNG and PDF."""
    from ..runs.load import InputError

    check_folder("--out", out)
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder")
    target = out or folders[0] / "figures"
    swept = [folder for folder in folders if (folder / "points.jsonl").is_file()]
    if swept:
        if len(folders) > 1:
            raise InputError(f"{swept[0]}: is a sweep; give it alone, or runs only")
        if kind not in (None, Figure.curves):
            raise InputError(
                f"--kind {kind}: needs the folder of a run (edgesched run --out); a sweep has curves"
            )
        written = _curves(folders[0], objective, target)
    else:
        from ..runs.folder import open_run

        if kind is Figure.curves:
            raise InputError(f"--kind curves: needs the folder of a sweep, {folders[0]} is none")
        runs = {name: open_run(folder) for name, folder in zip(_names(folders), folders, strict=True)}
        written = _of_runs(runs, kind or Figure.cdf, _window(from_s, to_s), target)
    for path in written:
        print(path)


def _names(folders: list[Path]) -> list[str]:
    """The shortest ends of the paths that tell the folders apart."""
    for depth in range(1, 20):
        names = ["/".join(folder.resolve().parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _window(from_s: float | None, to_s: float | None) -> tuple[float, float] | None:
    if from_s is None and to_s is None:
        return None
    return (0.0 if from_s is None else from_s, float("inf") if to_s is None else to_s)


def _curves(folder: Path, objective: Objective, target: Path) -> list[Path]:
    import pandas as pd

    from ..runs.load import InputError
    from ..sim.sweeping.figures import axes_of, draw_curves

    means = folder / "means.csv"
    if not means.is_file():
        raise InputError(
            f"{folder}: the sweep is not finished (no means.csv); run edgesched sweep again to go on"
        )
    axes = axes_of(folder)
    written = draw_curves(pd.read_csv(means), axes, target, objective)
    if not written:
        raise InputError(
            f"{folder}: no swept path holds numbers with results to draw over; swept: {', '.join(axes)}"
        )
    return written


def _of_runs(
    runs: dict[str, RunFolder], kind: Figure, window: tuple[float, float] | None, target: Path
) -> list[Path]:
    from ..runs.load import InputError
    from ..sim.plots import memory_over_time, response_cdfs, save, timeline

    figures: dict[str, Any] = {}
    try:
        if kind is Figure.cdf:
            figures["response-cdf"] = response_cdfs(
                {name: run.requests()["response_s"] for name, run in runs.items()}
            )
        elif kind is Figure.memory:
            tables = {name: _first(run.memory()) for name, run in runs.items()}
            end = max(table["time_s"].iloc[-1] for table in tables.values())
            limits = {run.summary["replications"][0]["limit_bytes"] for run in runs.values()}
            limit = limits.pop() if len(limits) == 1 else None
            figures["memory"] = memory_over_time(
                tables,
                limit_bytes=None if limit is None or limit >= 1 << 50 else limit,
                window_s=None if window is None else (window[0], min(window[1], end)),
            )
        else:
            for name, run in runs.items():
                tasks, requests = _first(run.tasks()), _first(run.requests())
                end = tasks["end_s"].max()
                stem = "timeline" if len(runs) == 1 else f"timeline-{name.replace('/', '-')}"
                figures[stem] = timeline(
                    tasks,
                    requests["arrival_s"],
                    window_s=None if window is None else (window[0], min(window[1], end)),
                )
    except ValueError as error:
        raise InputError(str(error)) from error
    target.mkdir(parents=True, exist_ok=True)
    return [path for stem, figure in figures.items() for path in save(figure, target / stem)]


def _first(table: Any) -> Any:
    """The rows of the first replication."""
    return table[table["replication"] == table["replication"].min()]
