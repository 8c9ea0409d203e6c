"""The planner finds exactly what enumeration finds, and prices are what their definitions say."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_cases import brute_force, entangled, every_price, random_case

from edgesched.devices.options import NetworkOptions, Option
from edgesched.policies.planning import frontier as frontier_module
from edgesched.policies.planning.elimination import TooWideError, elimination_order
from edgesched.policies.planning.frontier import Frontier, Point, frontier, least_bytes, solve
from edgesched.policies.planning.labels import LabelSearch, TooManyError
from edgesched.policies.planning.memory import MEMORIES, DoesNotFitError, Memory
from edgesched.policies.planning.milp import Programme
from edgesched.policies.planning.pricing import InfeasiblePlanError, Pricer, price
from edgesched.policies.planning.problem import problem
from edgesched.policies.planning.search import Search
from edgesched.policies.planning.transforms import NoPlanError, PlanningError, paths, picoseconds
from edgesched.primitives.layouts import LAYOUTS
from edgesched.workloads import catalogue
from edgesched.workloads.network import Layer, Network

CASES = 1000


def found(options: NetworkOptions, front: Frontier) -> list[tuple[int, int]]:
    """(bytes, picoseconds) of the points, as pricing says, which must be as the points say."""
    pairs = []
    for point in front.points:
        own = price(options, point.choice)
        assert own.memory_bytes(front.memory) == point.memory_bytes
        assert own.time_s == point.time_s
        pairs.append((point.memory_bytes, own.time_ps))
    return pairs


def test_frontiers_equal_enumeration() -> None:
    different, branching, without = [], 0, 0
    for seed in range(CASES):
        options = random_case(seed)
        branching += any(len(layer.inputs) > 1 for layer in options.network.layers)
        expected = brute_force(options)
        without += not expected["total"]
        for memory in MEMORIES:
            if not expected[memory]:
                with pytest.raises(NoPlanError):
                    frontier(options, memory)
            elif found(options, frontier(options, memory)) != expected[memory]:
                different.append((seed, memory))
    assert not different
    assert branching > CASES / 5
    assert without < CASES / 4


@pytest.mark.parametrize("memory", MEMORIES)
def test_single_budgets_equal_enumeration(memory: Memory) -> None:
    tried = 0
    for seed in range(CASES, CASES + 40):
        options = random_case(seed)
        expected = brute_force(options)[memory]
        if not expected:
            assert least_bytes(options, memory) is None
            with pytest.raises(NoPlanError):
                solve(options, memory, 10**9)
            continue
        least = expected[0][0]
        assert least_bytes(options, memory) == least
        for budget in {least - 1, least, expected[-1][0] - 1, expected[-1][0] + 5}:
            fitting = [pair for pair in expected if pair[0] <= budget]
            if not fitting:
                for ask in (solve, lambda o, m, b: frontier(o, m, at_most_bytes=b)):
                    with pytest.raises(DoesNotFitError) as caught:
                        ask(options, memory, budget)
                    assert (caught.value.demand_bytes, caught.value.budget_bytes) == (least, budget)
                continue
            tried += 1
            point = solve(options, memory, budget)
            assert (point.memory_bytes, price(options, point.choice).time_ps) == fitting[-1]
            assert found(options, frontier(options, memory, at_most_bytes=budget)) == fitting
    assert tried > 40


@pytest.mark.parametrize("memory", MEMORIES)
def test_programmes_find_the_same_frontiers(memory: Memory) -> None:
    for seed in range(8):
        options = random_case(2 * CASES + seed, most_layers=5)
        expected = brute_force(options)[memory]
        points = Programme(problem(options, memory)).sweep(None)
        assert [(own.memory_bytes, own.time_ps) for own in points] == expected


def test_entangled_networks_are_solved_as_programmes() -> None:
    options = entangled(1, 10)
    stated = problem(options, "total")
    with pytest.raises(TooWideError):
        LabelSearch(stated)
    own = frontier(options, "total")
    tables = frontier(options, "peak-live")
    assert own.points[-1].time_s == tables.points[-1].time_s  # without a limit the definition is no matter
    assert own.points[0].memory_bytes == least_bytes(options, "total")  # found by tables
    assert len(found(options, own)) > 5
    with pytest.raises(TooWideError, match="hang together"):
        Search(stated, most_cells=1000)


def test_too_wide_falls_back_to_programmes(monkeypatch: pytest.MonkeyPatch) -> None:
    options = entangled(5, 3, options_each=2)
    expected = brute_force(options)

    def refuse(*_: object) -> None:
        raise TooWideError("n", 3**20, 3**8)

    monkeypatch.setattr(frontier_module, "Search", refuse)
    monkeypatch.setattr(frontier_module, "LabelSearch", refuse)
    for memory in MEMORIES:
        assert found(options, frontier(options, memory)) == expected[memory]
        least, most = expected[memory][0], expected[memory][-1]
        point = solve(options, memory, most[0])
        assert (point.memory_bytes, price(options, point.choice).time_ps) == most
        assert least_bytes(options, memory) == least[0]
        with pytest.raises(DoesNotFitError) as caught:
            solve(options, memory, least[0] - 1)
        assert caught.value.demand_bytes == least[0]


def test_too_many_plans_leave_single_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    options = random_case(2)
    stated = problem(options, "total")
    with pytest.raises(TooManyError, match="at_most_bytes"):
        LabelSearch(stated, most_pairs=3)
    monkeypatch.setattr(
        frontier_module, "LabelSearch", lambda stated, at_most, pairs: LabelSearch(stated, at_most, 3)
    )
    with pytest.raises(PlanningError, match="single budget"):
        frontier(options, "total")
    memory, time_ps = brute_force(options)["total"][0]
    point = solve(options, "total", memory)
    assert (point.memory_bytes, picoseconds(point.time_s)) == (memory, time_ps)


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_search_that_counts_otherwise_than_pricing_is_not_believed(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = random_case(2)
    slower = tuple(tuple(replace(o, execute_s=o.execute_s + 1e-12) for o in own) for own in options.layers)
    other = Pricer(replace(options, layers=slower))
    monkeypatch.setattr(frontier_module, "Pricer", lambda _: other)
    with pytest.raises(RuntimeError, match="the search counted"):
        frontier(options, memory)


def test_a_sweep_that_would_take_too_long_says_what_to_ask_for() -> None:
    options = random_case(2)
    assert len(brute_force(options)["total"]) > 1
    with pytest.raises(PlanningError, match="single budget"):
        Programme(problem(options, "total")).sweep(None, most_solves=1)


# -- prices -----------------------------------------------------------------------------------------------


def chain(
    *options: tuple[Option, ...], direct: dict | None = None, sizes: tuple[int, ...] = ()
) -> NetworkOptions:
    """A chain whose layers' outputs have ``sizes`` bytes; 100 bytes are live at every layer."""
    layers = tuple(Layer(f"layer {at}", "convolution", (at - 1,) if at else ()) for at in range(len(options)))
    return NetworkOptions(
        Network("chain", layers),
        options,
        ({} if direct is None else direct,) * len(options),
        live_bytes=(100,) * len(options),
        tensor_bytes=sizes or (8,) * len(options),
    )


