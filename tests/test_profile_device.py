"""Profiling the device: slow-down from disturbed loops, rates, rest, and a board that runs as it is."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("onnx", reason="needs the extra edgesched[bridge]")
pytest.importorskip("onnxruntime", reason="needs the extra edgesched[bridge]")

from small_models import chain

from edgesched.bridge.machine.storage import StorageError, WeightsFile
from edgesched.bridge.measuring import base, beside, board, dispatch, here, profiling, quiet
from edgesched.bridge.measuring.bench import Bench, BenchError
from edgesched.bridge.measuring.beside import Factor, Stretch, factors, taken_s
from edgesched.bridge.measuring.board import BoardFileError, profile_device
from edgesched.bridge.measuring.ownrates import OwnRatesError, own_rates
from edgesched.bridge.measuring.profiling import profile_networks
from edgesched.cli.main import main
from edgesched.devices import boards
from edgesched.devices.costing import CostModel
from edgesched.devices.model import Device, Memory, Processor, Runtime, Storage
from edgesched.traces.profile import Profile, ProfileRow
from edgesched.workloads.network import Layer, Network

# -- slow-down ----------------------------------------------------------------------------------------------


def turns(*starts: float, each_s: float = 1.0) -> list[Stretch]:
    return [Stretch(start, start + each_s) for start in starts]


def test_turns_count_while_the_other_loop_runs() -> None:
    other = turns(0.5, 1.5, 2.5)
    assert taken_s(turns(0.0, 1.0, 2.0, 3.0)) == [1.0] * 4
    assert taken_s(turns(0.0, 1.0, 2.0, 3.0), other) == [1.0] * 2
    assert taken_s(turns(0.0, 1.0), []) == []


class Disk:
    """A measuring process: every tenth execution beside a load on processor 1 takes ten times as long."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], list[list[int]]]] = []

    def ask(self, question: str, **arguments: Any) -> Any:
        if question == "loops":
            return None
        names, cpus = tuple(arguments["classes"]), arguments["cpus"]
        self.asked.append((names, cpus))
        return [self.turns(name, names, place) for name, place in zip(names, cpus, strict=True)]

    @staticmethod
    def turns(name: str, names: tuple[str, ...], place: list[int]) -> list[tuple[float, float]]:
        loads = "load" in names[-1] and "load" not in name
        took = [10.0 if loads and place == [1] and number % 10 == 0 else 1.0 for number in range(100)]
        ends = list(itertools.accumulate(took, initial=0.0))
        inside = list(itertools.pairwise(ends))
        longer = "load" in name and len(set(names)) == 2  # what begins before and ends after the other
        return [(-1.0, -0.5), *inside, (1e6, 1e6 + 1)] if longer else inside


def test_executions_are_measured_on_both_processors_with_what_interrupts_take(tmp_path: Path) -> None:
    disk = Disk()
    found = beside.measure(disk, tmp_path, tmp_path, [[0], [1]])  # type: ignore[arg-type]
    # One tenth of the turns on one of two processors, with 9 s more: 1 + 0.9 / 2.
    assert found["compute", "load"].factor == found["memory", "load"].factor == pytest.approx(1.45)
    assert found["load", "compute"].factor == found["load", "load"].factor == 1.0
    assert len(found) == 9
    for pair in itertools.combinations_with_replacement(beside.CLASSES, 2):
        assert [cpus for names, cpus in disk.asked if names == pair].count([[0], [1]]) == beside.ROUNDS
        assert [cpus for names, cpus in disk.asked if names == pair].count([[1], [0]]) == beside.ROUNDS


def test_factors_hold_what_is_alone_against_what_is_beside_within_a_round() -> None:
    rounds = [
        {("load",): [s] * 3, ("load", "memory"): [s * f] * 3, ("memory", "load"): [1.0] * 9}
        for s, f in ((1.0, 1.2), (5.0, 1.3), (0.1, 1.4), (2.0, 1.5), (3.0, 1.6))
    ]
    rounds.append({("load",): [1.0], ("load", "memory"): [9.0] * 3})
    found = factors(rounds)
    assert list(found) == [("load", "memory")]
    assert found["load", "memory"] == pytest.approx((1.4, 1.3, 1.5, 5))
    assert factors(rounds[:2]) == {}


