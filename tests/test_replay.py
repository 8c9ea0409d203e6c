"""Replays on this machine: real loads, real execution, real limits, and nothing left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from small_models import chain

from edgesched.bridge.bundles.cache import bundle_of
from edgesched.bridge.machine import cgroup
from edgesched.bridge.machine.memory import PAGE_BYTES
from edgesched.bridge.machine.storage import Pace
from edgesched.bridge.program import Program
from edgesched.bridge.replay import replay
from edgesched.bridge.watch import ReplayError
from edgesched.cli.main import main
from edgesched.runs.folder import open_run
from edgesched.runs.load import load_scenario
from edgesched.runs.summary import summarise
from edgesched.runs.tables import jobs, tasks

BOARD = {
    "name": "here",
    "processors": [{"name": "cpu", "cores": 2}],
    "memory": {"total_bytes": 1 << 34, "base_bytes": 40_000_000},
    "storage": {"reads": "direct", "pace_bytes_per_s": 200e6},
    "runtime": {"weights_lifetime": "layer", "outputs_lifetime": "arena", "load_copies": False},
    "cost": {"execute": {"other": {"call_s": 0.0001, "mac_s": 2e-11}}, "load_call_s": 0.0001},
}


def guarded() -> bool:
    try:
        with cgroup.MemoryGroup.create(1 << 40):
            return True
    except cgroup.Unavailable:
        return False


needs_groups = pytest.mark.skipif(not guarded(), reason="memory control groups are not permitted here")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    os.environ["EDGESCHED_CACHE"] = str(folder)
    return folder


@pytest.fixture
def scenario(tmp_path: Path, cache: Path) -> Path:
    """Two small networks (about 2 and 8 MB of weights), ten images."""
    chain(tmp_path / "small.onnx", channels=32, convolutions=3, features=(512,), seed=1)
    chain(tmp_path / "large.onnx", channels=16, convolutions=2, features=(1024, 1024), seed=2)
    (tmp_path / "here.yaml").write_text(yaml.safe_dump(BOARD))
    path = tmp_path / "scenario.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "two",
                "device": {"board": "here.yaml"},
                "workload": {
                    "arrivals": {"process": "poisson", "rate_per_s": 12},
                    "networks": ["small.onnx", "large.onnx"],
                },
                "policy": "linear",
                "run": {"requests": 10, "seed": 5},
            }
        )
    )
    return path


def no_traces(folder: Path, pid: int | None = None) -> None:
    """No group of process ``pid`` (this one), no process that works in ``folder``'s cache is left."""
    for _ in range(50):
        left = _ours(folder, os.getpid() if pid is None else pid)
        if not left:
            return
        time.sleep(0.05)
    raise AssertionError(f"left behind: {left}")


def _ours(cache: Path, pid: int) -> set[str]:
    found = {str(path) for path in Path("/sys/fs/cgroup").glob(f"**/edgesched-{pid}-*")}
    mark = f"EDGESCHED_CACHE={cache}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                replays = b"edgesched.bridge.process" in (folder / "cmdline").read_bytes()
                if replays and mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.add(str(folder))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("policy", ["fifo", "linear", "deepeye", "masa"])
def test_a_replay_has_the_simulations_schema(
    scenario: Path, cache: Path, policy: str, tmp_path: Path
) -> None:
    assert (
        main_code("run", scenario, "--policy", policy, "--out", tmp_path / "sim", "--trace-limit", 10**6) == 0
    )
    assert main_code("replay", scenario, "--policy", policy, "--out", tmp_path / "real") == 0
    no_traces(cache)
    simulated, real = open_run(tmp_path / "sim"), open_run(tmp_path / "real")
    for table in ("requests", "jobs", "tasks", "memory"):
        a, b = getattr(simulated, table)(), getattr(real, table)()
        assert list(a.columns) == list(b.columns)
        assert [kind.kind for kind in a.dtypes] == [kind.kind for kind in b.dtypes]
        if table in ("requests", "jobs"):
            assert len(a) == len(b)
    assert real.replay() is not None
    assert simulated.replay() is None
    # The same requests at the same times, but for what waking up takes.
    facts = real.replay()[0]
    late_s = real.requests()["arrival_s"] - simulated.requests()["arrival_s"]
    assert late_s.min() >= -1e-6, "a request came before its time"
    assert late_s.max() == pytest.approx(facts["arrivals_late_s"], abs=1e-6)
    assert facts["outcome"] == "done"
    assert len((tmp_path / "real" / "counters.csv").read_text().splitlines()) == len(real.tasks()) + 1


