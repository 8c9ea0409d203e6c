"""Each policy's order on small cases worked out by hand (rules: docs/theory.md)."""

from __future__ import annotations

import pytest
from playing import VERSION_A, Net, play

from edgesched.devices.model import Runtime

A, B, C = Net("a"), Net("b"), Net("c")


# -- one worker -------------------------------------------------------------------------------------------


def test_fifo_chains_networks_across_requests() -> None:
    run = play("fifo", [(0, [A, B]), (0.5, [C])])
    assert run.story() == ("a I 0-1, a L 1-2, a E 2-3, b I 3-4, b L 4-5, b E 5-6, c I 6-7, c L 7-8, c E 8-9")


def test_fifo_by_layer_and_linear_alternate_load_and_execution() -> None:
    net = Net("n", (1, 2), (3, 4))
    expected = "n I 0-1, n L0 1-2, n E0 2-5, n L1 5-7, n E1 7-11, a I 11-12, a L0 12-13, a E0 13-14"
    assert play("linear", [(0, [net, A])]).story() == expected
    assert play("fifo", [(0, [net, A])], unit="layer").story() == expected


QUEUE = [
    (0, [Net("first", expected_s=4, load_s=(2,))]),  # runs from 0 to 4
    (1, [Net("long", (4,), (1,))]),  # 6 s, arrives at 1
    (2.5, [Net("short", (0,), (1,))]),  # 2 s, arrives at 3.5
]


def _first_tasks(run_order: str) -> list[str]:
    return [name.split()[0] for name in run_order.split(", ") if name.endswith(" I")]


@pytest.mark.parametrize(
    ("policy", "deadline_s", "order"),
    [
        ("fifo", None, ["first", "long", "short"]),
        ("sjf", None, ["first", "short", "long"]),
        # At 4: long 1 + 3 / 6 = 1.5, short 1 + 0.5 / 2 = 1.25.
        ("hrrn", None, ["first", "long", "short"]),
        ("edf", {"first": 9, "long": 10, "short": 7}, ["first", "short", "long"]),
        ("edf", {"first": 9, "long": 9, "short": 7}, ["first", "long", "short"]),
        # Without a deadline last.
        ("edf", {"short": 70}, ["first", "short", "long"]),
    ],
)
def test_orders_by_job(policy: str, deadline_s: dict[str, float] | None, order: list[str]) -> None:
    run = play(policy, QUEUE, deadline_s=deadline_s)
    assert _first_tasks(run.order) == order
    assert run.finish_s[0] == 4


def test_hrrn_prefers_the_short_one_that_has_waited_as_long() -> None:
    # Both arrive at 1: at 4 long has 1 + 3 / 6, short 1 + 3 / 2.
    run = play("hrrn", [QUEUE[0], (1, [QUEUE[1][1][0]]), (0, [QUEUE[2][1][0]])])
    assert _first_tasks(run.order) == ["first", "short", "long"]


def test_hrrn_runs_a_network_whatever_its_name() -> None:
    assert play("hrrn", [(0, [Net("started"), Net("waiting")])]).finish_s == [3, 6]


def test_sjf_keeps_to_the_network_it_has_begun() -> None:
    run = play("sjf", [(0, [Net("long", (5,), (5,))]), (2, [A])])
    assert run.story() == "long I 0-1, long L 1-6, long E 6-11, a I 11-12, a L 12-13, a E 13-14"


# -- several workers --------------------------------------------------------------------------------------


def test_multi_bulk_lowest_task_id_first() -> None:
    run = play("multi-bulk", [(0, [Net("a", (3,), (1,)), B, C])])
    # At 4 and at 5 both workers are free: the first asks first and takes the lowest id.
    assert run.story(0) == "a I 0-1, a L 1-4, a E 4-5, c E 5-6"
    assert run.story(1) == "b I 0-1, b L 1-2, b E 2-3, c I 3-4, c L 4-5"


def test_an_early_task_that_becomes_ready_late_overtakes() -> None:
    # At 4, a's execution (id 2) and c's load (id 7) are ready: the id decides, not the time of readiness.
    run = play("multi-bulk", [(0, [Net("a", (3,), (1,)), B, C])], workers=1)
    assert run.order == "a I, a L, a E, b I, b L, b E, c I, c L, c E"
    run = play("partial", [(0, [Net("n", (1, 1), (1, 1)), A])], workers=1)
    assert run.order == "n I, n L0, n E0, n L1, n E1, a I, a L0, a E0"


