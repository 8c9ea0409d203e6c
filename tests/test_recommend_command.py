"""Choosing a policy from a finished sweep, and the scenario that runs it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgesched.cli.main import main

SWEEP = """\
name: tiny
device: board.yaml
networks:
  - {name: a, layers: [{load_s: 0.1, execute_s: 0.4, bytes: 1000}]}
  - {name: b, layers: [{load_s: 0.2, execute_s: 0.8, bytes: 2000}]}
workload:
  arrivals: {process: poisson, rate_per_s: 0.3}
  networks: [a, b]
policy: fifo
run: {requests: 30, replications: 3, seed: 7}
sweep:
  device.memory_limit: [4KiB, 1MiB]
  workload.arrivals.rate_per_s: [0.2, 0.5]
  policy: [fifo, {name: masa, workers: 2}, "own.py:Own"]
"""
BOARD = """\
like: ideal
name: mine
processors:
  - name: cpu
    cores: 2
    operating_points:
      - {frequency_hz: 600e6, idle_w: 1, busy_w: 2}
      - {frequency_hz: 1.5e9, idle_w: 2, busy_w: 5}
  - {name: gpu, kind: gpu, operating_points: [{frequency_hz: 1e9, idle_w: 0.5, busy_w: 8}]}
"""
OWN = """\
from edgesched.policies.contract import Policy


class Own(Policy):
    def rank(self, job):
        return -job.network.expected_s
"""
BATCH = SWEEP.partition("sweep:")[0].replace("{process: poisson, rate_per_s: 0.3}", "{process: batch}")
RATE = "workload.arrivals.rate_per_s"


def call(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def write(folder: Path, sweep: str = SWEEP, board: str = BOARD) -> Path:
    folder.mkdir()
    (folder / "board.yaml").write_text(board, encoding="utf-8")
    (folder / "own.py").write_text(OWN, encoding="utf-8")
    (folder / "tiny.yaml").write_text(sweep, encoding="utf-8")
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep beside the folder of its scenario; tests only read it."""
    folder = tmp_path_factory.mktemp("finished")
    scenario = write(folder / "scenarios")
    assert call("sweep", scenario, "--out", folder / "results", "--workers", "1") == 0
    return folder / "results"


