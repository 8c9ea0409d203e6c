"""Rules that hold for every run, on random networks, policies and images."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import Image, Net, Played, Step, make_engine, play

from edgesched.devices.model import Runtime
from edgesched.policies.scheduler import DoesNotFit
from edgesched.runs.scenario import Scenario
from edgesched.sim.run import simulate

SERIAL: list[tuple[str, dict[str, Any]]] = [
    ("fifo", {}),
    ("fifo", {"unit": "layer"}),
    ("linear", {}),
    ("sjf", {}),
    ("edf", {}),
    ("hrrn", {}),
    ("multi-bulk", {"workers": 1}),
    ("partial", {"workers": 1}),
    ("masa", {"workers": 1}),
]
SEVERAL: list[tuple[str, dict[str, Any]]] = [
    ("multi-bulk", {"workers": 3}),
    ("partial", {"workers": 2}),
    ("masa", {"workers": 2}),
    ("deepeye", {}),
    ("deepeye-frugal", {}),
    ("pipeline", {}),
]
CLOSE = 1e-6
"""Seconds; times of one instant may differ by the engine's 1e-9, and errors add up."""

# Eighths make ties that are exact, thirds ties up to rounding; 0 only beside others.
seconds = st.one_of(st.integers(1, 16).map(lambda n: n / 8), st.integers(1, 9).map(lambda n: n / 3))


@st.composite
def networks(draw: st.DrawFn, name: str) -> Net:
    count = draw(st.integers(1, 4))
    of = lambda values: tuple(draw(st.lists(values, min_size=count, max_size=count)))  # noqa: E731
    return Net(
        name,
        load_s=of(seconds),
        execute_s=of(seconds),
        init_s=draw(seconds),
        weight_bytes=of(st.integers(0, 50)),
        output_bytes=draw(st.integers(0, 9)),
        workspace_bytes=draw(st.integers(0, 9)),
        conv=draw(st.integers(0, count)),
        copies=draw(st.integers(0, 3)),
    )


@st.composite
def images(draw: st.DrawFn) -> list[Image]:
    pool = [draw(networks(name)) for name in "xyz"[: draw(st.integers(1, 3))]]
    gaps = st.one_of(st.just(0.0), seconds)
    nets = st.lists(st.sampled_from(pool), min_size=1, max_size=3)
    return draw(st.lists(st.tuples(gaps, nets), min_size=1, max_size=6))


runtimes = st.builds(
    Runtime,
    version=st.sampled_from("AB"),
    weights_lifetime=st.sampled_from(["network", "layer"]),
    outputs_lifetime=st.sampled_from(["network", "liveness"]),
    load_copies=st.booleans(),
)
overheads = st.builds(
    Runtime,
    version=st.sampled_from("AB"),
    dispatch_period_s=st.sampled_from([0.0, 0.1]),
    worker_pause_s=st.sampled_from([0.0, 0.05]),
    worker_poll_s=st.sampled_from([0.0, 0.03]),
    submission_s=st.sampled_from([0.0, 0.3]),
    slowdown=st.sampled_from([{}, {"execute": {"execute": 1.5, "load": 1.25}}]),
)
policies = st.sampled_from(SERIAL + SEVERAL)


def edges(policy: str, run: Played) -> list[tuple[tuple[int, str], tuple[int, str]]]:
    """What must end before what begins, by (job, task): section 1.2 and 1.8 of the EdgeCaffe notes."""
    version = run.engine.scheduler.device.runtime.version
    found = []
    for job, graph in enumerate(run.graphs):
        count = len(graph.network.load_s)
        layered = policy not in ("fifo", "multi-bulk", "sjf", "edf", "hrrn") or version == "A"
        if not layered:
            pairs = [("I", "L"), ("L", "E")]
        elif policy in ("linear", "fifo layer"):
            chain = ["I"] + [f"{kind}{layer}" for layer in range(count) for kind in "LE"]
            pairs = list(pairwise(chain))
        else:
            pairs = [(f"E{i}", f"E{i + 1}") for i in range(count - 1)]
            pairs += [("I", f"L{i}") for i in range(count)]
            if policy in ("fifo", "multi-bulk", "sjf", "edf", "hrrn"):
                pairs.append((f"L{count - 1}", "E0"))
            else:
                pairs += [(f"L{i}", f"E{i}") for i in range(count)]
        if policy.startswith("deepeye") and version == "B":
            split = graph.network.network.conv_layers
            pairs += [(f"L{i}", f"L{i + 1}") for i in range(count - 1) if i + 1 != split]
            pairs += [(f"L{i}", f"E{split}") for i in range(split, count) if split < count]
        found += [((job, a), (job, b)) for a, b in pairs if version == "B" or a != "I"]
    if policy.startswith("deepeye") and version == "B":
        found += _between(run, frugal=policy.endswith("frugal"))
    return found