# -- rates --------------------------------------------------------------------------------------------------


def measured_device(threads: int = 1) -> Device:
    return Device(
        name="here",
        processors=(Processor(name="cpu"),),
        memory=Memory(total_bytes=1 << 30),
        storage=Storage(reads="direct"),
        runtime=Runtime(threads=threads, load_copies=False),
    )


def profile_of(call_s: float, mac_s: float, byte_s: float) -> Profile:
    rows = []
    for name, scale in (("a", 1), ("b", 3)):
        rows.append(ProfileRow(name, threads=1, init_s=0.25 * scale, arena_bytes=4096, samples=3))
        for index in range(4):
            macs, weights = scale * 1000 * (index + 1) ** 2, 0 if index == 3 else 4096 * scale * (index + 1)
            rows.append(
                ProfileRow(
                    name,
                    index,
                    f"layer {index}",
                    "relu" if index == 3 else "convolution",
                    threads=1,
                    load_s=99.0,
                    cold_load_s=0.002 + weights * byte_s,
                    execute_s=call_s + macs * mac_s,
                    weight_bytes=weights,
                    macs=macs,
                    inputs=(),
                    output_bytes=0,
                )
            )
    return Profile(tuple(rows))


def test_rates_are_those_of_cold_loads_and_undisturbed_executions() -> None:
    found = own_rates(profile_of(1e-3, 2e-9, 3e-9), measured_device())
    assert found.cost["execute"]["convolution"] == pytest.approx({"call_s": 1e-3, "mac_s": 2e-9})
    assert found.cost["load_call_s"] == pytest.approx(0.002)
    assert found.cost["load_byte_s"] == pytest.approx(3e-9)
    assert found.cost["init_s"] == 0.5
    execute, load = found.fitted
    assert execute["constants"]["cost.execute.convolution.mac_s"] == pytest.approx(2e-9)
    assert load["errors"] == pytest.approx({"a": 0.0, "b": 0.0}, abs=1e-3)
    assert set(execute["left_out_errors"]) == {"a", "b"}


def test_a_profile_that_was_not_made_here_is_refused() -> None:
    rows = tuple(row for row in profile_of(1e-3, 1e-9, 1e-9).rows if row.layer is not None)
    with pytest.raises(OwnRatesError, match="holds no network as a replay executes it"):
        own_rates(Profile(rows), measured_device())
    with pytest.raises(OwnRatesError, match="--threads 2"):
        own_rates(profile_of(1e-3, 1e-9, 1e-9), measured_device(threads=2))


# -- this machine -------------------------------------------------------------------------------------------


def machine(root: Path, busy: int, idle: int) -> None:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2\n")
    (root / "proc/loadavg").write_text("2.50 1.00 1.00 1/90 24605\n")


@pytest.mark.parametrize(("ticks", "warned"), [(0, False), (400, True)])
def test_unrest_is_what_others_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ticks: int, warned: bool
) -> None:
    machine(tmp_path, 1000, 1000)
    monkeypatch.setattr(quiet.time, "sleep", lambda _: machine(tmp_path, 1000 + ticks, 9000))
    clock = iter((0.0, 10.0))
    monkeypatch.setattr(quiet.time, "monotonic", lambda: next(clock))
    found = quiet.unrest(tmp_path)
    assert (found is not None) == warned
    if found is not None:
        assert "40% of a processor (load average 2.50)" in found


