"""``edgesched compare`` as a user meets it, and its figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from replaying import NETWORKS, SPACED, compared, perturbed, replay, scaled, scenario, written
from test_cli import EXAMPLES, call
from test_plots import assert_everything_is_inside

from edgesched.runs.folder import open_run, write_run
from edgesched.runs.tasks import Trace
from edgesched.sim.comparing.comparison import percent
from edgesched.sim.plots.comparison import compared_cdfs, compared_timelines, first_requests, layer_bars
from edgesched.sim.run import simulate


@pytest.mark.parametrize("policy", ["masa", "fifo"])
def test_figures_fit(tmp_path: Path, policy: str) -> None:
    long = "a-network-with-a-name-that-is-far-too-long-for-the-figure"
    spec = scenario(
        policy, networks=[{**NETWORKS[0], "name": long}, NETWORKS[1]], workload__networks=[long, "B"]
    )
    found = compared(tmp_path, spec, replay(spec, perturbed(1)))
    simulated, replayed = open_run(tmp_path / "sim"), open_run(tmp_path / "replay")
    requests = replayed.requests()
    figures = [
        compared_cdfs(simulated.requests()["response_s"], requests["response_s"]),
        compared_timelines(simulated.tasks(), replayed.tasks(), requests["arrival_s"]),
        layer_bars(found.tasks),
    ]
    for figure in figures:
        assert_everything_is_inside(figure)


def test_a_timeline_shows_the_first_requests_of_both_runs() -> None:
    rows = [("worker 0", request, float(request), request + 0.5) for request in range(10)]
    tasks = pd.DataFrame(rows, columns=["worker", "request", "start_s", "end_s"])
    assert first_requests([tasks, tasks.assign(end_s=tasks["end_s"] + 0.25)]) == (0.0, 2.75)
    many = pd.DataFrame(
        [("worker 0", 0, i / 10, (i + 1) / 10) for i in range(1000)], columns=list(tasks.columns)
    )
    assert first_requests([many, many]) == pytest.approx((0.0, 12.0))


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of a simulation and a replay in which all takes a quarter longer."""
    spec = scenario(workload__arrivals=SPACED)
    written(tmp_path / "sim", simulate(spec, trace=Trace()))
    written(tmp_path / "replay", replay(spec, scaled(1.25)))
    return tmp_path / "sim", tmp_path / "replay"


def test_the_command(two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, file = tmp_path / "report", tmp_path / "comparison.json"
    assert call("compare", *two, "--report", report, "--json", file) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "Verdict: the simulation was off by -20.0 % on the mean response time (trace-driven 0.0"
    )
    for words in ("8 of 8 compared", "largest differences", "execute all", "starts all 48 tasks"):
        assert words in out
    data = json.loads(file.read_text())
    assert data["totals"]["predictive"]["mean"] == pytest.approx(-0.2)
    assert data == json.loads((report / "comparison.json").read_text())
    text = (report / "report.md").read_text()
    assert "**Verdict: the simulation was off by -20.0 %" in text
    shown = re.findall(r"!\[.*\]\((.*)\)", text)
    assert len(shown) == 3
    assert all((report / name).is_file() and (report / name).with_suffix(".pdf").is_file() for name in shown)
    # Again, over what is there.
    assert call("compare", *two, "--report", report) == 0


def test_a_report_on_runs_with_nothing_in_common(tmp_path: Path) -> None:
    spec = scenario(device__memory_limit=5500)
    compared(tmp_path, spec, simulate(spec, trace=Trace()))
    report = tmp_path / "report"
    assert call("compare", tmp_path / "sim", tmp_path / "replay", "--report", report) == 0
    assert "both ran out of memory" in (report / "report.md").read_text()


def test_wrong_input_is_one_message(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = write_run(tmp_path / "without", simulate(scenario()))
    other = write_run(
        tmp_path / "other", simulate(scenario(run__seed=9, workload__arrivals=SPACED), trace=Trace())
    )
    for arguments, said in (
        ((without, without), "kept no trace"),
        ((other, two[1]), "run.seed is 9 in the first"),
        ((tmp_path, two[1]), "not a run's folder"),
        ((*two, "--report", two[1]), "holds a run; give another folder"),
        ((*two, "--json", tmp_path), "is a folder"),
    ):
        assert call("compare", *arguments) == 2, said
        captured = capsys.readouterr()
        assert said in captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""


def test_files_of_the_scenario_are_looked_up_where_the_user_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "mine.py").write_text((EXAMPLES / "own_policy.py").read_text())
    spec = scenario(re.search(r"class (\w+)", (project / "mine.py").read_text())[1].join(["mine.py:", ""]))
    result = simulate(spec, trace=Trace(), folder=project)
    sim, replayed = write_run(tmp_path / "sim", result), write_run(tmp_path / "replay", result)
    assert call("compare", sim, replayed) == 2
    assert "--folder names another folder" in capsys.readouterr().err
    assert call("compare", sim, replayed, "--folder", project) == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "+1.2 %"), (-0.05, "-5.0 %"), (-0.0004, "0.0 %"), (0.0, "0.0 %"), (None, "-")],
)
def test_percentages(value: float | None, text: str) -> None:
    assert percent(value) == text
    assert percent(value, sign=False) == text.lstrip("+-" if value else "")