def _between(run: Played, *, frugal: bool) -> list[tuple[tuple[int, str], tuple[int, str]]]:
    found = []
    for request in set(run.request_of):
        jobs = [job for job, of in enumerate(run.request_of) if of == request]
        net = {job: run.graphs[job].network.network for job in jobs}
        conv = [job for job in jobs if net[job].conv_layers]
        full = [job for job in jobs if net[job].conv_layers < len(net[job].layers)]
        for before, after in pairwise(jobs):
            if net[before].conv_layers:
                found.append(((before, f"L{net[before].conv_layers - 1}"), (after, "I")))
        for before, after in pairwise(conv):
            found.append(((before, f"E{net[before].conv_layers - 1}"), (after, "E0")))
        if conv and net[jobs[-1]].conv_layers:
            found.append(((jobs[-1], f"L{net[jobs[-1]].conv_layers - 1}"), (conv[0], "E0")))
        for before, after in pairwise(full):
            last = len(net[before].layers) - 1
            first = (after, f"L{net[after].conv_layers}")
            found += [((before, f"{kind}{last}"), first) for kind in ("LE" if frugal else "L")]
    return found


def tag(step: Step) -> tuple[int, str]:
    return step.job, step.name.split()[1]


# -- order ------------------------------------------------------------------------------------------------


def check_order(policy: str, run: Played) -> None:
    assert Counter((step.job, step.task) for step in run.steps) == Counter(
        (job, task.index) for job, graph in enumerate(run.graphs) for task in graph.tasks
    )
    for worker in range(len(run.engine.workers)):
        mine = [step for step in run.steps if step.worker == worker]
        assert all(a.end_s <= b.start_s for a, b in pairwise(mine))
    at = {tag(step): step for step in run.steps}
    for before, after in edges(policy, run):
        assert at[before].end_s <= at[after].start_s + CLOSE, f"{before} must end before {after} begins"
    for job, arrival in enumerate(run.arrival_s):
        mine = [step for step in run.steps if step.job == job]
        assert arrival <= run.records.job_start_s[job] == min(step.start_s for step in mine)
        assert run.finish_s[job] >= max(step.end_s for step in mine) - CLOSE


@settings(max_examples=150, deadline=None, derandomize=True)
@given(policies, images(), runtimes)
def test_every_task_once_in_order_and_none_beside_another(
    policy: tuple[str, dict[str, Any]], drawn: list[Image], runtime: Runtime
) -> None:
    name, arguments = policy
    run = play(name, drawn, runtime=runtime, **arguments)
    check_order(f"{name} {arguments['unit']}" if "unit" in arguments else name, run)
    check_memory(run)
    check_little(run)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(policies, images(), overheads)
def test_the_same_with_overheads(
    policy: tuple[str, dict[str, Any]], drawn: list[Image], runtime: Runtime
) -> None:
    name, arguments = policy
    run = play(name, drawn, runtime=runtime, **arguments)
    check_order(f"{name} {arguments['unit']}" if "unit" in arguments else name, run)
    check_memory(run, lag=True)
    check_little(run)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(policies, images(), runtimes)
def test_both_engines_agree_without_overheads(
    policy: tuple[str, dict[str, Any]], drawn: list[Image], runtime: Runtime
) -> None:
    name, arguments = policy
    plain = play(name, drawn, runtime=runtime, **arguments)
    other = play(name, drawn, runtime=runtime, overheads=True, **arguments)
    assert plain.steps == other.steps
    assert plain.finish_s == other.finish_s


