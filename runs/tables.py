"""A run's columns as tables: requests, jobs, tasks and memory over time.

The ``*_columns`` functions give numpy arrays and need no pandas; the functions without the suffix give the
same as a ``pandas.DataFrame``. Rows are in the order of arrival (requests, jobs), of completion (tasks) or
of time (memory).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..policies.graph import WHOLE_NETWORK, Kind, Task
from .result import RunResult
from .tasks import INSTANT_S, Trace

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]
Columns = dict[str, Array]

TASK_COLUMNS = ("worker", "request", "job", "network", "kind", "layer", "start_s", "end_s", "resident_bytes")


class Layout(NamedTuple):
    """Where the jobs of each request stand, and which graph each job follows."""

    first: Array
    """Per request the row of its first job."""
    request: Array
    """Per job its request."""
    shape: Array
    """Per job a number for (composition, position); ``graphs[shape]`` is its graph."""
    graphs: list[Any]


def layout_of(result: RunResult) -> Layout:
    """Where the run's jobs stand. Raises ValueError where records and compositions disagree."""
    records = result.records
    composition = np.array(records.composition, dtype=np.intp)
    sizes = np.array([len(graphs) for graphs in result.graphs], dtype=np.intp)
    offsets = np.concatenate(([0], np.cumsum(sizes)))[:-1] if len(sizes) else np.zeros(0, dtype=np.intp)
    count = sizes[composition]
    first = np.cumsum(count) - count
    request = np.repeat(np.arange(len(composition)), count)
    jobs = len(records.job_finish_s)
    if len(request) != jobs:
        raise ValueError(f"the requests' compositions have {len(request)} jobs, the records {jobs}")
    position = np.arange(jobs) - first[request]
    shape = offsets[composition][request] + position
    return Layout(first, request, shape, [graph for graphs in result.graphs for graph in graphs])


def _job_deadline_s(result: RunResult, layout: Layout) -> Array:
    """Per job its deadline relative to the arrival; nan without one. A stream may have one per network."""
    names = [graph.network.name for graph in layout.graphs]
    table = np.full((len(result.deadline_s), len(names)), np.nan)
    for stream, deadline in enumerate(result.deadline_s):
        if isinstance(deadline, Mapping):
            table[stream] = [deadline.get(name, math.nan) for name in names]
        elif deadline is not None:
            table[stream] = deadline
    stream_of = np.array(result.records.stream, dtype=np.intp)
    return table[stream_of[layout.request], layout.shape]


def _missed(result: RunResult, arrival_s: Array, response_s: Array, deadline_s: Array) -> Array:
    """Finished too late, or not finished although the run went on past the deadline."""
    late = response_s > deadline_s + INSTANT_S
    overdue = np.isnan(response_s) & (result.end_s - arrival_s > deadline_s + INSTANT_S)
    return late | overdue


def job_columns(result: RunResult) -> Columns:
    """``jobs`` as numpy arrays of one length; the network is an index into ``network_names(result)``."""
    return _job_columns(result, layout_of(result))


def _job_columns(result: RunResult, layout: Layout) -> Columns:
    records = result.records
    arrival_s = np.array(records.arrival_s, dtype=np.float64)[layout.request]
    start_s = np.array(records.job_start_s, dtype=np.float64)
    finish_s = np.array(records.job_finish_s, dtype=np.float64)
    names = network_names(result)
    index = np.array([names.index(graph.network.name) for graph in layout.graphs], dtype=np.intp)
    deadline_s = _job_deadline_s(result, layout)
    response_s = finish_s - arrival_s
    return {
        "job": np.arange(len(finish_s)),
        "request": layout.request,
        "network": index[layout.shape],
        "arrival_s": arrival_s,
        "start_s": start_s,
        "finish_s": finish_s,
        "response_s": response_s,
        "waiting_s": start_s - arrival_s,
        "deadline_s": deadline_s,
        "missed": _missed(result, arrival_s, response_s, deadline_s),
    }


def network_names(result: RunResult) -> list[str]:
    """The run's networks, in order of first appearance in its compositions."""
    return list(dict.fromkeys(graph.network.name for graphs in result.graphs for graph in graphs))


def request_columns(result: RunResult) -> Columns:
    """``requests`` as numpy arrays of one length; the stream is an index into ``result.streams``."""
    layout = layout_of(result)
    return _request_columns(result, layout, _job_columns(result, layout))


def columns(result: RunResult) -> tuple[Columns, Columns]:
    """``request_columns`` and ``job_columns`` together, the work they share done once."""
    layout = layout_of(result)
    jobs = _job_columns(result, layout)
    return _request_columns(result, layout, jobs), jobs


