"""Which policy to choose: by the objective's column, paired, and never one without a result."""

from __future__ import annotations

from typing import Any

import pytest

from edgesched.runs.summary import AVERAGED
from edgesched.sim.objectives import Objective
from edgesched.sim.recommend import recommend

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
