"""When requests arrive: one small model per arrival process; ``timeline.py`` draws from them.

A process is *open* (the clock decides: ``gaps``, ``gaps_until``) or *closed* (completions decide:
``closed``). Every draw is a unit-rate draw scaled by the mean, and is made in blocks whose sizes depend on
the position only, so that

- the same random stream at another rate gives the same gaps times a constant (common random numbers), and
- the first ten gaps of twenty are the ten gaps of ten, and those of a longer run begin with those of a
  shorter one.

The scenarios of MLPerf LoadGen (Reddi et al., ISCA 2020, section IV-C) exist under their own names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MAX_REQUESTS = 10_000_000
"""Most requests of one run, and most rows of a replay file."""
MAX_S = 1e9
"""Longest time anywhere, 31 years."""
MAX_NETWORKS = 1000
"""Most networks of one request or one pool."""
MMPP_LEAST_PER_CYCLE = 0.1


def not_boolean(value: Any) -> Any:
    """Refuse true and false where a number is meant (YAML reads ``yes`` as true, pydantic true as 1)."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number, not {seen}", {"seen": str(value).lower()})
    return value


_NUMBER = BeforeValidator(not_boolean)
Rate = Annotated[float, Field(ge=1e-9, le=1e9, allow_inf_nan=False), _NUMBER]
Rate0 = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False), _NUMBER]
Gap = Annotated[float, Field(ge=1e-9, le=MAX_S, allow_inf_nan=False), _NUMBER]
Seconds = Annotated[float, Field(ge=0, le=MAX_S, allow_inf_nan=False), _NUMBER]
Count = Annotated[int, Field(ge=1, le=MAX_REQUESTS), _NUMBER]


def _not_empty(items: Any) -> Any:
    if not items:
        raise PydanticCustomError("empty", "must not be empty")
    return items


NotEmpty = AfterValidator(_not_empty)
"""Instead of min_length, which pydantic also reports of a list whose only fault is a bad item."""


