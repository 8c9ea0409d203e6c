"""What a finite, autocorrelated sequence of response times says, and how sure it is of that.

Response times of successive requests depend on each other, so no formula for independent samples appears
here: within one run intervals come from batch means and sectioning, across runs from replications, and
policies are compared by paired log-ratios on common random numbers.

Sums are ``math.fsum``: correctly rounded, hence the same on every machine and Python.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

NAN = float("nan")
CONFIDENCE = 0.95
BATCHES = 20
"""Of the mean's interval: covers .92 to .95 for M/M/1 at rho .8 to .9 with 20,000 to 200,000 requests."""
SECTIONS = 10
"""Of a percentile's interval: covers .92 for p95 of M/M/1 at rho .8 with 20,000 requests (20: .90)."""
MIN_BATCH = 10
"""A batch of fewer values says nothing about dependence: no interval."""
MIN_TAIL = 10
"""Values that must lie beyond a percentile in every section, or there is no interval."""
WARMUP_SHIFT = 0.1
"""Share of the mean that MSER-5's cut must move before it is worth a warning."""
EXACT_DOF = 200
"""Up to here Student's t is inverted exactly; above, its expansion is good to 1e-9."""


class Estimate(NamedTuple):
    """A value with its confidence interval; ``lo`` and ``hi`` are nan where the data do not support one."""

    value: float
    lo: float
    hi: float

    @property
    def half_width(self) -> float:
        """Half the interval's length, in the unit of ``value``."""
        return (self.hi - self.lo) / 2


def mean(values: ArrayLike) -> float:
    """Arithmetic mean, correctly rounded sum; nan of nothing."""
    column = _column(values)
    return math.fsum(column.tolist()) / len(column) if len(column) else NAN


def quantile(values: ArrayLike, q: float) -> float:
    """The q-quantile, linear between order statistics (Hyndman and Fan's type 7); nan of nothing."""
    _check_share("q", q)
    column = _column(values)
    return float(np.quantile(column, q)) if len(column) else NAN


def standard_deviation(values: ArrayLike) -> float:
    """Sample standard deviation (n - 1); nan of fewer than two values."""
    column = _column(values)
    if len(column) < 2:
        return NAN
    return math.sqrt(math.fsum(np.square(column - mean(column)).tolist()) / (len(column) - 1))


# -- warm-up ----------------------------------------------------------------------------------------------


def warmup_end(arrival_s: ArrayLike, requests: int = 0, seconds: float = 0.0) -> int:
    """Index of the first request that counts: not among the first ``requests``, not before ``seconds``.

    ``arrival_s`` must not decrease. The whole sequence may be warm-up; then its length is returned.
    """
    if requests < 0 or not seconds >= 0:
        raise ValueError(f"warm-up is {requests} requests and {seconds} s; neither may be negative")
    column = _column(arrival_s)
    return max(min(requests, len(column)), int(np.searchsorted(column, seconds, side="left")))