# -- work -------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None, derandomize=True)
@given(images(), st.sampled_from("AB"))
def test_a_single_worker_is_never_idle_while_there_is_work(drawn: list[Image], version: str) -> None:
    runtime = Runtime(version=version)
    last, busy = set(), set()
    for name, arguments in SERIAL:
        run = play(name, drawn, runtime=runtime, **arguments)
        pending_from = sorted(zip(run.arrival_s, run.finish_s, strict=True))
        for before, after in pairwise(run.steps):
            if after.start_s > before.end_s + CLOSE:
                idle = (before.end_s + after.start_s) / 2
                assert not [job for job in pending_from if job[0] < idle < job[1]]
        assert run.steps[0].start_s == run.arrival_s[0]
        last.add(round(max(run.finish_s), 6))
        busy.add(round(run.engine.workers[0].busy_s, 6))
    assert len(last) == len(busy) == 1


def check_little(run: Played) -> None:
    """Sum of the jobs' responses = integral over time of the number of jobs in the system."""
    changes = sorted([(at, 1) for at in run.arrival_s] + [(at, -1) for at in run.finish_s])
    area, inside = 0.0, 0
    for (at, change), (then, _) in pairwise([*changes, (changes[-1][0], 0)]):
        inside += change
        assert inside >= 0
        area += inside * (then - at)
    responses = math.fsum(f - a for a, f in zip(run.arrival_s, run.finish_s, strict=True))
    assert area == pytest.approx(responses)


# -- memory -----------------------------------------------------------------------------------------------


def check_memory(run: Played, *, lag: bool = False) -> None:
    ledger = run.engine.scheduler.memory
    assert (ledger.resident_bytes, ledger.reserved_bytes, ledger.active) == (ledger.base_bytes, 0, 0)
    resident = list(run.trace.resident_bytes)
    assert min(resident) >= ledger.base_bytes
    if lag:
        # A dead network's memory leaves at a scan, which the task trace does not show.
        assert ledger.peak_bytes >= max(resident)
    else:
        # Memory rises when a task starts, in version A also at submission: the trace sees the peak.
        # Where version A submits in the instant in which another network dies, either may come first.
        low, high = replayed_peak(run, submission=1), replayed_peak(run, submission=-1)
        rises = [*resident, *run.trace.submission_bytes]
        assert low <= ledger.peak_bytes == max(rises) <= high
        assert low == high or any(graph.submit_bytes for graph in run.graphs)


def replayed_peak(run: Played, submission: int) -> int:
    """The peak by the task trace alone: what tasks take and give back, in order of time.

    Within an instant ends come at 0, beginnings at 2, submissions where told.
    """
    changes: list[tuple[float, int, int]] = []
    for job, graph in enumerate(run.graphs):
        changes.append((run.arrival_s[job], submission, graph.submit_bytes))
        changes.append((run.finish_s[job], 0, -graph.held_bytes))
    for step in run.steps:
        task = run.graphs[step.job].tasks[step.task]
        changes += [(step.start_s, 2, task.start_bytes), (step.end_s, 0, -task.end_bytes)]
    changes.sort(key=lambda change: change[0])
    # Updates of one instant come before what begins in it.
    instants: list[list[tuple[float, int, int]]] = []
    for change in changes:
        if instants and change[0] - instants[-1][0][0] <= CLOSE:
            instants[-1].append(change)
        else:
            instants.append([change])
    resident = peak = run.engine.scheduler.memory.base_bytes
    for instant in instants:
        for _, _, count in sorted(instant, key=lambda change: change[1:]):
            resident += count
            peak = max(peak, resident)
    return peak


