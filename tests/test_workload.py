"""Workloads: streams of requests, checked, written and read again."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from streams import AUDIO, LIDAR, MIXES, workload

from edgesched.workloads.workload import Workload, generate


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