def chosen(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


# -- replaying ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["fifo", "masa(workers=2)", "own.py:Own"])
def test_the_scenario_gives_exactly_what_the_sweep_gave(finished: Path, tmp_path: Path, policy: str) -> None:
    out, summary = tmp_path / "deep" / "chosen.yaml", tmp_path / "summary.json"
    out.parent.mkdir()
    arguments = ("--limit", f"policy={policy}", "--limit", "device.memory_limit=1MiB")
    assert call("recommend", finished, *arguments, "--at", f"{RATE}=0.50", "--out", out) == 0
    data = yaml.safe_load(out.read_text(encoding="utf-8"))
    assert "sweep" not in data
    assert data["device"]["memory_limit"] == "1MiB"
    assert call("run", out, "--json", summary) == 0
    with (finished / "means.csv").open(newline="") as file:
        [mean] = [
            row
            for row in csv.DictReader(file)
            if (row["device.memory_limit"], row[RATE], row["policy"]) == ("1MiB", "0.5", policy)
        ]
    together = json.loads(summary.read_text())["together"]
    for column in ("response_mean_s", "response_p95_s", "job_response_mean_s", "energy_per_request_j"):
        for name in (column, f"{column}_lo", f"{column}_hi"):
            assert repr(together[name]) == mean[name]


def test_files_of_the_scenario_are_found_from_the_new_folder(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "chosen.yaml"
    only = ("--limit", "policy=own.py:Own", "--limit", "device.memory_limit=4096", "--limit", f"{RATE}=0.2")
    assert call("recommend", finished, *only, "--out", out) == 0
    data = yaml.safe_load(out.read_text(encoding="utf-8"))
    assert (tmp_path / data["device"]["board"]).samefile(finished.parent / "scenarios" / "board.yaml")
    assert (tmp_path / data["policy"]["name"].removesuffix(":Own")).is_file()
    # What it wrote it may replace, what it did not write it may not.
    assert call("recommend", finished, *only, "--out", out) == 0
    out.write_text(SWEEP, encoding="utf-8")
    assert call("recommend", finished, *only, "--out", out) == 2
    assert out.read_text(encoding="utf-8") == SWEEP


def test_settings_of_the_command_line_are_in_the_scenario(tmp_path: Path) -> None:
    scenario, results = write(tmp_path / "s"), tmp_path / "results"
    changes = ("--set", "run.seed=11", "--set", "run.requests=12")
    assert call("sweep", scenario, *changes, "--out", results, "--workers", "1") == 0
    place = ("--limit", "device.memory_limit=4KiB", "--at", f"{RATE}=0.2")
    assert call("recommend", results, *place, "--out", tmp_path / "chosen.yaml") == 0
    data = yaml.safe_load((tmp_path / "chosen.yaml").read_text(encoding="utf-8"))
    assert (data["run"]["seed"], data["run"]["requests"]) == (11, 12)


# -- choosing -----------------------------------------------------------------------------------------------


def test_one_policy_over_all_places_has_the_smallest_geometric_mean(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("recommend", finished, "--json", tmp_path / "c.json") == 0
    out = capsys.readouterr().out
    assert out.startswith("Verdict: choose masa (workers=2), ")
    assert "geometric mean of the ratio to the best policy of each place" in out
    found = chosen(tmp_path / "c.json")
    assert found["policy"] == {"name": "masa", "workers": 2}
    assert len(found["places"]) == 4
    assert found["ranked"][0]["policy"] == "masa(workers=2)"
    with (finished / "recommendation.csv").open(newline="") as file:
        by_place = list(csv.DictReader(file))
    assert [row["best"] for row in found["places"]] == [row["best"] for row in by_place]


def test_at_one_place_value_and_paired_ratio_are_those_of_the_recommendation(
    finished: Path, tmp_path: Path
) -> None:
    place = ("--limit", "device.memory_limit=4096", "--limit", f"{RATE}=0.5")
    assert call("recommend", finished, *place, "--json", tmp_path / "c.json") == 0
    found = chosen(tmp_path / "c.json")
    with (finished / "recommendation.csv").open(newline="") as file:
        [row] = [r for r in csv.DictReader(file) if (r["device.memory_limit"], r[RATE]) == ("4KiB", "0.5")]
    for key in ("ratio", "ratio_lo", "ratio_hi"):
        assert repr(found[key]) == row[key]
    assert (found["verdict"], found["next"]) == (row["verdict"], row["next"])
    assert repr(found["places"][0]["response_mean_s"]) == row["response_mean_s"]


def test_where_none_works_everywhere_it_is_said_what_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # b needs 3000 bytes whole, and its weights stay until it ends: 2500 are too few for all of them.
    scenario = write(
        tmp_path / "s",
        SWEEP.replace("[4KiB, 1MiB]", "[2500, 1MiB]").replace(
            "bytes: 2000}]", "bytes: 2000}, {execute_s: 0.1, bytes: 1000}]"
        ),
    )
    results, record = tmp_path / "results", tmp_path / "c.json"
    assert call("sweep", scenario, "--out", results, "--workers", "1") == 0
    capsys.readouterr()
    assert call("recommend", results, "--json", record, "--out", tmp_path / "c.yaml", "--at", f"{RATE}=0.2",
                "--at", "device.memory_limit=2500") == 1  # fmt: skip
    out = capsys.readouterr().out
    assert out.startswith("Verdict: no policy works at each of 4 places")
    assert "out of memory" in out
    assert "a memory limit of at least 3000 bytes" in " ".join(out.split())
    assert "--limit device.memory_limit=1MiB" in out
    assert not (tmp_path / "c.yaml").exists()
    found = chosen(record)
    assert (found["verdict"], found["policy"]) == ("none", None)
    assert {each["policy"]: each["works_at"] for each in found["left_out"]} == {
        "fifo": 2,
        "masa(workers=2)": 2,
        "Own": 2,
    }


def test_bounds_leave_policies_out(finished: Path, tmp_path: Path) -> None:
    assert call("recommend", finished, "--max", "peak_bytes=2.5kB", "--json", tmp_path / "c.json") == 0
    found = chosen(tmp_path / "c.json")
    assert found["policy"] == {"name": "fifo"}
    assert {each["policy"] for each in found["left_out"]} == {"masa(workers=2)", "Own"}
    assert call("recommend", finished, "--max", "response_mean_s=0.001") == 1


# -- energy -------------------------------------------------------------------------------------------------


def test_energy_is_idle_power_for_the_whole_time_and_the_rest_while_busy(tmp_path: Path) -> None:
    # Two images, the next when the system is idle. One worker: a in 0.5 s, then b in 1 s, twice; 3 s in all.
    # The processor at its highest frequency draws 5 W as long, the other one 0.5 W: 16.5 J for two requests.
    scenario = write(tmp_path / "s", BATCH)
    change = ("--set", "run={requests: 2}", "--json", tmp_path / "c.json")
    assert call("run", scenario, *change) == 0
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["replications"][0]["end_s"] == 3.0
    assert found["together"]["energy_per_request_j"] == pytest.approx(8.25)


def test_energy_of_several_workers_and_requests(tmp_path: Path) -> None:
    # The same with the two workers of masa: a and b side by side, 1 s an image. Idle 2 s * 2.5 W, and 3 W
    # more for each of the 3 s that a worker is busy: 14 J.
    scenario = write(tmp_path / "s", BATCH)
    change = ("--set", "run={requests: 2}", "--policy", "masa", "--json", tmp_path / "c.json")
    assert call("run", scenario, *change) == 0
    summary = json.loads((tmp_path / "c.json").read_text())["replications"][0]
    assert summary["end_s"] == pytest.approx(2.0)
    assert summary["energy_per_request_j"] == pytest.approx(7.0)


def test_a_sweep_by_energy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario, results = write(tmp_path / "s"), tmp_path / "results"
    assert call("sweep", scenario, "--out", results, "--workers", "1", "--objective", "energy") == 0
    assert "smallest energy per request" in capsys.readouterr().out
    assert (results / "recommendation-energy.csv").is_file()
    assert (results / "figures" / "energy.png").is_file()
    assert call("recommend", results, "--objective", "energy", "--json", tmp_path / "c.json") == 0
    assert chosen(tmp_path / "c.json")["column"] == "energy_per_request_j"


def test_a_board_without_power_is_told_what_to_add(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = BOARD.replace(", idle_w: 2, busy_w: 5", ", idle_w: 2").replace("idle_w: 0.5, ", "")
    scenario, results = write(tmp_path / "s", board=board), tmp_path / "results"
    assert call("sweep", scenario, "--out", results, "--objective", "energy") == 2
    error = capsys.readouterr().err
    assert "processors[0].operating_points[1].busy_w, processors[1].operating_points[0].idle_w" in error
    assert error.count("\n") == 1
    assert not results.exists()
    assert call("sweep", scenario, "--out", results, "--workers", "1") == 0
    assert "energy" not in (results / "means.csv").read_text()
    capsys.readouterr()
    assert call("recommend", results, "--objective", "energy") == 2
    assert "processors[0].operating_points[1].busy_w" in capsys.readouterr().err


# -- what cannot be -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--limit", "device.memory_limt=4KiB"], "did you mean device.memory_limit?"),
        (["--limit", "device.memory_limit=3KiB"], "there are 4KiB, 1MiB"),
        (["--limit", "device.memory_limit"], "must be PATH=VALUE"),
        (["--limit", f"{RATE}=["], f"--limit {RATE}"),
        (["--limit", f"{RATE}=0.2", "--limit", f"{RATE}=0.5"], "there are 0.2"),
        (["--out", "c.yaml"], f"device.memory_limit: 4KiB, 1MiB; {RATE}: 0.2, 0.5"),
        (["--out", "c.yaml", "--at", "device.memory_limit=4KiB"], f"for {RATE}: 0.2, 0.5"),
        (["--out", "c.yaml", "--at", "policy=fifo"], "names a policy"),
        (["--out", "no/c.yaml"], "there is no folder no"),
        (["--at", f"{RATE}=0.2"], "give --out"),
        (["--max", "response_mean=1"], "did you mean response_mean_s?"),
        (["--max", "peak_bytes=large"], "400MiB"),
        (["--max", "response_mean_s=nan"], "a number, 0 or more"),
        (["--max", "deadline_missed_share=0.1"], "no run has a deadline_missed_share"),
    ],
)
def test_a_wrong_argument_is_one_message(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("recommend", finished, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("edgesched: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_sweep_says_what_is_missing_and_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario, results = write(tmp_path / "s"), tmp_path / "results"
    monkeypatch.chdir(tmp_path)
    change = ("--set", "run.requests=12")
    assert call("sweep", scenario, *change, "--out", results, "--workers", "1") == 0
    lines = (results / "points.jsonl").read_bytes().splitlines(keepends=True)
    (results / "points.jsonl").write_bytes(b"".join(lines[:30]) + lines[30][:20])
    (results / "means.csv").unlink()
    capsys.readouterr()
    assert call("recommend", "results") == 2
    error = capsys.readouterr().err
    assert "6 of 36 points have no row yet" in error
    command = error.strip().rpartition("to go on: edgesched ")[2].split()
    assert command == ["sweep", "s/tiny.yaml", "--out", "results", *change]
    assert call(*command, "--workers", "1") == 0
    assert call("recommend", "results") == 0
    (results / "points.jsonl").unlink()
    (results / "means.csv").unlink()
    capsys.readouterr()
    assert call("recommend", "results") == 2
    assert "none of its 36 points" in capsys.readouterr().err


def test_a_forced_sweep_of_another_scenario_is_not_finished_by_the_old_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario, results = write(tmp_path / "s"), tmp_path / "results"
    assert call("sweep", scenario, "--out", results, "--workers", "1") == 0
    scenario.write_text(SWEEP.replace("seed: 7", "seed: 8"), encoding="utf-8")

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("edgesched.sim.sweeping.sweep.run_points", interrupted)
        assert call("sweep", scenario, "--out", results, "--force") == 130
    capsys.readouterr()
    assert call("recommend", results) == 2
    assert "36 of 36 points have no row yet" in capsys.readouterr().err


def test_a_folder_that_is_no_sweep_is_one_message(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("scenario.yaml", "sweep.json", "points.jsonl", "points.csv", "means.csv"):
        (broken / name).write_bytes((finished / name).read_bytes())
    table = (broken / "points.csv").read_text().splitlines(keepends=True)
    marker = (broken / "sweep.json").read_text()
    cases: list[tuple[Path, str, str, str]] = [
        (tmp_path / "nothing", "", "", "there is no such folder"),
        (tmp_path / "mine", "", "", "is not the folder of a sweep"),
        (broken, "points.csv", "".join(table[:-1]), "does not have the points"),
        (broken, "points.csv", "".join([*table, table[-1]]), "does not have the points"),
        (broken, "sweep.json", "{", "is not JSON"),
        (broken, "sweep.json", "[]", "must be what edgesched sweep writes"),
        (broken, "sweep.json", marker.replace('sion": 1', 'sion": 9'), "up to 1"),
        (broken, "scenario.yaml", "name: x\n", "is no scenario with a sweep"),
        (broken, "points.jsonl", "{}\n{}\n", "line 1 is no row"),
    ]
    for folder, name, content, words in cases:
        before = (folder / name).read_bytes() if name else b""
        if name:
            (folder / name).write_text(content)
        capsys.readouterr()
        assert call("recommend", folder) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert words in captured.err
        assert captured.err.count("\n") == 1
        if name:
            (folder / name).write_bytes(before)
    assert call("recommend", broken) == 0


def test_a_sweep_without_policies_has_none_to_choose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = write(tmp_path / "s", SWEEP.rpartition("  policy:")[0])
    assert call("sweep", scenario, "--out", tmp_path / "results", "--workers", "1") == 0
    capsys.readouterr()
    assert call("recommend", tmp_path / "results") == 2
    assert "does not compare policies" in capsys.readouterr().err
