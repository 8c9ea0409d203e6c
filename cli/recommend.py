"""``edgesched recommend``: choose a policy from a finished sweep, and write the scenario that replays it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..sim.objectives import Objective
from ..traces.atomic import write_whole
from .files import check_target
from .terminal import console

if TYPE_CHECKING:
    from ..sim.sweeping.finished import FinishedSweep, SweptPoint
    from ..sim.sweeping.recommend import Place
    from .chosen import Report

app = typer.Typer(help="Choose a policy from a finished sweep and write its scenario.")

HEADER = "# Written by edgesched recommend"
"""How a scenario begins that may be replaced."""
OTHER_COLUMNS = ("job_waiting_mean_s", "deadline_missed_share", "peak_bytes")
"""What ``--max`` takes beside the objectives' columns."""


@app.command()
def recommend(
    folder: Annotated[
        Path,
        typer.Argument(metavar="SWEEP_RESULTS", help="The folder of a finished sweep.", show_default=False),
    ],
    objective: Annotated[
        Objective, typer.Option(help="What shall be small.", case_sensitive=False)
    ] = Objective.mean,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=VALUE",
            help="Only points with this swept value, e.g. device.memory_limit=512MiB. Repeatable.",
        ),
    ] = None,
    most: Annotated[
        list[str] | None,
        typer.Option(
            "--max",
            metavar="COLUMN=VALUE",
            help="Only policies that keep this, e.g. response_p95_s=2 or peak_bytes=400MiB. Repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="SCENARIO.yaml", help="Write the scenario with the chosen policy.", show_default=False
        ),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=VALUE",
            help="Which place that scenario is for, where the choice is over several. Repeatable.",
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the choice.", show_default=False)
    ] = None,
) -> None:
    """Name the policy to use, say why, and write the scenario that runs it.

    Over several places (limits, loads, boards), policies that do not work everywhere are left out; of the
    others, the one with the smallest geometric mean of the ratio to the best policy of each place is chosen.
    Exit code 1 where no policy works everywhere.
    """
    import pandas as pd

    from ..runs.load import InputError
    from ..sim.sweeping.choosing import choose, levers
    from ..sim.sweeping.finished import open_sweep
    from ..sim.sweeping.picking import pick
    from ..sim.sweeping.recommend import recommend as by_place
    from .choices import show_choices
    from .chosen import Report

    check_target("--out", out)
    check_target("--json", json_file)
    sweep = open_sweep(folder)
    axes = sweep.axes
    _check_policies(sweep)
    points = sweep.points
    for text in limit or ():
        points = pick(points, axes, "--limit", text)
    bounds = dict(_bound(text) for text in most or ())
    place: Place = ()
    if out is not None:
        _check_replaceable(out)
        place = _place(points, axes, at or ())
    elif at:
        raise InputError(f"--at {at[0]}: says for which place --out is; give --out SCENARIO.yaml")
    _check_columns(sweep, points, (objective.column, *bounds))
    named = [(point.labels, point.rows) for point in points]
    choice = choose(axes, named, objective, bounds)
    found = by_place(axes, named, objective, bounds)
    report = Report(axes, points, objective, choice, found)
    written = None
    if out is not None and choice.ranked:
        _write_scenario(out, sweep, report.point(choice.ranked[0].policy, place), report)
        written = str(out)
    if json_file is not None:
        _write_json(json_file, {"sweep": str(folder), **report.record(), "scenario": written})
    screen = console()
    report.show(screen)
    if len(found) > 1:
        screen.print()
        show_choices(screen, pd.DataFrame(found), axes, objective, "--json FILE")
    if not choice.ranked:
        report.show_levers(screen, levers(axes, named, objective, bounds))
        raise typer.Exit(1)
    if written is not None:
        screen.print()
        screen.print(f"scenario: {written}")


def _check_policies(sweep: FinishedSweep) -> None:
    """Raise ``InputError`` where the sweep compares no policies, or two of one name."""
    from ..runs.load import InputError
    from ..sim.sweeping.recommend import policy_label, split_axes

    of_policy, _ = split_axes(sweep.axes)
    if not of_policy:
        raise InputError(
            f"{sweep.folder}: the sweep does not compare policies; it has {', '.join(sweep.axes)}"
        )
    named: dict[str, dict[str, Any]] = {}
    for point in sweep.points:
        settings = {axis: point.settings[axis] for axis in of_policy}
        name = policy_label([point.labels[axis] for axis in of_policy])
        if named.setdefault(name, settings) != settings:
            raise InputError(f"{sweep.folder}: {named[name]} and {settings} both go by the name {name}")


