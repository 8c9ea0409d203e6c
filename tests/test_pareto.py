"""Policy pareto: budgets, primitives and admission, simulated; and its online variant."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from primitive_boards import write_board

from edgesched.devices import boards
from edgesched.devices.costing import CostModel
from edgesched.policies.planning.candidates import FOOTPRINT, Candidates
from edgesched.policies.registry import PolicyError, make
from edgesched.runs.folder import open_run, write_run
from edgesched.runs.load import scenario_of
from edgesched.runs.resolve import ScenarioError
from edgesched.runs.result import RunResult
from edgesched.runs.tasks import Trace
from edgesched.sim.run import simulate
from edgesched.workloads import catalogue

SMALL = ("SqueezeNet 1.1@64", "MobileNet v1@64")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("board")
    write_board(made, SMALL)
    return made


def candidates(folder: Path, memory: str = FOOTPRINT) -> tuple[Candidates, list[Any]]:
    device = boards.load(str(folder / "board.yaml"))
    found = Candidates(device, memory)
    costs = [CostModel(device).cost(catalogue.build(name)) for name in SMALL]
    return found, [found.front(cost, "cpu") for cost in costs]


def run(
    folder: Path,
    policy: Any,
    *,
    limit: int | None = None,
    requests: int = 6,
    gap_s: float = 0.001,
    board: str = "board.yaml",
) -> RunResult:
    data = {
        "device": {"board": board} | ({} if limit is None else {"memory_limit": limit}),
        "workload": {
            "arrivals": {"process": "deterministic", "rate_per_s": 1 / gap_s},
            "networks": list(SMALL),
        },
        "policy": {"name": policy} if isinstance(policy, str) else policy,
        "run": {"requests": requests},
    }
    return simulate(scenario_of(data), trace=Trace(), folder=folder)


def durations(result: RunResult) -> dict[str, set[float]]:
    """Per network the distinct times from a job's first task to its last, to a nanosecond."""
    found: dict[str, set[float]] = {}
    names = [graph.network.name for graph in result.graphs[0]] * len(result.records.arrival_s)
    for name, start, finish in zip(
        names, result.records.job_start_s, result.records.job_finish_s, strict=True
    ):
        found.setdefault(name, set()).add(round(finish - start, 9))
    return found


def test_without_a_limit_every_layer_has_its_fastest_primitive(folder: Path) -> None:
    _, fronts = candidates(folder)
    result = run(folder, "pareto")
    assert result.infeasible is None
    assert durations(result) == {
        front[0].cost.name: {round(front[len(front) - 1].cost.solo_s, 9)} for front in fronts
    }


def test_the_budgets_are_the_best_partition_and_are_kept(folder: Path) -> None:
    _, fronts = candidates(folder)
    least = sum(front.least.memory_bytes for front in fronts)
    most = sum(front[len(front) - 1].memory_bytes for front in fronts)
    budget = (least + most) // 2
    result = run(folder, {"name": "pareto", "budget": budget})
    pairs = itertools.product(*([front[at] for at in range(len(front))] for front in fronts))
    best = min(sum(c.time_s for c in pair) for pair in pairs if sum(c.memory_bytes for c in pair) <= budget)
    assert sum(sum(times) for times in durations(result).values()) == pytest.approx(best, abs=1e-8)
    assert result.peak_bytes <= budget


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_what_is_planned_is_what_the_ledger_holds(folder: Path, share: float) -> None:
    _, fronts = candidates(folder)
    for front in fronts:
        point = front[round(share * (len(front) - 1))]
        assert point.cost.layerwise_peak_bytes == point.memory_bytes
        assert point.cost.solo_s == pytest.approx(point.time_s, rel=1e-9)


def test_where_not_even_the_least_fit_together_they_take_turns(folder: Path) -> None:
    _, fronts = candidates(folder)
    limit = max(front.least.memory_bytes for front in fronts)
    result = run(folder, "pareto", limit=limit)
    assert result.infeasible is None
    assert result.peak_bytes <= limit
    starts = sorted(zip(result.records.job_start_s, result.records.job_finish_s, strict=True))
    assert all(end <= start + 1e-9 for (_, end), (start, _) in itertools.pairwise(starts))