def _request_columns(result: RunResult, layout: Layout, jobs: Columns) -> Columns:
    arrival_s = np.array(result.records.arrival_s, dtype=np.float64)
    count = np.diff(layout.first, append=len(layout.request))
    if len(count) and count.min() < 1:
        raise ValueError("a request without jobs has no response time")
    if len(count):
        # The last job's finish; nan as long as any is unfinished.
        finish_s = np.maximum.reduceat(jobs["finish_s"], layout.first)
        deadline_s = np.fmax.reduceat(jobs["deadline_s"], layout.first)
        missed = np.logical_or.reduceat(jobs["missed"], layout.first)
    else:
        finish_s = deadline_s = np.zeros(0)
        missed = np.zeros(0, dtype=bool)
    return {
        "request": np.arange(len(arrival_s)),
        "stream": np.array(result.records.stream, dtype=np.intp),
        "arrival_s": arrival_s,
        "finish_s": finish_s,
        "response_s": finish_s - arrival_s,
        "jobs": count,
        "deadline_s": deadline_s,
        "missed": missed,
    }


def task_columns(result: RunResult) -> Columns:
    """``tasks`` as numpy arrays of one length. Raises ValueError for a run without a trace."""
    trace = trace_of(result)
    layout = layout_of(result)
    labels = [task_label(task) for graph in layout.graphs for task in graph.tasks]
    offsets = np.cumsum([0, *(len(graph.tasks) for graph in layout.graphs)])[:-1]
    job = np.array(trace.job, dtype=np.intp)
    code = offsets[layout.shape[job]] + np.array(trace.task, dtype=np.intp)
    network, kind, layer = (np.array(column, dtype=object) for column in zip(*labels, strict=True))
    return {
        "worker": np.array(result.workers, dtype=object)[np.array(trace.worker, dtype=np.intp)],
        "request": layout.request[job],
        "job": job,
        "network": network[code],
        "kind": kind[code],
        "layer": layer[code],
        "start_s": np.array(trace.start_s, dtype=np.float64),
        "end_s": np.array(trace.end_s, dtype=np.float64),
        "resident_bytes": np.array(trace.resident_bytes, dtype=np.int64),
    }


def trace_of(result: RunResult) -> Trace:
    """The run's trace. Raises ValueError for a run without."""
    if result.trace is None:
        raise ValueError("this run kept no trace of its tasks; run it with a trace")
    return result.trace


def task_label(task: Task) -> tuple[str, str, str]:
    """Network, kind and layer of a task as they stand in ``tasks``."""
    if task.layer == WHOLE_NETWORK:
        layer = "" if task.kind == Kind.INIT else "all"
    else:
        layer = task.network.network.layers[task.layer].name or str(task.layer)
    return task.network.name, task.kind.name.lower(), layer


# -- DataFrames -------------------------------------------------------------------------------------------


def requests(result: RunResult) -> pd.DataFrame:
    """One row per request.

    Columns: request, stream (name), arrival_s, finish_s and response_s (nan if unfinished), jobs (how many),
    deadline_s (relative to the arrival; the latest of its networks'; nan: none), missed.
    """
    import pandas as pd

    frame = pd.DataFrame(request_columns(result))
    frame["stream"] = np.array(result.streams, dtype=object)[frame["stream"].to_numpy()]
    return frame


def jobs(result: RunResult) -> pd.DataFrame:
    """One row per job; the jobs of a request stand together.

    Columns: job, request, network, arrival_s (the request's), start_s (first task; nan if not begun),
    finish_s and response_s (nan if unfinished), waiting_s (start minus arrival), deadline_s (relative to the
    arrival; nan: none), missed.
    """
    import pandas as pd

    frame = pd.DataFrame(job_columns(result))
    frame["network"] = np.array(network_names(result), dtype=object)[frame["network"].to_numpy()]
    return frame


def tasks(result: RunResult) -> pd.DataFrame:
    """One row per traced task, in order of completion.

    Columns: worker, request, job, network, kind (init, load, execute), layer (name, or index where it has
    none; "all" for a whole network, "" for INIT), start_s, end_s, resident_bytes (just before the task's own
    bytes leave). Raises ValueError for a run without a trace.
    """
    import pandas as pd

    return pd.DataFrame(task_columns(result), columns=list(TASK_COLUMNS))


def memory(result: RunResult) -> pd.DataFrame:
    """Resident bytes over time as steps: from ``time_s`` on ``resident_bytes``, until the next row.

    Made as ``occupancy.memory_columns`` says: exact without dispatch lag. Raises ValueError for a run
    without a trace.
    """
    import pandas as pd

    from .occupancy import memory_columns

    return pd.DataFrame(memory_columns(result))


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """CSV in UTF-8 with a header; floats in the shortest form that reads back bit for bit, nan empty."""
    frame.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")
