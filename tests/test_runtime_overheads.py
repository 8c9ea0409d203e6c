"""What a real runtime adds, on cases worked out by hand: ties, dispatch lag, pauses, slow-down, resuming."""

from __future__ import annotations

import pytest
from playing import Net, Played, make_engine, play

from edgesched.devices.model import Device, Memory, Processor, Runtime, Storage
from edgesched.policies import registry
from edgesched.policies.graph import Kind, partial
from edgesched.runs.records import Records
from edgesched.sim.contention import PACED_PIECE_BYTES, WHOLE_PIECE_BYTES, Queue
from edgesched.sim.overheads import OverheadEngine
from edgesched.workloads.mix import together
from edgesched.workloads.workload import RequestPlan

A = Net("a")


# -- one instant ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overheads", [False, True])
def test_all_updates_of_an_instant_before_any_decision(overheads: bool) -> None:
    # Both workers end at 3 and two networks arrive at 3: whatever fires first, the shortest goes first, and
    # to worker 0.
    long, short = Net("long", (5,), (5,), expected_s=11), Net("short", expected_s=2)
    images = [(0, [A, A]), (3, [long]), (0, [short])]
    run = play("masa", images, overheads=overheads)
    assert run.story(0).startswith("a I 0-1, a L0 1-2, a E0 2-3, short I 3-4")
    assert run.story(1).startswith("a I 0-1, a L0 1-2, a E0 2-3, long I 3-4")


@pytest.mark.parametrize("overheads", [False, True])
def test_times_that_differ_by_rounding_are_one_instant(overheads: bool) -> None:
    # 0.1 + 0.2 is later than 0.3 by 6e-17: the arrival at 0.3 and the end of the first network are a tie.
    first = Net("first", (0.1,), (0.2,), init_s=0)
    images = [(0, [first]), (0, [Net("long", (9,), (9,))]), (0.3, [A])]
    assert play("sjf", images, overheads=overheads).order.startswith("first I, first L, first E, a I")


@pytest.mark.parametrize("overheads", [False, True])
def test_idle_workers_ask_in_index_order(overheads: bool) -> None:
    images = [(0, [A, A, A]), (10, [A])]
    run = play("multi-bulk", images, workers=4, overheads=overheads)
    first = {step.job: step.worker for step in reversed(run.steps)}
    assert first == {0: 0, 1: 1, 2: 2, 3: 0}


@pytest.mark.parametrize("overheads", [False, True])
def test_a_run_goes_on_where_it_stopped(overheads: bool) -> None:
    # The task that ends at 0.7999999999999999, just before the stop at 0.8, leaves the rest to the next call.
    net = Net("n", (0.1,) * 5, (0.1,) * 5, init_s=0.0)
    engine = make_engine("linear", [(0, [net, net])], overheads=overheads)
    for tenths in range(1, 21):
        engine.run(until_s=tenths / 10)
    engine.run()
    whole = play("linear", [(0, [net, net])], overheads=overheads)
    assert Played(engine).finish_s == pytest.approx(whole.finish_s)


# -- dispatch lag -----------------------------------------------------------------------------------------


def test_a_successor_is_invisible_until_the_next_scan() -> None:
    net = Net("n", (1.1,), (1.1,), init_s=1.1)
    run = play("linear", [(0.1, [net])], runtime=Runtime(dispatch_period_s=0.25))
    assert run.story() == "n I 0.25-1.35, n L0 1.5-2.6, n E0 2.75-3.85"
    # The orchestrator notices the end at its scan too.
    assert run.finish_s == [4.0]


def test_the_freed_worker_takes_another_task_in_the_meantime() -> None:
    net = Net("n", (0.1, 5), (0.1, 0.1), init_s=0.1)
    at_once = play("masa", [(0, [net])], workers=1)
    assert at_once.order == "n I, n L0, n E0, n L1, n E1"
    lagging = play("masa", [(0, [net])], workers=1, runtime=Runtime(dispatch_period_s=0.25))
    # Priority inversion: at 0.6 the execution is ready but not visible, and the load of 5 s goes first.
    assert lagging.story() == "n I 0.25-0.35, n L0 0.5-0.6, n L1 0.6-5.6, n E0 5.6-5.7, n E1 5.75-5.85"
    assert lagging.finish_s == [6.0]


def test_one_arrival_a_scan() -> None:
    run = play("multi-bulk", [(0, [A])] * 3, workers=3, runtime=Runtime(dispatch_period_s=0.25))
    assert list(run.records.job_start_s) == [0.25, 0.5, 0.75]
    assert list(run.records.arrival_s) == [0, 0, 0]


def test_an_end_on_the_grid_is_seen_at_once() -> None:
    run = play(
        "linear", [(0, [Net("n", (0.5,), (0.5,), init_s=0.5)])], runtime=Runtime(dispatch_period_s=0.25)
    )
    assert run.story() == "n I 0.25-0.75, n L0 0.75-1.25, n E0 1.25-1.75"


