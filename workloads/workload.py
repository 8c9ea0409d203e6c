"""The workload: streams of requests, and the plan of one run drawn from them before it begins.

Everything random about the requests is drawn here, from random streams that are keyed by what they are for
and by the stream's name. Nothing depends on the policy, the device or the memory limit, so runs that differ
in those see the same requests; and a stream added or removed leaves the others' draws as they were.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count as counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, TypeAdapter, model_validator

from .arrivals import (
    MAX_REQUESTS,
    MAX_S,
    Arrivals,
    Closed,
    Count,
    Gap,
    NotEmpty,
    Part,
    Replay,
    closed,
)
from .mix import Composition, Fixed, Mix, Name, draw, names_of, together
from .recording import Recording, recorded
from .timeline import timeline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_seconds: TypeAdapter[float] = TypeAdapter(Gap)
_by_network: TypeAdapter[dict[str, float]] = TypeAdapter(Annotated[dict[Name, Gap], NotEmpty])


def _either(value: Any) -> Any:
    """Check a deadline as what it is, so that the union has nothing left to complain about."""
    return (_by_network if isinstance(value, Mapping) else _seconds).validate_python(value)


Deadline = Annotated[Gap | dict[Name, Gap], BeforeValidator(_either)]
"""Seconds after the arrival: one number for the request, or a mapping from network to its own."""


class Stream(Part):
    """Requests of one origin: when they arrive, what they need, and by when.

    ``networks`` is left out exactly where the replayed file names them. ``count`` ends the stream after so
    many requests.
    """

    name: Name = "images"
    arrivals: Arrivals
    networks: Mix | None = None
    deadline_s: Deadline | None = None
    count: Count | None = None

    @model_validator(mode="after")
    def _networks_known(self) -> Stream:
        if self.networks is None:
            if not isinstance(self.arrivals, Replay):
                raise ValueError("networks is missing; only a replayed file can name them instead")
        else:
            self.check_deadline(names_of(self.networks))
        return self

    def check_deadline(self, networks: Sequence[str]) -> None:
        """Raise ValueError where the deadline names a network that the stream does not run."""
        if isinstance(self.deadline_s, Mapping):
            unknown = [name for name in self.deadline_s if name not in networks]
            if unknown:
                raise ValueError(
                    f"deadline_s names {', '.join(unknown)}, which stream {self.name!r} does not run; "
                    f"it runs {', '.join(networks)}"
                )


class Workload(Part):
    """All streams of a run. The keys of a single stream may stand here themselves, without ``streams``."""

    streams: Annotated[
        tuple[Stream, ...], Field(max_length=1000, json_schema_extra={"minItems": 1}), NotEmpty
    ]

    @model_validator(mode="before")
    @classmethod
    def _single_stream(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "streams" not in data:
            return {"streams": (Stream.model_validate(data),)}
        return data

    @model_validator(mode="after")
    def _names_once(self) -> Workload:
        names = [stream.name for stream in self.streams]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"several streams are named {', '.join(map(repr, twice))}; each needs its own name"
            )
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [handler(schema), handler(Stream.__pydantic_core_schema__)]}

    def networks(self, folder: Path | None = None) -> tuple[str, ...]:
        """The distinct networks that the streams can name; reads replayed files that name them."""
        names: dict[str, None] = {}
        for stream in self.streams:
            if stream.networks is not None:
                names.update(dict.fromkeys(names_of(stream.networks)))
            else:
                recording = recorded(stream.arrivals, folder)
                if recording is not None:
                    names.update(dict.fromkeys(name for row in recording.networks for name in row))
        return tuple(names)


@dataclass(frozen=True, slots=True)
class ClosedPlan:
    """The requests of a closed stream, whose times completions decide."""

    stream: int
    process: Closed
    compositions: array[int]
    """Indices into the plan's compositions, in order; a run that outlasts them begins again."""
    limit: int | None
    """Most requests of the stream; None: until the run ends."""

    def indices(self) -> Iterator[int]:
        """The composition of each request in turn, at most ``limit``."""
        for number in counter() if self.limit is None else range(self.limit):
            yield self.compositions[number % len(self.compositions)]