def test_partial_loads_run_ahead() -> None:
    run = play("partial", [(0, [Net("n", (1, 1, 1), (2, 2, 2))])])
    assert run.story(0) == "n I 0-1, n L0 1-2, n E0 2-4, n E1 4-6, n E2 6-8"
    assert run.story(1) == "n L1 1-2, n L2 2-3"


def test_pipeline_waits_at_the_head_for_memory() -> None:
    runtime = Runtime(weights_lifetime="layer")
    big = Net("big", (1, 1), (3, 3), weight_bytes=(60, 60))
    small = Net("small", weight_bytes=(10,))
    run = play("pipeline", [(0, [big, small])], runtime=runtime, limit_bytes=100)
    # small's load would fit at 2, but big's second load is ahead of it and waits for the first execution.
    assert run.story(0) == "big I 0-1, big L0 1-2, big L1 5-6, small I 6-7, small L0 7-8"
    assert run.story(1) == "big E0 2-5, big E1 6-9, small E0 9-10"
    assert run.engine.scheduler.memory.peak_bytes == 70


# -- Masa -------------------------------------------------------------------------------------------------


def test_masa_executions_first_then_the_shortest_network() -> None:
    long = Net("long", (3, 3), (2, 2), expected_s=10)
    short = Net("short", expected_s=2)
    run = play("masa", [(0, [long]), (2, [short])], workers=1)
    assert run.story() == (
        "long I 0-1, long L0 1-4, long E0 4-6, "  # the execution before short's INIT
        "short I 6-7, short L0 7-8, short E0 8-9, "  # short's INIT before long's next load
        "long L1 9-12, long E1 12-14"
    )


def test_masa_loads_before_inits_among_equals() -> None:
    run = play("masa", [(0, [A, A])], workers=1)
    assert [(step.job, step.name) for step in run.steps[:4]] == [
        (0, "a I"), (0, "a L0"), (0, "a E0"), (1, "a I"),
    ]  # fmt: skip


def test_masa_passes_over_what_does_not_fit_and_releases_at_death() -> None:
    big = Net("big", expected_s=1, reservation_bytes=80)
    middle = Net("middle", expected_s=2, reservation_bytes=50)
    small = Net("small", (1,), (5,), expected_s=3, reservation_bytes=20)
    run = play("masa", [(0, [big, middle, small])], limit_bytes=100)
    assert run.story(0) == "big I 0-1, big L0 1-2, big E0 2-3, middle I 3-4, middle L0 4-5, middle E0 5-6"
    assert run.story(1) == "small I 0-1, small L0 1-2, small E0 2-7"


def test_masa_base_reservation_counts() -> None:
    pair = [Net("x", expected_s=1, reservation_bytes=50), Net("y", expected_s=2, reservation_bytes=50)]
    beside = play("masa", [(0, pair)], limit_bytes=100)
    after = play("masa", [(0, pair)], limit_bytes=100, runtime=Runtime(reserved_base_bytes=1))
    assert (beside.finish_s, after.finish_s) == ([3, 3], [3, 6])


def test_masa_in_version_a_reserves_with_the_first_load() -> None:
    layers = (1, 1, 1)
    huge = Net("huge", layers, layers, expected_s=1, reservation_bytes=200)
    small = Net("small", layers, layers, expected_s=2, reservation_bytes=20)
    run = play("masa", [(0, [small, huge, small])], limit_bytes=100, runtime=Runtime(version="A"))
    assert all(finish == finish for finish in run.finish_s)
    assert run.order.startswith("huge L0, ")
    assert run.finish_s[1] < min(run.finish_s[0], run.finish_s[2])


def test_masa_runs_an_oversize_network_alone() -> None:
    huge = Net("huge", expected_s=1, reservation_bytes=200)
    small = Net("small", expected_s=2, reservation_bytes=20)
    run = play("masa", [(0, [small, huge])], limit_bytes=100)
    assert run.order == "huge I, huge L0, huge E0, small I, small L0, small E0"
    last = play("masa", [(0, [small, Net("huge", expected_s=3, reservation_bytes=200)])], limit_bytes=100)
    assert last.finish_s == [3, 6]