class Part(BaseModel):
    """A checked piece of a scenario: unknown keys are errors, and nothing changes after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def by_kind(key: str, kinds: Mapping[str, type[Part]]) -> Callable[[Any], Any]:
    """A validator that builds the model named by ``key``; its errors stand at the keys that the user wrote.

    A tagged union alone would put the tag into each location and leave a wrong tag without one.
    """

    def build(data: Any) -> Any:
        if isinstance(data, Part):
            return data
        seen = data.get(key) if isinstance(data, Mapping) else None
        if isinstance(seen, str) and seen in kinds:
            return kinds[seen].model_validate(data)
        allowed = ", ".join(kinds)
        if not isinstance(data, Mapping):
            message = f"must be a mapping with the key {key} (one of {allowed})"
            raise PydanticCustomError("kind", "{message}", {"message": message})
        place = key
        if key not in data:
            wrong = _mistaken(key, data, kinds)
            message = f"{key} is missing; must be one of {allowed}"
            if wrong is not None:
                place, message = (
                    wrong,
                    f"unknown key; did you mean {key}? ({key}: one of {allowed})",
                )
        else:
            near = get_close_matches(str(seen), kinds, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            message = f"{key} is {seen!r}{hint}; must be one of {allowed}"
        error = PydanticCustomError("kind", "{message}", {"message": message})
        raise ValidationError.from_exception_data(
            key, [InitErrorDetails(type=error, loc=(place,), input=seen)]
        )

    return build


def _mistaken(key: str, data: Mapping[Any, Any], kinds: Mapping[str, type[Part]]) -> str | None:
    """The key that was written in the place of ``key``: spelt like it, or with a kind for its value."""
    keys = [str(name) for name in data]
    near = get_close_matches(key, keys, n=1)
    near += [str(name) for name, value in data.items() if isinstance(value, str) and value in kinds]
    return near[0] if near else None


def _one_of(part: Part, *names: str) -> None:
    given = [name for name in names if getattr(part, name) is not None]
    if len(given) != 1:
        raise ValueError(f"give exactly one of {' and '.join(names)}; given: {', '.join(given) or 'neither'}")


class _Rated(Part):
    """A process whose mean is given as a rate or as a gap."""

    rate_per_s: Rate | None = None
    mean_gap_s: Gap | None = None

    @model_validator(mode="after")
    def _mean_once(self) -> _Rated:
        _one_of(self, "rate_per_s", "mean_gap_s")
        return self

    @property
    def mean_s(self) -> float:
        """Mean gap in seconds."""
        if self.mean_gap_s is not None:
            return self.mean_gap_s
        assert self.rate_per_s is not None
        return 1.0 / self.rate_per_s


class Deterministic(Part):
    """One request every period, the first at ``offset_s``; no jitter."""

    process: Literal["deterministic"] = "deterministic"
    period_s: Gap | None = None
    rate_per_s: Rate | None = None
    offset_s: Seconds = 0.0

    @model_validator(mode="after")
    def _period_once(self) -> Deterministic:
        _one_of(self, "period_s", "rate_per_s")
        return self

    @property
    def mean_s(self) -> float:
        """The period in seconds."""
        if self.period_s is not None:
            return self.period_s
        assert self.rate_per_s is not None
        return 1.0 / self.rate_per_s


class Poisson(_Rated):
    """Poisson process: independent exponential gaps."""

    process: Literal["poisson"] = "poisson"


class Normal(Part):
    """Normal gaps, redrawn while negative.

    Redrawing lifts the mean above ``mean_gap_s`` by sd * phi(a) / Phi(a) with a = mean_gap_s / sd_s: 0.15 %
    at a = 3, 2.8 % at a = 2. (EdgeCaffe's generator redraws whole series until their sample mean is within
    0.5 % of the mean; to run its lists, replay them.)
    """

    process: Literal["normal"] = "normal"
    mean_gap_s: Gap
    sd_s: Seconds


class Gamma(_Rated):
    """Independent gamma gaps with coefficient of variation ``cv``: shape 1 / cv^2, scale mean * cv^2.

    1 is Poisson, below 1 more regular, above 1 burstier.
    """

    process: Literal["gamma"] = "gamma"
    cv: Annotated[float, Field(ge=1e-3, le=100, allow_inf_nan=False), _NUMBER]


class Mmpp(Part):
    """Two-state Markov-modulated Poisson process: quiet and busy times follow each other.

    In state i requests come at ``rates_per_s[i]``; a stay in it is exponential with mean
    ``mean_sojourn_s[i]``. The first state is drawn from the stationary distribution, so the mean rate is
    (r0 s0 + r1 s1) / (s0 + s1) from the start (Fischer and Meier-Hellstern, "The Markov-modulated Poisson
    process cookbook", Performance Evaluation 18, 1993). One rate may be 0 (an on-off source).
    """

    process: Literal["mmpp"] = "mmpp"
    rates_per_s: tuple[Rate0, Rate0]
    mean_sojourn_s: tuple[Gap, Gap]

    @model_validator(mode="after")
    def _arrives(self) -> Mmpp:
        per_cycle = sum(r * s for r, s in zip(self.rates_per_s, self.mean_sojourn_s, strict=True))
        if per_cycle < MMPP_LEAST_PER_CYCLE:
            raise ValueError(
                f"a cycle through both states brings {per_cycle:g} requests on average, must be at least "
                f"{MMPP_LEAST_PER_CYCLE}; with fewer the states average out: use process: poisson"
            )
        return self

    @property
    def mean_s(self) -> float:
        """Mean gap in seconds."""
        per_cycle = sum(r * s for r, s in zip(self.rates_per_s, self.mean_sojourn_s, strict=True))
        return sum(self.mean_sojourn_s) / per_cycle


class Replay(Part):
    """Recorded arrivals from a CSV file (see ``read_recording``); the stream ends when the list ends.

    The list runs ``repeat`` times; a pass begins at the last arrival of the pass before, so its first gap
    follows that arrival. A relative ``file`` is looked up in the folder that the caller names.
    """

    process: Literal["replay"] = "replay"
    file: Annotated[str, Field(min_length=1, max_length=4096)]
    repeat: Count = 1


class Batch(Part):
    """Closed: the next request comes when the whole system is idle (the papers' "deterministic" arrivals)."""

    process: Literal["batch"] = "batch"


class SingleStream(Part):
    """LoadGen single-stream, closed: the next request comes when the stream's last one is complete."""

    process: Literal["single-stream"] = "single-stream"


class MultiStream(Part):
    """LoadGen multi-stream, closed: ``samples_per_query`` requests at once, more when all are complete."""

    process: Literal["multi-stream"] = "multi-stream"
    samples_per_query: Annotated[int, Field(ge=1, le=10_000), _NUMBER]


class Server(Part):
    """LoadGen server: a Poisson process (the latency bound is the stream's ``deadline_s``)."""

    process: Literal["server"] = "server"
    rate_per_s: Rate

    @property
    def mean_s(self) -> float:
        """Mean gap in seconds."""
        return 1.0 / self.rate_per_s


class Offline(Part):
    """LoadGen offline: every request is there at time 0. Needs a count."""

    process: Literal["offline"] = "offline"


_Process = (
    Deterministic
    | Poisson
    | Normal
    | Gamma
    | Mmpp
    | Replay
    | Batch
    | SingleStream
    | MultiStream
    | Server
    | Offline
)
PROCESSES: dict[str, type[Part]] = {kind.model_fields["process"].default: kind for kind in get_args(_Process)}
Arrivals = Annotated[_Process, Field(discriminator="process"), BeforeValidator(by_kind("process", PROCESSES))]
"""Any arrival process, chosen by its key ``process``."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed process: requests follow completions.

    Whenever at most ``outstanding - group`` requests are in flight, ``group`` new ones arrive at once.
    In flight counts the whole system in mode "idle" and the stream alone in mode "outstanding".
    """

    mode: Literal["idle", "outstanding"]
    outstanding: int = 1
    group: int = 1


def closed(spec: Arrivals) -> Closed | None:
    """How a closed process follows completions; None for an open process."""
    match spec:
        case Batch():
            return Closed("idle")
        case SingleStream():
            return Closed("outstanding")
        case MultiStream(samples_per_query=samples):
            return Closed("outstanding", outstanding=samples, group=samples)
        case _:
            return None
