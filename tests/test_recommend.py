"""Which policy to choose: by the objective's column, paired, and never one without a result."""

from __future__ import annotations

from typing import Any

import pytest

from edgesched.runs.summary import AVERAGED
from edgesched.sim.objectives import Objective
from edgesched.sim.sweeping.choosing import NOT_SWEPT, choose, levers
from edgesched.sim.sweeping.recommend import recommend

AXES = ["rate", "policy"]


def rows(request: list[float], network: list[float], status: str = "ok") -> list[dict[str, Any]]:
    """One row per replication, with mean response times of requests and of networks."""
    return [
        {"status": status, "response_mean_s": mean, "job_response_mean_s": job}
        for mean, job in zip(request, network, strict=True)
    ]


FIFO = ({"rate": 1, "policy": "fifo"}, rows([4.0, 8.0, 16.0], [3.0, 6.0, 12.5]))
MASA = ({"rate": 1, "policy": "masa"}, rows([5.0, 10.5, 20.0], [1.0, 2.0, 4.0]))


def test_the_objective_decides_and_its_column_makes_the_ratio() -> None:
    [mean] = recommend(AXES, [FIFO, MASA])
    [network] = recommend(AXES, [FIFO, MASA], Objective.network_mean)
    assert (mean["best"], mean["next"], mean["response_mean_s"]) == ("fifo", "masa", 28 / 3)
    assert (network["best"], network["next"], network["job_response_mean_s"]) == ("masa", "fifo", 7 / 3)
    assert network["ratio"] == pytest.approx((3 * 3 * 3.125) ** (1 / 3))
    assert mean["ratio"] == pytest.approx((1.25 * 1.3125 * 1.25) ** (1 / 3))
    assert network["job_response_mean_s_lo"] < 7 / 3 < network["job_response_mean_s_hi"]
    assert (mean["verdict"], network["verdict"]) == ("best", "best")


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (rows([1.0] * 3, [1.0] * 3, "infeasible"), "out of memory"),
        (rows([1.0], [1.0], "infeasible") + rows([1.0] * 2, [1.0] * 2), "out of memory in 1 of 3 runs"),
        (rows([1.0] * 3, [1.0] * 3, "incomplete"), "incomplete"),
        ([{"error": {"message": "no rank"}}] * 3, "failed"),
        ([{"status": "ok", "response_mean_s": None}] * 3, "no value"),
    ],
)
def test_a_policy_without_a_result_is_not_chosen_and_it_is_said_why(
    bad: list[dict[str, Any]], why: str
) -> None:
    [choice] = recommend(AXES, [FIFO, ({"rate": 1, "policy": "masa"}, bad)])
    assert (choice["best"], choice["verdict"], choice["unusable"]) == ("fifo", "only", f"masa: {why}")


def test_every_objective_has_an_interval_and_names_of_its_own() -> None:
    assert {objective.column for objective in Objective} <= set(AVERAGED)
    for names in ("column", "label", "choice_file", "figure_stem"):
        assert len({getattr(objective, names) for objective in Objective}) == len(Objective)


# -- one policy for several places --------------------------------------------------------------------------

MEAN = Objective.mean


def point(rate: int, policy: str, values: list[float], status: str = "ok") -> tuple[dict[str, Any], Any]:
    return {"rate": rate, "policy": policy}, rows(values, values, status)


def test_the_chosen_policy_has_the_smallest_geometric_mean_of_ratios() -> None:
    # fifo: 1 and 100 of 50, masa: 3 of 1 and 50; the sums say masa, the ratios say fifo.
    points = [
        point(1, "fifo", [1.0, 1.0]),
        point(1, "masa", [3.0, 3.0]),
        point(9, "fifo", [100.0, 100.0]),
        point(9, "masa", [50.0, 50.0]),
    ]
    choice = choose(AXES, points, MEAN)
    assert [(r.policy, r.worst, r.worst_at) for r in choice.ranked] == [
        ("fifo", 2.0, (9,)),
        ("masa", 3.0, (1,)),
    ]
    assert [r.ratio for r in choice.ranked] == [pytest.approx(2**0.5), pytest.approx(3**0.5)]
    assert choice.against_next["ratio"] == pytest.approx(1.5**0.5)
    assert choice.against_next["verdict"] == "best"


def test_at_one_place_the_choice_is_the_recommendation() -> None:
    choice, [row] = choose(AXES, [FIFO, MASA], MEAN), recommend(AXES, [FIFO, MASA])
    assert [r.policy for r in choice.ranked] == [row["best"], row["next"]]
    assert choice.against_next == {key: row[key] for key in ("ratio", "ratio_lo", "ratio_hi", "verdict")}


def test_a_policy_must_work_at_every_place() -> None:
    points = [
        point(1, "masa", [1.0, 1.0]),
        point(1, "fifo", [2.0, 2.0]),
        point(1, "sjf", [2.0, 2.0]),
        point(9, "masa", [1.0, 1.0], "infeasible"),
        point(9, "fifo", [2.0, 2.0]),
    ]
    choice = choose(AXES, points, MEAN)
    # masa counts as the best where it works.
    assert [(r.policy, r.worst, r.worst_at) for r in choice.ranked] == [("fifo", 2.0, (1,))]
    assert choice.against_next["verdict"] == "only"
    assert [(f.policy, f.works_at, f.at, f.why) for f in choice.failures] == [
        ("masa", 1, (9,), "out of memory"),
        ("sjf", 1, (9,), NOT_SWEPT),
    ]


def test_where_none_works_everywhere_there_are_levers() -> None:
    points = [
        point(1, "masa", [1.0]),
        point(1, "fifo", [1.0], "incomplete"),
        point(9, "masa", [1.0], "infeasible"),
        point(9, "fifo", [2.0], "incomplete"),
    ]
    choice = choose(AXES, points, MEAN)
    assert (choice.ranked, choice.against_next["verdict"]) == ([], "none")
    assert levers(AXES, points, MEAN) == [("rate", 1, ["masa"])]


def test_nothing_has_no_ratio() -> None:
    choice = choose(AXES, [point(1, "fifo", [0.0, 0.0]), point(1, "masa", [1.0, 1.0])], MEAN)
    assert [(r.policy, r.ratio) for r in choice.ranked] == [("fifo", 1.0), ("masa", float("inf"))]
    assert choice.against_next["verdict"] == "best"


def test_a_bound_makes_a_policy_unusable() -> None:
    bound = {"job_response_mean_s": 5.0}
    [row] = recommend(AXES, [FIFO, MASA], MEAN, bound)
    assert (row["best"], row["unusable"]) == ("masa", "fifo: job_response_mean_s 7.16667 over 5")
    assert [r.policy for r in choose(AXES, [FIFO, MASA], MEAN, bound).ranked] == ["masa"]
