"""Profiling networks: which samples count, what is kept of an interrupted one, and what a profile says."""

from __future__ import annotations

import json
import mmap
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra edgesched[bridge]")
pytest.importorskip("onnxruntime", reason="needs the extra edgesched[bridge]")

from small_models import chain

from edgesched.bridge.bundles.cache import bundle_of
from edgesched.bridge.machine.host import Disturbance
from edgesched.bridge.measuring import profiling
from edgesched.bridge.measuring.here import HereError
from edgesched.bridge.measuring.passes import (
    EXECUTE,
    INIT,
    LOAD,
    Held,
    Timed,
    memory_pass,
    timed_pass,
    timed_stretch,
)
from edgesched.bridge.measuring.profiling import Profiling, ProfilingError, profile_networks
from edgesched.bridge.measuring.samplefile import SampleFile, SampleFileError
from edgesched.bridge.measuring.samples import Config, Pass, Samples, machine_disturbed, task_disturbed
from edgesched.cli.main import main
from edgesched.devices.costing import CostModel
from edgesched.devices.model import Cost, Device, Memory, Processor, Runtime
from edgesched.traces.profile import Profile, read_profile
from edgesched.workloads.network import Network

DIRECT = Config("a", 1, "direct")
MIB = 1 << 20


def execution(seconds: float, *, cpu_s: float | None = None, switches: int = 0) -> Timed:
    return Timed(EXECUTE, 0, seconds, seconds if cpu_s is None else cpu_s, switches)


def passes(*tasks: Timed, config: Config = DIRECT, disturbed: str = "") -> list[Pass]:
    return [Pass(number, config, disturbed, (task,)) for number, task in enumerate(tasks)]


# -- which samples count ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "threads", "reason"),
    [
        (execution(0.01), 1, ""),
        (execution(0.01, switches=1), 1, "preempted"),
        (execution(0.0115, cpu_s=0.01), 1, ""),
        (execution(0.0116, cpu_s=0.01), 1, "kept waiting"),
        (execution(0.00005, cpu_s=0.00001), 1, ""),
        (execution(0.00007, cpu_s=0.00001), 1, "kept waiting"),
        (execution(0.02, cpu_s=0.01), 2, ""),
        (Timed(LOAD, 0, 0.5, 0.01, 0), 1, ""),
        (Timed(LOAD, 0, 0.5, 0.01, 2), 1, "preempted"),
        (Timed(INIT, -1, 0.5, 0.01, 0), 1, "kept waiting"),
    ],
)
def test_a_task_is_disturbed_when_its_thread_had_to_wait(task: Timed, threads: int, reason: str) -> None:
    assert task_disturbed(task, threads) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"steal_s": 0.01}, "time stolen by the hypervisor"),
        ({"throttled": ("under-voltage",)}, "throttled"),
        ({"frequency_change": 0.04}, ""),
        ({"frequency_change": 0.06}, "frequency changed"),
        ({"steal_s": None, "throttled": None, "frequency_change": None}, ""),
    ],
)
def test_a_pass_is_disturbed_when_the_machine_became_slower(changes: dict[str, Any], reason: str) -> None:
    quiet = Disturbance(1.0, 1.0, 0, 0.0, 0.0, 0.0, 0.0, 0.5, (), 0.0)
    assert machine_disturbed(replace(quiet, **changes)) == reason


def test_disturbed_samples_are_counted_and_left_out() -> None:
    good = [execution(s) for s in (0.010, 0.012, 0.020)]
    samples = Samples(passes(*good, execution(9.0, switches=3), execution(8.0, cpu_s=0.1)))
    for each in passes(execution(7.0), disturbed="throttled"):
        samples.add(each)
    assert samples.cell(DIRECT, EXECUTE, 0, "median") == (0.012, pytest.approx(0.004320494), 3, True)
    assert samples.cell(DIRECT, EXECUTE, 0, "mean").seconds == pytest.approx(0.014)
    assert samples.disturbed == {"preempted": 1, "kept waiting": 1, "throttled": 1}
    assert samples.count == 6


