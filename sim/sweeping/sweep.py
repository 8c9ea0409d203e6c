"""A sweep: every point of a scenario's grid, resumable, with its results in one folder.

    scenario.yaml        the scenario with its sweep, as it was run
    sweep.json           marker, version, and the scenario's own file: what it names is looked up beside that
    points.jsonl         one line per finished point, append-only (``rowfile.py``)
    points.csv           one row per point and replication, in the order of the grid
    means.csv            one row per point: means over replications with intervals
    recommendation.csv   which policy to choose where by the mean response time (``recommend.py``);
                         recommendation-p95.csv and so on by another objective (``sim/objectives.py``)
    figures/             PNG and PDF

The objective is no part of a point: for another one, a finished sweep only writes another recommendation.
A point is keyed by its content, the board and the files it uses included. The same sweep gives the same bytes
however many workers ran it and however often it was killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ...runs.grid import Point
from ...runs.load import InputError, Source
from ...runs.result import RunResult
from ...runs.scenario import Scenario
from ...runs.statistics import mean
from ...runs.summary import across, summarise
from ...runs.tables import request_columns, write_csv
from ...traces.atomic import write_whole
from ..objectives import Objective
from ..run import simulate
from .executors import cluster_executor, local_executor
from .power import check_power
from .recommend import recommend, saturated
from .rowfile import merge
from .runner import RunnerReport, run_points

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[int, int, int], None]
FORMAT = "edgesched sweep"
FORMAT_VERSION = 1
MARKER, SCENARIO, POINTS, TABLE, MEANS, FIGURES = (
    "sweep.json",
    "scenario.yaml",
    "points.jsonl",
    "points.csv",
    "means.csv",
    "figures",
)
LEFT_OUT = ("networks", "utilisation", "warnings", "policy", "device", "replication")
"""What of a summary has no column of its own in points.csv."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep's folder holds, in memory."""

    folder: Path
    axes: list[str]
    """The swept paths, in the order of the grid."""
    points: pd.DataFrame
    means: pd.DataFrame
    choice: pd.DataFrame
    """Empty where the sweep does not compare policies."""
    objective: Objective
    """What ``choice`` compares."""
    report: RunnerReport
    errors: list[str]
    """What went wrong at failed points, each message once."""

    @property
    def settled(self) -> bool:
        """Whether every point has a result; an infeasible one is a result."""
        return not self.errors


def run_point(payload: Mapping[str, Any]) -> dict[str, Any]:
    """One replication of one point, in a worker: its summary, and how fast its backlog grows."""
    scenario = Scenario.model_validate(payload["scenario"])
    result = simulate(scenario, payload["replication"], folder=Path(payload["folder"]))
    return {**summarise(result), "backlog_growth": _backlog_growth(result)}


def run_sweep(
    source: Source,
    out: Path,
    *,
    workers: int,
    cluster: str | None = None,
    retry_failed: bool = False,
    force: bool = False,
    objective: Objective = Objective.mean,
    progress: Progress | None = None,
) -> Sweep:
    """Run what is missing in ``out`` and write its tables, the recommendation by ``objective``.

    Recommendations and figures of other objectives are kept while the means are the same, and removed when
    they are not: they would tell of another sweep.

    Raises ``InputError`` for a sweep that is wrong anywhere, before anything is written or run, and for a
    folder that holds something else (another sweep: unless ``force``; points of equal content are kept).
    """
    version = metadata.version("edgesched")
    points = source.points(version=version)
    if objective is Objective.energy:
        check_power(source, [point.scenario for point in points])
    text = yaml.safe_dump(source.data, sort_keys=False, allow_unicode=True)
    _check_folder(out, text, force)
    folder = str(source.folder.resolve())
    todo = {p.key: {"scenario": p.scenario, "replication": p.replication, "folder": folder} for p in points}
    factory = _executors(cluster, workers)
    out.mkdir(parents=True, exist_ok=True)
    _begin(out, source, text, version)
    report = run_points(
        run_point,
        todo,
        executor_factory=factory,
        path=out / POINTS,
        window=64 if cluster else 2 * workers,
        progress=progress,
        retry_failed=retry_failed,
    )
    rows = merge(out / POINTS, [point.key for point in points])
    return _tables(out, points, rows, report, objective)


def _begin(out: Path, source: Source, text: str, version: str) -> None:
    """Write what the sweep is; the tables of another one go, so that what is there is finished."""
    stored = out / SCENARIO
    if not stored.exists() or stored.read_text(encoding="utf-8") != text:
        for name in (TABLE, MEANS):
            (out / name).unlink(missing_ok=True)
    write_text(stored, text)
    marker = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "version": version,
        "scenario": os.path.relpath(source.path.resolve(), out.resolve()),
        "set": dict(source.overrides),
    }
    write_text(out / MARKER, json.dumps(marker, indent=2, ensure_ascii=False) + "\n")


def _executors(cluster: str | None, workers: int) -> Callable[[], Executor]:
    """What makes executors. A cluster that does not answer is found out here, before anything is written."""
    if cluster is None:
        return partial(local_executor, workers, preload=[__name__])
    try:
        ready = [cluster_executor(cluster)]
    except (ImportError, OSError, ValueError) as error:
        raise InputError(f"--cluster {cluster}: {error}") from error
    return lambda: ready.pop() if ready else cluster_executor(cluster)


