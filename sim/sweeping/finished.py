"""A finished sweep read back from its folder: every point with its settings, its scenario and its rows."""

from __future__ import annotations

import csv
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...devices.reading import Document, read_mapping, read_text
from ...runs.grid import GridError, expand
from ...runs.load import InputError, Source, scenario_of
from ...runs.scenario import normal
from .rowfile import MissingPointsError, merge
from .sweep import FORMAT, FORMAT_VERSION, MARKER, MEANS, POINTS, SCENARIO, TABLE, labels


@dataclass(frozen=True, slots=True)
class SweptPoint:
    """One combination of the swept values."""

    settings: dict[str, Any]
    """Swept path -> value."""
    labels: dict[str, Any]
    """The same as it stands in tables."""
    scenario: dict[str, Any]
    """The sweep's scenario with these settings, in the normal form, without a sweep."""
    rows: list[dict[str, Any]]
    """One per replication, as ``points.jsonl`` holds them."""


@dataclass(frozen=True, slots=True)
class FinishedSweep:
    """What a sweep's folder holds."""

    folder: Path
    source: Source
    """The scenario as it was swept; relative files are looked up where its file was then."""
    axes: list[str]
    """The swept paths, in the order of the grid."""
    points: list[SweptPoint]


def open_sweep(folder: Path) -> FinishedSweep:
    """Read the folder of ``edgesched sweep``; none of the files that its scenario names is needed.

    Raises ``InputError`` for a folder that holds no sweep or one that is not finished; the message then says
    how many points are missing and how to go on.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give the folder of a finished sweep")
    marker = _marker(folder)
    data = normal(read_mapping(folder / SCENARIO).data)
    # Messages name the file that was swept; its lines may have changed since.
    source = Source(_scenario_file(folder, marker), Document(data), data, {})
    if not (folder / MEANS).is_file() or not (folder / TABLE).is_file():
        raise _unfinished(folder, source, marker)
    with (folder / TABLE).open(newline="", encoding="utf-8") as file:
        keys = [row.get("key") or "" for row in csv.DictReader(file)]
    rows = iter(merge(folder / POINTS, keys))
    points: list[SweptPoint] = []
    try:
        base = {key: value for key, value in source.data.items() if key != "sweep"}
        for point in expand(base, source.data["sweep"], version=marker["version"]):
            swept = normal(point.scenario)
            count = scenario_of(swept).run.replications
            mine = [row for _, row in zip(range(count), rows, strict=False)]
            if len(mine) < count:
                raise InputError(_disagree(folder))
            points.append(SweptPoint(point.settings, labels(point.settings), swept, mine))
    except (InputError, GridError):
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / SCENARIO}: is no scenario with a sweep: {error}") from error
    if next(rows, None) is not None:
        raise InputError(_disagree(folder))
    axes = list(dict.fromkeys(path for point in points for path in point.settings))
    return FinishedSweep(folder, source, axes, points)


def _disagree(folder: Path) -> str:
    return f"{folder}: {TABLE} does not have the points of {SCENARIO}; run edgesched sweep again"


def _marker(folder: Path) -> dict[str, Any]:
    path = folder / MARKER
    if not path.is_file() or not (folder / SCENARIO).is_file():
        raise InputError(
            f"{folder}: is not the folder of a sweep (no {MARKER} and {SCENARIO} of edgesched sweep in it)"
        )
    try:
        found = json.loads(read_text(path, "sweep"))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is not JSON: {error}") from error
    kinds = {"format": str, "format_version": int, "version": str, "scenario": str, "set": dict}
    if not isinstance(found, dict) or not all(isinstance(found.get(k), kind) for k, kind in kinds.items()):
        raise InputError(f"{path}: must be what edgesched sweep writes; run it again to write it")
    if found["format"] != FORMAT or found["format_version"] > FORMAT_VERSION:
        raise InputError(
            f"{path}: holds {found['format']!r} in format {found['format_version']}; "
            f"this version reads {FORMAT!r} up to {FORMAT_VERSION}"
        )
    return found


def _scenario_file(folder: Path, marker: Mapping[str, Any]) -> Path:
    """The swept file, as seen from here."""
    return Path(os.path.relpath(folder.resolve() / marker["scenario"]))


def _unfinished(folder: Path, source: Source, marker: Mapping[str, Any]) -> InputError:
    changes = [f"{path}={json.dumps(value)}" for path, value in marker["set"].items()]
    words = ["edgesched", "sweep", str(source.path), "--out", str(folder)]
    words += [word for change in changes for word in ("--set", change)]
    keys = [point.key for point in source.points(version=marker["version"])]
    try:
        merge(folder / POINTS, keys)
        missing = f"{folder}: the points are there, the tables are not"
    except MissingPointsError as error:
        missing = f"the sweep is not finished: {error}"
    except FileNotFoundError:
        missing = f"{folder}: the sweep is not finished: none of its {len(keys)} points has a row yet"
    return InputError(f"{missing}; to go on: {shlex.join(words)}")
