"""The plan of a run: what its streams bring, and when."""

import math
from pathlib import Path
from typing import Any

import pytest
from streams import AUDIO, CAMERA, LIDAR, POOL, QUADCOPTER, names, near, requests, workload

from edgesched.workloads import workload as module
from edgesched.workloads.arrivals import Closed
from edgesched.workloads.mix import Member
from edgesched.workloads.workload import child_generator, generate


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
