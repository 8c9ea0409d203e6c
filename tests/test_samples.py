"""Samples: which of them count, what is kept of an interrupted profile, and what one pass does."""

from __future__ import annotations

import mmap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="needs the extra edgesched[bridge]")
pytest.importorskip("onnxruntime", reason="needs the extra edgesched[bridge]")


from edgesched.bridge.machine.host import Disturbance
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
from edgesched.bridge.measuring.samplefile import SampleFile, SampleFileError
from edgesched.bridge.measuring.samples import Config, Pass, Samples, machine_disturbed, task_disturbed

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
