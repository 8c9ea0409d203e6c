"""Oracles that hold on every path: a second way to every single response time, compared request by request.

One recursion proves more with 2,000 requests than a mean with millions: where the engine takes one task out
of order, or frees memory one task too late, numbers differ at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from ...runs.scenario import InlineNetwork, Scenario
from ...workloads.workload import generate
from .checks import Check, network, responses, scenario

Images = list[tuple[float, list[InlineNetwork]]]
"""Per request its arrival in seconds and the networks it needs, in order of submission."""

ROUNDING = 1e-9
"""Bar where the reference adds the same numbers in another order than the engine."""


def images_of(spec: Scenario) -> Images:
    """The requests of replication 0. Arrival times are cumulated gaps, as in the engine."""
    plan = generate(spec.workload, count=spec.run.requests, seed=spec.run.seed)
    known = {net.name: net for net in spec.networks}
    kinds = [[known[member.network] for member in members] for members in plan.compositions]
    return [(at, kinds[kind]) for at, kind in zip(accumulate(plan.gap_s), plan.composition, strict=True)]


def pipeline_finish_s(images: Images, capacity_bytes: float = math.inf) -> tuple[list[float], int]:
    """When each request is done that one worker loads and another executes, in order; and how many loads
    had to wait for memory.

    L_j = max(A, L_(j-1), E_m(j)) + load_j, E_j = max(L_j, E_(j-1)) + execute_j, where m(j) is the last
    execution that must end before layer j fits. INIT is time of the loading worker before layer 0.
    """
    loaded_s = executed_s = 0.0
    held: deque[tuple[int, float]] = deque()
    resident_bytes = waits = 0
    finish_s = []
    for arrival_s, networks in images:
        for net in networks:
            loaded_s = max(arrival_s, loaded_s) + net.init_s
            for layer in net.layers:
                start_s = loaded_s
                while resident_bytes + layer.weight_bytes > capacity_bytes:
                    freed_bytes, freed_s = held.popleft()
                    resident_bytes -= freed_bytes
                    start_s = max(start_s, freed_s)
                waits += start_s > loaded_s
                loaded_s = start_s + layer.load_s
                executed_s = max(loaded_s, executed_s) + layer.execute_s
                held.append((layer.weight_bytes, executed_s))
                resident_bytes += layer.weight_bytes
        finish_s.append(executed_s)
    return finish_s, waits


def serial_finish_s(images: Images, *, whole: bool) -> list[float]:
    """When each request is done on one worker in arrival order (the Lindley recursion, written with times).

    ``whole``: INIT, all loads, all executions of a network; else load and execution of each layer in turn.
    """
    free_s = 0.0
    finish_s = []
    for arrival_s, networks in images:
        free_s = max(arrival_s, free_s)
        for net in networks:
            load_s, execute_s = [x.load_s for x in net.layers], [x.execute_s for x in net.layers]
            if whole:
                steps = [math.fsum(load_s), math.fsum(execute_s)]
            else:
                steps = [step for pair in zip(load_s, execute_s, strict=True) for step in pair]
            for step in [net.init_s, *steps]:
                free_s += step
        finish_s.append(free_s)
    return finish_s


def image_times_s(networks: Sequence[InlineNetwork]) -> tuple[float, float]:
    """Of one image's networks, pipelined: seconds between images at full load, and seconds of one alone.

    S = max(X, Y) with X the sum of loads and Y that of executions; C = max over layers l of (loads up to l
    + executions from l on). INITs are loads without an execution.
    """
    load_s = [layer.load_s for net in networks for layer in net.layers]
    execute_s = [layer.execute_s for net in networks for layer in net.layers]
    position = 0
    for net in networks:
        load_s[position] += net.init_s
        position += len(net.layers)
    alone_s = max(math.fsum(load_s[: at + 1]) + math.fsum(execute_s[at:]) for at in range(len(load_s)))
    return max(math.fsum(load_s), math.fsum(execute_s)), alone_s


def lindley_responses_s(arrivals_s: Sequence[float], service_s: float, latency_s: float) -> list[float]:
    """R_i = latency + W_i with W_i = max(0, W_(i-1) + service - gap_i)."""
    wait_s, last_s = 0.0, -math.inf
    result = []
    for arrival_s in arrivals_s:
        wait_s = max(0.0, wait_s + service_s - (arrival_s - last_s))
        last_s = arrival_s
        result.append(latency_s + wait_s)
    return result


def compare(case: str, spec: Scenario, predicted_s: Sequence[float], *, bar: float, note: str = "") -> Check:
    """Run the scenario and compare every request's response time with the predicted one."""
    measured, _ = responses(spec)
    predicted = np.asarray(predicted_s)
    worst = float(np.max(np.abs(measured - predicted) / predicted))
    rule = "pathwise" if bar else "bit-equal"
    mean = float(measured.mean()), float(predicted.mean())
    return Check(f"theory/{case}", *mean, worst, bar, len(measured), 1, rule, note)