def test_masa_always_admits_what_books_nothing() -> None:
    huge = Net("huge", expected_s=1, reservation_bytes=200)
    unknown = Net("unknown", expected_s=float("inf"), reservation_bytes=0)
    run = play("masa", [(0, [huge, unknown])], limit_bytes=100)
    assert run.finish_s == [3, 3]


# -- DeepEye ----------------------------------------------------------------------------------------------

ONE_FC = Net("a", (1, 1), (1, 1), conv=1)
TWO_FC = Net("b", (1, 1, 1), (1, 1, 1), conv=1)


def test_deepeye_convolutional_loads_of_all_networks_first() -> None:
    run = play("deepeye", [(0, [ONE_FC, TWO_FC])])
    assert run.story(0) == "a I 0-1, a L0 1-2, b I 2-3, b L0 3-4, a E0 4-5, b E0 5-6"
    assert run.story(1) == "a L1 1-2, b L1 3-4, b L2 4-5, a E1 5-6, b E1 6-7, b E2 7-8"


def test_deepeye_frugal_delays_the_next_fully_connected_loads() -> None:
    run = play("deepeye-frugal", [(0, [ONE_FC, TWO_FC])])
    assert run.story(0) == "a I 0-1, a L0 1-2, b I 2-3, b L0 3-4, a E0 4-5, b E0 5-6"
    assert run.story(1) == "a L1 1-2, a E1 5-6, b L1 6-7, b L2 7-8, b E1 8-9, b E2 9-10"


def test_deepeye_without_a_fully_connected_part() -> None:
    run = play("deepeye-frugal", [(0, [ONE_FC, Net("y", conv=1), TWO_FC])])
    assert run.story(0) == (
        "a I 0-1, a L0 1-2, y I 2-3, y L0 3-4, b I 4-5, b L0 5-6, a E0 6-7, y E0 7-8, b E0 8-9"
    )
    # The nearest network before b that has such a part is a.
    assert run.story(1) == "a L1 1-2, a E1 7-8, b L1 8-9, b L2 9-10, b E1 10-11, b E2 11-12"


def test_deepeye_does_not_link_requests() -> None:
    run = play("deepeye", [(0, [ONE_FC]), (2.5, [TWO_FC])])
    # a's execution is next by id; then b's INIT, which waits for nothing of a.
    assert run.story(0) == "a I 0-1, a L0 1-2, a E0 2-3, b I 3-4, b L0 4-5, b E0 5-6"


# -- version A --------------------------------------------------------------------------------------------

TWO = [Net("x", (1, 1), (1, 1), weight_bytes=(5, 5)), Net("y", (1, 1), (1, 1), weight_bytes=(7, 7))]


def test_version_a_bulk_loads_everything_and_interleaves_executions() -> None:
    run = play("fifo", [(0, TWO)], runtime=VERSION_A)
    assert run.order == "x L0, x L1, y L0, y L1, x E0, y E0, x E1, y E1"
    # All networks are built at submission.
    assert run.trace.resident_bytes[0] == 24


def test_version_a_has_no_inits_and_loads_wait_for_nothing() -> None:
    assert play("linear", [(0, TWO)], runtime=VERSION_A).order == (
        "x L0, x E0, x L1, x E1, y L0, y E0, y L1, y E1"
    )
    run = play("partial", [(0, TWO)], runtime=VERSION_A)
    assert run.story(0) == "x L0 0-1, y L0 1-2, x E0 2-3, x E1 3-4"
    assert run.story(1) == "x L1 0-1, y L1 1-2, y E0 2-3, y E1 3-4"


@pytest.mark.parametrize("weight", [0, 5])
def test_version_a_deepeye_links_nothing(weight: int) -> None:
    nets = [Net(name, (1, 1), (1, 1), conv=1, weight_bytes=(weight, weight)) for name in "xy"]
    run = play("deepeye-frugal", [(0, nets)], runtime=VERSION_A)
    assert run.story(0) == "x L0 0-1, y L0 1-2, x E0 2-3, y E0 3-4"
    assert run.story(1) == "x L1 0-1, y L1 1-2, x E1 3-4, y E1 4-5"


@pytest.mark.parametrize("policy", ["sjf", "edf", "hrrn"])
def test_version_a_one_network_at_a_time(policy: str) -> None:
    run = play(policy, [(0, TWO)], runtime=VERSION_A)
    assert run.order == "x L0, x L1, x E0, x E1, y L0, y L1, y E0, y E1"
