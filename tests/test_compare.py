"""A simulation against replays that are known: what the numbers, the verdict and the refusals must be."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from replaying import (
    CONV,
    NETWORKS,
    SPACED,
    by_name,
    compared,
    finishes,
    perturbed,
    replay,
    scaled,
    scenario,
    write_facts,
    written,
)

from edgesched.policies.graph import Kind, Task
from edgesched.policies.scheduler import Job
from edgesched.runs.folder import open_run
from edgesched.runs.result import Infeasible
from edgesched.runs.tasks import Trace
from edgesched.sim.comparing.comparison import compare
from edgesched.sim.comparing.overlaps import Preempted
from edgesched.sim.comparing.pairing import ComparisonError
from edgesched.sim.comparing.tracedriven import trace_driven
from edgesched.sim.run import simulate

# -- errors that are known --------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["fifo", "masa", "deepeye", "linear", "partial", "multi-bulk"])
def test_a_replay_as_simulated_has_no_error(tmp_path: Path, policy: str) -> None:
    spec = scenario(policy)
    found = compared(tmp_path, spec, simulate(spec, trace=Trace()))
    assert found.totals is not None
    assert found.totals.requests == 8
    errors = found.totals.predictive
    assert errors == replace(errors, mean=0, median=0, p95=0, max=0, mean_absolute=0)
    driven = found.totals.trace_driven_error
    assert driven is not None
    assert driven.mean == pytest.approx(0, abs=1e-9)
    assert found.replications[0].order is not None
    assert found.replications[0].order.same
    assert all(task.error == 0 and task.seconds_per_request == 0 for task in found.tasks)
    assert found.verdict == "the simulation was off by 0.0 % on the mean response time (trace-driven 0.0 %)"


def test_tasks_that_take_ten_percent_longer(tmp_path: Path) -> None:
    # Nothing waits, so the response times are longer by the same factor.
    spec = scenario(workload__arrivals=SPACED)
    found = compared(tmp_path, spec, replay(spec, scaled(1.1)))
    assert found.totals is not None
    errors = found.totals.predictive
    for error in (errors.mean, errors.median, errors.p95, errors.max):
        assert error == pytest.approx(1 / 1.1 - 1)
    assert errors.mean_absolute == pytest.approx(1 - 1 / 1.1)
    driven = found.totals.trace_driven_error
    assert driven is not None
    assert driven.mean_absolute == pytest.approx(0, abs=1e-12)
    assert found.verdict == "the simulation was off by -9.1 % on the mean response time (trace-driven 0.0 %)"
    assert [network.network for network in found.networks] == ["A", "B"]
    assert all(network.error == pytest.approx(1 / 1.1 - 1) for network in found.networks)
    assert all(task.error == pytest.approx(1 / 1.1 - 1) for task in found.tasks)


def test_tasks_are_told_apart_and_sorted_by_what_they_contribute(tmp_path: Path) -> None:
    # Loads of fc take longer, .3 s (A) and .4 s (B); convolutions of B are .1 s shorter each.
    def durations(job: Job, task: Task) -> float:
        name = task.network.network.layers[task.layer].name if task.layer >= 0 else ""
        longer = task.kind == Kind.LOAD and name == "fc"
        shorter = task.network.name == "B" and task.kind == Kind.EXECUTE and name.startswith("conv")
        return task.duration_s + (0.3 + 0.1 * (task.network.name == "B")) * longer - 0.1 * shorter

    spec = scenario("linear")
    found = compared(tmp_path, spec, replay(spec, durations))
    labels = [(task.network, task.kind, task.layer) for task in found.tasks]
    assert labels[:2] == [("B", "load", "fc"), ("A", "load", "fc")]
    assert set(labels[2:4]) == {("B", "execute", "conv"), ("B", "execute", "conv 2")}
    assert [task.seconds_per_request for task in found.tasks[:5]] == pytest.approx([-0.4, -0.3, 0.1, 0.1, 0])
    load = by_name(found.tasks, network="A", kind="load", layer="fc")
    assert (load.tasks, load.simulated_s) == (8, pytest.approx(0.6))
    assert (load.replayed_median_s, load.replayed_mean_s) == pytest.approx((0.9, 0.9))
    assert load.error == pytest.approx(0.6 / 0.9 - 1)


def test_overlaps_tell_tasks_beside_a_load_from_tasks_alone(tmp_path: Path) -> None:
    # Under partial, one worker loads layer 1 while the other executes layer 0, which takes 1.5 times as long
    # then; the last layer executes alone, and as simulated.
    layers = [{"load_s": 1, "execute_s": 1}, {"load_s": 4, "execute_s": 1}]
    changes = {
        "networks": [{"name": "N", "layers": layers}],
        "workload": {"arrivals": SPACED, "networks": ["N"]},
    }
    spec = scenario("partial", **changes)

    def durations(job: Job, task: Task) -> float:
        return task.duration_s * (1.5 if task.kind == Kind.EXECUTE and task.layer == 0 else 1)

    found = compared(tmp_path, spec, replay(spec, durations))
    beside = by_name(found.overlaps, kind="execute", beside="load")
    assert (beside.tasks, beside.ratio) == (8, pytest.approx(1.5))
    assert beside.seconds_per_request == pytest.approx(-0.5)
    alone = by_name(found.overlaps, kind="execute", beside="alone")
    assert (alone.tasks, alone.ratio) == (8, pytest.approx(1.0))


def test_warmup_is_left_out(tmp_path: Path) -> None:
    spec = scenario(
        workload__arrivals=SPACED,
        run={"requests": 8, "warmup_requests": 3},
    )

    def durations(job: Job, task: Task) -> float:
        return task.duration_s * (3 if job.request.row < 3 else 1)

    found = compared(tmp_path, spec, replay(spec, durations))
    assert found.totals is not None
    assert (found.totals.requests, found.totals.predictive.mean) == (5, pytest.approx(0))
    assert found.tasks[0].tasks == 5


def test_replications_together_are_means_over_them(tmp_path: Path) -> None:
    spec = scenario(
        workload__arrivals=SPACED,
        run={"requests": 4, "replications": 2},
    )
    found = compared(tmp_path, spec, replay(spec, scaled(1.0), 0), replay(spec, scaled(2.0), 1))
    assert [part.totals.predictive.mean for part in found.replications if part.totals] == pytest.approx(
        [0, -0.5]
    )
    assert found.totals is not None
    assert found.totals.requests == 8
    assert found.totals.predictive.mean == pytest.approx(1 / 1.5 - 1)
    assert found.totals.predictive.mean_absolute == pytest.approx(0.25)
    assert found.verdict.startswith("the simulation was off by -33.3 %")


def test_memory_of_the_ledgers_and_of_the_control_group(tmp_path: Path) -> None:
    spec = scenario()
    simulated = written(tmp_path / "sim", simulate(spec, trace=Trace()))
    result = simulate(spec, trace=Trace())
    result.peak_bytes *= 2
    replayed = written(tmp_path / "replay", result)
    assert compare(simulated, replayed).replications[0].memory.error == -0.5
    assert compare(simulated, replayed).replications[0].memory.measured_beyond_base_bytes is None
    facts = {"peak_bytes": 5000, "base_bytes": 1000, "ledger_peak_bytes": 3100, "ledger_base_bytes": 100}
    write_facts(tmp_path / "replay", memory=facts)
    memory = compare(simulated, open_run(tmp_path / "replay")).replications[0].memory
    assert (memory.measured_beyond_base_bytes, memory.ledger_beyond_base_bytes) == (4000, 3000)
    assert memory.measured_error == -0.25


def test_tasks_that_others_preempted(tmp_path: Path) -> None:
    # Row 5 in order of completion lost its processor for a second.
    spec = scenario("linear")
    simulated = written(tmp_path / "sim", simulate(spec, trace=Trace()))
    result = simulate(spec, trace=Trace())
    assert result.trace is not None
    result.trace.end_s[5] += 1
    replayed = written(tmp_path / "replay", result)
    assert compare(simulated, replayed).preempted is None
    rows = [f"0.1,{3 if row == 5 else 0},0,0\n" for row in range(len(result.trace))]
    (tmp_path / "replay" / "counters.csv").write_text("cpu_s,switches,faults,replication\n" + "".join(rows))
    assert compare(simulated, replayed).preempted == Preempted(1, pytest.approx(-1 / 8))


# -- runs that were cut short -----------------------------------------------------------------------------


def test_a_replay_killed_half_way(tmp_path: Path) -> None:
    spec = scenario("masa", workload__arrivals__rate_per_s=1)
    result = replay(spec, perturbed(7), until_s=9.0)
    result.infeasible = Infeasible("B", "LOAD 2", 9.0, 6000, 5000, ["more"])
    replayed = written(tmp_path / "replay", result)
    facts = {"outcome": "out of memory", "message": "killed by the kernel"}
    write_facts(tmp_path / "replay", **facts)
    replayed = open_run(tmp_path / "replay")
    driven = trace_driven(spec, replayed)
    # What was finished comes back; what was under way stays so.
    assert finishes(driven) == pytest.approx(finishes(replayed), abs=1e-9, nan_ok=True)
    assert len(driven.trace or ()) == len(replayed.tasks())
    found = compare(written(tmp_path / "sim", simulate(spec, trace=Trace())), replayed, [driven])
    [part] = found.replications
    finished = int(replayed.requests()["finish_s"].notna().sum())
    assert 0 < finished < 8
    assert part.totals is not None
    assert part.totals.requests == finished
    assert part.tasks == len(replayed.tasks())
    assert part.only_simulated == 8 * 12 - part.tasks
    assert (part.simulated_outcome, part.replayed_outcome) == ("done", "out of memory")
    assert part.order is not None
    assert part.order.same
    start = (
        f"only the replay ran out of memory; over the {finished} requests that both finished the simulation"
    )
    assert found.verdict.startswith(start)
    assert any("killed by the kernel" in note for note in found.notes)
    assert any(f"{part.only_simulated} were finished in the simulation only" in note for note in found.notes)


def test_a_replay_killed_before_it_finished_anything(tmp_path: Path) -> None:
    spec = scenario()
    result = replay(spec, scaled(1), until_s=1.03)
    result.infeasible = Infeasible("A", "INIT all", 1.0, 6000, 5000, ["more"])
    assert len(result.trace or ()) == 0
    assert len(result.records.arrival_s) == 1
    found = compared(tmp_path, spec, result)
    assert found.verdict == "only the replay ran out of memory; no request was finished by both"
    assert (found.totals, found.tasks, found.overlaps) == (None, (), ())
    json.dumps(found.data(), allow_nan=False)


def test_both_ran_out_of_memory(tmp_path: Path) -> None:
    spec = scenario(device__memory_limit=5500)
    found = compared(tmp_path, spec, simulate(spec, trace=Trace()))
    assert found.verdict == "both ran out of memory"
    assert sum("out of memory" in note for note in found.notes) == 2


def test_only_the_simulation_ran_out_of_memory(tmp_path: Path) -> None:
    spec = scenario(device__memory_limit=5500)
    result = simulate(scenario(), trace=Trace())
    result.scenario, result.limit_bytes = spec.model_dump(mode="json"), 5500
    found = compared(tmp_path, spec, result)
    assert found.verdict.startswith("only the simulation ran out of memory; ")


@pytest.mark.parametrize("outcome", ["crashed", "interrupted"])
def test_a_replay_that_ended_otherwise(tmp_path: Path, outcome: str) -> None:
    spec = scenario("linear")
    written(tmp_path / "replay", replay(spec, scaled(1), until_s=20.0))
    write_facts(tmp_path / "replay", outcome=outcome, message="why it ended")
    simulated = written(tmp_path / "sim", simulate(spec, trace=Trace()))
    found = compare(simulated, open_run(tmp_path / "replay"))
    assert found.verdict.startswith(f"the replay is not whole ({outcome}); over the ")
    assert any("why it ended" in note for note in found.notes)


def test_an_endless_run_is_whole_when_its_time_is_over(tmp_path: Path) -> None:
    spec = scenario(
        workload={"arrivals": {"process": "batch"}, "networks": ["A", "B"]}, run={"duration_s": 30, "seed": 1}
    )
    found = compared(tmp_path, spec, replay(spec, scaled(1.25)))
    assert found.verdict == "the simulation was off by -20.0 % on the mean response time (trace-driven 0.0 %)"


# -- what cannot be compared ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run__seed": 4}, "run.seed is 3 in the first and 4 in the second"),
        ({"policy": "linear"}, "policy.name"),
        ({"workload__arrivals__rate_per_s": 0.2}, "workload.streams.0.arrivals.rate_per_s"),
        ({"networks": [NETWORKS[0], {**NETWORKS[1], "init_s": 1}]}, "networks.1.init_s"),
        ({"device__memory_limit": 100_000}, "the memory limit in bytes is"),
    ],
)
def test_other_scenarios_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    simulated = written(tmp_path / "sim", simulate(scenario(), trace=Trace()))
    replayed = written(tmp_path / "replay", simulate(scenario(**changes), trace=Trace()))
    with pytest.raises(ComparisonError, match=re.escape(said)):
        compare(simulated, replayed)


def test_what_else_differs_is_noted(tmp_path: Path) -> None:
    # The same replay may be held against simulations with other overheads.
    simulated = written(
        tmp_path / "sim", simulate(scenario(device__runtime={"dispatch_period_s": 0.1}), trace=Trace())
    )
    replayed = written(tmp_path / "replay", simulate(scenario(), trace=Trace()))
    [note] = compare(simulated, replayed).notes
    assert note.startswith("device.runtime.dispatch_period_s is 0.1 in the simulation")


def test_runs_without_a_whole_trace_are_refused(tmp_path: Path) -> None:
    spec = scenario()
    replayed = written(tmp_path / "replay", simulate(spec, trace=Trace()))
    without = written(tmp_path / "without", simulate(spec))
    with pytest.raises(ComparisonError, match=r"without: kept no trace of its tasks; .* --trace-limit"):
        compare(without, replayed)
    cut = written(tmp_path / "cut", simulate(spec, trace=Trace(limit=10)))
    with pytest.raises(ComparisonError, match=r"cut: lacks the task .* its trace was cut short"):
        compare(cut, replayed)
    with pytest.raises(ComparisonError, match=r"cut: job .* the trace was cut short"):
        trace_driven(spec, cut)


def test_a_replay_is_no_simulation(tmp_path: Path) -> None:
    result = simulate(scenario(), trace=Trace())
    replayed, simulated = written(tmp_path / "replay", result), written(tmp_path / "sim", result)
    write_facts(tmp_path / "replay", outcome="done")
    with pytest.raises(ComparisonError, match="replay: is a replay; the simulation comes first"):
        compare(replayed, simulated)


def test_a_replay_of_other_layers_is_refused(tmp_path: Path) -> None:
    spec = scenario("linear", workload__networks=["A"])
    layers = [CONV, {**CONV, "name": "fused"}]
    other = scenario("linear", workload__networks=["A"], networks=[{**NETWORKS[0], "layers": layers}])
    result = simulate(other, trace=Trace())
    result.scenario = spec.model_dump(mode="json")
    replayed = written(tmp_path / "replay", result)
    with pytest.raises(ComparisonError, match="a task load fused of A, which the simulation does not know"):
        trace_driven(spec, replayed)