@dataclass(slots=True)
class RequestPlan:
    """Every request of one run, drawn before it begins. The arrays of open requests are in order of time."""

    streams: tuple[str, ...]
    """Names of the streams; other fields give their index."""
    deadline_s: list[float | dict[str, float] | None]
    """Per stream, relative to the arrival."""
    compositions: list[Composition] = field(default_factory=list)
    """The distinct compositions of all streams."""
    gap_s: array[float] = field(default_factory=lambda: array("d"))
    """Per open request the time since the one before (shape: requests)."""
    stream: array[int] = field(default_factory=lambda: array("i"))
    """Per open request its stream. Requests of one instant are in the order of their streams."""
    composition: array[int] = field(default_factory=lambda: array("i"))
    """Per open request its index into ``compositions``."""
    closed: list[ClosedPlan] = field(default_factory=list)


def child_generator(
    seed: int | Sequence[int], replication: int, purpose: str, name: str = ""
) -> np.random.Generator:
    """The random stream of one purpose ("arrivals", "mix", ...) and name in one replication.

    The key is content, not order: nothing shifts when purposes or names are added. Raises ValueError for a
    negative seed or replication.
    """
    import numpy as np

    roots = [seed] if isinstance(seed, int) else list(seed)
    if not roots or any(root < 0 for root in roots):
        raise ValueError(f"the seed is {seed!r}, must be a whole number >= 0, or several")
    if replication < 0:
        raise ValueError(f"the replication is {replication}, must be >= 0")
    key = zlib.crc32(f"{purpose}:{name}".encode())
    return np.random.default_rng(np.random.SeedSequence(roots, spawn_key=(replication, key)))


def generate(
    workload: Workload,
    *,
    count: int | None = None,
    duration_s: float | None = None,
    seed: int | Sequence[int],
    replication: int = 0,
    folder: Path | None = None,
) -> RequestPlan:
    """Draw the requests of one run.

    ``count`` ends the open streams together after so many requests, and each closed stream after as many;
    ``duration_s`` ends the open streams before that time (a closed one ends with the run). Where both are
    given, the first to be reached counts. A replay also ends with its list. ``folder`` is where relative
    replay files are looked up. Equal arguments give equal plans, byte for byte.

    Raises ValueError where a stream would never end or bring more than MAX_REQUESTS requests, for bounds out
    of range, and for a replay file that does not suit.
    """
    if count is not None and not 1 <= count <= MAX_REQUESTS:
        raise ValueError(f"count is {count}, must lie in 1..{MAX_REQUESTS}")
    if duration_s is not None and not 0 < duration_s <= MAX_S:
        raise ValueError(f"duration_s is {duration_s}, must be above 0 and at most {MAX_S:g}")
    plan = RequestPlan(
        streams=tuple(stream.name for stream in workload.streams),
        deadline_s=[stream.deadline_s for stream in workload.streams],
    )
    shared: dict[Composition, int] = {}
    lines: list[_Line] = []
    for index, stream in enumerate(workload.streams):
        process = closed(stream.arrivals)
        limit = min((n for n in (count, stream.count) if n is not None), default=None)
        try:
            if process is None:
                rng = child_generator(seed, replication, "arrivals", stream.name)
                recording = recorded(stream.arrivals, folder)
                gap_s, time_s = timeline(
                    stream.arrivals, rng, count=limit, duration_s=duration_s, recording=recording
                )
                lines.append(_Line(index, gap_s, time_s, recording))
            else:
                number = _closed_number(stream, limit, duration_s)
                rng = child_generator(seed, replication, "mix", stream.name)
                chosen = _choose(stream, number, rng, None, shared)
                plan.closed.append(ClosedPlan(index, process, _array("i", chosen), limit))
        except ValueError as error:
            raise ValueError(f"stream {stream.name!r}: {error}") from error
    if lines:
        _merge(plan, lines, count)
        _compose(plan, lines, workload, shared, seed, replication)
    plan.compositions = list(shared)
    return plan


