"""When requests arrive: one small model per arrival process, and what draws the gaps between requests.

A process is *open* (the clock decides: ``gaps``, ``gaps_until``) or *closed* (completions decide:
``closed``). Every draw is a unit-rate draw scaled by the mean, and is made in blocks whose sizes depend on
the position only, so that

- the same random stream at another rate gives the same gaps times a constant (common random numbers), and
- the first ten gaps of twenty are the ten gaps of ten, and those of a longer run begin with those of a
  shorter one.

The scenarios of MLPerf LoadGen (Reddi et al., ISCA 2020, section IV-C) exist under their own names.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, get_args

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
MAX_FILE_BYTES = 1 << 30
MAX_LINE_BYTES = 1 << 20
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
        if key not in data:
            message = f"{key} is missing; must be one of {allowed}"
        else:
            from difflib import get_close_matches

            near = get_close_matches(str(seen), kinds, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            message = f"{key} is {seen!r}{hint}; must be one of {allowed}"
        error = PydanticCustomError("kind", "{message}", {"message": message})
        raise ValidationError.from_exception_data(key, [InitErrorDetails(type=error, loc=(key,), input=seen)])

    return build


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


def gaps(spec: Arrivals, n: int, rng: np.random.Generator, folder: Path | None = None) -> list[float]:
    """The first ``n`` gaps in seconds; the first is the time before the first request.

    A replay may be shorter. Raises ValueError for a closed process, or an ``n`` outside 0..MAX_REQUESTS.
    """
    return timeline(spec, rng, count=n, recording=recorded(spec, folder))[0].tolist()


def gaps_until(
    spec: Arrivals, duration_s: float, rng: np.random.Generator, folder: Path | None = None
) -> list[float]:
    """The gaps of all requests that arrive before ``duration_s``; a prefix of any longer run's.

    Raises ValueError for a closed process, for offline (which never ends), for a duration outside 0..MAX_S,
    and where more than MAX_REQUESTS requests arrive.
    """
    return timeline(spec, rng, duration_s=duration_s, recording=recorded(spec, folder))[0].tolist()


def timeline(
    spec: Arrivals,
    rng: np.random.Generator,
    *,
    count: int | None = None,
    duration_s: float | None = None,
    recording: Recording | None = None,
) -> tuple[Floats, Floats]:
    """Gaps and arrival times in seconds of the first ``count`` requests that arrive before ``duration_s``.

    ``recording`` is what a replay replays. Raises ValueError as ``gaps`` and ``gaps_until`` do.
    """
    import numpy as np

    if closed(spec) is not None:
        raise ValueError(
            f"{spec.process} is a closed process: completions decide its arrivals, it has no gaps"
        )
    if count is not None and not 0 <= count <= MAX_REQUESTS:
        raise ValueError(f"the number of requests is {count}, must lie in 0..{MAX_REQUESTS}")
    if duration_s is not None and not 0 <= duration_s <= MAX_S:
        raise ValueError(f"duration_s is {duration_s}, must lie in 0..{MAX_S:g}")
    if count is None and isinstance(spec, Offline):
        raise ValueError("offline arrivals have no end of their own: give a count")
    if count is None and duration_s is None and not isinstance(spec, Replay):
        raise ValueError(f"{spec.process} arrivals have no end of their own: give a count or a duration_s")
    limit = MAX_REQUESTS + 1 if count is None else count
    parts: list[Floats] = [np.empty(0)]
    times: list[Floats] = [np.empty(0)]
    total = 0
    blocks = _blocks(spec, rng, recording)
    while total < limit and (block := next(blocks, None)) is not None:
        gap, time = block
        keep = limit - total
        if duration_s is not None:
            keep = min(keep, int(np.searchsorted(time, duration_s, side="left")))
        parts.append(gap[:keep])
        times.append(time[:keep])
        total += min(keep, len(gap))
        if keep < len(gap):
            break
    if total > MAX_REQUESTS:
        raise ValueError(
            f"{spec.process} brings more than {MAX_REQUESTS} requests within {duration_s:g} s; "
            f"shorten duration_s, lower the rate, or give a count"
        )
    return np.concatenate(parts), np.concatenate(times)


def _sizes() -> Iterator[int]:
    size = 256
    while True:
        yield size
        size = min(2 * size, 8192)


def _blocks(
    spec: Arrivals, rng: np.random.Generator, recording: Recording | None
) -> Iterator[tuple[Floats, Floats]]:
    """Gaps and arrival times, block after block, without end but for a replay."""
    import numpy as np

    match spec:
        case Replay():
            if recording is None:
                raise ValueError("a replay needs its recording")
            yield _replayed(spec, recording)
            return
        case Mmpp():
            yield from _mmpp_blocks(spec, rng)
        case Deterministic():
            yield from _deterministic_blocks(spec)
    last = 0.0
    for size in _sizes():
        gap = _draw(spec, rng, size)
        time = np.cumsum(np.concatenate(([last], gap)))[1:]
        if len(time):
            last = time[-1]
        yield gap, time


def _draw(spec: Arrivals, rng: np.random.Generator, size: int) -> Floats:
    """Independent gaps from ``size`` unit draws (fewer for normal, where the negative ones go)."""
    import numpy as np

    match spec:
        case Poisson() | Server():
            return spec.mean_s * rng.standard_exponential(size)
        case Gamma():
            return spec.mean_s * (spec.cv**2 * rng.standard_gamma(spec.cv**-2, size))
        case Normal():
            gap = spec.mean_gap_s + spec.sd_s * rng.standard_normal(size)
            return gap[gap >= 0]
        case Offline():
            return np.zeros(size)
        case _:
            raise TypeError(f"no independent gaps for {spec!r}")


def _deterministic_blocks(spec: Deterministic) -> Iterator[tuple[Floats, Floats]]:
    """Times are multiples of the period, not sums: 10 per second for 1 s is 10 requests, never 11."""
    import numpy as np

    first = 0
    for size in _sizes():
        index = np.arange(first, first + size, dtype=np.float64)
        steps = index / spec.rate_per_s if spec.rate_per_s is not None else index * spec.mean_s
        gap = np.full(size, spec.mean_s)
        if first == 0:
            gap[0] = spec.offset_s
        yield gap, spec.offset_s + steps
        first += size


def _mmpp_blocks(spec: Mmpp, rng: np.random.Generator) -> Iterator[tuple[Floats, Floats]]:
    """Unit-rate arrivals carried through the inverse of the cumulated rate.

    The states' stays and the arrivals have a random stream each, so neither shifts the other.
    """
    import numpy as np

    stays, unit = (np.random.default_rng(rng.integers(1 << 63, size=4)) for _ in range(2))
    sojourns = np.array(spec.mean_sojourn_s)
    start = 0 if stays.random() < sojourns[0] / sojourns.sum() else 1
    order = [start, 1 - start]
    cycles = 128
    mean = np.tile(sojourns[order], cycles)
    rate = np.tile(np.array(spec.rates_per_s)[order], cycles)
    # A knot is where a stay begins: its time, the expected arrivals before it, the rate from there on.
    knot_s, knot_mass, knot_rate = np.zeros(1), np.zeros(1), rate[:1]
    mass, last = 0.0, 0.0
    for size in _sizes():
        target = np.cumsum(np.concatenate(([mass], unit.standard_exponential(size))))[1:]
        mass = target[-1]
        behind = int(np.searchsorted(knot_mass, target[0], side="right")) - 1
        all_s, all_mass, all_rate = [knot_s[behind:]], [knot_mass[behind:]], [knot_rate[behind:]]
        while all_mass[-1][-1] <= mass:
            stay = mean * stays.standard_exponential(len(mean))
            all_s.append(np.cumsum(np.concatenate((all_s[-1][-1:], stay)))[1:])
            all_mass.append(np.cumsum(np.concatenate((all_mass[-1][-1:], rate * stay)))[1:])
            all_rate.append(np.roll(rate, -1))
        knot_s, knot_mass, knot_rate = map(np.concatenate, (all_s, all_mass, all_rate))
        at = np.searchsorted(knot_mass, target, side="right") - 1
        time = knot_s[at] + (target - knot_mass[at]) / knot_rate[at]
        time = np.minimum(time, knot_s[at + 1])
        yield np.diff(time, prepend=last), time
        last = time[-1]


@dataclass(frozen=True, slots=True)
class Recording:
    """A replay file as read: one entry per arrival."""

    gap_s: array[float]
    arrival_s: array[float] | None
    """Where the file gave times; None where it gave gaps."""
    networks: list[tuple[str, ...]]
    """The distinct lists of networks, in order of appearance."""
    choice: array[int] | None
    """Index into ``networks`` per arrival; None where the file has no such column."""


def _replayed(spec: Replay, recording: Recording) -> tuple[Floats, Floats]:
    import numpy as np

    rows = len(recording.gap_s)
    if rows * spec.repeat > MAX_REQUESTS:
        raise ValueError(
            f"{spec.file}: {rows} arrivals repeated {spec.repeat} times are {rows * spec.repeat} requests, "
            f"at most {MAX_REQUESTS} are allowed"
        )
    gap = np.tile(np.asarray(recording.gap_s), spec.repeat)
    if recording.arrival_s is None:
        return gap, np.cumsum(gap)
    once = np.asarray(recording.arrival_s)
    passes = np.arange(spec.repeat) * once[-1]
    return gap, (passes[:, None] + once).ravel()


def recorded(spec: Arrivals, folder: Path | None = None) -> Recording | None:
    """The recording of a replay, its relative file looked up in ``folder``; None for any other process."""
    return read_recording((folder or Path()) / spec.file) if isinstance(spec, Replay) else None


def read_recording(path: Path) -> Recording:
    """Read arrivals from a CSV file (UTF-8, header line).

    Columns: either ``arrival_s`` (seconds since the run began, never decreasing) or ``gap_s`` (seconds since
    the arrival before), and optionally ``networks`` (names joined by ``+``). Raises ValueError with file,
    line, column, what was seen and what is allowed; FileNotFoundError and the like pass through.
    """
    size = path.stat().st_size
    if not path.is_file():
        raise ValueError(f"{path}: not a regular file")
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{path}: {size} bytes, at most {MAX_FILE_BYTES} are allowed")
    with path.open("rb") as file:
        reader = csv.reader(_decoded(path, file), strict=True)
        try:
            return _read_rows(path, reader)
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: not CSV: {error}") from error


def _decoded(path: Path, file: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
        if len(line) == MAX_LINE_BYTES:
            raise ValueError(f"{path}, line {number}: longer than {MAX_LINE_BYTES} bytes")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            bad = line[error.start : error.start + 1]
            raise ValueError(
                f"{path}, line {number}: byte {bad!r} at position {error.start} is not UTF-8; "
                f"save the file as UTF-8"
            ) from error


def _read_rows(path: Path, reader: Any) -> Recording:
    header = [name.strip() for name in next(reader, [])]
    clock, names = _columns(path, header)
    column = header[clock]
    values = array("d")
    networks: dict[tuple[str, ...], int] = {}
    choice = array("i") if names is not None else None
    for row in reader:
        if not row:
            continue
        where = f"{path}, line {reader.line_num}"
        if len(row) != len(header):
            raise ValueError(f"{where}: {len(row)} cells, the header has {len(header)} ({', '.join(header)})")
        value = _seconds(f"{where}, column {column}", row[clock])
        if column == "arrival_s" and values and value < values[-1]:
            raise ValueError(
                f"{where}, column {column}: {row[clock].strip()} is earlier than {values[-1]} in the row "
                f"before; arrivals must not decrease"
            )
        values.append(value)
        if names is not None and choice is not None:
            key = _names(f"{where}, column networks", row[names])
            choice.append(networks.setdefault(key, len(networks)))
        if len(values) > MAX_REQUESTS:
            raise ValueError(f"{where}: more than {MAX_REQUESTS} arrivals, at most as many are allowed")
    if not values:
        raise ValueError(f"{path}: no arrivals; the header must be followed by at least one row")
    if column == "gap_s":
        return Recording(values, None, list(networks), choice)
    differences = array("d", [values[0]])
    differences.extend(b - a for a, b in pairwise(values))
    return Recording(differences, values, list(networks), choice)


def _columns(path: Path, header: Sequence[str]) -> tuple[int, int | None]:
    """Positions of the time column and of the networks column."""
    allowed = "allowed are arrival_s or gap_s, and networks"
    if not any(header):
        raise ValueError(f"{path}, line 1: no header; {allowed}")
    for index, name in enumerate(header):
        if name not in ("arrival_s", "gap_s", "networks"):
            raise ValueError(f"{path}, line 1, column {index + 1}: unknown column {name!r}; {allowed}")
        if name in header[:index]:
            raise ValueError(f"{path}, line 1, column {index + 1}: column {name!r} twice; {allowed}")
    clocks = [i for i, name in enumerate(header) if name != "networks"]
    if len(clocks) != 1:
        seen = "both arrival_s and gap_s" if clocks else "neither arrival_s nor gap_s"
        raise ValueError(f"{path}, line 1: {seen}; give exactly one of them")
    return clocks[0], header.index("networks") if "networks" in header else None


def _seconds(where: str, cell: str) -> float:
    text = cell.strip()
    try:
        # float() also takes 1_000 and other alphabets' digits, which no CSV writer means.
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not 0 <= value <= MAX_S:
        seen = repr(text) if text else "an empty cell"
        raise ValueError(f"{where}: {seen}, must be a number of seconds in 0..{MAX_S:g}")
    return value


def _names(where: str, cell: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in cell.split("+"))
    if not all(names):
        seen = repr(cell.strip()) if cell.strip() else "an empty cell"
        raise ValueError(f"{where}: {seen}, must be network names joined by + (TinyYolo+AgeNet)")
    if len(names) > MAX_NETWORKS:
        raise ValueError(f"{where}: {len(names)} networks, at most {MAX_NETWORKS} are allowed")
    return names
