"""The timeline file: valid, complete, and on time."""

import gzip
import json
from itertools import pairwise

import pytest
from test_tables import run

from edgesched.runs import tables
from edgesched.runs.perfetto import MEMORY, REQUESTS, WORKERS, events, write_trace


@pytest.fixture(scope="module")
def result():
    return run("masa", names=("A", "B"), requests=4, period_s=1 / 3)


def test_the_file_is_json_with_every_event(result, tmp_path):
    path = write_trace(result, tmp_path / "trace.json")
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["traceEvents"] == list(events(result))
    assert data["otherData"]["policy"] == "masa"


def test_gzip_holds_the_same_and_no_date(result, tmp_path):
    plain = write_trace(result, tmp_path / "trace.json").read_bytes()
    first = write_trace(result, tmp_path / "one.json.gz").read_bytes()
    assert gzip.decompress(first) == plain
    assert write_trace(result, tmp_path / "two.json.gz").read_bytes() == first


def test_a_slice_per_task_in_microseconds(result):
    tasks = tables.tasks(result)
    slices = [event for event in events(result) if event["ph"] == "X"]
    assert len(slices) == len(tasks)
    for event, task in zip(slices, tasks.itertuples(), strict=True):
        assert result.workers[event["tid"]] == task.worker
        assert event["ts"] == pytest.approx(task.start_s * 1e6, abs=5.01e-4)
        assert event["ts"] + event["dur"] == pytest.approx(task.end_s * 1e6, abs=1e-3)
        assert event["args"] == {
            "request": task.request,
            "job": task.job,
            "network": task.network,
            "layer": task.layer,
        }
        assert event["name"] == " ".join(filter(None, [task.network, task.layer, task.kind]))


def test_slices_of_a_worker_do_not_overlap_by_rounding(result):
    for tid in range(len(result.workers)):
        slices = [e for e in events(result) if e["ph"] == "X" and e["tid"] == tid]
        slices.sort(key=lambda event: event["ts"])
        for before, after in pairwise(slices):
            assert round((before["ts"] + before["dur"]) * 1000) <= round(after["ts"] * 1000)


def test_requests_begin_at_arrival_and_end_at_completion(result):
    requests = tables.requests(result)
    for phase, column in (("b", "arrival_s"), ("e", "finish_s")):
        found = {e["id"]: e["ts"] for e in events(result) if e["ph"] == phase and e["pid"] == REQUESTS}
        assert found == pytest.approx({i: t * 1e6 for i, t in enumerate(requests[column])}, abs=1e-3)


def test_memory_is_a_counter_that_reaches_the_peak(result):
    counted = [event["args"]["bytes"] for event in events(result) if event["ph"] == "C"]
    assert max(counted) == result.peak_bytes
    assert counted[-1] == result.base_bytes


def test_tracks_are_named(result):
    names = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in events(result)
        if event["name"] == "thread_name"
    }
    assert names == {(WORKERS, i): name for i, name in enumerate(result.workers)}
    named = {event["pid"] for event in events(result) if event["name"] == "process_name"}
    assert named == {WORKERS, REQUESTS, MEMORY}


def test_a_window_shows_its_requests_only():
    result = run(requests=10, period_s=10.0, window={"from_s": 40.0, "to_s": 50.0})
    assert {event["id"] for event in events(result) if event["ph"] == "b"} == {4}


def test_without_a_trace_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="no trace"):
        write_trace(run(traced=False), tmp_path / "trace.json")
    assert not list(tmp_path.iterdir())
