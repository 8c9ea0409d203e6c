"""The sweep runner: the same bytes whatever happens, and nothing is lost, run twice or left behind."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesched.sim.sweeping import runner
from edgesched.sim.sweeping.executors import SerialExecutor, cluster_executor, local_executor
from edgesched.sim.sweeping.rowfile import CorruptFileError, LockedError, MissingPointsError, merge
from edgesched.sim.sweeping.runner import RunnerError, RunnerReport, run_points

# Points: top-level, because workers import them.


def model(x: int) -> dict[str, Any]:
    return {"x": x, "third": x / 3, "nested": {"list": [x, x + 0.1]}, "none": None}


def failing(x: int) -> dict[str, Any]:
    if x % 4 == 1:
        raise ValueError(f"{x} is not wanted")
    if x == 6:
        sys.exit("leaving")
    return model(x)


def repaired(x: int) -> dict[str, Any]:
    return model(x)


def poisonous(x: int) -> dict[str, Any]:
    if x == 7:
        os._exit(3)
    return model(x)


def odd(x: int) -> Any:
    return [
        {"mean": math.nan, "high": math.inf, "low": -math.inf},
        {"mean": np.float64(0.1) + np.float64(0.2)},
        [1, 2],
        {"key": "mine"},
        {"count": np.int64(3)},
    ][x]


def noted(argument: tuple[int, str, float]) -> dict[str, Any]:
    """Leaves a mark of its run and its process."""
    x, folder, seconds = argument
    with (Path(folder) / "runs").open("a") as file:
        file.write(f"{x} {os.getpid()}\n")
    time.sleep(seconds)
    return model(x)


def kills_itself_once(argument: tuple[int, str]) -> dict[str, Any]:
    """Number 5 is killed from outside in its first run."""
    x, folder = argument
    mark = Path(folder) / "killed"
    if x == 5 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.005)
    return model(x)


def unpicklable(x: int) -> Callable[[], int]:
    return lambda: x


COUNT = 40
KEYS = [f"k{x:03}" for x in range(COUNT)]
TODO = {key: x for x, key in enumerate(KEYS)}
TWO = partial(local_executor, 2)


def sweep(path: Path, function: Any = model, todo: Any = TODO, **kwargs: Any) -> RunnerReport:
    given = {"executor_factory": SerialExecutor, "path": path, "window": 4, **kwargs}
    return run_points(function, todo, **given)


def merged(path: Path, order: list[str] = KEYS) -> bytes:
    return json.dumps(merge(path, order)).encode()


def expected(count: int = COUNT) -> list[dict[str, Any]]:
    return [{"key": KEYS[x], **model(x)} for x in range(count)]


def running(pid: int) -> bool:
    """True for a living process, False for a zombie that its new parent has not buried yet."""
    ps = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return ps.stdout.strip() != "" and not ps.stdout.startswith("Z")


def wait_for(condition: Callable[[], Any], seconds: float) -> float:
    """How long it took, in seconds."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - start


# Results


def test_the_merged_bytes_do_not_depend_on_workers_and_order(tmp_path: Path) -> None:
    shuffled = dict(random.Random(1).sample(list(TODO.items()), COUNT))
    sweep(tmp_path / "serial")
    sweep(tmp_path / "one", executor_factory=partial(local_executor, 1, isolate=True))
    sweep(tmp_path / "two", executor_factory=TWO)
    sweep(tmp_path / "shuffled", todo=shuffled, executor_factory=TWO, batch=3)
    assert merge(tmp_path / "serial", KEYS) == expected()
    assert len({merged(tmp_path / name) for name in ("serial", "one", "two", "shuffled")}) == 1
    assert [json.loads(line)["key"] for line in (tmp_path / "shuffled").open()] != KEYS


