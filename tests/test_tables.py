"""Tables, summary and folder of runs small enough to work out by hand."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from edgesched.runs import folder as folders
from edgesched.runs import tables
from edgesched.runs.folder import FolderError, open_run, write_run
from edgesched.runs.scenario import Scenario, normal
from edgesched.runs.summary import summarise
from edgesched.runs.tasks import Trace
from edgesched.sim.run import simulate

LAYERS = [
    {"name": "conv", "load_s": 1, "execute_s": 2, "weight_bytes": 1000, "output_bytes": 10},
    {"load_s": 1, "execute_s": 1, "weight_bytes": 500, "output_bytes": 20},
]


def run(policy="linear", *, names=("A",), period_s=4.0, requests=3, traced=True, window=None, **changes):
    """Requests at 0, ``period_s``, ...; each network takes .5 s to build, 2 s to load, 3 s to execute."""
    data = {
        "device": "ideal",
        "networks": [{"name": name, "init_s": 0.5, "layers": LAYERS} for name in names],
        "workload": {
            "arrivals": {"process": "deterministic", "period_s": period_s},
            "networks": list(names),
        },
        "policy": policy,
        "run": {"requests": requests},
    }
    for path, value in changes.items():
        part = data
        *parents, last = path.split("__")
        for key in parents:
            part = part.setdefault(key, {}) if isinstance(part.get(key, {}), dict) else part[key]
        part[last] = value
    trace = Trace(**(window or {})) if traced else None
    return simulate(Scenario.model_validate(normal(data)), trace=trace)


def test_requests_by_hand():
    # One job takes 5.5 s, one arrives every 4 s: each waits 1.5 s more than the one before.
    table = tables.requests(run(workload__deadline_s=6.0))
    assert table["arrival_s"].tolist() == [0, 4, 8]
    assert table["finish_s"].tolist() == [5.5, 11, 16.5]
    assert table["response_s"].tolist() == [5.5, 7, 8.5]
    assert table["jobs"].tolist() == [1, 1, 1]
    assert table["missed"].tolist() == [False, True, True]
    assert set(table["stream"]) == {"images"}


def test_a_response_at_its_deadline_is_in_time():
    assert not tables.requests(run(workload__deadline_s=8.5))["missed"].any()


def test_deadlines_per_network():
    result = run(names=("A", "B"), period_s=100.0, requests=1, workload__deadline_s={"B": 10.0})
    jobs = tables.jobs(result)
    assert jobs["response_s"].tolist() == [5.5, 11]
    assert math.isnan(jobs["deadline_s"][0])
    assert jobs["deadline_s"][1] == 10
    assert jobs["missed"].tolist() == [False, True]
    assert tables.requests(result)[["deadline_s", "missed"]].to_numpy().tolist() == [[10, True]]


def test_jobs_by_hand():
    table = tables.jobs(run(names=("A", "B"), period_s=100.0, requests=2))
    assert table["job"].tolist() == [0, 1, 2, 3]
    assert table["request"].tolist() == [0, 0, 1, 1]
    assert table["network"].tolist() == ["A", "B", "A", "B"]
    assert table["waiting_s"].tolist() == [0, 5.5, 0, 5.5]
    assert table["response_s"].tolist() == [5.5, 11, 5.5, 11]


def test_tasks_by_hand():
    table = tables.tasks(run(requests=1))
    assert tuple(table.columns) == tables.TASK_COLUMNS
    assert table["kind"].tolist() == ["init", "load", "execute", "load", "execute"]
    assert table["layer"].tolist() == ["", "conv", "conv", "layer 1", "layer 1"]
    assert table["start_s"].tolist() == [0, 0.5, 1.5, 3.5, 4.5]
    assert table["end_s"].tolist() == [0.5, 1.5, 3.5, 4.5, 5.5]
    # Weights lie there from INIT on, outputs from their layer on, all until the network is done.
    assert table["resident_bytes"].tolist() == [1500, 1500, 1510, 1510, 1530]


def test_whole_networks_have_all_layers():
    table = tables.tasks(run("fifo", requests=1))
    assert table["kind"].tolist() == ["init", "load", "execute"]
    assert table["layer"].tolist() == ["", "all", "all"]


def test_memory_by_hand():
    table = tables.memory(run(requests=1))
    steps = table.drop_duplicates("time_s", keep="last")
    assert dict(zip(steps["time_s"], steps["resident_bytes"], strict=True)) == {
        0: 1500,
        0.5: 1500,
        1.5: 1510,
        3.5: 1510,
        4.5: 1530,
        5.5: 0,
    }


@pytest.mark.parametrize("policy", ["fifo", "linear", "partial", "deepeye", "masa", "multi-bulk", "sjf"])
@pytest.mark.parametrize(
    "runtime",
    [
        {},
        {"version": "A"},
        {"dispatch_period_s": 0.3},
        {"dispatch_period_s": 0.3, "version": "A"},
        {"weights_lifetime": "layer", "outputs_lifetime": "liveness"},
        {"slowdown": {"load": {"execute": 1.5}}},
    ],
    ids=str,
)
def test_memory_is_the_ledgers(policy, runtime):
    """Rebuilt from tasks, it peaks where the ledger did, is never negative and ends at the base.

    Arrivals and ends of tasks fall into the same instants here, and may be in either order.
    """
    device = {"board": "ideal", "runtime": runtime}
    result = run(policy, names=("A", "B", "C"), requests=5, device=device)
    level = tables.memory(result)["resident_bytes"]
    assert level.max() == result.peak_bytes
    assert level.min() >= 0
    assert level.iloc[-1] == result.base_bytes
    assert tables.memory(result)["time_s"].is_monotonic_increasing


@pytest.mark.parametrize("policy", ["fifo", "linear", "deepeye", "masa"])
def test_memory_is_the_ledgers_where_tasks_take_no_time(policy):
    """Several INITs of no duration in one instant; polling lag and paging beside them."""
    scenario = Scenario.model_validate(
        {
            "device": {"board": "raspberry-pi-4-4gb", "memory_limit": "1GiB"},
            "workload": {
                "streams": [
                    {"arrivals": {"process": "offline"}, "networks": ["TinyYolo", "AgeNet", "AgeNet"]}
                ]
            },
            "policy": {"name": policy},
            "run": {"requests": 3},
        }
    )
    result = simulate(scenario, trace=Trace())
    assert tables.memory(result)["resident_bytes"].max() == result.peak_bytes


def test_memory_of_a_window_is_that_part_of_the_whole():
    whole = tables.memory(run("masa", names=("A", "B"), requests=5))
    part = tables.memory(run("masa", names=("A", "B"), requests=5, window={"from_s": 6.0, "to_s": 14.0}))
    assert len(part) < len(whole)
    inside = whole[(whole["time_s"] > 8) & (whole["time_s"] < 13)].drop_duplicates("time_s", keep="last")
    shown = part[(part["time_s"] > 8) & (part["time_s"] < 13)].drop_duplicates("time_s", keep="last")
    merged = inside.merge(shown, on="time_s", suffixes=("", "_part"))
    assert len(merged)
    assert (merged["resident_bytes"] == merged["resident_bytes_part"]).all()


def test_without_a_trace_there_are_no_tasks():
    result = run(traced=False)
    for table in (tables.tasks, tables.memory):
        with pytest.raises(ValueError, match="no trace"):
            table(result)


# -- summary ----------------------------------------------------------------------------------------------


def test_summary_by_hand():
    summary = summarise(run(workload__deadline_s=6.0))
    assert summary["status"] == "ok"
    assert summary["response_mean_s"] == 7
    assert summary["response_median_s"] == 7
    assert summary["response_max_s"] == 8.5
    assert summary["response_p95_s"] == pytest.approx(7 + 0.9 * 1.5)
    assert summary["throughput_per_s"] == pytest.approx(3 / 16.5)
    assert summary["arrival_rate_per_s"] == 0.25
    assert summary["utilisation"] == {"worker 0": 1.0}
    assert summary["deadline_missed_share"] == pytest.approx(2 / 3)
    assert summary["job_waiting_mean_s"] == 1.5
    assert summary["networks"]["A"] == {
        "jobs": 3,
        "completed": 3,
        "response_mean_s": 7,
        "waiting_mean_s": 1.5,
    }
    assert summary["peak_bytes"] == 1530
    assert summary["response_mean_half_width_s"] is None
    json.dumps(summary, allow_nan=False)


def test_warm_up_leaves_the_first_requests_out():
    summary = summarise(run(run__warmup_requests=1))
    assert summary["warmup_requests"] == 1
    assert summary["counted"] == 2
    assert summary["response_mean_s"] == 7.75
    assert summary["throughput_per_s"] == pytest.approx(2 / 12.5)
    assert summarise(run(), warmup_s=5.0)["response_mean_s"] == 8.5
    assert summarise(run(run__warmup_requests=2), warmup_requests=0)["counted"] == 3


def test_infeasible_is_a_summary_with_its_reason():
    result = run(device={"board": "ideal", "memory_limit": 1505})
    summary = summarise(result)
    assert summary["status"] == "infeasible"
    assert "needs 1510 bytes" in summary["reason"]
    assert "there are 1505" in summary["reason"]
    assert summary["response_mean_s"] is None
    assert summary["completed"] == 0
    json.dumps(summary, allow_nan=False)


def test_sums_of_work_and_time_agree():
    """Busy time is the tasks' time; Little's law on the jobs."""
    result = run("masa", names=("A", "B"), requests=20, period_s=12.0)
    tasks, summary = tables.tasks(result), summarise(result)
    worked = (tasks["end_s"] - tasks["start_s"]).groupby(tasks["worker"]).sum()
    for worker, share in summary["utilisation"].items():
        assert share * result.end_s == pytest.approx(worked[worker])
    requests = tables.requests(result)
    times = np.sort(np.concatenate((requests["arrival_s"], requests["finish_s"])))
    inside = [((requests["arrival_s"] <= t) & (requests["finish_s"] > t)).sum() for t in times[:-1]]
    area = np.sum(np.array(inside) * np.diff(times))
    assert area == pytest.approx(summary["response_mean_s"] * len(requests))


# -- folder -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table_format", ["csv", "parquet"])
def test_a_folder_reads_back_bit_for_bit(tmp_path, table_format):
    if table_format == "parquet":
        pytest.importorskip("pyarrow")
    result = run("masa", names=("NA", "null"), period_s=1 / 3)
    opened = open_run(write_run(tmp_path / "run", result, table_format=table_format))
    for name in ("requests", "jobs", "tasks", "memory"):
        expected = getattr(tables, name)(result).assign(replication=0)
        read = getattr(opened, name)()
        pd.testing.assert_frame_equal(read, expected, check_exact=True, check_dtype=False)
    assert opened.scenario == result.scenario
    assert opened.summary["replications"] == [summarise(result)]
    assert opened.info["seed"] == 1


def test_tasks_csv_begins_with_the_promised_columns(tmp_path):
    write_run(tmp_path / "run", run())
    header = (tmp_path / "run/tasks.csv").read_text().splitlines()[0]
    assert header.startswith("worker,request,job,network,kind,layer,start_s,end_s,")


def test_the_same_run_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_run(tmp_path / name, run("masa", names=("A", "B")))
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 7
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_run_replaces_a_run_whole(tmp_path):
    write_run(tmp_path / "run", run())
    write_run(tmp_path / "run", run(traced=False))
    opened = open_run(tmp_path / "run")
    with pytest.raises(FolderError, match="traced"):
        opened.tasks()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_is_not_ours_is_not_replaced(tmp_path):
    target = tmp_path / "run"
    target.mkdir()
    write_run(target, run())
    (target / "notes.txt").write_text("mine")
    with pytest.raises(FolderError, match=r"notes\.txt"):
        write_run(target, run())
    assert (target / "notes.txt").read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    (other / "run.json").write_text('{"format": "something else"}')
    with pytest.raises(FolderError, match="no run of edgesched"):
        write_run(other, run())
    with pytest.raises(FolderError, match="not a run's folder"):
        open_run(other)


def test_a_failure_leaves_the_old_folder(tmp_path, monkeypatch):
    write_run(tmp_path / "run", run())
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}

    def fail(folder):
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_run(tmp_path / "run", run(requests=1), figures=fail)
    rename = folders.os.rename

    def fail_second(old, new):
        if str(old).endswith(".writing"):
            raise OSError("disk full")
        rename(old, new)

    monkeypatch.setattr(folders.os, "rename", fail_second)
    with pytest.raises(OSError, match="disk full"):
        write_run(tmp_path / "run", run(requests=1))
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
