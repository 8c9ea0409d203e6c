"""``edgesched compare``: hold a simulation against its replay."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .files import check_folder, check_target, write_json

if TYPE_CHECKING:
    import pandas as pd

    from ..runs.folder import RunFolder
    from ..runs.result import RunResult
    from ..sim.comparing.comparison import Comparison

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    sim: Annotated[
        Path,
        typer.Argument(metavar="SIM", help="Folder of the simulation, with a trace.", show_default=False),
    ],
    replay: Annotated[
        Path, typer.Argument(metavar="REPLAY", help="Folder of its replay.", show_default=False)
    ],
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for report.md, comparison.json and figures.", show_default=False
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the comparison.", show_default=False)
    ] = None,
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="Where files that the scenario names are looked up.")
    ] = Path(),
) -> None:
    """Hold a simulation against its replay: how far was it off, and where does that come from?

    SIM is written by edgesched run SCENARIO --out SIM --trace-limit 10000000, REPLAY by edgesched replay. The
    replay is simulated once more with its own arrivals and durations: what error is left is the scheduler's.
    """
    from ..runs.folder import open_run
    from ..sim.comparing.comparison import compare as hold_against
    from .compared import show

    check_target("--json", json_file)
    check_report(report)
    simulated, replayed = open_run(sim), open_run(replay)
    comparison = hold_against(simulated, replayed, _trace_driven(simulated, replayed, folder))
    if json_file is not None:
        write_json(json_file, comparison.data())
    if report is not None:
        write_report(report, comparison, simulated, replayed)
    show(comparison)


def check_report(folder: Path | None) -> None:
    """Raise ``InputError`` where no report can be written."""
    from ..devices.reading import InputError
    from ..runs.folder import MARKER

    check_folder("--report", folder)
    if folder is not None and (folder / MARKER).exists():
        raise InputError(f"--report {folder}: holds a run; give another folder")


def _trace_driven(simulated: RunFolder, replayed: RunFolder, folder: Path) -> list[RunResult]:
    """A trace-driven run of each replication that is in both."""
    from ..devices.reading import InputError
    from ..runs.resolve import ScenarioError
    from ..runs.scenario import Scenario
    from ..sim.comparing.comparable import check_scenarios, common_replications
    from ..sim.comparing.tracedriven import trace_driven

    check_scenarios(simulated, replayed)
    scenario = Scenario.model_validate(replayed.scenario)
    try:
        return [
            trace_driven(scenario, replayed, number, scenario_folder=folder)
            for number in common_replications(simulated, replayed)
        ]
    except ScenarioError as error:
        raise InputError(
            f"{replayed.path}: {error} (files of the scenario are looked up in {folder.resolve()}; "
            f"--folder names another folder)"
        ) from error


def write_report(path: Path, comparison: Comparison, simulated: RunFolder, replayed: RunFolder) -> None:
    """Write report.md, comparison.json and figures/ into the folder ``path``, which is made if need be."""
    from ..traces.atomic import write_whole
    from .compared import markdown

    (path / "figures").mkdir(parents=True, exist_ok=True)
    figures = _draw(path / "figures", comparison, simulated, replayed) if comparison.tasks else []
    write_json(path / "comparison.json", comparison.data())
    text = markdown(comparison, [(title, f"figures/{file.name}") for title, file in figures])
    write_whole(path / "report.md", lambda draft: draft.write_text(text, encoding="utf-8"))


def _draw(
    folder: Path, comparison: Comparison, simulated: RunFolder, replayed: RunFolder
) -> list[tuple[str, Path]]:
    """Draw every figure; returns titles and PNG files."""
    from ..sim.comparing.errors import REPLAYED, SIMULATED
    from ..sim.comparing.pairing import of_folder, responses
    from ..sim.plots import save
    from ..sim.plots.comparison import compared_cdfs, compared_timelines, layer_bars

    numbers = [part.replication for part in comparison.replications]
    runs = {REPLAYED: of_folder(replayed, numbers), SIMULATED: of_folder(simulated, numbers)}
    counted = responses(runs, int(replayed.scenario["run"]["warmup_requests"]))
    tasks = {name: _first(run.tasks) for name, run in runs.items()}
    arrivals_s = _first(runs[REPLAYED].requests)["arrival_s"]
    figures = {
        "response-cdf": ("Response times", compared_cdfs(counted[SIMULATED], counted[REPLAYED])),
        "timeline": (
            "The first requests",
            compared_timelines(tasks[SIMULATED], tasks[REPLAYED], arrivals_s),
        ),
        "layers": ("Tasks that contribute most to the difference", layer_bars(comparison.tasks)),
    }
    return [(title, save(figure, folder / stem)[0]) for stem, (title, figure) in figures.items()]


def _first(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first replication."""
    return table[table["replication"] == table["replication"].min()]