@dataclass(frozen=True, slots=True)
class _Line:
    """The arrivals of one open stream."""

    stream: int
    gap_s: Floats
    time_s: Floats
    recording: Recording | None


def _merge(plan: RequestPlan, lines: Sequence[_Line], count: int | None) -> None:
    """Put the arrivals of all open streams in order of time; ties go by the streams' order."""
    import numpy as np

    total = sum(len(line.gap_s) for line in lines)
    if count is None and total > MAX_REQUESTS:
        raise ValueError(f"the streams bring {total} requests together, at most {MAX_REQUESTS} are allowed")
    ids = np.repeat([line.stream for line in lines], [len(line.gap_s) for line in lines])
    if len(lines) == 1:
        # The gaps as drawn: differences of sums would not give their last bits back.
        gap_s = lines[0].gap_s
    else:
        time_s = np.concatenate([line.time_s for line in lines])
        order = np.argsort(time_s, kind="stable")[:count]
        gap_s = np.diff(time_s[order], prepend=0.0)
        ids = ids[order]
    plan.gap_s = _array("d", gap_s)
    plan.stream = _array("i", ids)


def _compose(
    plan: RequestPlan,
    lines: Sequence[_Line],
    workload: Workload,
    shared: dict[Composition, int],
    seed: int | Sequence[int],
    replication: int,
) -> None:
    """Give every open request its composition."""
    import numpy as np

    ids = np.asarray(plan.stream, dtype=np.int32)
    chosen = np.empty(len(ids), dtype=np.int32)
    for line in lines:
        stream = workload.streams[line.stream]
        mine = ids == line.stream
        rng = child_generator(seed, replication, "mix", stream.name)
        try:
            chosen[mine] = _choose(stream, int(np.count_nonzero(mine)), rng, line.recording, shared)
        except ValueError as error:
            raise ValueError(f"stream {stream.name!r}: {error}") from error
    plan.composition = _array("i", chosen)


def _choose(
    stream: Stream,
    number: int,
    rng: np.random.Generator,
    recording: Recording | None,
    shared: dict[Composition, int],
) -> NDArray[np.int32]:
    """Indices into ``shared`` of the stream's first ``number`` compositions; adds those that are new."""
    import numpy as np

    if stream.networks is not None:
        if recording is not None and recording.choice is not None:
            raise ValueError("both the replayed file and the stream name networks; leave one out")
        own, indices = draw(stream.networks, number, rng)
    else:
        own, indices = _recorded_choice(stream, number, recording)
    places = np.array([shared.setdefault(item, len(shared)) for item in own], dtype=np.int32)
    return places[np.asarray(indices, dtype=np.int32)] if number else places[:0]


def _recorded_choice(
    stream: Stream, number: int, recording: Recording | None
) -> tuple[list[Composition], array[int]]:
    if recording is None or recording.choice is None:
        raise ValueError(
            "the replayed file has no column networks, and the stream names none; give one of them"
        )
    stream.check_deadline([name for row in recording.networks for name in row])
    passes = -(-number // len(recording.choice))
    return [together(row) for row in recording.networks], (recording.choice * passes)[:number]


def _closed_number(stream: Stream, limit: int | None, duration_s: float | None) -> int:
    """How many compositions to draw for a closed stream."""
    if limit is not None:
        return 1 if isinstance(stream.networks, Fixed) else limit
    if duration_s is None:
        raise ValueError(f"{stream.arrivals.process} arrivals have no end of their own: give a count")
    if not isinstance(stream.networks, Fixed):
        raise ValueError(
            f"how many requests a closed stream brings within duration_s is not known before the run, but "
            f"its random networks are drawn before it: give the stream a count, the most requests that it "
            f"may bring (up to {MAX_REQUESTS})"
        )
    return 1


def _array(code: str, values: NDArray[Any]) -> array[Any]:
    import numpy as np

    packed = array(code)
    packed.frombytes(np.ascontiguousarray(values, dtype=code).tobytes())
    return packed
