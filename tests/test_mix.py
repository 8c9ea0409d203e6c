"""Mixes: which networks an image needs."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from streams import FACES, MIXES, POOL, QUADCOPTER, N, names, near

from edgesched.workloads.mix import Composition, Fixed, Member, Mix, draw, names_of

ADAPTER: TypeAdapter[Any] = TypeAdapter(Mix)


def mix(data: Any) -> Any:
    return ADAPTER.validate_python(data)


def drawn(data: Any, n: int = N, seed: int = 1) -> list[Composition]:
    compositions, indices = draw(mix(data), n, np.random.default_rng(seed))
    assert len(set(compositions)) == len(compositions)
    assert len(indices) == n
    return [compositions[index] for index in indices]


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
