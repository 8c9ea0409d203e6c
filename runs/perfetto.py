"""A run's timeline for https://ui.perfetto.dev: Chrome trace-event JSON, loaded there by drag and drop.

One track per worker with a slice per task, one asynchronous slice per request, and the resident bytes as a
counter. Format: "Trace Event Format" (Google, 2016), events X, b, e, C and M; times in microseconds, here
whole nanoseconds with three decimals so that neighbouring slices do not overlap by rounding.
"""

from __future__ import annotations

import gzip
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..traces.atomic import write_whole
from . import tables
from .occupancy import memory_columns
from .result import RunResult

WORKERS, REQUESTS, MEMORY = 1, 2, 3
"""Process ids, which order the tracks."""

Event = dict[str, Any]


def events(result: RunResult) -> Iterator[Event]:
    """The trace events of a run, tracks' names first. Raises ValueError for a run without a trace.

    Of a trace that is a window of the run, requests are shown that overlap its tasks.
    """
    tasks = tables.task_columns(result)
    yield from _names(result)
    keys = ("request", "job", "network", "kind", "layer", "start_s", "end_s")
    workers = result.trace.worker  # type: ignore[union-attr]  # task_columns has checked
    rows = zip(workers, *(tasks[key].tolist() for key in keys), strict=True)
    for worker, request, job, network, kind, layer, start_s, end_s in rows:
        begin, end = _ns(start_s), _ns(end_s)
        yield {
            "ph": "X",
            "pid": WORKERS,
            "tid": worker,
            "ts": begin / 1000,
            "dur": (end - begin) / 1000,
            "name": " ".join(part for part in (network, layer, kind) if part),
            "cat": kind,
            "args": {"request": request, "job": job, "network": network, "layer": layer},
        }
    yield from _requests(result, tasks)
    yield from _memory(result)


def write_trace(result: RunResult, path: Path | str) -> Path:
    """Write the trace to ``path``, compressed where it ends in ``.gz``; whole or not at all; returns it.

    The same run gives the same bytes. Raises ValueError for a run without a trace.
    """
    target = Path(path)
    write_whole(target, lambda draft: _write_file(result, draft))
    return target


def _write_file(result: RunResult, path: Path) -> None:
    with path.open("xb") as raw:
        if path.suffix == ".gz":
            # Neither a date nor a file name in the header: they would change the bytes.
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                _write(result, packed)
        else:
            _write(result, raw)


def _write(result: RunResult, raw: Any) -> None:
    file = io.TextIOWrapper(raw, encoding="utf-8", write_through=False)
    about = {"policy": result.policy, "device": result.device, "replication": result.replication}
    file.write(f'{{"displayTimeUnit":"ms","otherData":{_json(about)},"traceEvents":[\n')
    separator = ""
    for event in events(result):
        file.write(separator + _json(event))
        separator = ",\n"
    file.write("\n]}\n")
    file.flush()
    file.detach()


def _names(result: RunResult) -> Iterator[Event]:
    processes = {
        WORKERS: f"workers ({result.policy} on {result.device})",
        REQUESTS: "requests",
        MEMORY: "memory",
    }
    for pid, name in processes.items():
        yield {"ph": "M", "pid": pid, "tid": 0, "name": "process_name", "args": {"name": name}}
        yield {"ph": "M", "pid": pid, "tid": 0, "name": "process_sort_index", "args": {"sort_index": pid}}
    for tid, name in enumerate(result.workers):
        thread = {"ph": "M", "pid": WORKERS, "tid": tid}
        yield {**thread, "name": "thread_name", "args": {"name": name}}
        yield {**thread, "name": "thread_sort_index", "args": {"sort_index": tid}}


def _requests(result: RunResult, tasks: tables.Columns) -> Iterator[Event]:
    if not len(tasks["start_s"]):
        return
    first_s, last_s = tasks["start_s"].min(), tasks["end_s"].max()
    requests = tables.request_columns(result)
    keys = ("request", "stream", "arrival_s", "finish_s")
    composition = result.records.composition
    for request, stream, arrival_s, finish_s in zip(*(requests[k].tolist() for k in keys), strict=True):
        if arrival_s > last_s or finish_s < first_s:
            continue
        graphs = result.graphs[composition[request]]
        common = {
            "pid": REQUESTS,
            "tid": 0,
            "cat": "request",
            "id": request,
            "name": f"{result.streams[stream]} {request}",
        }
        networks = [graph.network.name for graph in graphs]
        yield {"ph": "b", "ts": _ns(arrival_s) / 1000, **common, "args": {"networks": networks}}
        if not math.isnan(finish_s):
            yield {"ph": "e", "ts": _ns(finish_s) / 1000, **common}


def _memory(result: RunResult) -> Iterator[Event]:
    memory = memory_columns(result)
    columns = (memory["time_s"].tolist(), memory["resident_bytes"].tolist())
    for time_s, resident_bytes in zip(*columns, strict=True):
        yield {
            "ph": "C",
            "pid": MEMORY,
            "tid": 0,
            "ts": _ns(time_s) / 1000,
            "name": "resident bytes",
            "args": {"bytes": resident_bytes},
        }


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _json(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
