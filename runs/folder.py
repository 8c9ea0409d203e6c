"""A run's folder: everything that went in and came out, written whole or not at all.

    run.json       marker, version, policy, device, seeds
    scenario.yaml  the resolved scenario
    summary.json   one summary per replication, and all of them together
    requests.csv   jobs.csv   tasks.csv   memory.csv
    plan.json      what the policy decided before the run, where it plans
    figures/       PNG and PDF, on demand
    replay.json    counters.csv

``tasks`` and ``memory`` exist where the run kept a trace. Each table is that of ``runs/tables.py`` with the
column ``replication`` behind it. The last two files are of replays only: what the machine was and went
through, and per task its processor time, involuntary context switches and major page faults. The same
simulation gives the same bytes.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from . import tables
from .result import RunResult
from .summary import Summary, across, summarise

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "edgesched run"
FORMAT_VERSION = 1
MARKER = "run.json"
TABLES: dict[str, Callable[[RunResult], pd.DataFrame]] = {
    "requests": tables.requests,
    "jobs": tables.jobs,
    "tasks": tables.tasks,
    "memory": tables.memory,
}
TRACED = ("tasks", "memory")
TEXT_COLUMNS = ("stream", "network", "worker", "kind", "layer")
REPLAY = "replay.json"
COUNTERS = "counters.csv"
PLAN = "plan.json"
OURS = frozenset({MARKER, "scenario.yaml", "summary.json", PLAN, "figures", REPLAY, COUNTERS}) | {
    f"{name}.{suffix}" for name in TABLES for suffix in ("csv", "parquet")
}


class FolderError(ValueError):
    """A folder cannot be written or read; the message names it and says why."""


@dataclass(frozen=True)
class RunFolder:
    """An opened run folder; tables are read when they are asked for."""

    path: Path
    info: dict[str, Any]
    """What ``run.json`` holds: version, policy, device, seeds."""
    scenario: dict[str, Any]
    summary: Summary
    """``{"together": ..., "replications": [...]}``."""

    def requests(self) -> pd.DataFrame:
        """``tables.requests`` of all replications."""
        return self._table("requests")

    def jobs(self) -> pd.DataFrame:
        """``tables.jobs`` of all replications."""
        return self._table("jobs")

    def tasks(self) -> pd.DataFrame:
        """``tables.tasks`` of all replications. Raises FolderError where the run kept no trace."""
        return self._table("tasks")

    def memory(self) -> pd.DataFrame:
        """``tables.memory`` of all replications. Raises FolderError where the run kept no trace."""
        return self._table("memory")

    def plan(self) -> dict[str, Any] | None:
        """What the policy decided before the run (``runs/planrecord.py``); None where it decided nothing."""
        path = self.path / PLAN
        if not path.exists():
            return None
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return plan

    def replay(self) -> list[dict[str, Any]] | None:
        """What a replay wrote down of each replication; None for a simulation."""
        path = self.path / REPLAY
        if not path.exists():
            return None
        facts: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["replications"]
        return facts

    def _table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        if (parquet := self.path / f"{name}.parquet").exists():
            return pd.read_parquet(parquet)
        path = self.path / f"{name}.csv"
        if not path.exists():
            raise FolderError(f"{self.path}: there is no table {name!r}; was the run traced?")
        header = path.open(encoding="utf-8").readline().rstrip("\n").split(",")
        # A network may be called "NA": only numbers can be missing.
        numbers = {column: [""] for column in header if column not in TEXT_COLUMNS}
        texts = {column: str for column in header if column in TEXT_COLUMNS}
        # From pandas 3 on, reading floats exactly is the default and asking for it deprecated.
        exact: dict[str, Any] = {"float_precision": "round_trip"} if pd.__version__ < "3" else {}
        return pd.read_csv(path, dtype=texts, na_values=numbers, keep_default_na=False, **exact)


def write_run(
    path: Path | str,
    results: RunResult | Sequence[RunResult],
    *,
    summaries: Sequence[Summary] | None = None,
    table_format: Literal["csv", "parquet"] = "csv",
    figures: Callable[[Path], object] | None = None,
    beside: Callable[[Path], object] | None = None,
) -> Path:
    """Write one scenario's replications into the folder ``path``; returns it.

    An existing folder is replaced if it is empty or holds a run and nothing else. ``summaries`` None: made
    here with the scenario's warm-up. ``figures`` is called with an empty folder to draw into, ``beside`` with
    the run's own, for the files that only replays have. Everything is written beside ``path`` first and
    renamed at the end, so that a crash leaves the old folder or the new one (or, between the two renames of
    a replacement, both under other names), never half of one. Raises FolderError; for parquet without
    pyarrow, ImportError.
    """
    replications = [results] if isinstance(results, RunResult) else list(results)
    if not replications:
        raise FolderError(f"{path}: no results to write")
    target = Path(path).resolve()
    check_replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = _beside(target, "writing")
    draft.mkdir()
    try:
        summaries = [summarise(result) for result in replications] if summaries is None else summaries
        _write_json(draft / MARKER, _info(replications))
        _write_json(draft / "summary.json", {"together": across(summaries), "replications": list(summaries)})
        if replications[0].plan is not None:
            _write_json(draft / PLAN, replications[0].plan)
        scenario = yaml.safe_dump(replications[0].scenario, sort_keys=False, allow_unicode=True)
        (draft / "scenario.yaml").write_text(scenario, encoding="utf-8")
        for name in TABLES:
            if name not in TRACED or all(result.trace is not None for result in replications):
                _write_table(draft, name, replications, table_format)
        if figures is not None:
            (draft / "figures").mkdir()
            figures(draft / "figures")
        if beside is not None:
            beside(draft)
        replace_run(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return target


def open_run(path: Path | str) -> RunFolder:
    """Open what ``write_run`` wrote. Raises FolderError for anything else, and for a newer format."""
    folder = Path(path)
    info = _marker(folder)
    if info is None:
        raise FolderError(f"{folder}: not a run's folder (no {MARKER} of edgesched in it)")
    if info["format_version"] > FORMAT_VERSION:
        raise FolderError(
            f"{folder}: written in format {info['format_version']} by edgesched {info['version']}; "
            f"this version reads up to {FORMAT_VERSION}"
        )
    scenario = yaml.safe_load((folder / "scenario.yaml").read_text(encoding="utf-8"))
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return RunFolder(folder, info, scenario, summary)


def _info(results: Sequence[RunResult]) -> dict[str, Any]:
    first = results[0]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "version": metadata.version("edgesched"),
        "policy": first.policy,
        "device": first.device,
        "seed": first.seed,
        "replications": [result.replication for result in results],
    }


def _write_table(folder: Path, name: str, results: Sequence[RunResult], table_format: str) -> None:
    import pandas as pd

    frames = [TABLES[name](result).assign(replication=result.replication) for result in results]
    frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    if table_format == "parquet":
        frame.to_parquet(folder / f"{name}.parquet", engine="pyarrow", compression="zstd", index=False)
    elif table_format == "csv":
        tables.write_csv(frame, folder / f"{name}.csv")
    else:
        raise FolderError(f"table format {table_format!r}; must be csv or parquet")


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


# -- replacing --------------------------------------------------------------------------------------------


def _marker(folder: Path) -> dict[str, Any] | None:
    try:
        info = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return info if isinstance(info, dict) and info.get("format") == FORMAT else None


def check_replaceable(folder: Path) -> None:
    """Raise FolderError where ``write_run`` would refuse to write: ask before a long run."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FolderError(f"{folder}: is a file; give another folder")
    names = {entry.name for entry in folder.iterdir()}
    if names and _marker(folder) is None:
        raise FolderError(f"{folder}: holds files but no run of edgesched; give an empty or another folder")
    foreign = sorted(names - OURS)
    if foreign:
        raise FolderError(
            f"{folder}: beside the run there is {', '.join(foreign[:5])}, which replacing would delete; "
            f"move it away or give another folder"
        )


def replace_run(draft: Path, target: Path) -> None:
    """Put the run's folder ``draft``, on the same file system, in the place of ``target``.

    Raises FolderError where ``write_run`` would refuse to write.
    """
    if not target.exists():
        os.rename(draft, target)
        return
    check_replaceable(target)
    old = _beside(target, "old")
    os.rename(target, old)
    try:
        os.rename(draft, target)
    except BaseException:
        with suppress(OSError):
            os.rename(old, target)
        raise
    shutil.rmtree(old)


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.{what}")