def main_code(*words: object) -> int:
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@needs_groups
def test_the_ledger_is_what_the_group_measures(scenario: Path, cache: Path) -> None:
    loaded, folder = load_scenario(scenario)
    bundles = {f"{n}.onnx": bundle_of(folder / f"{n}.onnx", cache=cache) for n in ("small", "large")}
    replayed = replay(loaded, bundles, folder=folder)
    memory = replayed.facts["memory"]
    beyond = memory["peak_bytes"] - memory["base_bytes"]
    own = memory["ledger_peak_bytes"] - memory["ledger_base_bytes"]
    assert own > 4e6
    assert beyond == pytest.approx(own, rel=0.05, abs=4e6)


def limited(scenario: Path, limit: int) -> None:
    data = yaml.safe_load(scenario.read_text())
    data["device"]["memory_limit"] = limit
    scenario.write_text(yaml.safe_dump(data))


@needs_groups
def test_a_policy_that_does_not_fit_is_killed_and_that_is_the_result(
    tmp_path: Path, cache: Path, scenario: Path
) -> None:
    chain(tmp_path / "large.onnx", channels=16, convolutions=1, features=(4096, 4096, 4096), seed=2)
    limited(scenario, 40_000_000 + 110_000_000)
    few = ("--set", "run.requests=2")
    # Both networks whole are 170 MB; layer by layer 70 MB is the most.
    assert main_code("replay", scenario, "--policy", "fifo", "--out", tmp_path / "fifo", *few) == 0
    assert main_code("replay", scenario, "--policy", "linear", "--out", tmp_path / "linear", *few) == 0
    no_traces(cache)
    died, lived = open_run(tmp_path / "fifo"), open_run(tmp_path / "linear")
    assert died.summary["together"]["status"] == "infeasible"
    assert died.replay()[0]["memory"]["oom_kills"] == 1
    assert lived.summary["together"]["status"] == "ok"


def test_without_groups_the_ledger_refuses(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise cgroup.Unavailable("not permitted in this test")

    monkeypatch.setattr(cgroup.MemoryGroup, "create", refuse)
    limited(scenario, 40_000_000 + 2_000_000)
    assert main_code("replay", scenario, "--policy", "fifo", "--out", tmp_path / "out") == 0
    run = open_run(tmp_path / "out")
    assert run.summary["together"]["status"] == "infeasible"
    facts = run.replay()[0]
    assert facts["memory"]["guard"] == "ledger"
    assert facts["memory"]["why"] == "not permitted in this test"


def test_a_crash_of_one_layer_keeps_what_was_measured(scenario: Path, cache: Path, tmp_path: Path) -> None:
    loaded, folder = load_scenario(scenario)
    bundles = {f"{n}.onnx": bundle_of(folder / f"{n}.onnx", cache=tmp_path) for n in ("small", "large")}
    # The weights end in the middle of the run: the file is cut after the bundle was opened and warmed up.
    weights = bundles["large.onnx"].weights_path
    cut = []

    def progress(done: int, total: int) -> None:
        if done > total // 4 and not cut:
            cut.append(done)
            os.truncate(weights, 4096)

    replayed = replay(loaded, bundles, folder=folder, progress=progress)
    no_traces(cache)
    assert replayed.outcome == "crashed"
    assert "ends at byte" in replayed.facts["message"]
    assert len(replayed.result.trace) >= cut[0]
    assert any(f == f for f in replayed.result.records.job_finish_s)
    summary = summarise(replayed.result)
    assert summary["status"] == "incomplete"
    assert "ends at byte" in summary["reason"]
    assert len(jobs(replayed.result)) == len(replayed.result.records.job_start_s)
    assert len(tasks(replayed.result)) == len(replayed.result.trace)


def start(scenario: Path, out: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "edgesched.cli.main", "replay", str(scenario), "--out", str(out)]
    code = "import sys; from edgesched.cli.main import main; main(sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words[3:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("times", [6, pytest.param(20, marks=pytest.mark.evidence)])
def test_interrupted_at_any_time_nothing_is_left_and_what_was_measured_is_readable(
    times: int, scenario: Path, cache: Path, tmp_path: Path
) -> None:
    data = yaml.safe_load(scenario.read_text())
    data["run"]["requests"] = 60
    scenario.write_text(yaml.safe_dump(data))
    main_code("replay", scenario, "--set", "run.requests=2")  # makes the bundles
    rng = random.Random(1)
    readable = 0
    for number in range(times):
        out = tmp_path / f"out-{number}"
        process = start(scenario, out)
        time.sleep(rng.uniform(0.05, 4.0))
        which = signal.SIGINT if number % 2 else signal.SIGTERM
        process.send_signal(which)
        said, _ = process.communicate(timeout=20)
        no_traces(cache, process.pid)
        assert process.returncode in (130, -which, 143, 0), said
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".out")]
        if out.exists():
            readable += 1
            run = open_run(out)
            outcome = run.replay()[0]["outcome"]
            assert outcome in ("interrupted", "done")
            assert run.summary["together"]["status"] == ("ok" if outcome == "done" else "incomplete")
            assert len(run.tasks()) >= 0
    assert readable >= times / 4


