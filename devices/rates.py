"""Fit a device's rates to a measured profile, and tell how good they are.

The model of ``Cost`` in ``model.py``: executing takes call_s + MACs * mac_s + bytes * byte_s per operation
class (bytes as ``costing.moved_bytes`` counts them), loading takes load_call_s + weight bytes * (load_byte_s
+ copies * load_byte_s_per_copy). Each fit minimises the sum of squared errors, relative to the larger of
predicted and measured time, under coefficients of at least 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..traces.profile import Profile
from ..workloads.network import Network
from .cost import moved_bytes
from .costing import GEMM_OPS, OTHER
from .model import OpRates

Array = NDArray[np.float64]
Rates = TypeVar("Rates")
ELEMENTWISE = frozenset({"relu", "batch-norm", "scale", "add"})
"""Classes that compute something simple of every element, as most unknown operations do."""
ROUNDS = 100
"""Reweighting stops after so many rounds at the latest."""


class RateError(ValueError):
    """Rates cannot be fitted; the message says what the profile lacks."""


@dataclass(frozen=True, slots=True)
class LoadRates:
    """Time of loading: load_call_s + weight bytes * (load_byte_s + copies * load_byte_s_per_copy)."""

    load_call_s: float
    load_byte_s: float
    load_byte_s_per_copy: float


@dataclass(frozen=True, slots=True)
class Errors:
    """Relative errors |predicted - measured| / measured of ``n`` rows; nan where n is 0."""

    n: int
    median: float
    p90: float


@dataclass(frozen=True, slots=True)
class ClassFit:
    """Rates of one class (or of loading) with their errors on the rows fitted and on networks left out."""

    rates: OpRates | LoadRates
    fitted: Errors
    left_out: Errors


@dataclass(frozen=True)
class RateReport:
    """What the fits of one profile are worth.

    ``execute`` has one entry per operation class and ``other``; ``totals`` tells per network the signed
    relative error of its summed execution time, (predicted - measured) / measured, by rates fitted to the
    other networks; ``load_totals`` the same for its summed load time. Networks that differ only after the
    ``@`` in their names (FaceNet at three sizes) are left out together.
    """

    execute: dict[str, ClassFit]
    load: ClassFit
    totals: dict[str, float]
    load_totals: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Sample:
    network: str
    op: str
    features: tuple[float, float, float]
    measured_s: float

    @property
    def family(self) -> str:
        return self.network.partition("@")[0]


def nonnegative_least_squares(a: Array, b: Array) -> Array:
    """The x >= 0 that minimises |a x - b|, for a matrix ``a`` of shape (rows, at most 8 columns).

    The minimum is the unconstrained one over some subset of the columns (Lawson and Hanson, Solving Least
    Squares Problems, 1974, chapter 23); with few columns all subsets are tried. Raises ValueError for more
    columns.
    """
    rows, columns = a.shape
    if columns > 8 or b.shape != (rows,):
        raise ValueError(f"shapes {a.shape} and {b.shape}: needs (rows, at most 8) and (rows,)")
    scale = np.linalg.norm(a, axis=0)
    usable = [index for index in range(columns) if scale[index] > 0]
    best = np.zeros(columns)
    least = float(b @ b)
    for size in range(1, len(usable) + 1):
        for chosen in itertools.combinations(usable, size):
            scaled = a[:, chosen] / scale[list(chosen)]
            found, _, rank, _ = np.linalg.lstsq(scaled, b, rcond=1e-12)
            if rank < size or (found < 0).any():
                continue
            rest = scaled @ found - b
            if float(rest @ rest) < least * (1 - 1e-12):
                least = float(rest @ rest)
                best = np.zeros(columns)
                best[list(chosen)] = found / scale[list(chosen)]
    return best


def fit_rates(
    profile: Profile,
    networks: Iterable[Network],
    *,
    primitive: str | None = None,
    threads: int | None = None,
) -> dict[str, OpRates]:
    """Rates per operation class, fitted to the profile's execution times of ``networks``.

    The class ``other`` serves classes that the profile lacks: it is fitted to the elementwise classes (see
    ``ELEMENTWISE``), or where there are none to all that are not matrix products. ``primitive`` and
    ``threads`` choose among rows as in ``Profile.layer``. Layers that the profile does not hold, or measured
    as 0 s, are left out. Raises RateError if nothing is left.
    """
    return _op_rates(_executions(profile, tuple(networks), primitive, threads))


def fit_load_rates(
    profile: Profile,
    networks: Iterable[Network],
    *,
    primitive: str | None = None,
    threads: int | None = None,
) -> LoadRates:
    """Rates of loading, fitted to warm load times; ``copies`` is each network's ``load_copies``.

    If all networks make equally many copies, the share of a copy cannot be told and load_byte_s holds it all.
    Raises RateError if the profile holds no load time of these networks.
    """
    return _load_rates(_loads(profile, tuple(networks), primitive, threads))


def report_rates(
    profile: Profile,
    networks: Iterable[Network],
    *,
    primitive: str | None = None,
    threads: int | None = None,
) -> RateReport:
    """Fit as ``fit_rates`` and ``fit_load_rates`` do, and again with each network left out in turn.

    A class that only the network left out has is predicted by ``other``, as the cost model would. With a
    single family of networks nothing can be left out: those errors have n = 0 and the totals are empty.
    Raises RateError where nothing was measured.
    """
    nets = tuple(networks)
    samples = _executions(profile, nets, primitive, threads)
    loads = _loads(profile, nets, primitive, threads)
    rates = _op_rates(samples)
    execute = {}
    for op, found in rates.items():
        of_class = _like_other(samples) if op == OTHER else [s for s in samples if s.op == op]
        fitted = [_execute_s(rates, s) for s in of_class]
        left_out = _left_out(of_class, samples, _op_rates, _execute_s)
        execute[op] = ClassFit(found, _errors(of_class, fitted), _errors(of_class, left_out))
    load = _load_rates(loads)
    load_left_out = _left_out(loads, loads, _load_rates, _load_s)
    return RateReport(
        execute=execute,
        load=ClassFit(load, _errors(loads, [_load_s(load, s) for s in loads]), _errors(loads, load_left_out)),
        totals=_totals(samples, _left_out(samples, samples, _op_rates, _execute_s)),
        load_totals=_totals(loads, load_left_out),
    )


def _executions(
    profile: Profile, networks: Sequence[Network], primitive: str | None, threads: int | None
) -> list[_Sample]:
    samples = [
        _Sample(network.name, layer.op, (1.0, layer.macs, moved_bytes(network, index)), row.execute_s)
        for network in networks
        for index, layer in enumerate(network.layers)
        if (row := profile.layer(network.name, index, primitive, threads)) is not None and row.execute_s
    ]
    return _some(samples, profile, networks, "execution")


def _loads(
    profile: Profile, networks: Sequence[Network], primitive: str | None, threads: int | None
) -> list[_Sample]:
    samples = [
        _Sample(
            network.name,
            layer.op,
            (1.0, layer.weight_bytes, layer.weight_bytes * network.load_copies),
            row.load_s,
        )
        for network in networks
        for index, layer in enumerate(network.layers)
        if (row := profile.layer(network.name, index, primitive, threads)) is not None and row.load_s
    ]
    return _some(samples, profile, networks, "load")


def _some(samples: list[_Sample], profile: Profile, networks: Sequence[Network], what: str) -> list[_Sample]:
    if not samples:
        raise RateError(
            f"profile {profile.source!r} has no {what} time above 0 of "
            f"{', '.join(n.name for n in networks) or 'any network, as none was given'}; "
            f"it holds {', '.join(profile.networks) or 'no network'}"
        )
    return samples


def _solve(samples: Sequence[_Sample]) -> tuple[float, float, float]:
    """Minimise the sum over samples of ((p - m) / max(p, m))^2 over x >= 0, for p = x0 f0 + x1 f1 + x2 f2.

    By reweighted least squares that starts from errors relative to the measured time m alone. Relative to the
    larger of the two, twice too long counts as much as twice too short, and a few odd rows cannot rule the
    fit.
    """
    measured = np.array([s.measured_s for s in samples])
    features = np.array([s.features for s in samples], dtype=np.float64)
    larger = measured
    for _ in range(ROUNDS):
        x = nonnegative_least_squares(features / larger[:, None], measured / larger)
        now = np.maximum(measured, features @ x)
        if np.allclose(now, larger, rtol=1e-9, atol=0.0):
            break
        larger = now
    return float(x[0]), float(x[1]), float(x[2])


def _op_rates(samples: Sequence[_Sample]) -> dict[str, OpRates]:
    classes: dict[str, list[_Sample]] = {}
    for sample in samples:
        classes.setdefault(sample.op, []).append(sample)
    other = _like_other(samples)
    if other:
        classes[OTHER] = other
    found = {}
    for op, of_class in classes.items():
        call, mac, byte = _solve(of_class)
        found[op] = OpRates(call_s=call, mac_s=mac, byte_s=byte)
    return found


def _like_other(samples: Sequence[_Sample]) -> list[_Sample]:
    found = [s for s in samples if s.op in ELEMENTWISE] or [s for s in samples if s.op not in GEMM_OPS]
    return [replace(s, op=OTHER) for s in found]


def _load_rates(samples: Sequence[_Sample]) -> LoadRates:
    return LoadRates(*_solve(samples))


def _execute_s(rates: Mapping[str, OpRates], sample: _Sample) -> float:
    found = rates.get(sample.op, rates.get(OTHER))
    if found is None:
        return math.nan
    _, macs, moved = sample.features
    return found.call_s + macs * found.mac_s + moved * found.byte_s


def _load_s(rates: LoadRates, sample: _Sample) -> float:
    _, weights, copied = sample.features
    return rates.load_call_s + weights * rates.load_byte_s + copied * rates.load_byte_s_per_copy


def _left_out(
    samples: Sequence[_Sample],
    among: Sequence[_Sample],
    fit: Callable[[Sequence[_Sample]], Rates],
    predict: Callable[[Rates, _Sample], float],
) -> list[float]:
    """Predict each sample by a fit to what the other families have of ``among``; nan where there is none."""
    fits: dict[str, Rates] = {}
    for family in {s.family for s in samples}:
        rest = [s for s in among if s.family != family]
        if rest:
            fits[family] = fit(rest)
    return [predict(fits[s.family], s) if s.family in fits else math.nan for s in samples]


def _errors(samples: Sequence[_Sample], predicted: Sequence[float]) -> Errors:
    found = [
        abs(p - s.measured_s) / s.measured_s
        for s, p in zip(samples, predicted, strict=True)
        if not math.isnan(p)
    ]
    if not found:
        return Errors(0, math.nan, math.nan)
    return Errors(len(found), float(np.median(found)), float(np.percentile(found, 90)))


def _totals(samples: Sequence[_Sample], predicted: Sequence[float]) -> dict[str, float]:
    sums: dict[str, list[float]] = {}
    for sample, seconds in zip(samples, predicted, strict=True):
        total = sums.setdefault(sample.network, [0.0, 0.0])
        total[0] += seconds
        total[1] += sample.measured_s
    return {
        name: (guess - measured) / measured
        for name, (guess, measured) in sums.items()
        if not math.isnan(guess)
    }
