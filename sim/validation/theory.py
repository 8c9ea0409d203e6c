"""Everything that `edgesched validate theory` checks: pathwise oracles, and means against closed forms.

All scenarios run as a user's would: arrivals and mixes drawn by the workload, policies by name, exponential
service by the runtime's noise. A mean passes where the closed form lies inside the measurement's own 99 %
interval (Student's t over replications). Seeds are fixed, so a check passes always or never.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...runs import statistics
from ...runs.result import RunResult
from ...runs.scenario import Scenario
from . import closed_forms
from .checks import Check, Floats, network, responses, scenario
from .pathwise import identical_checks, image_times_s, recursion_checks, serial_checks

CONFIDENCE = 0.99
SEED = 2021

Measure = Callable[[Floats, RunResult], float]
"""A number of one replication, from its responses after the warm-up and the whole result."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure; ``warmup`` of the ``requests`` of each replication are left out."""

    requests: int
    warmup: int
    replications: int
    path: int
    """Requests of a pathwise check."""


FULL = Effort(requests=11_000, warmup=1000, replications=20, path=2000)
QUICK = Effort(requests=2200, warmup=200, replications=10, path=300)

EXPONENTIAL: dict[str, Any] = {"noise": {"distribution": "exponential"}}


def mean(response: Floats, _: RunResult) -> float:
    """Mean response time."""
    return float(response.mean())


def estimate(
    case: str, spec: Scenario, predicted: Mapping[str, float], measures: Mapping[str, Measure], effort: Effort
) -> Iterator[Check]:
    """Measure every one of ``measures`` in every replication; one check per key of ``predicted``."""
    values: dict[str, list[float]] = {key: [] for key in predicted}
    for replication in range(effort.replications):
        response, result = responses(spec, replication)
        for key, column in values.items():
            column.append(measures[key](response[effort.warmup :], result))
    count = effort.replications * (effort.requests - effort.warmup)
    for key, column in values.items():
        measured = statistics.replications(column, CONFIDENCE)
        expected = predicted[key]
        yield Check(
            f"theory/{case}/{key}",
            measured.value,
            expected,
            abs(measured.value - expected) / expected,
            measured.half_width / expected,
            count,
            effort.replications,
            "99 % interval",
        )


def _poisson(rate_per_s: float) -> dict[str, Any]:
    return {"process": "poisson", "rate_per_s": rate_per_s}


def _single(name: str, execute_s: float, load_s: float = 0.0) -> dict[str, Any]:
    """One layer, so that a factor on its task is a factor on its service."""
    return network(name, [load_s], [execute_s])


def _choice(**weights: float) -> dict[str, Any]:
    alternatives = [{"weight": weight, "networks": [name]} for name, weight in weights.items()]
    return {"mix": "choice", "alternatives": alternatives}


# -- one worker -------------------------------------------------------------------------------------------


def mm1(effort: Effort) -> Iterator[Check]:
    """One network of exponential service, first in, first out: mean and p95."""
    rate, service_s = 0.6, 1.0
    spec = scenario(
        "fifo",
        [_single("net", service_s)],
        _poisson(rate),
        requests=effort.requests,
        seed=SEED,
        runtime=EXPONENTIAL,
    )
    predicted = {
        "mean": closed_forms.mm1_response_s(rate, service_s),
        "p95": closed_forms.mm1_response_quantile_s(rate, service_s, 0.95),
    }
    p95: Measure = lambda response, _: float(np.quantile(response, 0.95))  # noqa: E731
    yield from estimate("M/M/1, fifo", spec, predicted, {"mean": mean, "p95": p95}, effort)


def md1(effort: Effort) -> Iterator[Check]:
    """One network of several layers, not noisy."""
    rate, loads, executes = 0.7, [0.1, 0.2], [0.3, 0.4]
    spec = scenario(
        "fifo", [network("net", loads, executes)], _poisson(rate), requests=effort.requests, seed=SEED
    )
    predicted = closed_forms.md1_response_s(rate, math.fsum(loads + executes))
    yield from estimate("M/D/1, fifo", spec, {"mean": predicted}, {"mean": mean}, effort)


def mg1_hyperexponential(effort: Effort) -> Iterator[Check]:
    """Two networks of exponential service, one short and one long: H2 service."""
    rate = 0.5
    share, service_s = {"short": 0.75, "long": 0.25}, {"short": 0.5, "long": 2.5}
    spec = scenario(
        "fifo",
        [_single(name, seconds) for name, seconds in service_s.items()],
        _poisson(rate),
        requests=effort.requests,
        seed=SEED,
        mix=_choice(**share),
        runtime=EXPONENTIAL,
    )
    first = math.fsum(share[name] * service_s[name] for name in share)
    second = math.fsum(share[name] * 2 * service_s[name] ** 2 for name in share)
    predicted = closed_forms.mg1_response_s(rate, first, second)
    yield from estimate("M/G/1 (H2 service), fifo", spec, {"mean": predicted}, {"mean": mean}, effort)


