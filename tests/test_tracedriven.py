"""A simulation with a replay's own arrivals and durations gives the replay back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from replaying import by_name, compared, finishes, perturbed, replay, scenario, written

from edgesched.runs.records import Records
from edgesched.runs.setup import set_up
from edgesched.runs.tasks import Trace
from edgesched.sim.comparing.comparison import compare
from edgesched.sim.comparing.tracedriven import trace_driven
from edgesched.sim.overheads import OverheadEngine
from edgesched.sim.run import run_out, simulate

POLICIES = ["fifo", "masa", "deepeye", "linear", "partial", "multi-bulk", "sjf", "edf", "hrrn", "pipeline"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    policy=st.sampled_from(POLICIES),
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.0, 0.05, 0.5, 2.0]),
    rate=st.sampled_from([0.1, 0.4, 3.0]),
)
def test_measured_durations_give_the_replay_back(
    tmp_path: Path, policy: str, seed: int, spread: float, rate: float
) -> None:
    spec = scenario(policy, workload__arrivals__rate_per_s=rate, workload__deadline_s=5)
    replayed = written(tmp_path / "replay", replay(spec, perturbed(seed, spread)))
    driven = trace_driven(spec, replayed)
    assert finishes(driven) == pytest.approx(finishes(replayed), abs=1e-9)
    simulated = written(tmp_path / "sim", simulate(spec, trace=Trace()))
    found = compare(simulated, replayed, [driven])
    assert found.replications[0].order is not None
    assert found.replications[0].order.same
    assert found.totals is not None
    assert found.totals.trace_driven_error is not None
    assert found.totals.trace_driven_error.mean_absolute == pytest.approx(0, abs=1e-9)


def test_the_runtimes_overheads_are_in_the_durations_already(tmp_path: Path) -> None:
    # The board has lag, noise, slow-down and a storage pace; what was measured holds all of it.
    runtime = {
        "dispatch_period_s": 0.3,
        "worker_pause_s": 0.1,
        "noise": {"cv": 0.5},
        "slowdown": {"execute": {"load": 1.5}},
    }
    spec = scenario("masa", device__runtime=runtime, device__storage={"pace_bytes_per_s": 1e4})
    bare = scenario("masa")
    replayed = replay(bare, perturbed(5))
    replayed.scenario = spec.model_dump(mode="json")
    folder = written(tmp_path / "replay", replayed)
    assert finishes(trace_driven(spec, folder)) == pytest.approx(finishes(folder), abs=1e-9)


def test_arrivals_are_those_of_the_replay(tmp_path: Path) -> None:
    # On a real device requests come a little late.
    spec = scenario("masa")
    setup = set_up(spec)
    for index in range(len(setup.plan.gap_s)):
        setup.plan.gap_s[index] += 0.01 * (index + 1)
    parts = setup.policy, setup.device, setup.plan, setup.expand, Records(), Trace()
    late = run_out(setup, OverheadEngine(*parts, measured=perturbed(2)), None)
    folder = written(tmp_path / "replay", late)
    driven = trace_driven(spec, folder)
    assert list(driven.records.arrival_s) == list(late.records.arrival_s)
    assert finishes(driven) == pytest.approx(finishes(folder), abs=1e-9)


def test_closed_streams_come_as_they_came(tmp_path: Path) -> None:
    camera = {"process": "multi-stream", "samples_per_query": 2}
    streams = [
        {"name": "camera", "arrivals": camera, "networks": ["A"], "count": 6},
        {"name": "sensor", "arrivals": {"process": "poisson", "rate_per_s": 0.5}, "networks": ["B"]},
    ]
    spec = scenario("masa", workload={"streams": streams})
    found = compared(tmp_path, spec, replay(spec, perturbed(4, 0.6)))
    assert found.totals is not None
    assert found.totals.trace_driven_error is not None
    assert found.totals.trace_driven_error.mean_absolute == pytest.approx(0, abs=1e-9)
    # Rows of requests differ between the two; each is held against itself.
    assert found.replications[0].tasks == 8 * 7 + 6 * 5


def test_layers_of_one_name_are_told_apart(tmp_path: Path) -> None:
    layers = [{"name": "conv", "load_s": load, "execute_s": 1} for load in (1, 2, 3)]
    spec = scenario("linear", networks=[{"name": "A", "layers": layers}], workload__networks=["A"])
    found = compared(tmp_path, spec, replay(spec, perturbed(1)))
    assert found.totals is not None
    assert found.totals.trace_driven_error is not None
    assert found.totals.trace_driven_error.mean == pytest.approx(0, abs=1e-12)
    assert by_name(found.tasks, kind="load", layer="conv").tasks == 24


def test_another_order_is_found(tmp_path: Path) -> None:
    # This replay was scheduled by Masa, whatever its scenario says.
    spec = scenario("partial", workload__networks=["B", "A"])
    result = simulate(scenario("masa", workload__networks=["B", "A"]), trace=Trace())
    result.scenario = spec.model_dump(mode="json")
    simulated = written(tmp_path / "sim", simulate(spec, trace=Trace()))
    replayed = written(tmp_path / "replay", result)
    order = compare(simulated, replayed, [trace_driven(spec, replayed)]).replications[0].order
    assert order is not None
    assert not order.same
    assert order.first_difference is not None
    assert re.match(
        r"after \d+ tasks the replay starts \w+ .* at \S+ s, the trace-driven", order.first_difference
    )
