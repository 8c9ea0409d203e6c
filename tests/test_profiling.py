"""Profiling networks: what a profile says, and what is kept of an interrupted one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra edgesched[bridge]")
pytest.importorskip("onnxruntime", reason="needs the extra edgesched[bridge]")

from small_models import chain

from edgesched.bridge.bundles.cache import bundle_of
from edgesched.bridge.measuring import profiling
from edgesched.bridge.measuring.here import HereError
from edgesched.bridge.measuring.passes import (
    EXECUTE,
    INIT,
    LOAD,
)
from edgesched.bridge.measuring.profiling import Profiling, ProfilingError, profile_networks
from edgesched.bridge.measuring.samplefile import SampleFileError
from edgesched.cli.main import main
from edgesched.devices.costing import CostModel
from edgesched.devices.model import Cost, Device, Memory, Processor, Runtime
from edgesched.traces.profile import Profile, read_profile
from edgesched.workloads.network import Network

MIB = 1 << 20


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