def _bound(text: str) -> tuple[str, float]:
    """``COLUMN=VALUE``; bytes may have a unit. Raises ``InputError``."""
    from ..devices.explain import nearest
    from ..devices.reading import shown
    from ..devices.units import parse_bytes
    from ..runs.load import InputError

    column, _, value = (part.strip() for part in text.partition("="))
    allowed = [*(objective.column for objective in Objective), *OTHER_COLUMNS]
    if column not in allowed:
        raise InputError(f"--max {shown(text)}: {shown(column)} cannot be bounded{nearest(column, allowed)}")
    try:
        bound = float(parse_bytes(value)) if column.endswith("_bytes") else float(value)
    except ValueError:
        bound = math.nan
    if not 0 <= bound < math.inf:
        kind = "a size such as 400MiB" if column.endswith("_bytes") else "a number, 0 or more"
        raise InputError(f"--max {shown(text)}: the value of {column} must be {kind}, seen {shown(value)}")
    return column, bound


def _place(points: Sequence[SweptPoint], axes: Sequence[str], at: Sequence[str]) -> Place:
    """The one place that ``--limit`` and ``--at`` leave. Raises ``InputError`` where they leave several."""
    from ..runs.load import InputError
    from ..sim.sweeping.picking import listed, pick, several
    from ..sim.sweeping.recommend import split_axes

    of_policy, others = split_axes(axes)
    for text in at:
        if text.partition("=")[0].strip() in of_policy:
            raise InputError(
                f"--at {text}: names a policy; --at says at which place --out runs the chosen one"
            )
        points = pick(points, others, "--at", text)
    if left := several(points, others):
        values = "; ".join(f"{axis}: {listed(points, axis)}" for axis in left)
        raise InputError(
            f"--out: a scenario is for one place, and several are left; give --at PATH=VALUE (or --limit) "
            f"for {values}"
        )
    return tuple(points[0].labels[axis] for axis in others)


def _check_columns(sweep: FinishedSweep, points: Sequence[SweptPoint], columns: Sequence[str]) -> None:
    """Raise ``InputError`` for a column that no run has although it served its requests."""
    from ..runs.load import InputError
    from ..sim.sweeping.power import check_power

    served = [row for point in points for row in point.rows if row.get("status") == "ok"]
    for column in columns:
        if not served or any(row.get(column) is not None for row in served):
            continue
        if column == Objective.energy.column:
            check_power(sweep.source, [point.scenario for point in points])
        raise InputError(f"{sweep.folder}: no run has a {column}")


def _check_replaceable(out: Path) -> None:
    """Raise ``InputError`` where the file is there and is not one of ours."""
    from ..devices.reading import read_text
    from ..runs.load import InputError

    if out.exists() and not read_text(out).startswith(HEADER):
        raise InputError(f"--out {out}: is there, and was not written by this command; give another name")


def _write_scenario(out: Path, sweep: FinishedSweep, point: SweptPoint, report: Report) -> None:
    """The point's scenario, checked where it will stand; how it was chosen is said at its top."""
    import yaml

    from ..devices.reading import Document
    from ..runs.load import Source
    from ..runs.moved import moved

    data = moved(point.scenario, sweep.source.folder, out.parent)
    data["device"] = {key: value for key, value in data["device"].items() if value != {}}
    Source(out, Document(data), data, {}).scenario()
    origin = os.path.relpath(sweep.folder.resolve(), out.parent.resolve())
    notes = [f"{HEADER} from the sweep in {origin}.", f"# Verdict: {report.verdict}"]
    notes += [f"# {name}: {value}" for name, value in report.facts()]
    text = "".join(f"{' '.join(note.split())}\n" for note in notes)
    text += "\n" + yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    write_whole(out, lambda draft: draft.write_text(text, encoding="utf-8"))


def _write_json(path: Path, data: dict[str, Any]) -> None:
    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))