def _check_folder(out: Path, text: str, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; give another folder with --out")
    if not out.exists() or not any(out.iterdir()):
        return
    stored = out / SCENARIO
    if not (out / POINTS).exists() and not stored.exists():
        raise InputError(f"{out}: holds files but no sweep; give an empty or a new folder with --out")
    if not force and stored.exists() and stored.read_text(encoding="utf-8") != text:
        raise InputError(
            f"{out}: holds the sweep of another scenario; give a new folder with --out, or --force to go "
            f"on in this one (points of equal content are kept)"
        )


def _tables(
    out: Path,
    points: Sequence[Point],
    rows: Sequence[dict[str, Any]],
    report: RunnerReport,
    objective: Objective,
) -> Sweep:
    import pandas as pd

    table = [
        {**labels(point.settings), "replication": point.replication, **_columns(row)}
        for point, row in zip(points, rows, strict=True)
    ]
    groups: dict[str, list[tuple[Point, dict[str, Any]]]] = {}
    for point, row in zip(points, rows, strict=True):
        groups.setdefault(json.dumps(point.settings, sort_keys=True), []).append((point, row))
    means = [{**labels(m[0][0].settings), **_mean([row for _, row in m])} for m in groups.values()]
    axes = list(dict.fromkeys(path for point in points for path in point.settings))
    choice = recommend(
        axes, [(labels(m[0][0].settings), [row for _, row in m]) for m in groups.values()], objective
    )
    sweep = Sweep(
        out,
        axes,
        _without_unknown_energy(pd.DataFrame(table)),
        _without_unknown_energy(pd.DataFrame(means)),
        pd.DataFrame(choice),
        objective,
        report,
        list(dict.fromkeys(row["error"]["message"] for row in rows if "error" in row)),
    )
    _write_frame(out / TABLE, sweep.points)
    write_whole(out / MEANS, partial(_write_means, out, sweep.means))
    if len(sweep.choice):
        _write_frame(out / objective.choice_file, sweep.choice)
    return sweep


def _without_unknown_energy(frame: pd.DataFrame) -> pd.DataFrame:
    """No columns of energy where no board's power is known."""
    column = Objective.energy.column
    if column not in frame or frame[column].notna().any():
        return frame
    return frame.drop(columns=[name for name in frame if str(name).startswith(column)])


def _write_means(out: Path, means: pd.DataFrame, draft: Path) -> None:
    """Write them; where they are new, what was made of earlier ones goes before they take their place."""
    write_csv(means, draft)
    if not (out / MEANS).exists() or draft.read_bytes() != (out / MEANS).read_bytes():
        for path in _of_objectives(out):
            path.unlink()


def _of_objectives(out: Path) -> list[Path]:
    """The recommendations and figures in a sweep's folder."""
    found: list[Path] = []
    for objective in Objective:
        found += out.glob(objective.choice_file)
        for suffix in ("png", "pdf"):
            found += (out / FIGURES).glob(f"{objective.figure_stem}.{suffix}")
            found += (out / FIGURES).glob(f"{objective.figure_stem}-*.{suffix}")
    return found


def label(value: Any) -> Any:
    """A swept value as it stands in a table: a mapping by what it chooses, else as compact JSON."""
    if isinstance(value, Mapping):
        chosen = next((value[key] for key in ("name", "process", "mix", "board") if key in value), None)
        rest = {k: v for k, v in value.items() if v != chosen}
        if chosen is not None:
            return f"{chosen}({', '.join(f'{k}={label(v)}' for k, v in rest.items())})" if rest else chosen
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False)
    return "none" if value is None else value


def labels(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the sweep set of a point, as it stands in a table."""
    return {path: label(value) for path, value in settings.items()}


def _columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the result file as the columns of points.csv."""
    if "error" in row:
        return {"key": row["key"], "status": "error", "reason": row["error"]["message"]}
    columns = {key: value for key, value in row.items() if key not in LEFT_OUT}
    columns["utilisation_max"] = max(row["utilisation"].values(), default=None)
    return columns


def _mean(points_rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    failed = next((row for row in points_rows if "error" in row), None)
    if failed is not None:
        return {"status": "error", "reason": failed["error"]["message"], "replications": len(points_rows)}
    together = across(points_rows)
    columns = {key: value for key, value in together.items() if key not in LEFT_OUT}
    columns["utilisation_max"] = max(together["utilisation"].values(), default=None)
    columns["saturated"] = saturated(points_rows)
    return columns


def _backlog_growth(result: RunResult) -> float | None:
    """By how many requests the backlog grows per request that arrives, over the second half of the arrivals.

    The slope of the number of unfinished requests that each one meets. Of a stable queue it fluctuates about
    0; where the load is rho > 1 it is about 1 - 1 / rho, whatever the order of service. None for fewer than
    ten requests in that half, or all at once.
    """
    import numpy as np

    columns = request_columns(result)
    arrival_s = columns["arrival_s"]
    finish_s = columns["finish_s"]
    count = len(arrival_s)
    half = np.arange(count // 2, count)
    if len(half) < 10 or arrival_s[half[0]] == arrival_s[-1]:
        return None
    gone = np.searchsorted(np.sort(finish_s[finish_s == finish_s]), arrival_s[half], side="right")
    met = (half - gone).astype(float)
    along = half - mean(half)
    return mean(along * (met - mean(met))) / mean(along * along)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def _write_frame(path: Path, frame: pd.DataFrame) -> None:
    write_whole(path, lambda draft: write_csv(frame, draft))