TWO_STEPS = {("chw", "hcw"): 1e-3, ("hcw", "hwc"): 2e-3, ("chw", "hwc"): 4e-3}


def test_a_price_by_hand() -> None:
    options = chain(
        (Option("input", "chw", "chw", 0.0),),
        (Option("b", "hwc", "hwc", 10e-3, workspace_bytes=7, weight_bytes=50),),
        (Option("c", "hwc", "chw", 20e-3, workspace_bytes=3, weight_bytes=60),),
        direct=TWO_STEPS,
    )
    own = price(options, (0, 0, 0))
    assert own.time_s == 33e-3  # 1 + 2 ms on the way by hcw, then 10 and 20 ms
    assert [layer.transform_ps for layer in own.layers] == [0, 3 * 10**9, 0]
    assert own.memory_bytes("peak-workspace") == 7
    assert own.memory_bytes("peak-live") == 100 + 16  # two tensors on the way; 8 + 7 while it executes
    assert own.memory_bytes("total") == 50 + 60 + 116
    assert own.memory_bytes("no-reuse") == 7 + 3
    assert own.layers[1].time_s == pytest.approx(13e-3)


def test_copies_of_earlier_inputs_lie_beside_the_path_of_a_later_one() -> None:
    layers = (
        Layer("a", "input"),
        Layer("b", "convolution", (0,)),
        Layer("join", "add", (0, 1)),
    )
    direct: dict = {("chw", "hcw"): 1e-3, ("hcw", "hwc"): 2e-3}
    options = NetworkOptions(
        Network("join", layers),
        (
            (Option("a", "chw", "chw", 0.0),),
            (Option("b", "chw", "chw", 1e-3),),
            (Option("join", "hwc", "hwc", 1e-3, workspace_bytes=5),),
        ),
        (direct,) * 3,
        live_bytes=(0, 0, 0),
        tensor_bytes=(10, 30, 10),
    )
    assert price(options, (0, 0, 0)).memory_bytes("peak-live") == 10 + 2 * 30
    assert frontier(options, "peak-live").points[0].memory_bytes == 70