def test_the_process_itself_takes_room(folder: Path) -> None:
    _, fronts = candidates(folder)
    least = sum(front.least.memory_bytes for front in fronts)
    base = 1_000_000
    text = (folder / "board.yaml").read_text().replace("total_bytes", f"base_bytes: {base}, total_bytes")
    (folder / "based.yaml").write_text(text)
    tight = run(folder, "pareto", limit=base + least - 1, board="based.yaml", requests=1)
    assert tight.infeasible is None
    assert tight.peak_bytes <= base + least - 1
    assert tight.busy_s[1] == 0.0  # one after the other: both do not fit beside the process
    assert run(folder, "pareto", limit=base + least, board="based.yaml", requests=1).busy_s[1] > 0.0


def test_what_does_not_fit_says_what_would(folder: Path) -> None:
    _, fronts = candidates(folder)
    least = max(front.least.memory_bytes for front in fronts)
    result = run(folder, "pareto", limit=least - 1)
    assert result.infeasible is not None
    assert result.infeasible.limit_bytes == least - 1
    assert result.infeasible.demand_bytes == least
    assert any(str(least) in lever for lever in result.infeasible.fits_with)


def test_a_shared_arena_runs_one_at_a_time_with_the_whole_budget(folder: Path) -> None:
    _, fronts = candidates(folder)
    budget = max(front[len(front) - 1].memory_bytes for front in fronts)
    result = run(folder, {"name": "pareto", "budget": budget, "arena": "shared"})
    assert len(result.workers) == 1
    fastest = {front[0].cost.name: {round(front[len(front) - 1].cost.solo_s, 9)} for front in fronts}
    assert durations(result) == fastest


def test_a_run_s_folder_holds_the_plan(folder: Path, tmp_path: Path) -> None:
    result = run(folder, "pareto")
    plan = open_run(write_run(tmp_path / "run", result)).plan()
    assert plan is not None
    for name in SMALL:
        layers = plan["networks"][name]["primitives"]
        assert [layer for layer, _ in layers] == [layer.name for layer in catalogue.build(name).layers]


def test_online_a_network_alone_gets_all_and_two_at_once_share(folder: Path) -> None:
    _, fronts = candidates(folder)
    budget = max(front[len(front) - 1].memory_bytes for front in fronts)
    online = {"name": "pareto-online", "budget": budget, "switch_loads": 0.0}
    crowded = durations(run(folder, online))
    static = durations(run(folder, {"name": "pareto", "budget": budget}))
    fastest = {front[0].cost.name: round(front[len(front) - 1].cost.solo_s, 9) for front in fronts}
    # The last network to run has nothing beside it: it gets its fastest plan, which static budgets forbid.
    assert any(fastest[name] in times for name, times in crowded.items())
    assert any(fastest[name] not in times for name, times in static.items())
    assert run(folder, online).peak_bytes <= budget


def test_switching_plans_costs_what_is_prepared_anew(folder: Path) -> None:
    _, fronts = candidates(folder)
    budget = sum(front[len(front) - 1].memory_bytes for front in fronts) - 1  # not quite both fastest
    free = run(folder, {"name": "pareto-online", "budget": budget, "switch_loads": 0.0})
    dear = run(folder, {"name": "pareto-online", "budget": budget, "switch_loads": 50.0})
    assert sum(dear.busy_s) > sum(free.busy_s)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memory": "ram"}, "memory is 'ram', allowed: footprint, peak-workspace"),
        ({"objective": "max"}, "objective is 'max', allowed: sum, weighted, deadline"),
        ({"arena": "own"}, "arena is 'own', allowed: partitioned, shared"),
        ({"budget": "1 ton"}, "a size is a number of bytes"),
        ({"weights": {"A": -1.0}}, "weights: A has -1.0"),
    ],
)
def test_wrong_parameters_are_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        make("pareto", arguments)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"name": "pareto", "processors": {SMALL[0]: "gpu"}}, "is to run on 'gpu', there are: cpu"),
        ({"name": "pareto", "processors": {"VGG": "cpu"}}, "'VGG' is none of the networks"),
        ({"name": "pareto", "objective": "deadline"}, "deadlines_s: .* has none"),
        ({"name": "pareto", "weights": {"SqueezeNet": 2.0}}, "'SqueezeNet' is none of the networks"),
    ],
)
def test_what_does_not_go_with_the_scenario_is_told(folder: Path, policy: Any, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        run(folder, policy)


def test_a_board_that_knows_no_times_says_so(tmp_path: Path) -> None:
    (tmp_path / "board.yaml").write_text("like: ideal\nname: bare\n")
    with pytest.raises(ScenarioError, match="no rate for operation 'input'"):
        run(tmp_path, "pareto")