def test_too_few_undisturbed_samples_are_wanted_again_and_then_all_are_used() -> None:
    samples = Samples(passes(execution(1.0), execution(2.0), execution(6.0, switches=1)))
    assert samples.lacks(DIRECT)
    assert not samples.lacks(DIRECT, 2)
    seconds, _, count, clean = samples.cell(DIRECT, EXECUTE, 0, "median")
    assert (seconds, count, clean) == (2.0, 3, False)
    assert samples.lacks(Config("b", 1, "direct"))


def test_memory_is_the_median_and_less_than_the_kernel_can_tell_is_nothing() -> None:
    config = Config("a", 1, "memory")
    rows = [(0, 5 * MIB, 7 * MIB, 100), (0, 6 * MIB, 7 * MIB, 200), (0, 90 * MIB, 7 * MIB, 300)]
    samples = Samples(Pass(number, config, "", (), (Held(*row),)) for number, row in enumerate(rows))
    assert samples.memory(config) == {0: Held(0, 6 * MIB, 7 * MIB, 0)}
    assert Samples([Pass(0, config)]).memory(config) == {}


# -- what is kept -------------------------------------------------------------------------------------------


def test_a_sample_file_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "p.csv.samples"
    first = Pass(0, DIRECT, "", (execution(0.1), Timed(LOAD, 1, 0.2, 0.1, 0)))
    second = Pass(1, Config("a", 1, "memory"), "throttled", (), (Held(-1, 1, 2, 3),))
    with SampleFile(path, {"rounds": 3}) as file:
        assert file.passes == []
        file.append(first)
        file.append(second)
    with path.open("a") as cut:
        cut.write('{"round": 2, "netw')
    with SampleFile(path, {"rounds": 3}) as file:
        assert file.passes == [first, second]
        file.append(first)
    with SampleFile(path, {"rounds": 3}) as file:
        assert file.passes == [first, second, first]
        file.remove()
    assert not path.exists()


def test_a_sample_file_of_another_profile_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.csv.samples"
    SampleFile(path, {"rounds": 3, "seed": 0}).__exit__(None, None, None)
    with pytest.raises(SampleFileError, match=r"other networks or options \(rounds\); give the same ones"):
        SampleFile(path, {"rounds": 4, "seed": 0})
    path.write_text("what is this\n")
    with pytest.raises(SampleFileError, match="not ours"):
        SampleFile(path, {"rounds": 3})


@pytest.mark.parametrize(
    "line", ["[]", "{}", "no", '{"round": 1, "network": "a", "threads": 1, "what": "x"}']
)
def test_a_damaged_sample_file_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "p.csv.samples"
    with SampleFile(path, {}) as file:
        file.append(Pass(0, DIRECT))
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(SampleFileError, match="line 3 is damaged"):
        SampleFile(path, {})


def test_two_processes_do_not_write_one_sample_file(tmp_path: Path) -> None:
    with (
        SampleFile(tmp_path / "s", {}),
        pytest.raises(SampleFileError, match="another process is measuring"),
    ):
        SampleFile(tmp_path / "s", {})
    with pytest.raises(SampleFileError, match="cannot be written"):
        SampleFile(tmp_path / "none" / "s", {})


# -- one pass -----------------------------------------------------------------------------------------------


class Recorded:
    """A program of three layers whose jobs note what is asked of them."""

    layers = (1, 2, 3)
    layer_count = 3

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def begin(self) -> Recorded:
        return self

    def __getattr__(self, name: str) -> Any:
        return lambda *layer: self.calls.append((name, *layer))