def mser5(values: ArrayLike, batch: int = 5) -> int:
    """How many leading values to drop so that the mean of the rest has the least standard error.

    MSER-5 (White, Cobb and Spratt, 2000): the minimum over d of sum((z_i - mean)^2) / (n - d)^2 of the
    batch means z_d, ..., z_n-1, looked for in the first half only. It overshoots on clean starts under load
    (rho .9 and an empty start: 3 % too low a mean), so it serves as a warning, not as the cut.
    """
    column = _column(values)
    count = len(column) // batch
    if count < 2:
        return 0
    z = column[: count * batch].reshape(count, batch).mean(1)[::-1]
    z = z - np.median(z)  # Of a constant sequence zeros remain, without rounding.
    size = np.arange(1, count + 1)
    total, squares = np.cumsum(z), np.cumsum(z * z)
    error = (squares - total * total / size) / (size * size)
    return int(np.argmin(error[::-1][: max(1, count // 2)])) * batch


def warmup_warning(values: ArrayLike, warmup: int) -> str | None:
    """A sentence where MSER-5's cut would change the mean by more than ``WARMUP_SHIFT``, else None.

    ``values`` is the sequence with its warm-up, of which the first ``warmup`` are left out already.
    """
    column = _column(values)
    cut = mser5(column)
    if cut <= warmup:
        return None
    now, then = mean(column[warmup:]), mean(column[cut:])
    if abs(then - now) <= WARMUP_SHIFT * now:
        return None
    return (
        f"MSER-5 would leave out the first {cut} of {len(column)} responses as warm-up, the run leaves out "
        f"{warmup}; the mean would be {then:g} s instead of {now:g} s: consider a longer warm-up or run"
    )


# -- intervals --------------------------------------------------------------------------------------------


def batch_means(values: ArrayLike, batches: int = BATCHES, confidence: float = CONFIDENCE) -> Estimate:
    """Mean of one run's sequence with the t interval of the means of consecutive batches.

    Schmeiser (1982): 10 to 30 batches whatever the length. What does not fill a batch is left out of the
    interval at the front. No interval where a batch would hold fewer than ``MIN_BATCH`` values.
    """
    _check_batches(batches)
    column = _column(values)
    size = len(column) // batches
    centre = mean(column)
    if size < MIN_BATCH:
        return Estimate(centre, NAN, NAN)
    rows = column[len(column) - size * batches :].reshape(batches, size)
    return _around(centre, standard_deviation([mean(row) for row in rows]), batches, confidence)


def quantile_interval(
    values: ArrayLike, q: float, sections: int = SECTIONS, confidence: float = CONFIDENCE
) -> Estimate:
    """The q-quantile of one run's sequence with its interval by sectioning.

    Asmussen and Glynn (2007), section III.5: the quantile of all values as centre, the spread of the
    quantiles of consecutive sections about that centre as error. No interval where fewer than ``MIN_TAIL``
    values lie beyond the quantile in each section: p95 needs 2,000 values, p99 10,000.
    """
    _check_share("q", q)
    _check_batches(sections)
    column = _column(values)
    centre = quantile(column, q)
    size = len(column) // sections
    if size * min(q, 1 - q) < MIN_TAIL * (1 - 1e-9):
        return Estimate(centre, NAN, NAN)
    rows = column[len(column) - size * sections :].reshape(sections, size)
    each = np.quantile(rows, q, axis=1)
    spread = math.sqrt(math.fsum(np.square(each - centre).tolist()) / (sections - 1))
    return _around(centre, spread, sections, confidence)


def replications(values: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Mean of independent replications' results with its t interval; none of fewer than two."""
    column = _column(values)
    if len(column) < 2:
        return Estimate(mean(column), NAN, NAN)
    return _around(mean(column), standard_deviation(column), len(column), confidence)


def paired_ratio(values: ArrayLike, baseline: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """How many times the baseline: geometric mean of the ratios of paired replications, with its interval.

    ``values[r]`` and ``baseline[r]`` are one statistic (mean, p95) of two policies in replication r on the
    same random numbers; both must be positive. The t interval is that of the mean log-ratio, carried
    through exp.
    """
    above, below = _column(values), _column(baseline)
    if len(above) != len(below):
        raise ValueError(f"paired_ratio: {len(above)} values against {len(below)} of the baseline, not pairs")
    if not (np.all(above > 0) and np.all(below > 0)):
        raise ValueError("paired_ratio: all values must be positive")
    ratio = replications(np.log(above) - np.log(below), confidence)
    return Estimate(*(math.exp(bound) for bound in ratio))


def _around(centre: float, deviation: float, count: int, confidence: float) -> Estimate:
    _check_share("confidence", confidence)
    half = t_quantile((1 + confidence) / 2, count - 1) * deviation / math.sqrt(count)
    return Estimate(centre, centre - half, centre + half)


# -- Student's t ------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def t_quantile(p: float, dof: int) -> float:
    """The p-quantile of Student's t with ``dof`` degrees of freedom, 0 < p < 1.

    Up to ``EXACT_DOF`` the closed form for whole dof (Abramowitz and Stegun 26.7.3 and 26.7.4) is inverted
    by bisection; above, the normal quantile is expanded in 1/dof (26.7.5).
    """
    _check_share("p", p)
    if dof < 1:
        raise ValueError(f"t_quantile: dof is {dof}, must be at least 1")
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -t_quantile(1 - p, dof)
    if dof > EXACT_DOF:
        return _expanded(NormalDist().inv_cdf(p), dof)
    lo, hi = 0.0, math.pi / 2
    while lo < (middle := (lo + hi) / 2) < hi:
        if _between(middle, dof) < 2 * p - 1:
            lo = middle
        else:
            hi = middle
    return math.sqrt(dof) * math.tan(lo)


def _between(angle: float, dof: int) -> float:
    """P(-t < T < t) with t = sqrt(dof) tan(angle)."""
    cosine = math.cos(angle)
    odd = dof % 2
    term = cosine if odd else 1.0
    total = term if dof > 1 else 0.0
    for k in range(2 + odd, dof - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def _expanded(x: float, dof: int) -> float:
    g1 = (x**3 + x) / 4
    g2 = (5 * x**5 + 16 * x**3 + 3 * x) / 96
    g3 = (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384
    g4 = (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160
    return x + g1 / dof + g2 / dof**2 + g3 / dof**3 + g4 / dof**4


# -- checks -----------------------------------------------------------------------------------------------


def _column(values: ArrayLike | Sequence[float]) -> Floats:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"values have shape {column.shape}, must be one-dimensional")
    return column


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}, must lie between 0 and 1")


def _check_batches(count: int) -> None:
    if count < 2:
        raise ValueError(f"{count} batches; there must be at least 2")
