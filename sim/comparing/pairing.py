"""A simulation and a replay side by side: which request, job and task of one is which of the other.

The k-th request of a stream is the same request in both, whatever order closed streams make of them; its jobs
stand in the same order, and a task is known by its kind and layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from ...runs import tables
from ...runs.folder import COUNTERS, FolderError, RunFolder

if TYPE_CHECKING:
    import pandas as pd

    from ...runs.result import RunResult

REQUEST = ["replication", "stream", "turn"]
JOB = [*REQUEST, "position", "network"]
TASK = [*JOB, "kind", "layer", "nth"]


class ComparisonError(ValueError):
    """A simulation and a replay cannot be compared; the message says which folder is at fault and why."""


@dataclass(frozen=True)
class Tables:
    """A run's tables (``runs/tables.py``) with the columns of ``REQUEST``, ``JOB`` and ``TASK``.

    ``turn`` numbers a stream's requests, ``position`` a request's jobs, ``nth`` a job's tasks of one kind and
    layer name. ``tasks`` are in order of their start, with the columns ``duration_s`` and ``switches``: how
    often other processes took the processor away (nan: not counted).
    """

    requests: pd.DataFrame
    jobs: pd.DataFrame
    tasks: pd.DataFrame


def of_folder(folder: RunFolder, replications: Sequence[int]) -> Tables:
    """The tables of these replications. Raises ComparisonError for a run without a trace."""
    requests, jobs, tasks = folder.requests(), folder.jobs(), _counted(folder, traced_tasks(folder))
    if not requests["replication"].isin(replications).any():
        raise ComparisonError(f"{folder.path}: has no request; there is nothing to compare")
    return _keyed(*(table[table["replication"].isin(replications)] for table in (requests, jobs, tasks)))


def of_results(results: Sequence[RunResult]) -> Tables:
    """The tables of results with traces that have not been written."""
    import pandas as pd

    def table(make: Callable[[RunResult], pd.DataFrame]) -> pd.DataFrame:
        parts = [make(result).assign(replication=result.replication) for result in results]
        return pd.concat(parts, ignore_index=True)

    return _keyed(table(tables.requests), table(tables.jobs), table(tables.tasks).assign(switches=np.nan))


def traced_tasks(folder: RunFolder) -> pd.DataFrame:
    """The tasks of a folder. Raises ComparisonError for a run without a trace."""
    try:
        # A table without rows does not know its types.
        return folder.tasks().astype({"replication": int, "job": int, "start_s": float, "end_s": float})
    except FolderError as error:
        raise ComparisonError(
            f"{folder.path}: kept no trace of its tasks; simulate it again with one: "
            f"edgesched run SCENARIO --out DIR --trace-limit 10000000"
        ) from error


def _counted(folder: RunFolder, tasks: pd.DataFrame) -> pd.DataFrame:
    """The tasks with the switches that a replay counted, row by row."""
    import pandas as pd

    path = folder.path / COUNTERS
    return tasks.assign(switches=pd.read_csv(path)["switches"].to_numpy() if path.exists() else np.nan)


def _keyed(requests: pd.DataFrame, jobs: pd.DataFrame, tasks: pd.DataFrame) -> Tables:
    requests = requests.assign(turn=requests.groupby(["replication", "stream"]).cumcount())
    jobs = jobs.assign(position=jobs.groupby(["replication", "request"]).cumcount())
    jobs = jobs.merge(requests[["replication", "request", "stream", "turn"]], on=["replication", "request"])
    # Ties by worker; what one worker does at one time stays in order of completion.
    tasks = tasks.sort_values(["replication", "start_s", "worker"], kind="stable")
    tasks = tasks.assign(nth=tasks.groupby(["replication", "job", "kind", "layer"]).cumcount())
    places = jobs[["replication", "job", "stream", "turn", "position"]]
    tasks = tasks.merge(places, on=["replication", "job"], how="left")
    return Tables(requests, jobs, tasks.assign(duration_s=tasks["end_s"] - tasks["start_s"]))


def responses(runs: Mapping[str, Tables], warmup_requests: int = 0) -> pd.DataFrame:
    """Response times of the requests that all runs finished: the columns of ``REQUEST``, then one per run.

    The first run says which requests are warm-up and left out.
    """
    table = _side_by_side({name: run.requests for name, run in runs.items()}, REQUEST, "response_s")
    first = next(iter(runs.values())).requests
    counted = first.loc[first["request"] >= warmup_requests, REQUEST]
    return counted.merge(table.dropna(), on=REQUEST)


def job_responses(runs: Mapping[str, Tables], counted: pd.DataFrame) -> pd.DataFrame:
    """The same of the jobs of the requests in ``counted``, with the columns of ``JOB``."""
    table = _side_by_side({name: run.jobs for name, run in runs.items()}, JOB, "response_s")
    return counted[REQUEST].merge(table, on=REQUEST)


def durations(runs: Mapping[str, Tables]) -> pd.DataFrame:
    """Seconds of every task that any run finished: the columns of ``TASK``, then one per run (nan: not)."""
    return _side_by_side({name: run.tasks for name, run in runs.items()}, TASK, "duration_s", how="outer")


def _side_by_side(
    frames: Mapping[str, pd.DataFrame], key: list[str], column: str, how: str = "inner"
) -> pd.DataFrame:
    parts = [frame[[*key, column]].rename(columns={column: name}) for name, frame in frames.items()]
    return reduce(lambda left, right: left.merge(right, on=key, how=how), parts)  # type: ignore[arg-type]
