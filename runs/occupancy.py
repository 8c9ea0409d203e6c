"""Memory in use over time, rebuilt from a run's trace."""

from __future__ import annotations

import numpy as np

from .result import RunResult
from .tables import Array, Columns, layout_of, trace_of

ENDS, DEATHS, SUBMISSIONS, STARTS, INSTANT_ENDS, INSTANT_DEATHS = range(6)
"""Order of what happens at one time; tasks of no duration end after they started."""


def memory_columns(result: RunResult) -> Columns:
    """``tables.memory`` as numpy arrays: ``time_s`` (not decreasing) and ``resident_bytes`` from then on.

    The trace holds the ledger's own value after each task's start and each network built at submission, the
    only things that raise it, so every rise and the peak are exact. In between the level falls at ends and
    finished jobs by what the task graphs say. A trace that is a window of the run begins with its first task;
    the task at which an infeasible run stopped is not in it. Raises ValueError for a run without a trace.
    """
    trace = trace_of(result)
    layout = layout_of(result)
    rows = len(trace)
    if not rows:
        count = 0 if trace.dropped else 1
        return {"time_s": np.zeros(count), "resident_bytes": np.full(count, result.base_bytes)}
    job = np.array(trace.job, dtype=np.intp)
    offsets = np.cumsum([0, *(len(graph.tasks) for graph in layout.graphs)])[:-1]
    code = offsets[layout.shape[job]] + np.array(trace.task, dtype=np.intp)
    tasks = [task for graph in layout.graphs for task in graph.tasks]
    end_bytes = np.array([task.end_bytes for task in tasks], dtype=np.int64)[code]
    start_s, end_s = np.array(trace.start_s), np.array(trace.end_s)
    instant = start_s == end_s

    # Each job that the trace knows: what it still holds when it is done.
    known, backwards = np.unique(job[::-1], return_index=True)
    shape = layout.shape[known]
    held = np.array([graph.held_bytes for graph in layout.graphs], dtype=np.int64)[shape]
    submission_s = np.array(trace.submission_s)
    finish_s = np.array(result.records.job_finish_s, dtype=np.float64)[known]
    done = ~np.isnan(finish_s)
    last = rows - 1 - backwards
    at_once = instant[last[done]] & (finish_s[done] == end_s[last[done]])

    kinds = (
        (end_s, np.where(instant, INSTANT_ENDS, ENDS), -end_bytes),
        (finish_s[done], np.where(at_once, INSTANT_DEATHS, DEATHS), -held[done]),
        (submission_s, np.full(len(submission_s), SUBMISSIONS), np.zeros(len(submission_s), dtype=np.int64)),
        (start_s, np.full(rows, STARTS), np.zeros(rows, dtype=np.int64)),
    )
    exact = np.concatenate((np.array(trace.submission_bytes), np.array(trace.resident_bytes)))
    time_s, rank, change = (np.concatenate(parts) for parts in zip(*kinds, strict=True))
    sorting = np.lexsort((rank, time_s))
    level = np.cumsum(change[sorting]) + result.base_bytes
    level += _corrections(sorting, level, exact.astype(np.int64))
    keep = (change[sorting] != 0) | (sorting >= len(time_s) - len(exact))
    time_s, level = time_s[sorting][keep], level[keep]
    if not trace.dropped:
        time_s, level = np.concatenate(([0.0], time_s)), np.concatenate(([result.base_bytes], level))
        if not np.isnan(np.array(result.records.job_finish_s)).any():
            level[-1] = result.base_bytes  # Nothing is left that could hold memory.
    return {"time_s": time_s, "resident_bytes": level}


def _corrections(sorting: Array, level: Array, exact: Array) -> Array:
    """Per event what brings the level to the ledger's value at the last rise before it.

    The last ``len(exact)`` events are the rises.
    """
    first = len(sorting) - len(exact)
    rises = np.flatnonzero(sorting >= first)
    correction = exact[sorting[rises] - first] - level[rises]
    before = np.searchsorted(rises, np.arange(len(sorting)), side="right")
    return np.concatenate(([0], correction))[before]
