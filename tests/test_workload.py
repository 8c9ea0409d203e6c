"""Mixes, streams and the plan of a run."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from edgesched.workloads import workload as module
from edgesched.workloads.arrivals import Closed
from edgesched.workloads.mix import Composition, Fixed, Member, Mix, draw, names_of
from edgesched.workloads.workload import RequestPlan, Workload, child_generator, generate

ADAPTER: TypeAdapter[Any] = TypeAdapter(Mix)
POOL = ["TinyYolo", "AgeNet", "GenderNet", "FaceNet", "SceneNet"]
N = 40_000

QUADCOPTER = {
    "mix": "choice",
    "alternatives": [{"weight": 0.75, "networks": ["TinyYolo"]}, {"weight": 0.25, "networks": POOL}],
}
FACES = {
    "mix": "dependency",
    "stages": [
        {"networks": ["SceneNet", "FaceNet"]},
        {"networks": ["AgeNet", "GenderNet"], "after": "FaceNet", "probability": 0.6},
        {"networks": ["EmotionNet"], "after": "GenderNet", "probability": 0.5},
    ],
}
MIXES: list[Any] = [
    POOL,
    {"mix": "random", "pool": POOL, "count": 2},
    {"mix": "random", "pool": POOL, "count": 7, "replacement": True},
    {"mix": "random", "pool": ["A", "B"], "weights": {"A": 3, "B": 1}},
    {"mix": "random-composition", "pool": POOL, "largest": 3},
    QUADCOPTER,
    FACES,
]


def mix(data: Any) -> Any:
    return ADAPTER.validate_python(data)


def drawn(data: Any, n: int = N, seed: int = 1) -> list[Composition]:
    compositions, indices = draw(mix(data), n, np.random.default_rng(seed))
    assert len(set(compositions)) == len(compositions)
    assert len(indices) == n
    return [compositions[index] for index in indices]


def names(composition: Composition) -> tuple[str, ...]:
    return tuple(member.network for member in composition)


def near(seen: int, probability: float, n: int = N) -> bool:
    return abs(seen - n * probability) < 4 * math.sqrt(n * probability * (1 - probability))


# --- mixes --------------------------------------------------------------------------------------------------


def test_a_list_is_a_fixed_mix() -> None:
    assert mix(["A", "B", "A"]) == Fixed(networks=("A", "B", "A"))
    assert drawn(["A", "B", "A"], 2) == [(Member("A", -1), Member("B", -1), Member("A", -1))] * 2


def test_random_with_replacement_is_uniform_and_independent() -> None:
    seen = Counter(map(names, drawn({"mix": "random", "pool": POOL, "count": 2, "replacement": True})))
    assert len(seen) == 25
    assert all(near(count, 1 / 25) for count in seen.values())


def test_random_without_replacement_draws_every_order_equally() -> None:
    seen = Counter(map(names, drawn({"mix": "random", "pool": POOL, "count": 3})))
    assert len(seen) == 60
    assert all(near(count, 1 / 60) for count in seen.values())
    assert all(len(set(row)) == 3 for row in seen)


@pytest.mark.parametrize("replacement", [False, True])
def test_weights_follow_successive_draws(replacement: bool) -> None:
    weights = {"A": 5.0, "B": 3.0, "C": 2.0}
    data = {"mix": "random", "pool": list("ABC"), "count": 2, "replacement": replacement, "weights": weights}
    seen = Counter(map(names, drawn(data)))
    for (first, second), count in seen.items():
        left = 10.0 if replacement else 10.0 - weights[first]
        assert near(count, weights[first] / 10 * weights[second] / left)
    assert len(seen) == (9 if replacement else 6)


def test_random_composition_has_a_truncated_geometric_size() -> None:
    pool = [f"net{i}" for i in range(10)]
    rows = drawn({"mix": "random-composition", "pool": pool})
    sizes = Counter(map(len, rows))
    for size in range(1, 8):
        assert near(sizes[size], 0.5**size)
    mean = np.mean([len(row) for row in rows])
    assert abs(mean - 1.998) < 4 * math.sqrt(2 / N)  # the mean of the EdgeCaffe generator
    assert all(len(set(names(row))) == len(row) for row in rows)
    assert near(sum(row[0].network == "net3" for row in rows), 0.1)
    small = Counter(map(len, drawn({"mix": "random-composition", "pool": pool, "largest": 3})))
    assert near(small[3], 0.25)
    assert set(small) == {1, 2, 3}


def test_choice_follows_its_weights() -> None:
    seen = Counter(map(names, drawn(QUADCOPTER)))
    assert near(seen[("TinyYolo",)], 0.75)
    assert near(seen[tuple(POOL)], 0.25)


def test_dependency_names_the_member_to_wait_for_and_leaves_the_untriggered_out() -> None:
    seen = Counter(drawn(FACES))
    scene, face = Member("SceneNet"), Member("FaceNet")
    none = (scene, face)
    some = (*none, Member("AgeNet", 1), Member("GenderNet", 1))
    every = (*some, Member("EmotionNet", 3))
    assert set(seen) == {none, some, every}
    assert near(seen[none], 0.4)
    assert near(seen[every], 0.3)


@pytest.mark.parametrize("data", MIXES)
def test_fewer_compositions_are_a_prefix_of_more(data: Any) -> None:
    assert drawn(data, 10) == drawn(data, 20)[:10]
    assert drawn(data, 0) == []


def test_draws_do_not_depend_on_the_chunks() -> None:
    pool = [f"net{i}" for i in range(1000)]
    data = {"mix": "random", "pool": pool, "count": 2}
    assert drawn(data, 400) == drawn(data, 1100)[:400]  # a chunk is 524 rows of 1000


@pytest.mark.parametrize("data", MIXES)
def test_names_of_covers_what_is_drawn(data: Any) -> None:
    known = names_of(mix(data))
    assert len(set(known)) == len(known)
    assert {name for row in drawn(data, 2000) for name in names(row)} == set(known)


@pytest.mark.parametrize(
    ("data", "where", "message"),
    [
        ("A", (), "'A': must be a list of network names, or a mapping"),
        ([], (), "must not be empty"),
        (["A", ""], (1,), "at least 1 character"),
        ({"mix": "rondom", "pool": ["A"]}, ("mix",), "did you mean random"),
        ({"pool": ["A"]}, ("mix",), "mix is missing"),
        ({"mix": "random", "pool": ["A"], "count": 2}, (), "count is 2, but the pool has 1"),
        ({"mix": "random", "pool": ["A"], "count": 1001}, ("count",), "less than or equal to 1000"),
        ({"mix": "random", "pool": ["A", "A"]}, (), "pool names A more than once"),
        ({"mix": "random", "pool": ["A", "B"], "weights": {"A": 1, "C": 1}}, (), "['B', 'C'] differ"),
        ({"mix": "random", "pool": ["A"], "weights": {"A": 0}}, ("weights", "A"), "greater than"),
        ({"mix": "random", "pool": []}, ("pool",), "must not be empty"),
        (
            {"mix": "random-composition", "pool": ["A"], "largest": 2},
            (),
            "largest is 2, but the pool has only 1",
        ),
        ({"mix": "choice", "alternatives": []}, ("alternatives",), "must not be empty"),
        (
            {"mix": "choice", "alternatives": [{"networks": ["A"], "weight": math.nan}]},
            ("alternatives", 0, "weight"),
            "finite",
        ),
        (
            {"mix": "dependency", "stages": [{"networks": ["A"], "probability": 0.5}]},
            (),
            "first stage always",
        ),
        (
            {"mix": "dependency", "stages": [{"networks": ["A"], "probability": 2}]},
            ("stages", 0, "probability"),
            "less than or equal to 1",
        ),
        (
            {"mix": "dependency", "stages": [{"networks": ["A"]}, {"networks": ["B"], "after": "B"}]},
            (),
            "stage 2: after is 'B', named nowhere in the stages before",
        ),
        (
            {"mix": "dependency", "stages": [{"networks": ["A", "A"]}, {"networks": ["B"], "after": "A"}]},
            (),
            "named several times",
        ),
    ],
)
def test_mix_errors_stand_at_the_key(data: Any, where: tuple[str | int, ...], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        mix(data)
    [error] = caught.value.errors()
    assert error["loc"] == where
    assert message in error["msg"]


# --- workloads ----------------------------------------------------------------------------------------------

CAMERA = {"name": "camera", "arrivals": {"process": "poisson", "rate_per_s": 5}, "networks": QUADCOPTER}
AUDIO = {
    "name": "audio",
    "arrivals": {"process": "gamma", "rate_per_s": 2, "cv": 2},
    "networks": {"mix": "random", "pool": ["Speech", "Keyword", "Noise"]},
    "deadline_s": {"Speech": 0.5},
}
LIDAR = {"name": "lidar", "arrivals": {"process": "deterministic", "period_s": 0.5}, "networks": ["Points"]}


def workload(*streams: Any) -> Workload:
    return Workload.model_validate({"streams": list(streams)})


def requests(plan: RequestPlan, stream: str) -> list[tuple[float, Composition]]:
    """Arrival times and compositions of one stream."""
    index = plan.streams.index(stream)
    times = np.cumsum(plan.gap_s)
    return [
        (round(float(time), 9), plan.compositions[which])
        for time, which, at in zip(times, plan.composition, plan.stream, strict=True)
        if at == index
    ]


def test_short_form_is_one_stream() -> None:
    short = Workload.model_validate({"arrivals": {"process": "batch"}, "networks": ["A"], "deadline_s": 2})
    [stream] = short.streams
    assert stream.name == "images"
    assert stream.deadline_s == 2
    assert short == workload(
        {"name": "images", "arrivals": {"process": "batch"}, "networks": ["A"], "deadline_s": 2}
    )


@pytest.mark.parametrize("data", MIXES)
def test_workload_round_trip_through_yaml(data: Any) -> None:
    original = workload({**AUDIO, "networks": data, "deadline_s": 3}, LIDAR)
    text = yaml.safe_dump(original.model_dump(mode="json", exclude_none=True))
    assert Workload.model_validate(yaml.safe_load(text)) == original
    assert Workload.model_validate_json(original.model_dump_json()) == original


NAMES = st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable())


@given(
    st.lists(NAMES, min_size=1, max_size=4, unique=True),
    st.lists(NAMES, min_size=1, max_size=6, unique=True),
    st.floats(1e-9, 1e9),
    st.integers(1, 10_000_000) | st.none(),
    st.data(),
)
def test_any_workload_round_trips(
    stream_names: list[str], pool: list[str], deadline: float, count: int | None, data: st.DataObject
) -> None:
    deadlines = st.none() | st.just(deadline) | st.just({pool[0]: deadline})
    mixes = st.sampled_from(
        [
            pool,
            {"mix": "random", "pool": pool, "count": len(pool)},
            {"mix": "random-composition", "pool": pool},
            {"mix": "choice", "alternatives": [{"networks": pool}]},
            {"mix": "dependency", "stages": [{"networks": pool}, {"networks": ["x"], "after": pool[0]}]},
        ]
    )
    streams = [
        {
            "name": name,
            "arrivals": {"process": "poisson", "mean_gap_s": deadline},
            "networks": data.draw(mixes),
            "deadline_s": data.draw(deadlines),
            "count": count,
        }
        for name in stream_names
    ]
    original = workload(*streams)
    assert Workload.model_validate(json.loads(original.model_dump_json(exclude_none=True))) == original
    plan = generate(original, count=20, seed=1)
    assert set(plan.stream) <= set(range(len(streams)))
    assert len(plan.gap_s) == len(plan.composition) == min(20, len(streams) * (count or 20))


def test_json_schema_allows_the_short_forms() -> None:
    schema = json.dumps(Workload.model_json_schema())
    assert '"anyOf"' in schema
    for name in ("poisson", "mmpp", "random-composition", "dependency"):
        assert f'"const": "{name}"' in schema


@pytest.mark.parametrize(
    ("data", "where", "message"),
    [
        ({"streams": []}, ("streams",), "must not be empty"),
        ({}, ("arrivals",), "required"),
        (
            {"arrivals": {"process": "poisson", "rate_per_s": -1}, "networks": ["A"]},
            ("arrivals", "rate_per_s"),
            "gre",
        ),
        ({"streams": [{**LIDAR, "networks": ["A", 3]}]}, ("streams", 0, "networks", 1), "valid string"),
        (
            {"streams": [{**LIDAR, "arrivals": {"process": "x"}}]},
            ("streams", 0, "arrivals", "process"),
            "is 'x'",
        ),
        ({"streams": [{**LIDAR, "deadline_s": 0}]}, ("streams", 0, "deadline_s"), "greater than"),
        ({"streams": [{**LIDAR, "deadline_s": {}}]}, ("streams", 0, "deadline_s"), "must not be empty"),
        (
            {"streams": [{**LIDAR, "deadline_s": {"Points": 0}}]},
            ("streams", 0, "deadline_s", "Points"),
            "greater",
        ),
        (
            {"streams": [{**LIDAR, "deadline_s": {"Point": 1}}]},
            ("streams", 0),
            "deadline_s names Point, which",
        ),
        ({"streams": [{**LIDAR, "count": 10_000_001}]}, ("streams", 0, "count"), "less than"),
        ({"streams": [{**LIDAR, "count": True}]}, ("streams", 0, "count"), "must be a number"),
        ({"streams": [LIDAR, LIDAR]}, (), "several streams are named 'lidar'"),
        ({"arrivals": {"process": "batch"}}, (), "networks is missing"),
        ({"arrivals": {"process": "batch"}, "networks": ["A"], "policy": "x"}, ("policy",), "not permitted"),
    ],
)
def test_workload_errors_stand_at_the_key(data: Any, where: tuple[str | int, ...], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Workload.model_validate(data)
    [error] = caught.value.errors()
    assert error["loc"] == where
    assert message in error["msg"]


# --- the plan -----------------------------------------------------------------------------------------------


def test_one_stream_keeps_its_gaps_to_the_last_bit() -> None:
    plan = generate(workload(LIDAR), count=4, seed=1)
    assert list(plan.gap_s) == [0.0, 0.5, 0.5, 0.5]
    assert list(plan.stream) == [0] * 4
    assert [plan.compositions[i] for i in plan.composition] == [(Member("Points"),)] * 4
    assert plan.closed == []


def test_streams_merge_in_time_and_ties_go_by_stream() -> None:
    other = {**LIDAR, "name": "sonar", "arrivals": {"process": "deterministic", "period_s": 0.25}}
    plan = generate(workload(other, LIDAR), duration_s=1, seed=1)
    assert list(plan.gap_s) == [0, 0, 0.25, 0.25, 0, 0.25]
    assert list(plan.stream) == [0, 1, 0, 0, 1, 0]
    plan = generate(workload(LIDAR, other), duration_s=1, seed=1)
    assert list(plan.stream) == [0, 1, 1, 0, 1, 1]


def test_count_ends_the_open_streams_together() -> None:
    plan = generate(workload(CAMERA, AUDIO, LIDAR), count=1000, seed=1)
    assert len(plan.gap_s) == len(plan.stream) == len(plan.composition) == 1000
    assert min(plan.gap_s) >= 0
    # Rates 5, 2 and 2 per second share the requests out.
    assert near(plan.stream.count(0), 5 / 9, 1000)


def test_a_stream_ends_after_its_own_count() -> None:
    plan = generate(workload({**CAMERA, "count": 7}, LIDAR), duration_s=100, seed=1)
    assert plan.stream.count(0) == 7
    assert plan.stream.count(1) == 200


def test_the_first_bound_reached_counts() -> None:
    assert len(generate(workload(LIDAR), count=3, duration_s=100, seed=1).gap_s) == 3
    assert len(generate(workload(LIDAR), count=300, duration_s=10, seed=1).gap_s) == 20


def test_another_stream_changes_nothing_in_the_others() -> None:
    alone = generate(workload(CAMERA), duration_s=200, seed=5)
    beside = generate(workload(AUDIO, LIDAR, CAMERA), duration_s=200, seed=5)
    assert requests(alone, "camera") == requests(beside, "camera")
    counted = generate(workload(AUDIO, LIDAR, CAMERA), count=500, seed=5)
    few = requests(counted, "camera")
    assert few == requests(beside, "camera")[: len(few)]


def test_a_shorter_run_is_a_prefix() -> None:
    streams = workload(AUDIO, CAMERA)
    short, long = generate(streams, count=300, seed=5), generate(streams, count=900, seed=5)
    assert long.gap_s[:300] == short.gap_s
    for name in ("audio", "camera"):
        few = requests(short, name)
        assert few == requests(long, name)[: len(few)]


def test_equal_seeds_give_equal_bytes_and_other_seeds_do_not() -> None:
    streams = workload(AUDIO, CAMERA)

    def content(**keys: Any) -> bytes:
        plan = generate(streams, duration_s=50, **keys)
        return b"".join([plan.gap_s.tobytes(), plan.stream.tobytes(), plan.composition.tobytes()])

    base = content(seed=7)
    assert base == content(seed=7) == content(seed=[7], replication=0)
    others = [content(seed=8), content(seed=[7, 1]), content(seed=7, replication=1)]
    assert len({base, *others}) == 4


def test_arrivals_are_common_over_rates() -> None:
    slow = generate(workload(CAMERA), count=500, seed=5)
    fast = generate(
        workload({**CAMERA, "arrivals": {"process": "server", "rate_per_s": 10}}), count=500, seed=5
    )
    assert [gap / 2 for gap in slow.gap_s] == list(fast.gap_s)
    assert slow.composition == fast.composition


def test_child_generators_are_keyed_by_content() -> None:
    first = child_generator(1, 0, "noise", "a").random()
    assert first == child_generator([1], 0, "noise", "a").random()
    others = [(1, 0, "noise", "b"), (1, 0, "mix", "a"), (1, 1, "noise", "a"), (2, 0, "noise", "a")]
    assert len({first, *(child_generator(*key).random() for key in others)}) == 5
    for seed, replication in ((-1, 0), ([], 0), (1, -1)):
        with pytest.raises(ValueError, match="must be"):
            child_generator(seed, replication, "noise")


def test_closed_streams() -> None:
    batch = {"name": "batch", "arrivals": {"process": "batch"}, "networks": ["A", "B"]}
    multi = {
        **AUDIO,
        "name": "multi",
        "arrivals": {"process": "multi-stream", "samples_per_query": 4},
        "count": 6,
    }
    plan = generate(workload(batch, LIDAR, multi), duration_s=10, seed=1)
    first, second = plan.closed
    assert (first.stream, first.process, first.limit) == (0, Closed("idle"), None)
    indices = first.indices()
    assert [plan.compositions[next(indices)] for _ in range(3)] == [(Member("A"), Member("B"))] * 3
    assert (second.stream, second.process, second.limit) == (2, Closed("outstanding", 4, 4), 6)
    assert len(list(second.indices())) == 6
    assert plan.deadline_s == [None, None, {"Speech": 0.5}]
    counted = generate(workload(batch), count=150, seed=1)
    assert len(list(counted.closed[0].indices())) == 150
    assert len(counted.gap_s) == 0


def test_closed_compositions_are_a_prefix() -> None:
    stream = workload({**AUDIO, "arrivals": {"process": "single-stream"}})
    short, long = generate(stream, count=50, seed=3), generate(stream, count=90, seed=3)
    first = [short.compositions[i] for i in short.closed[0].indices()]
    assert first == [long.compositions[i] for i in long.closed[0].indices()][:50]


@pytest.mark.parametrize(
    ("stream", "bounds", "message"),
    [
        (
            CAMERA,
            {},
            "stream 'camera': poisson arrivals have no end of their own: give a count or a duration_s",
        ),
        (
            {**LIDAR, "arrivals": {"process": "offline"}},
            {"duration_s": 1},
            "stream 'lidar': offline arrivals have no",
        ),
        ({**LIDAR, "arrivals": {"process": "batch"}}, {}, "stream 'lidar': batch arrivals have no end"),
        (
            {**CAMERA, "arrivals": {"process": "single-stream"}},
            {"duration_s": 9},
            "stream 'camera': how many requests a closed stream brings .* give the stream a count",
        ),
        (CAMERA, {"count": 0}, "count is 0, must lie in 1..10000000"),
        (CAMERA, {"count": 10_000_001}, "count is 10000001"),
        (CAMERA, {"duration_s": 0}, "duration_s is 0, must be above 0"),
        (CAMERA, {"duration_s": math.nan}, "duration_s is nan"),
        (CAMERA, {"duration_s": 1e9}, "stream 'camera': poisson brings more than 10000000 requests"),
    ],
)
def test_runs_without_an_end_are_refused(stream: Any, bounds: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(workload(stream), seed=1, **bounds)


def test_streams_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REQUESTS", 100)
    with pytest.raises(ValueError, match="bring 120 requests together, at most 100"):
        generate(workload(LIDAR, {**LIDAR, "name": "b"}), duration_s=30, seed=1)


def test_a_run_shorter_than_the_first_gap_is_empty() -> None:
    late = {**LIDAR, "arrivals": {"process": "deterministic", "period_s": 1, "offset_s": 5}}
    plan = generate(workload(late), duration_s=1, seed=1)
    assert len(plan.gap_s) == len(plan.composition) == 0
    assert plan.compositions == []


# --- replay in a workload -----------------------------------------------------------------------------------

REPLAY = {"process": "replay", "file": "list.csv", "repeat": 2}


def test_replayed_networks(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("gap_s,networks\n1,A\n2,B+A\n3,A\n")
    replay = workload({"arrivals": REPLAY, "deadline_s": {"B": 1}})
    assert replay.networks(tmp_path) == ("A", "B")
    plan = generate(replay, seed=1, folder=tmp_path)
    assert list(plan.gap_s) == [1, 2, 3, 1, 2, 3]
    assert [names(plan.compositions[i]) for i in plan.composition] == [("A",), ("B", "A"), ("A",)] * 2
    merged = generate(
        workload(LIDAR, {"arrivals": REPLAY, "count": 4}), duration_s=100, seed=1, folder=tmp_path
    )
    assert [names(which) for _, which in requests(merged, "images")] == [("A",), ("B", "A"), ("A",), ("A",)]


def test_replayed_times_with_a_mix(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("arrival_s\n1\n2\n")
    plan = generate(workload({"arrivals": REPLAY, "networks": QUADCOPTER}), count=3, seed=1, folder=tmp_path)
    assert list(plan.gap_s) == [1, 1, 1]
    assert workload({"arrivals": REPLAY, "networks": QUADCOPTER}).networks(tmp_path) == tuple(POOL)


@pytest.mark.parametrize(
    ("text", "stream", "message"),
    [
        (
            "gap_s,networks\n1,A\n",
            {"networks": ["A"]},
            "'images': both the replayed file and the stream name networks",
        ),
        ("gap_s\n1\n", {}, "'images': the replayed file has no column networks"),
        ("gap_s,networks\n1,A\n", {"deadline_s": {"B": 1}}, "'images': deadline_s names B"),
        ("gap_s\n-1\n", {"networks": ["A"]}, "'images': .*list.csv, line 2, column gap_s: '-1'"),
    ],
)
def test_replay_that_does_not_suit(tmp_path: Path, text: str, stream: Any, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        generate(workload({"arrivals": REPLAY, **stream}), count=1, seed=1, folder=tmp_path)