def test_paths() -> None:
    found_paths = paths(TWO_STEPS)
    assert found_paths["chw", "hwc"] == (3 * 10**9, 2)
    assert found_paths["chw", "chw"] == (0, 0)
    assert ("hwc", "chw") not in found_paths
    tie = paths({("chw", "hcw"): 1e-3, ("hcw", "hwc"): 1e-3, ("chw", "hwc"): 2e-3})
    assert tie["chw", "hwc"] == (2 * 10**9, 1)


def test_what_cannot_be_connected_is_named() -> None:
    options = chain((Option("a", "chw", "chw", 0.0),), (Option("b", "hwc", "hwc", 1e-3),))
    with pytest.raises(InfeasiblePlanError, match=r"layer 0.*chw.*hwc.*layer 1"):
        price(options, (0, 0))
    for memory in MEMORIES:
        with pytest.raises(NoPlanError, match="chain"):
            frontier(options, memory)


@pytest.mark.parametrize("time_s", [float("nan"), float("inf"), -1e-3])
def test_times_that_are_none_are_refused(time_s: float) -> None:
    options = chain((Option("a", "chw", "chw", time_s),))
    for ask in (lambda: price(options, (0,)), lambda: frontier(options, "peak-workspace")):
        with pytest.raises(PlanningError, match="layer 0, a: execute_s"):
            ask()


def test_times_beyond_what_is_counted_are_refused() -> None:
    with pytest.raises(PlanningError, match="picoseconds"):
        frontier(chain((Option("a", "chw", "chw", 1e4),)), "total")


def test_choices_of_another_length_are_refused() -> None:
    with pytest.raises(PlanningError, match="2 choices for 1 layers"):
        price(chain((Option("a", "chw", "chw", 1e-3),)), (0, 0))


def test_picoseconds_round_half_to_even() -> None:
    assert [picoseconds(time_s) for time_s in (0.5e-12, 1.5e-12, 2.5e-12, 1e-3)] == [0, 2, 2, 10**9]


# -- frontiers --------------------------------------------------------------------------------------------


def front(*pairs: tuple[int, float]) -> Frontier:
    return Frontier("n", "total", tuple(Point(m, t, (at,)) for at, (m, t) in enumerate(pairs)))