def test_a_pass_does_what_a_job_does_alone_and_in_that_order() -> None:
    program = Recorded()
    tasks = timed_pass(program)  # type: ignore[arg-type]
    assert [(task.task, task.layer) for task in tasks] == [
        (INIT, -1), (LOAD, 0), (EXECUTE, 0), (LOAD, 1), (EXECUTE, 1), (LOAD, 2), (EXECUTE, 2)
    ]  # fmt: skip
    layers = [(name, i) for i in range(3) for name in ("load", "execute", "free_weights")]
    assert program.calls[:11] == [("init",), *layers, ("close",)]


def test_a_pass_at_a_stretch_loads_everything_and_then_executes_it() -> None:
    program = Recorded()
    tasks = timed_stretch(program)  # type: ignore[arg-type]
    assert [(task.task, task.layer) for task in tasks] == [(INIT, -1), (LOAD, -1), (EXECUTE, -1)]
    assert program.calls[:4] == [("init",), ("load", -1), ("execute", -1), ("close",)]


class Scratch(Recorded):
    """Its second layer needs 16 MiB while it executes, its third keeps 8 MiB."""

    kept: mmap.mmap | None = None

    def execute(self, layer: int) -> None:
        if layer == 1:
            touched(16 * MIB).close()
        if layer == 2:
            self.kept = touched(8 * MIB)


def touched(count: int) -> mmap.mmap:
    """Memory that the allocator cannot have had before."""
    pages = mmap.mmap(-1, count, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, count, mmap.PAGESIZE):
        pages[at] = 1
    return pages


def test_a_look_at_memory_finds_what_lives_while_a_layer_executes() -> None:
    held = memory_pass(Scratch())  # type: ignore[arg-type]
    if not held:
        pytest.skip("the kernel does not reset peaks")
    assert [row.layer for row in held] == [0, 1, 2, -1]
    near = pytest.approx
    assert held[0].workspace_bytes == near(0, abs=MIB)
    assert held[1].workspace_bytes == near(16 * MIB, abs=MIB)
    assert held[1].held_bytes == near(0, abs=MIB)
    assert held[2].held_bytes == held[3].held_bytes == near(8 * MIB, abs=MIB)
    assert held[3].peak_bytes == near(16 * MIB, abs=MIB)


# -- whole profiles, the measuring process imitated ---------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGESCHED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(profiling, "unrest", lambda: None)
    path = tmp_path / "tiny.onnx"
    chain(path)
    return path


class Bench:
    """Every task takes a millisecond, in round n of a network n more; some rounds are disturbed."""

    disturbed_rounds: frozenset[int] = frozenset()
    layers = 4
    asked: list[dict[str, Any]]
    others: list[str]

    def __init__(self) -> None:
        self.rounds: dict[Any, int] = {}
        type(self).asked = []
        type(self).others = []

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(self, question: str, **arguments: Any) -> Any:
        if question != "pass":
            self.others.append(question)
            return None
        self.asked.append(arguments)
        key = arguments["network"], arguments["threads"], arguments["what"]
        number = self.rounds[key] = self.rounds.get(key, -1) + 1
        if arguments["what"] == "memory":
            return {"held": [(layer, MIB, 2 * MIB, 0) for layer in (*range(self.layers), -1)]}
        wrong = number in self.disturbed_rounds
        seconds = 1e-3 * (1 + number) + wrong
        tasks = [(INIT, -1, seconds, seconds, 0)]
        for layer in (-1,) if arguments["what"] == "stretch" else range(self.layers):
            tasks += [(LOAD, layer, seconds, 0.0, 0), (EXECUTE, layer, seconds, seconds, 0)]
        return {"tasks": tasks, "disturbed": "throttled" if wrong else ""}


@pytest.fixture
def bench(model: Path, monkeypatch: pytest.MonkeyPatch) -> type[Bench]:
    class Mine(Bench):
        layers = len(bundle_of(model).layers)

    monkeypatch.setattr(profiling, "Bench", Mine)
    return Mine


