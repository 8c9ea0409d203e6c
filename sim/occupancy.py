"""Resident bytes over time, rebuilt from a run's trace."""

from __future__ import annotations

import numpy as np

from .result import RunResult
from .tables import Array, Columns, layout_of, trace_of


def memory_columns(result: RunResult) -> Columns:
    """``tables.memory`` as numpy arrays: ``time_s`` (not decreasing) and ``resident_bytes`` from then on.

    Tasks' starts and ends, submissions and finished jobs change the level by what the task graph says; at
    every task's end the trace holds the ledger's own value, which corrects it. So it is exact where the
    runtime acts at once. With dispatch lag, bytes leave here at the task's end and in the run at the scan
    after it, until the next task's end at the latest. A trace that is a window of the run begins with its
    first task; the task at which an infeasible run stopped is not in it. Raises ValueError for a run without
    a trace.
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
    start_bytes = np.array([task.start_bytes for task in tasks], dtype=np.int64)[code]
    end_bytes = np.array([task.end_bytes for task in tasks], dtype=np.int64)[code]
    # Each job that the trace knows: what it takes at submission, what it still holds when it is done.
    known, backwards = np.unique(job[::-1], return_index=True)
    last = rows - 1 - backwards
    shape = layout.shape[known]
    submitted = np.array([graph.submit_bytes for graph in layout.graphs], dtype=np.int64)[shape]
    held = np.array([graph.held_bytes for graph in layout.graphs], dtype=np.int64)[shape]
    arrival_s = np.array(result.records.arrival_s, dtype=np.float64)[layout.request[known]]
    finish_s = np.array(result.records.job_finish_s, dtype=np.float64)[known]
    end_s, start_s = np.array(trace.end_s), np.array(trace.start_s)
    done = ~np.isnan(finish_s)
    known_bytes = np.array(trace.resident_bytes, dtype=np.int64)

    # Events: (time, rank within the instant, change). Ends come first, each followed by what its job held if
    # that ends the job at once; then what the orchestrator does, which may also be before them; then starts.
    order = np.arange(rows)
    time_s = np.concatenate((end_s, finish_s[done], arrival_s, start_s))
    change = np.concatenate((-end_bytes, -held[done], submitted, start_bytes))
    lagging = finish_s[done] > end_s[last[done]]
    leave_rank = np.where(lagging, 2 * rows, 2 * last[done] + 1)
    rank = np.concatenate((2 * order, leave_rank, np.full(len(known), 2 * rows), 2 * rows + 1 + order))
    movable = np.zeros(len(time_s), dtype=bool)
    movable[rows : rows + len(leave_rank)] = lagging
    movable[rows + len(leave_rank) : -rows] = submitted != 0
    if movable.any():
        sorting, _, correction = _levels(time_s, rank, change, known_bytes)
        rank[_before_the_ends(time_s, change, movable, sorting, correction, rows)] = -1
    sorting, level, _ = _levels(time_s, rank, change, known_bytes)
    keep = (change[sorting] != 0) | (sorting < rows)
    time_s, level = time_s[sorting][keep], level[keep]
    if not trace.dropped:
        time_s, level = np.concatenate(([0.0], time_s)), np.concatenate(([result.base_bytes], level))
        if not np.isnan(np.array(result.records.job_finish_s)).any():
            level[-1] = result.base_bytes  # Nothing is left that could hold memory.
    return {"time_s": time_s, "resident_bytes": level}


def _levels(time_s: Array, rank: Array, change: Array, known_bytes: Array) -> tuple[Array, Array, Array]:
    """The order of the events, the level after each, and per end in that order the correction it brought."""
    sorting = np.lexsort((rank, time_s))
    level = np.cumsum(change[sorting])
    is_end = sorting < len(known_bytes)
    ends = np.flatnonzero(is_end)
    correction = known_bytes[sorting[ends]] - (level - change[sorting])[ends]
    level = level + correction[np.maximum(np.cumsum(is_end) - 1, 0)]
    return sorting, level, correction


def _before_the_ends(
    time_s: Array, change: Array, movable: Array, sorting: Array, correction: Array, rows: int
) -> Array:
    """Which movable events the ledger knew already at the task ends of their instant.

    They are those whose changes are exactly what the ends of that instant had to correct by.
    """
    ends = sorting[sorting < rows]
    jump = np.diff(correction, prepend=correction[:1])
    instants, at = np.unique(time_s[ends], return_inverse=True)
    jumps = np.zeros(len(instants), dtype=np.int64)
    np.add.at(jumps, at, jump)
    events = np.flatnonzero(movable & np.isin(time_s, instants))
    where = np.searchsorted(instants, time_s[events])
    gain, loss = (np.zeros(len(instants), dtype=np.int64) for _ in range(2))
    np.add.at(gain, where, np.maximum(change[events], 0))
    np.add.at(loss, where, np.minimum(change[events], 0))
    both, only_gain, only_loss = jumps == gain + loss, jumps == gain, jumps == loss
    rising = change[events] > 0
    early = both[where] | (rising & only_gain[where]) | (~rising & only_loss[where])
    return events[early & (jumps[where] != 0)]
