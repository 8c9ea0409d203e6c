"""The commands as a user meets them."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgesched.cli.main import main

EXAMPLES = Path(__file__).parent.parent / "examples"
HEAVY = (
    "numpy",
    "pandas",
    "simpy",
    "pydantic",
    "yaml",
    "matplotlib",
    "onnx",
    "edgesched.sim.",
    "edgesched.runs.",
    "edgesched.bridge.",
    "edgesched.devices",
)
LIGHT = "edgesched.sim.objectives"
SWEEP = """\
name: tiny
device: ideal
networks:
  - {name: a, layers: [{load_s: 0.1, execute_s: 0.4, bytes: 1000}]}
  - {name: b, layers: [{load_s: 0.2, execute_s: 0.8, bytes: 2000}]}
workload:
  arrivals: {process: poisson, rate_per_s: 0.3}
  networks: [a, b]
policy: fifo
run: {requests: 60, replications: 3}
sweep:
  device.memory_limit: [4000, 100000]
  workload.arrivals.rate_per_s: [0.2, 0.5, 2.0]
  policy: [fifo, sjf, masa]
"""


def call(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# -- run ----------------------------------------------------------------------------------------------------


def test_the_tasks_of_the_hand_worked_case_are_those_of_its_table(tmp_path: Path) -> None:
    scenario = EXAMPLES / "hand-worked.yaml"
    expected = []
    for line in scenario.read_text(encoding="utf-8").splitlines():
        words = line.lstrip("# ").split()
        if line.startswith("#   worker ") and words[1].isdecimal():
            layer = words[5] if len(words) == 8 else ""
            expected.append(
                [f"worker {words[1]}", words[2], words[3], words[4], layer, *map(float, words[-2:])]
            )
    assert call("run", scenario, "--tasks", tmp_path / "tasks.csv") == 0
    with (tmp_path / "tasks.csv").open(newline="") as file:
        texts, times = ("worker", "request", "network", "kind", "layer"), ("start_s", "end_s")
        found = [
            [*(row[name] for name in texts), *(float(row[name]) for name in times)]
            for row in csv.DictReader(file)
        ]
    assert len(expected) == 20
    assert sorted(found, key=lambda row: (row[6], row[5], row[0])) == sorted(
        expected, key=lambda row: (row[6], row[5], row[0])
    )


def test_run_writes_what_was_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, trace, summary = tmp_path / "out", tmp_path / "trace.json.gz", tmp_path / "summary.json"
    scenario = EXAMPLES / "hand-worked.yaml"
    assert call("run", scenario, "--out", out, "--trace", trace, "--json", summary) == 0
    assert "Verdict: ok" in capsys.readouterr().out
    assert {"run.json", "scenario.yaml", "summary.json", "requests.csv", "jobs.csv", "tasks.csv"} <= set(
        files(out)
    )
    with gzip.open(trace) as file:
        assert json.load(file)["traceEvents"]
    assert json.loads(summary.read_text())["together"]["response_mean_s"] == 15.5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "summary.json", "trace.json.gz"]


def test_an_infeasible_run_is_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    scenario = EXAMPLES / "hand-worked.yaml"
    assert call("run", scenario, "--policy", "linear", "--set", "device.memory_limit=5000") == 0
    out = capsys.readouterr().out
    assert out.startswith("Verdict: infeasible")
    assert "6,000 B" in out
    assert "5,000 B" in out
    assert "fits with" in out


def test_a_policy_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In the scenario relative to the scenario, on the command line relative to the user.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text((EXAMPLES / "own_policy.py").read_text())
    scenario = EXAMPLES / "own-policy.yaml"
    assert call("run", scenario, "--replications", "1", "--json", "a.json") == 0
    assert call("run", scenario, "--replications", "1", "--policy", "mine.py", "--json", "b.json") == 0
    first, second = (json.loads((tmp_path / name).read_text())["together"] for name in ("a.json", "b.json"))
    assert first["response_mean_s"] == second["response_mean_s"]


# -- sweep --------------------------------------------------------------------------------------------------


def test_a_sweep_gives_the_same_bytes_for_any_number_of_workers(tiny: Path, tmp_path: Path) -> None:
    for workers in ("1", "2"):
        assert call("sweep", tiny, "--out", tmp_path / workers, "--workers", workers) == 0
    one, two = files(tmp_path / "1"), files(tmp_path / "2")
    assert set(one) == set(two)
    assert {"scenario.yaml", "points.jsonl", "points.csv", "means.csv", "recommendation.csv"} <= set(one)
    assert {"figures/response-mean.png", "figures/response-mean.pdf"} <= set(one)
    for name in one:
        same = sorted(one[name].splitlines()) == sorted(two[name].splitlines())
        assert same if name == "points.jsonl" else one[name] == two[name], name


def test_a_sweep_goes_on_where_it_was(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert call("sweep", tiny, "--out", out, "--workers", "1") == 0
    whole = files(out)
    lines = whole["points.jsonl"].splitlines(keepends=True)
    (out / "points.jsonl").write_bytes(b"".join(lines[:20]) + lines[20][:30])
    (out / "means.csv").unlink()
    capsys.readouterr()
    assert call("sweep", tiny, "--out", out, "--workers", "1") == 0
    assert "54 runs, 20 of them from before; 0 failed" in capsys.readouterr().out
    assert files(out) == whole


def test_another_scenario_needs_another_folder_or_force(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert call("sweep", tiny, "--out", out, "--workers", "1") == 0
    before = files(out)
    tiny.write_text(SWEEP.replace("[0.2, 0.5, 2.0]", "[0.2, 0.5]"), encoding="utf-8")
    capsys.readouterr()
    assert call("sweep", tiny, "--out", out) == 2
    assert "another scenario" in capsys.readouterr().err
    assert files(out) == before
    assert call("sweep", tiny, "--out", out, "--workers", "1", "--force") == 0
    assert "36 runs, 36 of them from before" in capsys.readouterr().out


def test_a_cluster_that_is_not_there_leaves_nothing_behind(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Without the extra "cluster" or with it: there is no such address.
    assert call("sweep", tiny, "--out", tmp_path / "out", "--cluster", "nowhere://x") == 2
    assert capsys.readouterr().err.startswith("edgesched: --cluster nowhere://x: ")
    assert not (tmp_path / "out").exists()


def test_the_recommendation_says_what_to_choose(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call("sweep", tiny, "--out", out, "--workers", "1") == 0
    with (out / "recommendation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    overloaded = [row for row in rows if row["workload.arrivals.rate_per_s"] == "2.0"]
    assert all("fifo" in row["saturated"].split() for row in overloaded)
    assert all(not row["saturated"] for row in rows if row["workload.arrivals.rate_per_s"] == "0.2")
    assert {row["verdict"] for row in rows} <= {"best", "tie"}
    roomy = [row for row in rows if row["device.memory_limit"] == "100000"]
    assert {row["best"] for row in roomy} == {"masa"}


def test_a_policy_that_fails_at_one_point_does_not_stop_the_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.py").write_text(
        "from edgesched.policies.contract import Policy\n"
        "class Own(Policy):\n    def rank(self, job): raise RuntimeError('no rank')\n"
    )
    path = tmp_path / "failing.yaml"
    path.write_text(SWEEP.replace("[fifo, sjf, masa]", "[fifo, 'own.py:Own']"))
    assert call("sweep", path, "--out", tmp_path / "out", "--workers", "1") == 1
    out = capsys.readouterr().out
    assert "no rank" in out
    assert "Own: failed" in out


def test_another_objective_only_writes_another_recommendation(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert call("sweep", tiny, "--out", out, "--workers", "1") == 0
    before = files(out)
    capsys.readouterr()
    assert call("sweep", tiny, "--out", out, "--workers", "1", "--objective", "network-mean") == 0
    shown = capsys.readouterr().out
    assert "54 runs, 54 of them from before" in shown
    assert "smallest mean response time of networks" in shown
    after = files(out)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {
        "recommendation-network-mean.csv",
        "figures/response-network-mean.png",
        "figures/response-network-mean.pdf",
    }
    with (out / "recommendation-network-mean.csv").open(newline="") as file:
        chosen = list(csv.DictReader(file))
    with (out / "means.csv").open(newline="") as file:
        means = list(csv.DictReader(file))
    column, place = "job_response_mean_s", ("device.memory_limit", "workload.arrivals.rate_per_s")
    for row in chosen:
        there = [mean for mean in means if all(mean[axis] == row[axis] for axis in place)]
        best = min(there, key=lambda mean: float(mean[column]))
        for name in (column, f"{column}_lo", f"{column}_hi"):
            assert row[name] == best[name]
        assert row["best"] == best["policy"] or row["verdict"] == "tie"


def test_recommendations_of_an_earlier_sweep_do_not_stay(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call("sweep", tiny, "--out", out, "--workers", "1", "--objective", "p95") == 0
    (out / "figures" / "mine.png").write_bytes(b"mine")
    tiny.write_text(SWEEP.replace("[0.2, 0.5, 2.0]", "[0.2, 0.5]"), encoding="utf-8")
    assert call("sweep", tiny, "--out", out, "--workers", "1", "--force") == 0
    assert not [name for name in files(out) if "p95" in name]
    assert {"recommendation.csv", "figures/response-mean.png", "figures/mine.png"} <= set(files(out))


def test_what_does_not_fit_is_said_to_be_out_of_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "short.yaml", tmp_path / "out"
    path.write_text(SWEEP.replace("[4000, 100000]", "[2200]").replace("sjf", "deepeye"), encoding="utf-8")
    path.write_text(path.read_text().replace("bytes: 1000}", "bytes: 1000}, {bytes: 500}"))
    assert call("sweep", path, "--out", out, "--workers", "1") == 0
    assert "deepeye: out of memory" in capsys.readouterr().out
    with (out / "recommendation.csv").open(newline="") as file:
        assert {row["unusable"] for row in csv.DictReader(file)} == {"deepeye: out of memory"}
    assert (out / "figures" / "response-mean.png").exists()


def test_a_sweep_of_sizes_alone_is_drawn_over_them(tmp_path: Path) -> None:
    path, out = tmp_path / "sizes.yaml", tmp_path / "out"
    axes = "  device.memory_limit: [4KiB, 8KiB, 1MiB]\n  policy: [fifo, masa]\n"
    path.write_text(SWEEP.partition("  device.memory_limit")[0] + axes, encoding="utf-8")
    assert call("sweep", path, "--out", out, "--workers", "1") == 0
    assert (out / "figures" / "response-mean.png").exists()


def test_a_misspelt_kind_is_named(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_text(SWEEP.replace("process: poisson", "proces: poisson"), encoding="utf-8")
    assert call("run", tiny) == 2
    assert "tiny.yaml:7: workload.arrivals.proces: unknown key; did you mean process?" in (
        capsys.readouterr().err
    )


# -- plot, list, show ---------------------------------------------------------------------------------------


def test_plot(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep, run, out = tmp_path / "sweep", tmp_path / "run", tmp_path / "figures"
    assert call("sweep", tiny, "--out", sweep, "--workers", "1") == 0
    assert call("run", tiny, "--out", run, "--trace-limit", "100000") == 0
    assert call("plot", sweep, "--objective", "p95", "--out", out) == 0
    for kind in ("cdf", "memory", "timeline"):
        assert call("plot", run, "--kind", kind, "--out", out) == 0
    names = {"response-p95", "response-cdf", "memory", "timeline"}
    assert {p.name for p in out.iterdir()} == {f"{n}.{suffix}" for n in names for suffix in ("png", "pdf")}
    capsys.readouterr()
    assert call("plot", sweep, "--kind", "timeline") == 2
    assert call("plot", run, "--kind", "curves") == 2
    assert call("plot", tmp_path / "nothing") == 2
    assert call("plot", tmp_path) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("networks", "list"), ["AgeNet", "TinyYolo", "ResNet-50"]),
        (("networks", "show", "AgeNet"), ["conv1", "fully-connected", "43.54 MiB"]),
        (("devices", "list"), ["ideal", "raspberry-pi-4-4gb"]),
        (("devices", "show", "ideal"), ["processors:", "memory:"]),
        (("policies", "list"), ["fifo", "masa", "deepeye"]),
        (("policies", "show", "masa"), ["workers", "2", "shortest network first"]),
        (("policies", "show", str(EXAMPLES / "own_policy.py")), ["shorter network may go first"]),
        (("--version",), ["edgesched 0."]),
        (("--help",), ["run", "sweep", "plot", "networks", "devices", "policies", "schema"]),
    ],
)
def test_what_there_is(
    arguments: tuple[str, ...], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in words), out


def test_the_schema_knows_the_keys(tmp_path: Path) -> None:
    assert call("schema", "--out", tmp_path / "schema.json") == 0
    schema = json.loads((tmp_path / "schema.json").read_text())
    assert {"device", "networks", "workload", "policy", "run", "sweep"} <= set(schema["properties"])
    assert schema["properties"]["device"]["anyOf"][0] == {"type": "string", "minLength": 1}


@pytest.mark.parametrize("command", ["validate", "calibrate"])
def test_no_command_offers_to_install_completion(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--help") == 0
    out = capsys.readouterr().out
    assert "edgecaffe" in out
    assert "completion" not in out


@pytest.mark.parametrize("arguments", [("rn",), ("run",), ("run", "x.yaml", "--sed", "1"), ("plot",)])
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*arguments) == 2
    assert "Usage" in capsys.readouterr().err


def test_a_target_that_cannot_be_written_is_refused_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("x")
    scenario = EXAMPLES / "hand-worked.yaml"
    assert call("run", scenario, "--tasks", tmp_path / "no" / "tasks.csv") == 2
    assert call("run", scenario, "--out", tmp_path / "mine") == 2
    assert call("run", scenario, "--out", tmp_path / "mine" / "precious.txt") == 2
    assert capsys.readouterr().out == ""
    assert files(tmp_path) == {"mine/precious.txt": b"x"}


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom edgesched.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    loaded = set(ended.stderr.split())
    assert "edgesched.cli.main" in loaded
    assert not [name for name in loaded if name.startswith(HEAVY) and name != LIGHT]