def test_a_row_is_the_median_of_the_undisturbed_samples(model: Path, bench: type[Bench]) -> None:
    bench.disturbed_rounds = frozenset({1, 3})
    heard: list[str] = []
    out = profile_networks([str(model)], None, model.with_name("p.csv"), rounds=5, tell=heard.append)
    profile = read_profile(str(out))
    row = profile.layer("tiny", 0)
    assert row is not None
    assert (row.execute_s, row.cold_load_s, row.samples, row.threads) == (0.003, 0.003, 3, 1)
    assert (row.workspace_bytes, row.peak_bytes, row.held_bytes) == (MIB, 2 * MIB, 0)
    whole = profile.layer("tiny", None)
    assert whole is not None
    assert (whole.init_s, whole.cold_load_s, whole.execute_s, whole.load_s) == (0.003, 0.003, 0.003, None)
    tasks = 2 * (1 + 2 * bench.layers) + 3  # past the page cache, through it, at a stretch
    assert profile.metadata["disturbed"] == f"throttled {2 * tasks}"
    assert heard[-1] == f"{5 * tasks} samples in 18 passes; left out as disturbed: throttled {2 * tasks}"


def test_what_stays_disturbed_is_measured_three_times_as_often_and_named(
    model: Path, bench: type[Bench]
) -> None:
    bench.disturbed_rounds = frozenset(range(1, 100))
    heard: list[str] = []
    out = profile_networks([str(model)], None, model.with_name("p.csv"), rounds=4, tell=heard.append)
    assert [a["what"] for a in bench.asked].count("direct") == 12
    assert [a["what"] for a in bench.asked].count("memory") == 3
    row = read_profile(str(out)).layer("tiny", 0)
    assert row is not None
    assert row.samples == 12
    assert heard[-1].startswith("warning: too few undisturbed samples, so all were used: tiny init, tiny ")


def test_extra_rounds_end_when_there_is_enough(model: Path, bench: type[Bench]) -> None:
    bench.disturbed_rounds = frozenset({0, 1, 2})
    profile_networks([str(model)], None, model.with_name("p.csv"), rounds=4)
    assert [a["what"] for a in bench.asked].count("direct") == 6


def test_rounds_may_be_measured_in_parts(model: Path, bench: type[Bench]) -> None:
    out, first = model.with_name("p.csv"), model.with_name("first.csv")
    with Profiling([str(model)], None, out, rounds=5) as profiling:
        profiling.measure(2)
        assert [a["what"] for a in bench.asked].count("direct") == 2
        assert len(bench.asked) == 2 * 4
        profiling.measure(2)
        assert len(bench.asked) == 2 * 4
        row = read_profile(str(profiling.write(first))).layer("tiny", 0)
        assert row is not None
        assert (row.execute_s, row.samples) == (0.0015, 2)
        profiling.measure()
        assert profiling.finish() == out
    assert bench.others == ["prepare", "warm_up", "warm_up"]
    assert sorted(path.name for path in out.parent.glob("*.csv*")) == ["first.csv", "p.csv"]
    parts = read_profile(str(out)).rows
    profile_networks([str(model)], None, out, rounds=5)
    assert parts == read_profile(str(out)).rows


def test_disturbed_samples_may_be_kept(model: Path, bench: type[Bench]) -> None:
    bench.disturbed_rounds = frozenset({1, 2, 3})
    heard: list[str] = []
    with Profiling(
        [str(model)],
        None,
        model.with_name("p.csv"),
        rounds=4,
        statistic="mean",
        keep_disturbed=True,
        tell=heard.append,
    ) as profiling:
        profiling.measure()
        profile = read_profile(str(profiling.finish()))
    row = profile.layer("tiny", 0)
    assert row is not None
    assert (row.execute_s, row.samples) == (pytest.approx((0.001 + 1.002 + 1.003 + 1.004) / 4), 4)
    assert row.execute_sd_s == pytest.approx(np.std([0.001, 1.002, 1.003, 1.004]))
    assert [a["what"] for a in bench.asked].count("direct") == 4  # nothing is missing
    tasks = 2 * (1 + 2 * bench.layers) + 3
    assert heard[-1].endswith(f"disturbed, and added to all: throttled {3 * tasks}")
    assert profile.metadata["statistic"].endswith("with what disturbances added to all of their kind")