def test_clusters_become_processors(tmp_path: Path) -> None:
    system = tmp_path / "sys/devices/system/cpu"
    system.mkdir(parents=True)
    (system / "online").write_text("0-5\n")
    (tmp_path / "proc").mkdir()
    blocks = [(cpu, "0xd03" if cpu < 4 else "0xd08") for cpu in range(6)]
    (tmp_path / "proc/cpuinfo").write_text(
        "".join(
            f"processor\t: {cpu}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n" for cpu, part in blocks
        )
    )
    for cpu, part in blocks:
        folder = system / f"cpu{cpu}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "cpuinfo_min_freq").write_text("600000\n")
        (folder / "cpuinfo_max_freq").write_text("1400000\n" if part == "0xd03" else "1800000\n")
    little, big = here.processors(tmp_path)
    assert (little.name, little.model, little.cores) == ("cpu0", "Cortex-A53", 4)
    assert (big.name, big.model, big.cores) == ("cpu4", "Cortex-A72", 2)
    assert [point.frequency_hz for point in big.operating_points] == [600e6, 1800e6]
    with pytest.raises(here.HereError, match="MemTotal"):
        here.memory(tmp_path)


def test_tasks_that_do_nothing() -> None:
    found = dispatch.measure(here.worker_cpus(1)[0], 5)
    assert len(found.handed_over_s) == 5
    assert len(found.continued_s) == 5 * 2 * dispatch.LAYERS
    assert min(found.continued_s) > 0


def test_the_measuring_process_says_what_went_wrong() -> None:
    with Bench() as bench:
        with pytest.raises(BenchError, match=r"nowhere.*not a layer bundle"):
            bench.ask("prepare", bundles={"a": "nowhere"}, pins={"1": [0]})
        with pytest.raises(BenchError, match="KeyError"):
            bench.ask("pass", network="a", threads=1, what="direct", cpus=[0])
        os.kill(bench._process.pid, 9)
        with pytest.raises(BenchError, match="ended with SIGKILL"):
            bench.ask("pass", network="a", threads=1, what="direct", cpus=[0])
    bench.close()


