"""Steady-state formulas of queueing theory. Rates per second, times in seconds; first in, first out.

Every function raises ValueError where the queue has no steady state. Sources: Kleinrock, Queueing Systems
(1975, 1976); Cobham, Priority assignment in waiting line problems (1954); Jackson (1957).
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def _utilisation(offered: float, servers: int = 1) -> float:
    rho = offered / servers
    if not 0 <= rho < 1:
        raise ValueError(f"utilisation is {rho:g}, must be below 1 for a steady state")
    return rho


def pollaczek_khinchine_wait_s(rate_per_s: float, mean_s: float, mean_square_s2: float) -> float:
    """M/G/1 mean wait: rate * E[S^2] / (2 (1 - rho)). ``mean_square_s2`` is E[S^2]."""
    rho = _utilisation(rate_per_s * mean_s)
    return rate_per_s * mean_square_s2 / (2 * (1 - rho))


def mg1_response_s(rate_per_s: float, mean_s: float, mean_square_s2: float) -> float:
    """M/G/1 mean response: the Pollaczek-Khinchine wait and the service."""
    return pollaczek_khinchine_wait_s(rate_per_s, mean_s, mean_square_s2) + mean_s


def md1_response_s(rate_per_s: float, service_s: float, latency_s: float | None = None) -> float:
    """M/D/1 mean response.

    With ``latency_s``, that of a pipeline which takes an item every ``service_s`` and lets it out
    ``latency_s`` after it has begun: latency plus the M/D/1 wait.
    """
    wait = pollaczek_khinchine_wait_s(rate_per_s, service_s, service_s**2)
    return wait + (service_s if latency_s is None else latency_s)


def mm1_response_s(rate_per_s: float, mean_s: float) -> float:
    """M/M/1 mean response: S / (1 - rho)."""
    return mean_s / (1 - _utilisation(rate_per_s * mean_s))


def mm1_response_quantile_s(rate_per_s: float, mean_s: float, q: float) -> float:
    """The q-quantile of the M/M/1 response, which is exponential."""
    return -math.log1p(-q) * mm1_response_s(rate_per_s, mean_s)


def erlang_c(servers: int, offered: float) -> float:
    """Probability that an arrival has to wait in M/M/c; ``offered`` is rate times mean service."""
    rho = _utilisation(offered, servers)
    # Erlang B by its recursion, which does not overflow.
    blocking = 1.0
    for count in range(1, servers + 1):
        blocking = offered * blocking / (count + offered * blocking)
    return blocking / (1 - rho * (1 - blocking))


def mmc_response_s(rate_per_s: float, mean_s: float, servers: int) -> float:
    """M/M/c mean response: Erlang C * S / (c - offered) + S."""
    offered = rate_per_s * mean_s
    return erlang_c(servers, offered) * mean_s / (servers - offered) + mean_s


def tandem_response_s(rate_per_s: float, means_s: Sequence[float]) -> float:
    """Exponential stations one after the other: the sum of their M/M/1 responses (Burke, Jackson)."""
    return math.fsum(mm1_response_s(rate_per_s, mean) for mean in means_s)


def cobham_response_s(
    rates_per_s: Sequence[float], means_s: Sequence[float], mean_squares_s2: Sequence[float]
) -> list[float]:
    """Mean response per class of M/G/1 with non-preemptive priorities, the first class going first.

    W_k = W_0 / ((1 - s_(k-1)) (1 - s_k)) with W_0 = sum of rate_i E[S_i^2] / 2 and s_k = rho_1 + ... + rho_k.
    """
    residual = math.fsum(r * m2 for r, m2 in zip(rates_per_s, mean_squares_s2, strict=True)) / 2
    responses = []
    before = 0.0
    for rate, mean in zip(rates_per_s, means_s, strict=True):
        upto = _utilisation(before + rate * mean)
        responses.append(residual / ((1 - before) * (1 - upto)) + mean)
        before = upto
    return responses