def test_outputs_are_those_of_the_whole_model(scenario: Path, cache: Path) -> None:
    import onnxruntime as ort

    model = scenario.parent / "small.onnx"
    bundle = bundle_of(model, cache=cache)
    program = Program(bundle)
    first, second = program.begin(), program.begin()
    whole = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(3)
    images = [rng.standard_normal(tuple(bundle.tensors["x"].shape), dtype=np.float32) for _ in range(2)]
    for job, image in zip((first, second), images, strict=True):
        job.init()
        job.put("x", image)
    # Two jobs of one network, interleaved layer by layer.
    for layer in range(len(bundle.layers)):
        for job in (first, second):
            job.load(layer)
            job.execute(layer)
            job.free_weights(layer)
    for job, image in zip((first, second), images, strict=True):
        expected = whole.run(None, {"x": image})[0]
        found = job.output(bundle.outputs[0])
        assert np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
        job.close()
        assert job.weights.resident_bytes() == 0
        assert job.arena.resident_bytes() == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"device": {"board": "ideal"}}, "outputs_lifetime"),
        ({"device": {"board": "here.yaml", "runtime": {"version": "A"}}}, "runtime.version is A"),
    ],
)
def test_what_cannot_be_replayed_is_said(
    scenario: Path, changes: dict, says: str, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    data = yaml.safe_load(scenario.read_text()) | changes
    if changes["device"]["board"] == "ideal":
        data["networks"] = [{"name": "a", "layers": [{"load_s": 1}]}]
        data["workload"]["networks"] = ["a"]
    scenario.write_text(yaml.safe_dump(data))
    assert main_code("replay", scenario) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_inline_networks_have_nothing_to_execute(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = yaml.safe_load(scenario.read_text())
    data["networks"] = [{"name": "a", "layers": [{"load_s": 1}]}]
    data["workload"]["networks"] = ["a", "small.onnx"]
    scenario.write_text(yaml.safe_dump(data))
    assert main_code("replay", scenario) == 2
    assert "nothing to execute" in capsys.readouterr().err
    loaded, folder = load_scenario(scenario)
    bundles = {"small.onnx": bundle_of(folder / "small.onnx")}
    with pytest.raises(ReplayError):
        replay(loaded, bundles, folder=folder)


def test_the_summary_is_written_as_json(scenario: Path, tmp_path: Path) -> None:
    assert main_code("replay", scenario, "--json", tmp_path / "s.json", "--set", "run.requests=2") == 0
    assert json.loads((tmp_path / "s.json").read_text())["together"]["status"] == "ok"


def test_mapped_weights_that_had_to_leave_come_back_at_the_pace_before_a_layer_executes(
    scenario: Path, cache: Path
) -> None:
    class Booked(Pace):
        count = 0

        def book(self, n: int, wanted_s: float) -> float:
            self.count += n
            return super().book(n, wanted_s)

    bundle = bundle_of(scenario.parent / "small.onnx", cache=cache)
    plain = Program(bundle).begin()
    pace = Booked(1e9)
    mapped = Program(bundle, reads="mapped", pace=pace).begin()
    for job in (plain, mapped):
        job.init()
    for layer in range(len(bundle.layers)):
        plain.load(layer)
        plain.execute(layer)
        mapped.load(layer)
    assert mapped.weights.resident_bytes() > 0
    mapped.weights.release(0, mapped.weights.size_bytes)  # as the kernel does where there is no room
    if mapped.weights.resident_bytes():
        pytest.skip("this file system keeps its files in memory")
    pace.count = 0
    for layer in range(len(bundle.layers)):
        mapped.execute(layer)
    pages = [-(-layer.weights_bytes // PAGE_BYTES) for layer in bundle.layers]
    assert pace.count == sum(pages) * PAGE_BYTES > 0
    assert np.array_equal(mapped.output(bundle.outputs[0]), plain.output(bundle.outputs[0]))
    for job in (plain, mapped):
        job.close()