def test_disturbances_fall_on_all_tasks_of_a_kind_alike() -> None:
    samples = Samples(keep_disturbed=True)

    def add(number: int, what: str, disturbed: str, *seconds: float) -> None:
        tasks = tuple(Timed(EXECUTE, layer, s, s, 0) for layer, s in enumerate(seconds))
        load = Timed(LOAD, 0, 2.0, 0.0, 0)
        samples.add(Pass(number, Config("net", 1, what), disturbed, (*tasks, load)))  # type: ignore[arg-type]

    add(0, "direct", "", 1.0, 3.0)
    add(1, "direct", "stolen", 1.0, 5.0)  # 2 s were taken away from one of the two
    add(0, "stretch", "stolen", 4.0)  # never seen undisturbed
    config = Config("net", 1, "direct")
    # Of 8 s that executions would have taken, 10 s were seen.
    assert samples.cell(config, EXECUTE, 0, "mean").seconds == pytest.approx(1.0 * 10 / 8)
    assert samples.cell(config, EXECUTE, 1, "mean").seconds == pytest.approx(3.0 * 10 / 8)
    assert samples.cell(config, LOAD, 0, "mean").seconds == 2.0
    assert samples.cell(Config("net", 1, "stretch"), EXECUTE, 0, "mean").seconds == 4.0
    assert samples.disturbed == {"stolen": 5}


def test_the_order_within_a_round_is_random_and_of_the_seed(model: Path, bench: type[Bench]) -> None:
    other = model.with_name("other.onnx")
    chain(other)
    orders = []
    for seed in (1, 1, 2):
        profile_networks([str(model), str(other)], None, model.with_name("p.csv"), rounds=6, seed=seed)
        orders.append([(a["network"], a["what"]) for a in bench.asked])
    assert orders[0] == orders[1] != orders[2]
    assert len({tuple(orders[0][start : start + 8]) for start in (0, 8, 16)}) > 1


def test_an_interrupted_profile_goes_on(model: Path, bench: type[Bench]) -> None:
    out = model.with_name("p.csv")

    def stop(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile_networks([str(model)], None, out, rounds=5, progress=stop)
    assert sorted(path.name for path in out.parent.glob("p.csv*")) == ["p.csv.samples"]
    with pytest.raises(SampleFileError, match="seed"):
        profile_networks([str(model)], None, out, rounds=5, seed=9)
    steps: list[tuple[int, int]] = []
    profile_networks([str(model)], None, out, rounds=5, progress=lambda *step: steps.append(step))
    assert steps[0] == (7, 18)
    assert steps[-1] == (18, 18)
    assert len(bench.asked) == 11
    assert sorted(path.name for path in out.parent.glob("p.csv*")) == ["p.csv"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 0}, "one round or more"),
        ({"seed": -1}, "seed of at least 0"),
        ({"threads": (1, 1)}, "different whole numbers"),
        ({"threads": (0,)}, "different whole numbers"),
        ({"threads": ()}, "different whole numbers"),
        ({"statistic": "mode"}, "median or mean"),
    ],
)
def test_what_cannot_be_profiled_is_refused(model: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProfilingError, match=message):
        profile_networks([str(model)], None, model.with_name("p.csv"), **changes)
    assert not list(model.parent.glob("p.csv*"))