@settings(max_examples=150, deadline=None, derandomize=True)
@given(policies, images(), runtimes, st.integers(0, 99))
def test_a_limit_below_the_peak_is_infeasible_and_one_at_the_peak_is_not(
    policy: tuple[str, dict[str, Any]], drawn: list[Image], runtime: Runtime, base: int
) -> None:
    name, arguments = policy
    if name in ("masa", "pipeline"):
        return  # These adapt to the limit; see below.
    free = play(name, drawn, runtime=runtime, base_bytes=base, **arguments)
    peak = free.engine.scheduler.memory.peak_bytes
    if peak == base:
        return
    at_peak = play(name, drawn, runtime=runtime, base_bytes=base, limit_bytes=peak, **arguments)
    assert at_peak.steps == free.steps
    if peak == 1:
        return
    with pytest.raises(DoesNotFit) as caught:
        play(name, drawn, runtime=runtime, base_bytes=base, limit_bytes=peak - 1, **arguments)
    assert (caught.value.demand_bytes, caught.value.limit_bytes) == (peak, peak - 1)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from([("masa", {}), ("pipeline", {})]),
    images(),
    st.integers(1, 400),
    st.sampled_from(["network", "layer"]),
    st.sampled_from([0.0, 0.1]),
)
def test_policies_that_watch_memory_serve_all_or_say_what_does_not_fit(
    policy: tuple[str, dict[str, Any]], drawn: list[Image], limit: int, lifetime: Any, period: float
) -> None:
    runtime = Runtime(weights_lifetime=lifetime, dispatch_period_s=period)
    engine = make_engine(policy[0], drawn, runtime=runtime, limit_bytes=limit, **policy[1])
    refused: DoesNotFit | None = None
    try:
        engine.run()
    except DoesNotFit as error:
        refused = error
    if refused is not None:
        assert refused.demand_bytes > refused.limit_bytes == limit
        return
    run = Played(engine)
    check_order(policy[0], run)
    check_memory(run, lag=True)
    assert engine.scheduler.memory.peak_bytes <= limit


@settings(max_examples=150, deadline=None, derandomize=True)
@given(images(), st.integers(1, 400))
def test_masa_reservations_stay_within_the_limit_but_for_one_alone(drawn: list[Image], limit: int) -> None:
    """Real memory is left out of this: networks of no bytes with the reservations of the drawn ones."""
    nets = {}
    for _, members in drawn:
        for net in members:
            booked = net.cost(Runtime()).reservation_bytes
            nets[net] = Net(net.name, net.load_s, net.execute_s, net.init_s, reservation_bytes=booked)
    light = [(gap, [nets[net] for net in members]) for gap, members in drawn]
    run = play("masa", light, limit_bytes=limit)
    lives = [
        (run.records.job_start_s[job], run.finish_s[job], graph.reserve_bytes)
        for job, graph in enumerate(run.graphs)
    ]
    for start, _, _ in lives:
        beside = [booked for begin, end, booked in lives if begin <= start + CLOSE and end > start + CLOSE]
        counted = [booked for booked in beside if booked]
        assert sum(counted) <= limit or len(counted) == 1


# -- whole scenarios --------------------------------------------------------------------------------------


def scenario(**changes: Any) -> Scenario:
    layer = {"load_s": 0.1, "execute_s": 0.2, "weight_bytes": 100, "output_bytes": 5}
    data: dict[str, Any] = {
        "device": {"board": "ideal", "runtime": {"noise": {"cv": 0.3}, "dispatch_period_s": 0.001}},
        "networks": [{"name": name, "layers": [layer] * count} for name, count in (("x", 2), ("y", 5))],
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 0.5},
            "networks": {"mix": "random", "pool": ["x", "y"], "count": 1},
        },
        "policy": {"name": "masa"},
        "run": {"requests": 200, "seed": 3},
    }
    return Scenario.model_validate({**data, **changes})


def columns(spec: Scenario, replication: int = 0) -> list[bytes]:
    records = simulate(spec, replication).records
    return [
        column.tobytes()
        for column in (records.arrival_s, records.composition, records.job_start_s, records.job_finish_s)
    ]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    spec = scenario()
    assert columns(spec) == columns(spec)
    assert columns(spec)[3] != columns(spec, replication=1)[3]
    assert columns(spec)[3] != columns(scenario(run={"requests": 200, "seed": 4}))[3]
    # Policies see the same requests.
    assert columns(spec)[:2] == columns(scenario(policy={"name": "fifo"}))[:2]


def test_what_does_not_fit_is_a_result_with_demand_limit_and_levers() -> None:
    result = simulate(scenario(device={"board": "ideal", "memory_limit": 450}, policy={"name": "linear"}))
    found = result.infeasible
    assert found is not None
    # y: 500 bytes of weights at INIT.
    assert (found.network, found.task, found.demand_bytes, found.limit_bytes) == ("y", "INIT all", 500, 450)
    assert any("525" in lever for lever in found.fits_with)
