"""Policy pareto on this machine: the plan that was simulated is what the primitive library executes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

pytest.importorskip("numba")
pytest.importorskip("scipy")

from primitive_boards import write_board

from edgesched.bridge.prepare import bundles_for
from edgesched.bridge.replay import replay
from edgesched.bridge.watch import ReplayError
from edgesched.cli.main import main
from edgesched.runs.folder import open_run
from edgesched.runs.load import load_scenario
from edgesched.runs.tables import tasks
from edgesched.runs.tasks import Trace
from edgesched.sim.run import simulate
from edgesched.traces.profile import read_profile

NETWORKS = ["SqueezeNet 1.1@64", "MobileNet v1@64"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("planned")
    write_board(made, NETWORKS, memory=", base_bytes: 100000000", cores=2)
    return made


@pytest.fixture
def scenario(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGESCHED_CACHE", str(folder / "cache"))
    path = folder / "scenario.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "device": {"board": "board.yaml", "storage": {"reads": "direct", "pace_bytes_per_s": 300e6}},
                "workload": {
                    "arrivals": {"process": "deterministic", "rate_per_s": 8},
                    "networks": NETWORKS,
                },
                "policy": {"name": "pareto", "workers": 1},
                "run": {"requests": 4, "seed": 2},
            }
        )
    )
    return path


def test_the_simulated_plan_is_executed(scenario: Path) -> None:
    checked, folder = load_scenario(scenario)
    simulated = simulate(checked, trace=Trace(), folder=folder)
    replayed = replay(checked, bundles_for(checked, folder), folder=folder)
    assert replayed.outcome == "done"
    assert replayed.result.plan == simulated.plan
    assert simulated.plan is not None
    chosen = {
        name: tuple(p for _, p in each["primitives"]) for name, each in simulated.plan["networks"].items()
    }
    assert {name: tuple(own) for name, own in replayed.facts["primitives"].items()} == chosen
    assert any("winograd" in primitive for own in chosen.values() for primitive in own)
    for name in ("network", "kind", "layer"):
        assert list(tasks(replayed.result)[name]) == list(tasks(simulated)[name])
    if replayed.facts["memory"]["guard"] == "cgroup":
        memory = replayed.facts["memory"]
        used = memory["peak_bytes"] - memory["base_bytes"]
        told = memory["ledger_peak_bytes"] - memory["ledger_base_bytes"]
        assert abs(used - told) < max(0.05 * told, 4e6)


def test_the_command_writes_the_plan(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main(["replay", str(scenario), "--out", str(tmp_path / "real")])
    assert done.value.code == 0
    plan = open_run(tmp_path / "real").plan()
    assert plan is not None
    assert set(plan["networks"]) == set(NETWORKS)
    assert "planned" in capsys.readouterr().out


def test_a_profile_of_the_plan_is_what_is_simulated(scenario: Path, folder: Path) -> None:
    with pytest.raises(SystemExit) as done:
        main(["profile", "plan", str(scenario), "--out", str(folder / "plan.csv"), "--rounds", "2"])
    assert done.value.code == 0
    checked, _ = load_scenario(scenario)
    before = simulate(checked, trace=Trace(), folder=folder)
    board = (folder / "board.yaml").read_text()
    (folder / "measured.yaml").write_text(
        board.replace("primitives: primitives.csv", "primitives: primitives.csv, profile: plan.csv")
    )
    assert before.plan is not None
    data = {**yaml.safe_load(scenario.read_text())}
    data["device"]["board"] = "measured.yaml"
    scenario.write_text(yaml.safe_dump(data))
    measured = simulate(load_scenario(scenario)[0], trace=Trace(), folder=folder)
    profile = read_profile(str(folder / "plan.csv"))
    rows = {(row.network, row.layer): row for row in profile.rows}
    assert profile.metadata["pace_bytes_per_s"] == "300000000.0"
    assert measured.plan is not None
    for name, each in measured.plan["networks"].items():
        assert each["primitives"] == before.plan["networks"][name]["primitives"]  # the same plan
        layers = [row for (network, layer), row in rows.items() if network == name and layer is not None]
        assert [row.primitive for row in layers] == [primitive for _, primitive in each["primitives"]]
        seconds = [(row.cold_load_s or 0.0) + (row.execute_s or 0.0) for row in layers]
        assert each["solo_s"] == pytest.approx(sum(seconds) + (rows[name, None].init_s or 0.0))


def test_plans_are_executed_on_this_machine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGESCHED_CACHE", str(folder / "cache"))
    usable = len(os.sched_getaffinity(0))
    networks = NETWORKS[: min(2, usable)]
    out = tmp_path / "plan.json"
    profile = str(folder / "primitives.csv")
    options = ["--budget", "200KB", "--profile", profile, "--execute", "2", "--json", str(out)]
    with pytest.raises(SystemExit) as done:
        main(["plan", *networks, *options])
    assert done.value.code == 0
    assert "executed here" in capsys.readouterr().out
    executed = json.loads(out.read_text())["executed"]
    assert [each["network"] for each in executed] == networks
    for each in executed:
        assert each["used_workspace_bytes"] == each["planned_workspace_bytes"] <= 200_000
        assert each["used_arena_bytes"] == each["planned_arena_bytes"]
        assert each["largest_relative_error"] < 1e-4
        assert each["alone_s"] > 0


def test_a_policy_without_a_plan_has_no_such_profile(
    scenario: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario.write_text(yaml.safe_dump({**yaml.safe_load(scenario.read_text()), "policy": "linear"}))
    with pytest.raises(SystemExit) as done:
        main(["profile", "plan", str(scenario), "--out", str(folder / "none.csv")])
    assert done.value.code == 2
    assert "policy linear plans no primitives" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": {"name": "pareto-online"}}, "decides only during the run"),
        ({"device": {"board": "board.yaml", "runtime": {"threads": 2}}}, "is computed by one"),
        ({"device": {"board": "board.yaml", "storage": {"reads": "mapped"}}}, "'direct' or 'cached'"),
    ],
)
def test_what_cannot_be_replayed_is_told(scenario: Path, change: dict[str, object], message: str) -> None:
    scenario.write_text(yaml.safe_dump({**yaml.safe_load(scenario.read_text()), **change}))
    checked, folder = load_scenario(scenario)
    with pytest.raises(ReplayError, match=message):
        replay(checked, bundles_for(checked, folder), folder=folder)