def test_what_is_asked_of_a_frontier() -> None:
    own = front((10, 8.0), (12, 4.0), (20, 2.2), (90, 2.0))
    assert own.best(19).memory_bytes == 12
    assert own.best(10**6).memory_bytes == 90
    assert own.within(0.15).memory_bytes == 20
    assert own.within(0.0).memory_bytes == 90
    assert own.knee.memory_bytes == 20  # x + y: 1, 2/80 + 2/6, 10/80 + 0.2/6, 1
    assert front((10, 8.0), (12, 4.0)).knee.memory_bytes == 10
    assert front((10, 8.0)).knee == front((10, 8.0)).within(0.0)
    with pytest.raises(DoesNotFitError, match="at least 10 bytes, the budget is 9"):
        own.best(9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(MEMORIES), st.integers(0, 120))
def test_no_choice_beats_a_frontier(seed: int, memory: Memory, budget: int) -> None:
    options = random_case(seed, most_layers=5)
    prices = [own for _, own in every_price(options)]
    if not prices:
        return
    own = frontier(options, memory)
    pairs = [(point.memory_bytes, point.time_s) for point in own.points]
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in itertools.pairwise(pairs))
    within = [each.time_s for each in prices if each.memory_bytes(memory) <= budget]
    if within:
        assert own.best(budget).time_s == min(within)
    else:
        with pytest.raises(DoesNotFitError):
            own.best(budget)


def large(name: str, seed: int = 0, primitives: int = 30) -> NetworkOptions:
    """A network of the catalogue with random primitives for its convolutions."""
    network = catalogue.build(name)
    rng = random.Random(seed)
    layers = []
    for layer in network.layers:
        if not layer.inputs:
            layers.append((Option("input", "chw", "chw", 0.0),))
        elif layer.op == "convolution":
            layers.append(
                tuple(
                    Option(
                        f"p{at}",
                        rng.choice(LAYOUTS),
                        rng.choice(LAYOUTS),
                        rng.uniform(1e-3, 2e-2),
                        rng.randrange(10**7),
                        rng.choice((1, 4)) * layer.weight_bytes,
                    )
                    for at in range(primitives)
                )
            )
        else:
            layers.append(tuple(Option(own, own, own, rng.uniform(1e-4, 1e-3)) for own in LAYOUTS))
    direct = [{pair: rng.uniform(1e-5, 1e-3) for pair in itertools.permutations(LAYOUTS, 2)} for _ in layers]
    sizes = tuple(layer.output_bytes for layer in network.layers)
    return NetworkOptions(network, tuple(layers), tuple(direct), network.live_bytes, sizes)


@pytest.mark.parametrize("memory", ["peak-workspace", "peak-live"])
def test_large_branching_networks_agree_with_programmes(memory: Memory) -> None:
    options = large("SqueezeNet 1.1")
    own = frontier(options, memory)
    assert len(own.points) > 10
    middle = own.points[len(own.points) // 2]
    programmed = Programme(problem(options, memory)).best(middle.memory_bytes)
    assert programmed.time_ps == picoseconds(middle.time_s)
    assert programmed.memory_bytes == middle.memory_bytes
    assert solve(options, memory, middle.memory_bytes).time_s == middle.time_s


def test_more_bounds_than_are_taken_at_a_time() -> None:
    options = large("GoogLeNet", primitives=40)
    own = frontier(options, "peak-workspace")
    halves = own.points[len(own.points) // 2]
    assert frontier(options, "peak-workspace", at_most_bytes=halves.memory_bytes).points == tuple(
        point for point in own.points if point.memory_bytes <= halves.memory_bytes
    )


def test_branches_are_decided_apart() -> None:
    # a ring of six variables: no table need span more than three of them
    order, cells = elimination_order([(at, (at + 1) % 6) for at in range(6)], dict.fromkeys(range(6), 3))
    assert sorted(order) == list(range(6))
    assert cells == 3**3