def test_more_threads_than_cores_and_other_wrong_names_are_refused(model: Path) -> None:
    with pytest.raises(HereError, match="4096 threads asked for"):
        profile_networks([str(model)], None, model.with_name("p.csv"), threads=(4096,))
    with pytest.raises(ProfilingError, match=r"ends in \.csv"):
        profile_networks([str(model)], None, model.with_name("p.txt"))
    with pytest.raises(ProfilingError, match="no network was named"):
        profile_networks([], None, model.with_name("p.csv"))
    twin = model.parent / "twin"
    twin.mkdir()
    chain(twin / "tiny.onnx", seed=1)
    with pytest.raises(ProfilingError, match="two models are called 'tiny'"):
        profile_networks(["tiny.onnx", "twin/tiny.onnx"], model.parent, model.with_name("p.csv"))


# -- for real -----------------------------------------------------------------------------------------------


def structure(network: Network) -> list[tuple[Any, ...]]:
    return [(n.name, n.op, n.inputs, n.macs, n.weight_bytes, n.output_bytes) for n in network.layers]


def model_of(profile: Path, threads: int = 1) -> CostModel:
    return CostModel(
        Device(
            name="test",
            processors=(Processor(name="cpu"),),
            memory=Memory(total_bytes=1 << 30),
            runtime=Runtime(threads=threads, weights_lifetime="layer", outputs_lifetime="arena"),
            cost=Cost(profile=str(profile)),
        )
    )


def test_the_network_of_a_profile_is_the_one_that_is_replayed(model: Path) -> None:
    counts = (1, 2) if len(os.sched_getaffinity(0)) > 1 else (1,)
    out = profile_networks([str(model)], None, model.with_name("p.csv"), threads=counts, rounds=3)
    bundle = bundle_of(model)
    for threads in counts:
        costs = model_of(out, threads)
        network = costs.network("tiny")
        assert network is not None
        assert structure(network) == structure(bundle.network())
        assert network.arena_bytes == bundle.arena_bytes
        assert network.conv_layers == bundle.network().conv_layers
        cost = costs.cost(network)
        assert all(seconds > 0 for seconds in cost.execute_s)
        assert cost.init_s > 0
    profile = read_profile(str(out))
    assert profile.metadata["source"] == "measured by edgesched profile"
    assert json.loads(profile.metadata["bundles"]) == {"tiny": bundle.sha256}
    assert {row.processor for row in profile.rows} == {profile.rows[0].processor}
    assert weights_of(profile) == [layer.weights_bytes for layer in bundle.layers] * len(counts)
    assert not model.with_name("p.csv.samples").exists()


def weights_of(profile: Profile) -> list[int | None]:
    return [row.weight_bytes for row in profile.rows if row.layer is not None]


def call(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_the_command(model: Path, bench: type[Bench], capsys: pytest.CaptureFixture[str]) -> None:
    out = model.with_name("p.csv")
    assert call("profile", model, "--out", out, "--rounds", "3", "--statistic", "mean") == 0
    assert read_profile(str(out)).metadata["statistic"].startswith("mean")
    assert f"wrote {out}" in capsys.readouterr().err
    assert call("profile", "--out", out, "networks.onnx") == 2
    assert call("profile", model, "--out", out, "--threads", "1;2") == 2
    assert "needs whole numbers with commas" in capsys.readouterr().err
    assert call("profile", model, "--out", out.with_suffix(".txt")) == 2
    assert call("profile", model) == 2


def test_an_interrupt_ends_the_command_and_keeps_what_was_measured(
    model: Path, bench: type[Bench], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = bench.ask

    def interrupted(self: Bench, question: str, **arguments: Any) -> Any:
        if len(self.asked) == 4:
            raise KeyboardInterrupt
        return whole(self, question, **arguments)

    monkeypatch.setattr(bench, "ask", interrupted)
    out = model.with_name("p.csv")
    assert call("profile", model, "--out", out, "--rounds", "3") == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert len(model.with_name("p.csv.samples").read_text().splitlines()) == 5
    assert not out.exists()
    monkeypatch.setattr(bench, "ask", whole)
    assert call("profile", model, "--out", out, "--rounds", "3") == 0
