"""``edgesched verify``: profile, simulate, replay and compare in one go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from small_models import chain
from test_replay import BOARD, main_code

from edgesched.cli.verify import Verified, pace_of, summary
from edgesched.traces.profile import read_profile


def point(policy: str, simulated: float, replayed: float, driven: float = 0.0, **settings: Any) -> Verified:
    errors = {"mean": simulated / replayed - 1, "p95": 0.1}
    comparison = {
        "policy": policy,
        "verdict": "so",
        "totals": {
            "simulated": {"mean_s": simulated},
            "replayed": {"mean_s": replayed},
            "predictive": errors,
            "trace_driven_error": {"mean": driven, "p95": 0.0},
        },
        "replications": [{"order": {"same": True}}],
    }
    return Verified({"policy": policy, **settings}, comparison)


def test_errors_are_means_of_absolute_values() -> None:
    found = summary([point("fifo", 0.9, 1.0, -0.01), point("masa", 1.3, 1.0, 0.03), point("masa", 1, 1)])
    assert found["predictive_error_mean"] == pytest.approx((0.1 + 0.3 + 0) / 3)
    assert found["trace_driven_error_mean"] == pytest.approx(0.04 / 3)
    assert found["policies"]["fifo"]["predictive_error_mean"] == pytest.approx(0.1)
    assert found["policies"]["masa"]["trace_driven_error_mean"] == pytest.approx(0.015)
    assert [p["predictive_error_mean"] for p in found["points"]] == pytest.approx([-0.1, 0.3, 0.0])


def test_policies_are_ranked_at_the_same_place_where_they_differ() -> None:
    found = summary(
        [
            point("fifo", 2.0, 2.0, pace=40),
            point("linear", 1.9, 2.06, pace=40),  # within 5 %: not ranked against fifo
            point("masa", 2.1, 1.0, pace=40),  # slower than both in the simulation, faster in the replay
            point("masa", 9.0, 9.0, pace=400),  # another place
        ]
    )
    assert found["ranking"]["pairs"] == 2
    assert len(found["ranking"]["wrong"]) == 2


def test_a_point_that_was_not_served_has_no_errors() -> None:
    lost = Verified({}, {"policy": "fifo", "verdict": "both", "totals": None, "replications": []})
    found = summary([lost])
    assert found["predictive_error_mean"] is None
    assert found["points"][0]["replayed_mean_s"] is None


def test_networks_are_profiled_at_the_pace_at_which_their_weights_are_read() -> None:
    assert pace_of({"device": {"storage": {"pace_bytes_per_s": 40e6}}}) == 40e6
    assert pace_of({"device": {"storage": {"pace_bytes_per_s": 40e6, "reads": "mapped"}}}) == 40e6
    assert pace_of({"device": "ideal"}) is None


def test_from_a_scenario_to_its_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGESCHED_CACHE", str(tmp_path / "cache"))
    chain(tmp_path / "net.onnx", channels=32, convolutions=3, features=(512,), seed=1)
    (tmp_path / "board.yaml").write_text(yaml.safe_dump(BOARD))
    scenario = tmp_path / "scenario.yaml"
    data = {
        "name": "tiny",
        "device": {"board": "this-host", "storage": {"pace_bytes_per_s": 50e6}},
        "workload": {"arrivals": {"process": "deterministic", "rate_per_s": 20}, "networks": ["net.onnx"]},
        "policy": "fifo",
        "run": {"requests": 5},
        "sweep": {"policy": ["linear", "masa"]},
    }
    scenario.write_text(yaml.safe_dump(data))
    words = ("verify", scenario, "--out", tmp_path / "out", "--board", tmp_path / "board.yaml")
    assert main_code(*words, "--rounds", "5", "--json", tmp_path / "v.json") == 0
    found = json.loads((tmp_path / "v.json").read_text())
    assert set(found["policies"]) == {"linear", "masa"}
    assert found["trace_driven_error_mean"] < 1e-6
    assert found["predictive_error_mean"] < 10
    assert all(each["same_order"] for each in found["points"])
    assert "Verdict: the simulation was off by" in capsys.readouterr().out
    folders = sorted((tmp_path / "out" / "points").iterdir())
    assert [folder.name for folder in folders] == ["000-linear", "001-masa"]
    for folder in folders:
        # Replays know what the first rounds said, the simulation what all of them did.
        first, whole = (read_profile(str(folder / name)) for name in ("first-profile.csv", "profile.csv"))
        assert first.metadata["rounds"] == whole.metadata["rounds"] == "5, in an order of seed 0"
        samples = [sorted({row.samples for row in profile.rows}) for profile in (first, whole)]
        assert samples == [[3], [5]]
        for kind, board in (("replayed", "first-board.yaml"), ("simulated", "board.yaml")):
            ran = yaml.safe_load((folder / kind / "scenario.yaml").read_text())
            assert Path(ran["device"]["board"]).name == board
    before = [(folder / "replayed" / "replay.json").stat().st_mtime_ns for folder in folders]
    # Started again, it reads what is there.
    assert main_code(*words, "--rounds", "5", "--json", tmp_path / "again.json") == 0
    assert json.loads((tmp_path / "again.json").read_text()) == found
    assert [(folder / "replayed" / "replay.json").stat().st_mtime_ns for folder in folders] == before


@pytest.mark.parametrize(("pace", "rounds"), [(50e6, 11), (None, 44)])
def test_a_disk_at_its_own_speed_is_sampled_more_often(
    pace: float | None, rounds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGESCHED_CACHE", str(tmp_path / "cache"))
    chain(tmp_path / "net.onnx", convolutions=1, features=(512,), seed=1)
    (tmp_path / "board.yaml").write_text(yaml.safe_dump(BOARD))
    data = {
        "device": {"board": "this-host", "storage": {"pace_bytes_per_s": pace}},
        "workload": {"arrivals": {"process": "deterministic", "rate_per_s": 20}, "networks": ["net.onnx"]},
        "policy": "linear",
        "run": {"requests": 2},
    }
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(data))
    out = tmp_path / "out"
    words = ("--out", out, "--board", tmp_path / "board.yaml")
    assert main_code("verify", tmp_path / "scenario.yaml", *words) == 0
    profile = read_profile(str(out / "points" / "scenario" / "profile.csv"))
    assert profile.metadata["rounds"] == f"{rounds}, in an order of seed 0"
    assert {row.samples for row in profile.rows} == {rounds}


def test_a_wrong_scenario_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "device: this-host\nworkload: {arrivals: {process: poison, rate_per_s: 1}, networks: [AlexNet]}\n"
        "policy: fifo\nrun: {requests: 3}\n"
    )
    assert main_code("verify", path, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "poison" in said
    assert len(said.strip().splitlines()) == 1