# -- boards -------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on a disk; measuring slow-down is short, and finds what is said here."""
    monkeypatch.setenv("EDGESCHED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(beside, "FEATURES", 2048)
    monkeypatch.setattr(beside, "ROUNDS", 3)
    monkeypatch.setattr(beside, "BLOCK_S", 0.01)
    monkeypatch.setattr(board, "unrest", lambda: "this machine is not at rest: tests")
    monkeypatch.setattr(profiling, "unrest", lambda: None)
    (tmp_path / "probe").write_bytes(bytes(4096))
    try:
        WeightsFile(tmp_path / "probe", "direct").close()
    except StorageError as error:
        pytest.skip(str(error))
    return tmp_path


def call(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


SCENARIO = """\
device: board.yaml
workload: {arrivals: {process: poisson, rate_per_s: 20}, networks: [tiny.onnx]}
policy: pipeline
run: {requests: 20}
"""


def test_from_a_model_to_a_run_on_this_machines_board(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small)
    chain(Path("tiny.onnx"))
    assert call("profile", "tiny.onnx", "--rounds", "3", "--out", "p.csv") == 0
    assert call("profile", "device", "--out", "board.yaml", "--profile", "p.csv") == 0
    found = boards.load("board.yaml")
    assert found.name == "board"
    assert found.cost.profile == "p.csv"
    assert found.storage.reads == "direct"
    assert found.storage.read_bytes_per_s is not None
    assert found.storage.read_bytes_per_s > 0
    assert 1 << 20 < found.memory.base_bytes < 1 << 30
    assert 0 < found.runtime.dispatch_s < 0.01
    assert (found.runtime.outputs_lifetime, found.runtime.load_copies) == ("arena", False)
    assert sum(processor.cores for processor in found.processors) == os.cpu_count()
    for path in ("storage.read_bytes_per_s", "runtime.dispatch_s", "memory.base_bytes"):
        assert path in found.calibration.measured
    assert not list((small / "cache").glob("measuring-*"))
    assert call("devices", "show", "board.yaml") == 0
    Path("s.yaml").write_text(SCENARIO)
    assert call("run", "s.yaml", "--json", "out.json") == 0
    other = Network("other", (Layer("c", "convolution", macs=10**6, weight_bytes=4096, output_bytes=64),))
    cost = CostModel(found).cost(other)
    assert cost.execute_s[0] > 0
    assert cost.load_s[0] > 0


def fake(monkeypatch: pytest.MonkeyPatch, factors: dict[tuple[str, str], Factor]) -> None:
    """Nothing is really measured but the disk."""
    monkeypatch.setattr(board.beside, "make_bundles", lambda cache: (_Folder(), _Folder()))
    monkeypatch.setattr(board.beside, "measure", lambda *_: factors)
    monkeypatch.setattr(board.base, "measure", lambda _: base.Base(40 << 20, "its control group"))
    monkeypatch.setattr(Bench, "ask", lambda *_, **__: ([1e-5, 2e-5, 3e-5], [4e-5, 5e-5, 6e-5]))


class _Folder:
    folder = Path()


def test_small_factors_are_noise_and_missing_ones_are_told(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board.here, "worker_cpus", lambda threads, workers=1: [[0], [1]][:workers])
    fake(
        monkeypatch,
        {
            ("memory", "memory"): Factor(1.2345, 1.2, 1.3, 9),
            ("memory", "compute"): Factor(1.019, 1.0, 1.1, 9),
            ("compute", "compute"): Factor(0.98, 0.9, 1.0, 9),
            ("load", "load"): Factor(2.0, 1.9, 2.1, 9),
        },
    )
    heard: list[str] = []
    out = profile_device(small / "b.yaml", name="mine", storage=small, tell=heard.append)
    data = yaml.safe_load(out.read_text())
    assert heard[0] == "warning: this machine is not at rest: tests"
    assert data["name"] == "mine"
    assert data["runtime"]["slowdown"] == {"load": {"load": 2.0}, "memory": {"memory": 1.234}}
    assert data["runtime"]["dispatch_s"] == 2e-5
    assert data["memory"]["base_bytes"] == 40 << 20
    assumed = data["calibration"]["assumed"]
    assert "1.02" in assumed["runtime.slowdown"]
    assert "memory beside load" in assumed["runtime.slowdown"]
    assert "memory beside memory" not in assumed["runtime.slowdown"]
    assert "without a profile" in assumed["cost"]
    measured = data["calibration"]["measured"]
    assert measured["runtime.slowdown.memory.compute"] == "1.019, quartiles 1.000 to 1.100 of 9 rounds"
    assert boards.load(str(out)).runtime.slowdown["memory"] == {"memory": 1.234}


def test_one_core_has_no_slow_down(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, {})
    monkeypatch.setattr(board.here, "worker_cpus", lambda threads, workers=1: [[0]] * workers)
    found = boards.load(str(profile_device(small / "b.yaml", storage=small)))
    assert found.runtime.slowdown == {}
    assert found.calibration is not None
    assert "one core" in found.calibration.assumed["runtime.slowdown"]


def test_a_board_names_its_profile_from_where_it_lies(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain(small / "tiny.onnx")
    profile = profile_networks([str(small / "tiny.onnx")], None, small / "p.csv", rounds=1)
    fake(monkeypatch, {})
    (small / "boards").mkdir()
    out = profile_device(small / "boards/b.yaml", profile=profile, storage=small)
    assert yaml.safe_load(out.read_text())["cost"]["profile"] == "../p.csv"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out": "b.json"}, r"ends in \.yaml"),
        ({"out": "b.yaml", "profile": Path("p.txt")}, r"ends in \.csv"),
    ],
)
def test_names_under_which_nothing_would_be_found(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BoardFileError, match=message):
        profile_device(Path(arguments.pop("out")), **arguments)


def test_wrong_input_is_one_message(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("profile", "device", "--out", small / "b.yaml", "--profile", small / "none.csv") == 2
    assert "there is no such file" in capsys.readouterr().err
    assert call("profile", "device", "--out", small / "none" / "b.yaml") == 2
    assert call("profile", "device", "--out", small / "b.txt") == 2
    assert call("profile", "device", "--out", small / "b.yaml", "--threads", "4000") == 2
    assert not list(small.glob("b.*"))
