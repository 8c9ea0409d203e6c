"""Which networks a request needs: always the same, drawn at random, or one triggered by another.

Every draw takes a fixed number of uniform numbers per request, so the first ten requests of twenty are the
ten of ten, whatever was drawn in them. Network names are not checked here; whoever knows the networks does.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    TypeAdapter,
    model_validator,
)

from .arrivals import MAX_NETWORKS, NotEmpty, Part, by_kind, not_boolean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int16]

Name = Annotated[str, Field(min_length=1, max_length=200)]
Names = Annotated[
    tuple[Name, ...], Field(max_length=MAX_NETWORKS, json_schema_extra={"minItems": 1}), NotEmpty
]
Weight = Annotated[float, Field(ge=1e-9, le=1e9, allow_inf_nan=False), BeforeValidator(not_boolean)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), BeforeValidator(not_boolean)]
Networks = Annotated[int, Field(ge=1, le=MAX_NETWORKS), BeforeValidator(not_boolean)]


class Member(NamedTuple):
    """One network of a request."""

    network: str
    after: int = -1
    """Index in the composition of the member that must be complete before this one starts; -1: none."""


Composition = tuple[Member, ...]
"""What one request runs, in order of submission. Networks that were not triggered are absent."""


def together(names: tuple[str, ...]) -> Composition:
    """A composition of independent networks."""
    return tuple(Member(name) for name in names)


def _distinct(pool: tuple[str, ...]) -> None:
    twice = sorted({name for name in pool if pool.count(name) > 1})
    if twice:
        raise ValueError(f"pool names {', '.join(twice)} more than once; to prefer a network use weights")


class Fixed(Part):
    """Every request runs the same networks. A plain list of names means this."""

    mix: Literal["fixed"] = "fixed"
    networks: Names


class Random(Part):
    """``count`` networks drawn from ``pool``, with or without replacement.

    ``weights`` names every network of the pool; without it all are equally likely. Without replacement, each
    next network is drawn among those left in proportion to their weights.
    """

    mix: Literal["random"] = "random"
    pool: Names
    count: Networks = 1
    replacement: bool = False
    weights: dict[str, Weight] | None = None

    @model_validator(mode="after")
    def _drawable(self) -> Random:
        _distinct(self.pool)
        if not self.replacement and self.count > len(self.pool):
            raise ValueError(
                f"count is {self.count}, but the pool has {len(self.pool)} networks; "
                f"count may be at most that without replacement"
            )
        if self.weights is not None and set(self.weights) != set(self.pool):
            wrong = sorted(set(self.weights) ^ set(self.pool))
            raise ValueError(f"weights must name every network of the pool and no other; {wrong} differ")
        return self


class RandomComposition(Part):
    """A random number of different networks from ``pool``, in random order.

    The number is min(G, K) with G geometric, P(G = g) = 2^-g for g = 1, 2, ..., and K = ``largest`` (the
    pool's size where it is left out); its mean is 2 (1 - 2^-K). Source: EdgeCaffe,
    ``scripts/percom/generate_stochastic.py``.
    """

    mix: Literal["random-composition"] = "random-composition"
    pool: Names
    largest: Networks | None = None

    @model_validator(mode="after")
    def _drawable(self) -> RandomComposition:
        _distinct(self.pool)
        if self.largest is not None and self.largest > len(self.pool):
            raise ValueError(f"largest is {self.largest}, but the pool has only {len(self.pool)} networks")
        return self


class Alternative(Part):
    """One list of networks and its weight among the alternatives."""

    weight: Weight = 1.0
    networks: Names


class Choice(Part):
    """One of several lists of networks, chosen in proportion to their weights."""

    mix: Literal["choice"] = "choice"
    alternatives: Annotated[
        tuple[Alternative, ...], Field(max_length=MAX_NETWORKS, json_schema_extra={"minItems": 1}), NotEmpty
    ]


class Stage(Part):
    """Networks that run together, when ``after`` ran and is complete, with ``probability``.

    One draw decides for the whole stage.
    """

    networks: Names
    after: Name | None = None
    probability: Probability = 1.0


class Dependency(Part):
    """Networks triggered by the results of others (a face found starts the age and gender networks).

    A stage whose ``after`` was not triggered is absent too. The first stage always runs.
    """

    mix: Literal["dependency"] = "dependency"
    stages: Annotated[tuple[Stage, ...], Field(max_length=100, json_schema_extra={"minItems": 1}), NotEmpty]

    @model_validator(mode="after")
    def _ordered(self) -> Dependency:
        if self.stages[0].after is not None or self.stages[0].probability != 1:
            raise ValueError("the first stage always runs: it has no after, and its probability is 1")
        earlier: list[str] = []
        for number, stage in enumerate(self.stages, 1):
            if stage.after is not None and earlier.count(stage.after) != 1:
                times = "several times" if stage.after in earlier else "nowhere"
                raise ValueError(
                    f"stage {number}: after is {stage.after!r}, named {times} in the stages before; must be "
                    f"named there once (they name {', '.join(dict.fromkeys(earlier))})"
                )
            earlier.extend(stage.networks)
        if len(earlier) > MAX_NETWORKS:
            raise ValueError(f"the stages name {len(earlier)} networks, at most {MAX_NETWORKS} are allowed")
        return self


_Kind = Fixed | Random | RandomComposition | Choice | Dependency
MIXES: dict[str, type[Part]] = {kind.model_fields["mix"].default: kind for kind in get_args(_Kind)}
_build = by_kind("mix", MIXES)
_names: TypeAdapter[tuple[str, ...]] = TypeAdapter(Names)


def _list_or_mix(data: Any) -> Any:
    if isinstance(data, list | tuple):
        return Fixed(networks=_names.validate_python(data))
    if isinstance(data, Mapping | Part):
        return _build(data)
    seen = repr(data)[:50]
    raise ValueError(f"{seen}: must be a list of network names, or a mapping with mix: {', '.join(MIXES)}")


class _OrNames:
    """Tells the JSON Schema that a plain list is allowed too."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        names = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
        return {"anyOf": [names, handler(schema)]}


Mix = Annotated[
    _Kind,
    Field(discriminator="mix"),
    BeforeValidator(_list_or_mix),
    _OrNames(),
]
"""Any mix, chosen by its key ``mix``; a plain list of names is ``fixed``."""


def names_of(mix: Mix) -> tuple[str, ...]:
    """The distinct networks that a mix can name, in the order in which it does."""
    match mix:
        case Fixed():
            names = mix.networks
        case Random() | RandomComposition():
            names = mix.pool
        case Choice():
            names = tuple(name for item in mix.alternatives for name in item.networks)
        case Dependency():
            names = tuple(name for stage in mix.stages for name in stage.networks)
    return tuple(dict.fromkeys(names))


def draw(mix: Mix, n: int, rng: np.random.Generator) -> tuple[list[Composition], array[int]]:
    """Draw the compositions of ``n`` requests.

    Returns the distinct compositions in order of appearance, and for each request the index of its own
    (shape n). A fixed mix draws nothing.
    """
    if isinstance(mix, Fixed):
        return ([together(mix.networks)] if n else []), array("i", bytes(4 * n))
    width = _width(mix)
    compositions: dict[Composition, int] = {}
    of_row: dict[bytes, int] = {}
    indices = array("i")
    chunk = max(1, (1 << 19) // width)
    for first in range(0, n, chunk):
        rows = _rows(mix, rng.random((min(chunk, n - first), width)))
        for key in rows.view(f"V{rows.itemsize * rows.shape[1]}").ravel().tolist():
            index = of_row.get(key)
            if index is None:
                composition = _composition(mix, array("h", key))
                index = of_row[key] = compositions.setdefault(composition, len(compositions))
            indices.append(index)
    return list(compositions), indices


def _width(mix: Random | RandomComposition | Choice | Dependency) -> int:
    """Uniform numbers per request."""
    match mix:
        case Random():
            return mix.count if mix.replacement else len(mix.pool)
        case RandomComposition():
            return 1 + len(mix.pool)
        case Choice():
            return 1
        case Dependency():
            return len(mix.stages)


def _rows(mix: Random | RandomComposition | Choice | Dependency, uniform: NDArray[np.float64]) -> Rows:
    """What was drawn, one row of small integers per request; equal rows are equal compositions."""
    import numpy as np

    match mix:
        case Random():
            weights = np.array([1.0 if mix.weights is None else mix.weights[name] for name in mix.pool])
            if mix.replacement:
                rows = _pick(weights, uniform)
            else:
                # A race of exponential clocks: the order in which they ring is the order of successive draws
                # in proportion to the weights (Efraimidis and Spirakis 2006).
                rows = np.argsort(-np.log1p(-uniform) / weights, axis=1, kind="stable")[:, : mix.count]
        case RandomComposition():
            largest = mix.largest or len(mix.pool)
            number = np.minimum(np.floor(-np.log2(1.0 - uniform[:, 0])) + 1, largest)
            rows = np.argsort(uniform[:, 1:], axis=1, kind="stable")[:, :largest]
            rows[np.arange(largest) >= number[:, None]] = -1
        case Choice():
            rows = _pick(np.array([item.weight for item in mix.alternatives]), uniform)
        case Dependency():
            triggered = uniform < np.array([stage.probability for stage in mix.stages])
            rows = triggered.astype(np.intp)
    return np.ascontiguousarray(rows, dtype=np.int16)


def _pick(weights: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.intp]:
    import numpy as np

    bounds = np.cumsum(weights)
    index = np.searchsorted(bounds / bounds[-1], uniform, side="right")
    return np.minimum(index, len(weights) - 1)


def _composition(mix: Random | RandomComposition | Choice | Dependency, row: array[int]) -> Composition:
    match mix:
        case Random() | RandomComposition():
            return together(tuple(mix.pool[index] for index in row if index >= 0))
        case Choice():
            return together(mix.alternatives[row[0]].networks)
        case Dependency():
            return _triggered(mix, row)


def _triggered(mix: Dependency, row: array[int]) -> Composition:
    members: list[Member] = []
    # `after` names exactly one network of the stages before; where that one is absent, so is this stage.
    place: dict[str, int] = {}
    for stage, drawn in zip(mix.stages, row, strict=True):
        if not drawn or (stage.after is not None and stage.after not in place):
            continue
        after = -1 if stage.after is None else place[stage.after]
        for name in stage.networks:
            place.setdefault(name, len(members))
            members.append(Member(name, after))
    return tuple(members)
