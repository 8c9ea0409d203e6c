"""The sweep grid: order, keys, dotted paths, and what is refused."""

import copy
import hashlib
import math
import re

import pytest

from edgesched.runs import grid
from edgesched.runs.grid import GridError, Point, expand, point_key

BASE = {
    "device": "pi3",
    "workload": {
        "arrivals": {"process": "poisson", "rate_per_s": 0.1},
        "streams": [{"networks": ["AgeNet"], "arrivals": {"rate_per_s": 1.0}}, {"networks": ["FaceNet"]}],
    },
    "run": {"count": 10},
}


def grow(sweep: dict, **kwargs: object) -> list[Point]:
    return expand(BASE, sweep, **{"version": "1.0", **kwargs})


def test_the_last_path_varies_fastest() -> None:
    points = grow({"device": ["pi3", "pi4"], "run.count": [1, 2, 3]})
    assert [(p.scenario["device"], p.scenario["run"]["count"]) for p in points] == [
        ("pi3", 1), ("pi3", 2), ("pi3", 3), ("pi4", 1), ("pi4", 2), ("pi4", 3),
    ]  # fmt: skip
    assert points[4].settings == {"device": "pi4", "run.count": 2}


def test_replications_vary_faster_still() -> None:
    points = grow({"device": ["pi3", "pi4"]}, replications=3)
    assert [(p.scenario["device"], p.replication) for p in points] == [
        (device, replication) for device in ("pi3", "pi4") for replication in range(3)
    ]
    assert len({p.key for p in points}) == 6


def test_no_sweep_is_the_base_alone() -> None:
    (point,) = grow({})
    assert point == Point(point_key(BASE, replication=0, version="1.0"), {}, BASE)


def test_lists_are_indexed_and_the_base_is_left_alone() -> None:
    before = copy.deepcopy(BASE)
    rates, other = [2.0, 3.0], [{"networks": []}]
    points = grow({"workload.streams.0.arrivals.rate_per_s": rates, "workload.streams.1": other})
    assert [p.scenario["workload"]["streams"] for p in points] == [
        [{"networks": ["AgeNet"], "arrivals": {"rate_per_s": rate}}, {"networks": []}] for rate in (2.0, 3.0)
    ]
    assert before == BASE


def test_a_whole_mapping_and_then_a_path_inside_it() -> None:
    points = grow(
        {
            "workload.arrivals": [{"process": "periodic"}, {"process": "poisson"}],
            "workload.arrivals.rate_per_s": [1, 2],
        }
    )
    assert [p.scenario["workload"]["arrivals"] for p in points] == [
        {"process": process, "rate_per_s": rate} for process in ("periodic", "poisson") for rate in (1, 2)
    ]


def test_zip_changes_paths_together() -> None:
    rate = "workload.arrivals.rate_per_s"
    load = [{"run.count": 1, rate: 0.5}, {"run.count": 2, rate: 0.7}]
    points = grow({"zip load": load, "device": ["pi3", "pi4"]})
    assert [p.settings for p in points] == [
        {"run.count": count, rate: per_s, "device": device}
        for count, per_s in ((1, 0.5), (2, 0.7))
        for device in ("pi3", "pi4")
    ]
    assert points[3].scenario["workload"]["arrivals"] == {"process": "poisson", "rate_per_s": 0.7}
    assert points[3].scenario["run"] == {"count": 2}


def test_a_new_last_key_is_allowed() -> None:
    (point,) = grow({"run.warmup_s": [5]})
    assert point.scenario["run"] == {"count": 10, "warmup_s": 5}


def test_the_key_is_the_content() -> None:
    reordered = {name: BASE[name] for name in reversed(BASE)}
    key = point_key(BASE, replication=0, version="1.0")
    assert re.fullmatch("[0-9a-f]{20}", key)
    assert key == point_key(reordered, replication=0, version="1.0")
    others = {
        point_key(BASE, replication=1, version="1.0"),
        point_key(BASE, replication=0, version="1.1"),
        point_key({**BASE, "device": "pi4"}, replication=0, version="1.0"),
    }
    assert len(others | {key}) == 4
    # How a point came about does not matter: a resumed, larger sweep finds the points of the smaller one.
    assert grow({"device": ["pi3", "pi4"]})[0].key == key
    assert grow({"run.count": [9, 10]})[1].key == key


def test_the_key_is_sha256_of_canonical_json() -> None:
    text = r'{"replication":2,"scenario":{"a":[1,2.5,true,null,"\u00e9"],"b":Infinity},"version":"0.1.0"}'
    scenario = {"b": math.inf, "a": [1, 2.5, True, None, "é"]}
    assert (
        point_key(scenario, replication=2, version="0.1.0") == hashlib.sha256(text.encode()).hexdigest()[:20]
    )


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (
            {"workload.arivals.rate_per_s": [1]},
            "workload.arivals.rate_per_s: no 'arivals' in 'workload'; "
            "the nearest existing path is 'workload.arrivals' (it has: arrivals, streams)",
        ),
        ({"wrkload.arrivals": [1]}, "no 'wrkload' in the scenario; the nearest existing path is 'workload'"),
        (
            {"device.memory_bytes": [1]},
            "device.memory_bytes: there is nothing below 'device', which is 'pi3'",
        ),
        ({"workload.streams.2.networks": [1]}, "'workload.streams' is a list of 2; '2' is not an index"),
        ({"workload.streams.-1": [1]}, "'-1' is not an index"),
        ({"workload.streams.first": [1]}, "'first' is not an index"),
        ({"run.": [1]}, "no '' in 'run'"),
        ({"run.count": []}, "run.count: the list of values is empty"),
        ({"run.count": 3}, "run.count: a sweep needs a list of values, not int"),
        ({"device": "pi3"}, "device: a sweep needs a list of values, not str"),
        ({"run.count": [1, 2, 1]}, "run.count: the value 1 is given twice"),
        ({"run.count": [1], "zip a": [{"run.count": 2}]}, "run.count: the path is swept twice"),
        ({"run.count": [1], "run": [{"count": 2}]}, "run: would overwrite run.count"),
        (
            {"zip a": [{"run.count": 2}, {"device": "x"}]},
            "zip a: items must set the same paths, but ['run.count'] and ['device']",
        ),
        ({"zip a": [3]}, "zip a: each item must map dotted paths to values, not 3"),
        ({"device": [{1, 2}]}, "is not plain data"),
        ({"run.count": list(range(1000)), "run.a": list(range(1001))}, "the grid has 1001000 points"),
    ],
)
def test_refusals(sweep: dict, message: str) -> None:
    with pytest.raises(GridError, match=re.escape(message)):
        grow(sweep)


def test_two_settings_of_one_scenario_are_refused() -> None:
    # What the second path puts into the first one's value makes the first one's values equal.
    sweep = {"workload.arrivals": [{"rate_per_s": 1}, {"rate_per_s": 2}], "workload.arrivals.rate_per_s": [3]}
    with pytest.raises(GridError, match="give the same scenario"):
        grow(sweep)


def test_no_replication_is_refused() -> None:
    with pytest.raises(GridError, match="replications is 0"):
        grow({}, replications=0)


def test_a_big_grid_is_quick() -> None:
    points = grow({"run.count": list(range(100)), "run.a": list(range(100))})
    assert len({p.key for p in points}) == 10_000
    assert grid.MAX_POINTS == 1_000_000