def test_submission_takes_time_for_each_network_and_delays_successors() -> None:
    runtime = Runtime(submission_s=0.5)
    run = play("multi-bulk", [(0, [A, A]), (1.25, [A])], workers=3, runtime=runtime)
    # The first request is submitted at 1, the second from 1.25 to 1.75.
    assert list(run.records.job_start_s) == [1, 1, 1.75]
    run = play("linear", [(0, [A]), (1.25, [A])], runtime=runtime)
    # INIT runs from 0.5 to 1.5; its successor waits for the end of the submission at 1.75.
    assert run.story().startswith("a I 0.5-1.5, a L0 1.75-2.75")


# -- pauses and slow-down ---------------------------------------------------------------------------------


def test_a_worker_pauses_after_each_task() -> None:
    run = play("linear", [(0, [A, A])], runtime=Runtime(worker_pause_s=0.5))
    assert run.story() == ("a I 0-1, a L0 1.5-2.5, a E0 3-4, a I 4.5-5.5, a L0 6-7, a E0 7.5-8.5")
    assert run.finish_s == [4, 8.5]
    assert run.engine.workers[0].busy_s == 6


def test_an_idle_worker_asks_once_a_poll() -> None:
    # Worker 1 asks in vain at 0 and then every 0.3 s: it sees the two loads, ready at 1, at 1.2.
    net = Net("n", (2, 2, 2), (1, 1, 1))
    run = play("partial", [(0, [net])], runtime=Runtime(worker_pause_s=0.1, worker_poll_s=0.3))
    assert run.story(1).startswith("n L1 1.2-3.2")
    assert run.story(0).startswith("n I 0-1, n L0 1.1-3.1")


def test_idle_workers_do_not_keep_each_other_awake() -> None:
    long = Net("long", (1.0,), (5.0,), expected_s=1, reservation_bytes=80)
    waiting = Net("waiting", expected_s=2, reservation_bytes=50)
    small = Net("small", (0.1003,), (0.1,), expected_s=3, reservation_bytes=10)
    images = [(0, [long, waiting]), (0.5, [small])]
    runtime = Runtime(worker_pause_s=6e-5, worker_poll_s=6e-5)
    options = {"workers": 3, "limit_bytes": 100}
    run = play("masa", images, runtime=runtime, **options)
    assert next(run.engine._eid) < 100
    assert run.finish_s == pytest.approx(play("masa", images, **options).finish_s, abs=1e-3)


def execution(seconds: float) -> Net:
    return Net(f"x{seconds:g}", (0,), (seconds,), init_s=0)


def test_two_executions_slow_each_other_down() -> None:
    runtime = Runtime(slowdown={"execute": {"execute": 2}})
    run = play("multi-bulk", [(0, [execution(4), execution(2)])], runtime=runtime)
    # Half speed until the short one ends at 4; then the other 2 s at full speed.
    assert run.finish_s == [6, 4]
    # The alarm of the slow speed (at 8) is gone: it does not hold up the clock.
    assert run.engine.now_s == 6
    assert [tick.busy_s for tick in run.engine.workers] == [6, 4]


def test_an_execution_that_joins_later() -> None:
    runtime = Runtime(slowdown={"execute": {"execute": 2}})
    run = play("multi-bulk", [(0, [execution(4)]), (2, [execution(3)])], runtime=runtime)
    # At 2 there are 2 s left, done at 6; of the other's 3 s, 2 were done by then.
    assert run.finish_s == [6, 7]


def test_three_share_what_two_halve() -> None:
    runtime = Runtime(slowdown={"execute": {"execute": 2}})
    run = play("multi-bulk", [(0, [execution(1)] * 3)], workers=3, runtime=runtime)
    assert run.finish_s == [3, 3, 3]


def two_loads(one: Net, other: Net, runtime: Runtime, storage: Storage) -> list[float]:
    """When two networks are done that only load, on a worker each."""
    device = Device(
        name="loading",
        processors=(Processor(name="cpu"),),
        memory=Memory(total_bytes=1 << 40),
        storage=storage,
        runtime=runtime,
    )
    costs = [net.cost(device.runtime) for net in (one, other)]
    plan = RequestPlan(streams=("image",), deadline_s=[None], compositions=[together((one.name, other.name))])
    plan.gap_s.append(0.0)
    plan.stream.append(0)
    plan.composition.append(0)
    records = Records()
    policy = registry.make("multi-bulk", {})
    OverheadEngine(policy, device, plan, lambda s: [s.composition(costs)], records).run()
    return list(records.job_finish_s)


