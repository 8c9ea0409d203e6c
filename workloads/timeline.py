"""When requests arrive: gaps and times drawn from an open arrival process, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .arrivals import (
    MAX_REQUESTS,
    MAX_S,
    Arrivals,
    Deterministic,
    Gamma,
    Mmpp,
    Normal,
    Offline,
    Poisson,
    Replay,
    Server,
    closed,
)
from .recording import Recording, recorded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


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