def test_exceptions_become_rows_and_the_sweep_goes_on(tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    report = sweep(tmp_path / "a", failing, progress=lambda *counts: seen.append(counts))
    assert report == RunnerReport(total=40, resumed=0, ran=40, failed=11, quarantined=0, pools_lost=0)
    rows = merge(tmp_path / "a", KEYS)
    assert rows[1] == {
        "key": "k001",
        "error": {"type": "ValueError", "message": "1 is not wanted", "quarantined": False},
    }
    assert rows[6]["error"]["type"] == "SystemExit"
    assert [rows[x] for x in (0, 2, 39)] == [expected()[x] for x in (0, 2, 39)]
    assert (seen[0], seen[-1]) == ((0, 40, 0), (40, 40, 11))
    assert [done for done, _, _ in seen] == list(range(41))


def test_failed_points_run_again_only_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "a"
    sweep(path, failing)
    assert sweep(path, repaired) == RunnerReport(40, 40, 0, failed=11, quarantined=0, pools_lost=0)
    assert sweep(path, repaired, retry_failed=True) == RunnerReport(40, 29, 11, 0, 0, 0)
    assert merge(path, KEYS) == expected()


def test_what_a_point_may_return(tmp_path: Path) -> None:
    sweep(tmp_path / "a", odd, {str(x): x for x in range(5)})
    rows = merge(tmp_path / "a", list("01234"))
    assert math.isnan(rows[0]["mean"])
    assert (rows[0]["high"], rows[0]["low"]) == (math.inf, -math.inf)
    assert '"mean": NaN, "high": Infinity, "low": -Infinity' in (tmp_path / "a").read_text()
    assert rows[1]["mean"] == 0.1 + 0.2
    assert [rows[x]["error"]["message"] for x in (2, 3, 4)] == [
        "a point must return a dict, not list",
        "a point must not return the key 'key'",
        "Object of type int64 is not JSON serializable",
    ]


def test_a_longer_sweep_runs_only_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a"
    sweep(path, todo={key: TODO[key] for key in KEYS[:15]})
    report = sweep(path)
    assert (report.resumed, report.ran) == (15, 25)
    assert merged(path) == json.dumps(expected()).encode()


def test_merging_an_unfinished_sweep_says_what_is_missing(tmp_path: Path) -> None:
    sweep(tmp_path / "a", todo={key: TODO[key] for key in KEYS[:15]})
    with pytest.raises(MissingPointsError, match="25 of 40 points have no row yet, first k015"):
        merge(tmp_path / "a", KEYS)


def test_points_of_unequal_length(tmp_path: Path) -> None:
    """A task made for short points gives the rest back when it meets long ones."""
    todo = {key: (x, str(tmp_path), 0.025 if x > 34 else 0.0) for key, x in TODO.items()}
    sweep(tmp_path / "a", noted, todo, window=1)
    assert merged(tmp_path / "a") == json.dumps(expected()).encode()
    assert [x for x, _ in runs(tmp_path)] == list(range(COUNT))


@pytest.mark.parametrize(
    "torn", ['{"key": "k020", "x"', '{"key": "k020", "x": 20}', '{"key": "k0\n', "\0\0\0\n"]
)
def test_a_torn_last_line_is_cut_off_and_run_again(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "a"
    sweep(path, todo={key: TODO[key] for key in KEYS[:20]})
    with path.open("a") as file:
        file.write(torn)
    assert merge(path, KEYS[:20]) == expected(20)
    assert sweep(path).resumed == 20
    assert merged(path) == json.dumps(expected()).encode()
    assert len(path.read_text().splitlines()) == COUNT


def test_damage_elsewhere_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text('{"key": "k000", "x": 0}\n[1]\n{"key": "k001", "x": 1}\n')
    with pytest.raises(CorruptFileError, match="line 2 is no row"):
        sweep(path)
    assert path.read_text().count("\n") == 3


def test_two_drivers_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def intrude(done: int, total: int, failed: int) -> None:
        if done == 3:
            with pytest.raises(LockedError, match="another sweep is writing it"):
                sweep(path)
            merge(path, KEYS[:3])  # reading is allowed, and leaves the lock in place
            with pytest.raises(LockedError):
                sweep(path)

    assert sweep(path, progress=intrude).ran == COUNT
    assert sweep(path).resumed == COUNT


def test_limits(tmp_path: Path) -> None:
    for name in ("window", "max_attempts", "batch"):
        with pytest.raises(ValueError, match=f"{name} is 0; it must be 1 or more"):
            sweep(tmp_path / "a", **{name: 0})
    with pytest.raises(ValueError, match="workers is 0"):
        local_executor(0)
    with pytest.raises(Exception, match=r"pickle|local object"):  # the words differ between Pythons
        sweep(tmp_path / "a", lambda x: {})
    assert not (tmp_path / "a").exists()
    assert sweep(tmp_path / "a", todo={}, executor_factory=None) == RunnerReport(0, 0, 0, 0, 0, 0)


# Deaths of workers


def test_a_point_that_kills_its_worker_is_quarantined(tmp_path: Path) -> None:
    path = tmp_path / "a"
    report = sweep(path, poisonous, executor_factory=TWO, max_attempts=2)
    assert (report.ran, report.failed, report.quarantined) == (40, 1, 1)
    assert report.pools_lost == 3  # once among others, twice alone
    rows = merge(path, KEYS)
    assert rows[7]["error"] == {
        "type": "WorkerDied",
        "message": "the worker process died each time it ran this point alone",
        "quarantined": True,
    }
    assert rows[:7] + rows[8:] == expected()[:7] + expected()[8:]
    assert len(path.read_text().splitlines()) == COUNT
    assert sweep(path, poisonous, executor_factory=TWO).quarantined == 1
    assert sweep(path, repaired, retry_failed=True).quarantined == 0
    assert merge(path, KEYS) == expected()


def test_a_worker_killed_from_outside_costs_nothing(tmp_path: Path) -> None:
    todo = {key: (x, str(tmp_path)) for key, x in TODO.items()}
    report = sweep(tmp_path / "a", kills_itself_once, todo, executor_factory=TWO)
    assert report == RunnerReport(total=40, resumed=0, ran=40, failed=0, quarantined=0, pools_lost=1)
    assert merge(tmp_path / "a", KEYS) == expected()
    assert len((tmp_path / "a").read_text().splitlines()) == COUNT


def test_an_argument_that_cannot_be_sent_is_an_error_row_of_its_own(tmp_path: Path) -> None:
    todo = {**TODO, "k010": unpicklable(10)}
    report = sweep(tmp_path / "a", todo=todo, executor_factory=TWO, batch=8)
    assert (report.ran, report.failed, report.pools_lost) == (40, 1, 0)
    message = merge(tmp_path / "a", KEYS)[10]["error"]["message"]
    assert "pickle" in message or "local object" in message  # the words differ between Pythons


def dies() -> None:
    os._exit(1)


def hopeless_executor() -> Executor:
    executor = local_executor(2)
    executor._initializer = dies  # type: ignore[attr-defined]
    return executor


def test_workers_that_cannot_start_stop_the_sweep(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="workers die before they run a point"):
        sweep(tmp_path / "a", executor_factory=hopeless_executor)
    assert sweep(tmp_path / "a").ran == COUNT


class ForgetfulPool(ProcessPoolExecutor):
    """Breaks during its first submit and forgets that task, as Python 3.11 can."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._broken = "a worker died"
        return Future()


def test_a_task_that_a_breaking_pool_forgets_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "LOST_S", 0.01)
    executors = iter([ForgetfulPool(2), local_executor(2)])
    report = sweep(tmp_path / "a", executor_factory=lambda: next(executors))
    assert (report.ran, report.failed, report.pools_lost) == (40, 0, 1)


# Deaths of the driver


def drive(folder: str, last_s: float) -> None:
    """The main program of a driver process. A point takes 50 ms, from number 12 on ``last_s`` seconds."""
    todo = {key: (x, folder, 0.05 if x < 12 else last_s) for key, x in TODO.items()}
    run_points(noted, todo, executor_factory=TWO, path=Path(folder) / "rows", window=4)


@contextmanager
def driver(folder: Path, last_s: float) -> Iterator[subprocess.Popen[bytes]]:
    """A driver in the middle of its sweep, in a process group of its own; stderr goes to a file."""
    program = f"import test_runner; test_runner.drive({str(folder)!r}, {last_s})"
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=Path(__file__).parent, start_new_session=True, stderr=stderr
        )
    rows = folder / "rows"
    try:
        wait_for(lambda: rows.exists() and len(rows.read_text().splitlines()) >= 12, 20)
        yield process
    finally:
        process.kill()
        process.wait()


def runs(folder: Path) -> list[tuple[int, int]]:
    """(point, pid) of every start of a point."""
    return [(int(x), int(pid)) for x, pid in (line.split() for line in (folder / "runs").open())]


def resumed_to_the_end(folder: Path) -> None:
    todo = {key: (x, str(folder), 0.0) for key, x in TODO.items()}
    report = sweep(folder / "rows", noted, todo, executor_factory=TWO)
    assert (report.resumed, report.ran) == (12, 28)
    assert merged(folder / "rows") == json.dumps(expected()).encode()
    assert len((folder / "rows").read_text().splitlines()) == COUNT
    assert len(runs(folder)) == COUNT + 2  # the two that were running have run twice


def test_a_killed_driver_leaves_no_process_and_its_sweep_goes_on(tmp_path: Path) -> None:
    with driver(tmp_path, last_s=60) as process:
        wait_for(lambda: len(runs(tmp_path)) == 14, 5)
        workers = {pid for _, pid in runs(tmp_path)}
        assert len(workers) == 2
        assert all(running(pid) for pid in workers)
        process.kill()  # and not waited for: the driver is a zombie while the workers look for it
        wait_for(lambda: not any(running(pid) for pid in workers), 3)
    resumed_to_the_end(tmp_path)


def test_ctrl_c_keeps_what_is_finished_and_leaves_no_process(tmp_path: Path) -> None:
    with driver(tmp_path, last_s=60) as process:
        wait_for(lambda: len(runs(tmp_path)) == 14, 5)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(3) != 0
        assert not any(running(pid) for _, pid in runs(tmp_path))
    errors = (tmp_path / "stderr").read_text()
    assert errors.strip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback") == 1  # workers are silent
    resumed_to_the_end(tmp_path)


def test_a_killed_worker_of_a_driver(tmp_path: Path) -> None:
    with driver(tmp_path, last_s=0.05) as process:
        os.kill(runs(tmp_path)[-1][1], signal.SIGKILL)
        assert process.wait(20) == 0
    assert merged(tmp_path / "rows") == json.dumps(expected()).encode()
    assert len((tmp_path / "rows").read_text().splitlines()) == COUNT


# Executors


def test_one_worker_is_this_process_unless_isolated() -> None:
    assert isinstance(local_executor(1), SerialExecutor)
    with local_executor(1, isolate=True) as executor:
        assert executor.submit(os.getpid).result() != os.getpid()
        # Ctrl-C reaches the whole process group; only the driver answers it.
        assert executor.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN


def test_short_points_travel_together_and_long_ones_do_not_wait_for_each_other() -> None:
    points = list(TODO.items())
    rows, _ = runner._run_batch(model, points, math.inf)
    assert len(rows) == COUNT
    rows, used_s = runner._run_batch(model, points, 0.0)
    assert (len(rows), used_s > 0) == (1, True)


def test_without_dask_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'edgesched\[cluster\]'"):
        cluster_executor("tcp://localhost:8786")


@pytest.mark.slow
def test_a_dask_cluster(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        connect = partial(cluster_executor, cluster.scheduler_address)
        report = sweep(tmp_path / "a", poisonous, executor_factory=connect, batch=5)
    assert (report.ran, report.failed, report.quarantined) == (40, 1, 1)
    rows = merge(tmp_path / "a", KEYS)
    assert rows[7]["error"]["type"] == "WorkerDied"
    assert rows[:7] + rows[8:] == expected()[:7] + expected()[8:]