def test_loads_at_a_pace_take_turns_at_the_storage() -> None:
    piece = PACED_PIECE_BYTES
    finish_s = two_loads(
        Net("long", (3.0,), (0.0,), init_s=0, weight_bytes=(3 * piece,)),
        Net("short", (1.5,), (0.0,), init_s=0, weight_bytes=(piece,)),
        Runtime(weights_lifetime="layer", load_copies=False),
        Storage(pace_bytes_per_s=piece),  # one piece a second
    )
    # Pieces: long 0..1, short 1..2, long 2..3, long 3..4; short's remaining half second needs no storage.
    assert finish_s == [4.0, 2.5]


def loading(slowed: float) -> Runtime:
    return Runtime(weights_lifetime="layer", load_copies=False, slowdown={"load": {"load": slowed}})


def test_small_loads_wait_for_pieces_of_large_ones_and_hardly_keep_them_waiting() -> None:
    piece = WHOLE_PIECE_BYTES
    finish_s = two_loads(
        Net("large", (5.0,), (0.0,), init_s=0, weight_bytes=(4 * piece,)),
        Net("small", (0.625, 0.625), (0.0, 0.0), init_s=0, weight_bytes=(4096, 4096)),
        loading(1.6),
        Storage(),
    )
    # The storage is busy for 0.8 of each: 1 s with a piece of large, 0.5 s with a layer of small.
    # Large asks for two at once, 0..1 and 1..2; small 2..2.5; large at 1 for 2.5..3.5, at 2 for 3.5..4.5;
    # small, 0.125 s without the storage later, at 2.625 for 4.5..5. Large then takes 1 s without it.
    assert finish_s == pytest.approx([5.5, 5.125])


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("slowed", [1.0, 1.3, 1.7, 2.0])
def test_two_workers_that_load_without_end_take_as_long_as_the_table_says(slowed: float, known: bool) -> None:
    count = 200
    sizes = (1_000_000 if known else 0,) * count
    nets = [
        Net(name, (1.0,) * count, (0.0,) * count, init_s=0, weight_bytes=sizes) for name in ("one", "other")
    ]
    finish_s = two_loads(nets[0], nets[1], loading(slowed), Storage())
    assert finish_s == pytest.approx([slowed * count] * 2, abs=1.0)


def test_a_load_keeps_the_storage_for_its_share_and_one_of_nothing_does_not() -> None:
    runtime = loading(1.5)
    cost = Net("n", (1.0, 0.5), (0.0, 0.0), weight_bytes=(2_000_000, 0)).cost(runtime)
    large, nothing = [task for task in partial(cost, runtime).tasks if task.kind == Kind.LOAD]
    queue = Queue(None, 0.75)
    last, first = queue.reads(large)
    assert (first.rest, last.rest) == (0.0, 1.0)
    assert first.busy_s / last.busy_s == pytest.approx(WHOLE_PIECE_BYTES / (2_000_000 - WHOLE_PIECE_BYTES))
    assert first.busy_s + last.busy_s == pytest.approx(0.75 * large.duration_s)
    assert queue.reads(nothing) == ()


def test_only_a_waiting_worker_is_woken() -> None:
    run = play("linear", [(0, [execution(1), execution(1)])], runtime=Runtime(wake_s=0.25), overheads=True)
    # The arrival wakes the worker; then it goes straight on.
    assert run.finish_s == [1.25, 2.25]
    late = play(
        "linear",
        [(0, [execution(1)]), (5, [execution(1)])],
        runtime=Runtime(wake_s=0.25),
        overheads=True,
    )
    assert late.finish_s == [1.25, 6.25]


def test_slow_down_depends_on_both_kinds() -> None:
    runtime = Runtime(slowdown={"execute": {"load": 1.5}})
    load = Net("load", (3,), (0,), init_s=0)
    run = play("multi-bulk", [(0, [execution(4), load])], runtime=runtime)
    # 3 s beside the load do 2 s of work; the load is not slowed.
    assert run.finish_s == [5, 3]


def test_a_paused_worker_slows_nobody() -> None:
    runtime = Runtime(slowdown={"execute": {"execute": 2}}, worker_pause_s=10)
    run = play("multi-bulk", [(0, [execution(4), execution(2)])], runtime=runtime)
    # 10 s after INIT, 10 s after LOAD; then as without a pause.
    assert run.finish_s == [26, 24]


# -- noise ------------------------------------------------------------------------------------------------


def test_every_policy_draws_the_same_noise_per_layer() -> None:
    net = Net("n", (1, 2), (4, 8), init_s=16)
    factors = [1.5, 2, 3, 5, 7]  # INIT, load 0, execute 0, load 1, execute 1

    def busy(policy: str) -> float:
        run = play(policy, [(0, [net])], noise=lambda count: factors[:count])
        return sum(tick.busy_s for tick in run.engine.workers)

    total = 16 * 1.5 + 1 * 2 + 4 * 3 + 2 * 5 + 8 * 7
    for policy in ("fifo", "linear", "partial", "masa", "deepeye", "pipeline", "sjf"):
        assert busy(policy) == pytest.approx(total)