def mg1_images(effort: Effort) -> Iterator[Check]:
    """Images that need one, two or three networks, layer by layer: the image is the customer."""
    rate = 0.35
    networks = [
        network("a", [0.1, 0.2], [0.2, 0.1]),
        network("b", [0.3, 0.1, 0.1], [0.2, 0.4, 0.3]),
        network("c", [0.5], [1.1], init_s=0.2),
    ]
    solo_s = {"a": 0.6, "b": 1.4, "c": 1.8}
    images = [(0.5, ["a"]), (0.2, ["a", "b"]), (0.3, ["c", "a", "b"])]
    spec = scenario(
        "linear",
        networks,
        _poisson(rate),
        requests=effort.requests,
        seed=SEED,
        mix={"mix": "choice", "alternatives": [{"weight": w, "networks": names} for w, names in images]},
    )
    totals = [(weight, math.fsum(solo_s[name] for name in names)) for weight, names in images]
    first = math.fsum(weight * total for weight, total in totals)
    second = math.fsum(weight * total**2 for weight, total in totals)
    predicted = closed_forms.mg1_response_s(rate, first, second)
    yield from estimate("M/G/1 (images), linear", spec, {"mean": predicted}, {"mean": mean}, effort)


def cobham(effort: Effort) -> Iterator[Check]:
    """Shortest job first over three networks: non-preemptive priorities, one class per network."""
    rate = 0.7
    share = {"short": 0.4, "middle": 0.35, "long": 0.25}
    service_s = {"short": 0.5, "middle": 1.0, "long": 2.0}
    spec = scenario(
        "sjf",
        [_single(name, seconds) for name, seconds in service_s.items()],
        _poisson(rate),
        requests=effort.requests,
        seed=SEED,
        mix=_choice(**share),
    )

    def of_class(name: str) -> Measure:
        def measure(response: Floats, result: RunResult) -> float:
            kind = [graphs[0].network.name for graphs in result.graphs].index(name)
            drawn = np.asarray(result.records.composition)[-len(response) :]
            return float(response[drawn == kind].mean())

        return measure

    rates = [rate * weight for weight in share.values()]
    times = list(service_s.values())
    forms = closed_forms.cobham_response_s(rates, times, [seconds**2 for seconds in times])
    predicted = dict(zip(share, forms, strict=True))
    measures = {name: of_class(name) for name in share}
    yield from estimate("Cobham priorities, sjf", spec, predicted, measures, effort)


# -- two and more -----------------------------------------------------------------------------------------


def mmc(effort: Effort, workers: int) -> Iterator[Check]:
    """Multi-bulk with exponential service: M/M/c."""
    rate, service_s = 0.7 * workers, 1.0
    spec = scenario(
        {"name": "multi-bulk", "workers": workers},
        [_single("net", service_s)],
        _poisson(rate),
        requests=effort.requests,
        seed=SEED,
        runtime=EXPONENTIAL,
    )
    predicted = closed_forms.mmc_response_s(rate, service_s, workers)
    yield from estimate(f"M/M/{workers}, multi-bulk", spec, {"mean": predicted}, {"mean": mean}, effort)


def tandem(effort: Effort) -> Iterator[Check]:
    """Loading and executing one exponential layer, pipelined: two queues in tandem."""
    rate, load_s, execute_s = 0.6, 0.8, 1.0
    spec = scenario(
        "pipeline",
        [_single("net", execute_s, load_s)],
        _poisson(rate),
        requests=effort.requests,
        seed=SEED,
        runtime=EXPONENTIAL,
    )
    predicted = closed_forms.tandem_response_s(rate, [load_s, execute_s])
    yield from estimate("tandem M/M/1, pipeline", spec, {"mean": predicted}, {"mean": mean}, effort)


def md1_pipeline(effort: Effort) -> Iterator[Check]:
    """Identical images of two networks, pipelined: M/D/1 at the slower stage."""
    networks = [network("a", [0.3, 0.2], [0.1, 0.4]), network("b", [0.1, 0.2], [0.3, 0.2])]
    rate = 0.7
    spec = scenario("pipeline", networks, _poisson(rate), requests=effort.requests, seed=SEED)
    service_s, alone_s = image_times_s(spec.networks)
    predicted = closed_forms.md1_response_s(rate, service_s, alone_s)
    yield from estimate("M/D/1 (images), pipeline", spec, {"mean": predicted}, {"mean": mean}, effort)


def theory_checks(effort: Effort = FULL) -> Iterator[Check]:
    """All checks, one after the other, as they are done."""
    yield from recursion_checks(effort.path)
    yield from serial_checks(effort.path)
    yield from identical_checks(effort.path)
    for case in (mm1, md1, mg1_hyperexponential, mg1_images, cobham, tandem, md1_pipeline):
        yield from case(effort)
    for workers in (2, 4):
        yield from mmc(effort, workers)