def _against_finish(
    case: str, spec: Scenario, images: Images, finish_s: list[float], note: str = ""
) -> Check:
    predicted = [end - at for end, (at, _) in zip(finish_s, images, strict=True)]
    return compare(case, spec, predicted, bar=0.0, note=note)


# -- cases ------------------------------------------------------------------------------------------------


def random_networks(count: int, seed: int) -> list[dict[str, Any]]:
    """Networks of 3 to 9 layers with random seconds (0 to 1) and weights (10 to 100 bytes)."""
    rng = np.random.default_rng(seed)
    result = []
    for number in range(count):
        layers = int(rng.integers(3, 10))
        weights = rng.integers(10, 101, layers).tolist()
        times = rng.random((2, layers)).tolist()
        result.append(network(f"net{number}", times[0], times[1], weights, init_s=float(rng.random()) / 4))
    return result


def mixed(policy: str | dict[str, Any], load: float, requests: int, **options: Any) -> Scenario:
    """Poisson images that need two of four random networks; ``load`` per second of the mean image's tasks."""
    networks = random_networks(4, seed=11)
    total = math.fsum(
        net["init_s"] + math.fsum(layer["load_s"] + layer["execute_s"] for layer in net["layers"])
        for net in networks
    )
    arrivals = {"process": "poisson", "mean_gap_s": total / 2 / load}
    mix = {"mix": "random", "pool": [net["name"] for net in networks], "count": 2}
    return scenario(policy, networks, arrivals, requests=requests, seed=5, mix=mix, **options)


def recursion_checks(requests: int) -> list[Check]:
    """Pipeline with infinite memory and with five capacities, against the recursion."""
    layerwise = {"weights_lifetime": "layer"}
    checks = []
    for capacity in (None, 300, 250, 200, 150, 100):
        spec = mixed("pipeline", 1.3, requests, runtime=layerwise, memory_limit=capacity)
        images = images_of(spec)
        finish_s, waits = pipeline_finish_s(images, math.inf if capacity is None else capacity)
        loads = sum(len(net.layers) for _, networks in images for net in networks)
        name = "infinite memory" if capacity is None else f"{capacity} bytes"
        note = f"{waits / loads:.1%} of loads wait for memory"
        checks.append(_against_finish(f"pipeline recursion/{name}", spec, images, finish_s, note))
    return checks


def serial_checks(requests: int) -> list[Check]:
    """FIFO by network and by layer, and linear, against the Lindley recursion."""
    checks = []
    for case, policy, whole in (
        ("fifo network", "fifo", True),
        ("fifo layer", {"name": "fifo", "unit": "layer"}, False),
        ("linear", "linear", False),
    ):
        spec = mixed(policy, 0.8, requests)
        images = images_of(spec)
        finish_s = serial_finish_s(images, whole=whole)
        checks.append(_against_finish(f"lindley/{case}", spec, images, finish_s))
    return checks


def identical_checks(requests: int) -> list[Check]:
    """Identical images, pipelined: Poisson against Lindley, periodic (D/D/1) against its closed form."""
    networks = random_networks(3, seed=23)
    names = [net["name"] for net in networks]
    specs = [InlineNetwork.model_validate(net) for net in networks]
    service_s, alone_s = image_times_s(specs)

    def spec(arrivals: dict[str, Any]) -> Scenario:
        return scenario("pipeline", networks, arrivals, requests=requests, seed=6, mix=names)

    poisson = spec({"process": "poisson", "mean_gap_s": service_s / 0.8})
    predicted = lindley_responses_s([at for at, _ in images_of(poisson)], service_s, alone_s)
    checks = [compare("lindley/pipeline, identical images", poisson, predicted, bar=ROUNDING)]
    for name, factor in (("T = 2 S", 2.0), ("T = S", 1.0), ("T = S / 2", 0.5)):
        period_s = factor * service_s
        periodic = spec({"process": "deterministic", "period_s": period_s})
        late_s = max(0.0, service_s - period_s)
        predicted = [alone_s + number * late_s for number in range(requests)]
        checks.append(compare(f"D/D/1/{name}", periodic, predicted, bar=ROUNDING))
    return checks
