"""Small random networks with random primitives, and all their plans by enumeration."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from typing import TypeVar

from edgesched.devices.options import NetworkOptions, Option
from edgesched.policies.planning.frontier import Frontier, Point
from edgesched.policies.planning.memory import MEMORIES, Memory
from edgesched.policies.planning.pricing import InfeasiblePlanError, Price, Pricer
from edgesched.primitives.layouts import LAYOUTS, Layout
from edgesched.workloads.network import Layer, Network

T = TypeVar("T", int, float)


def random_case(seed: int, *, most_layers: int = 6) -> NetworkOptions:
    """A chain or a branching graph of 2 to 6 layers with 2 to 4 options each; ties and gaps are frequent.

    Now and then a layer has no input, or reads one twice.
    """
    rng = random.Random(seed)
    count = rng.randint(2, most_layers)
    chain = rng.random() < 0.4
    layers = []
    for index in range(count):
        inputs: tuple[int, ...] = ()
        if index:
            inputs = (index - 1,)
            if not chain and index > 1:
                inputs = tuple(sorted(rng.sample(range(index), min(index, rng.choice((1, 1, 2, 3))))))
                unusual = rng.random()
                inputs = () if unusual < 0.05 else inputs + inputs[:1] if unusual < 0.1 else inputs
        layers.append(Layer(f"layer {index}", "convolution", inputs, output_bytes=rng.randint(1, 4)))
    network = Network(f"case {seed}", tuple(layers))
    options = [_options(rng, first=not index, few=count > 4) for index in range(count)]
    return NetworkOptions(
        network,
        tuple(options),
        tuple(_transforms(rng) for _ in range(count)),
        live_bytes=network.live_bytes,
        tensor_bytes=tuple(layer.output_bytes for layer in layers),
    )


def _options(rng: random.Random, *, first: bool, few: bool) -> tuple[Option, ...]:
    if first and rng.random() < 0.5:
        return (Option("input", "chw", "chw", 0.0),)
    return tuple(_option(rng, at) for at in range(rng.randint(2, 3 if few else 4)))


def _option(rng: random.Random, at: int) -> Option:
    return Option(
        f"primitive {at}",
        rng.choice(LAYOUTS),
        rng.choice(LAYOUTS),
        rng.choice((1, 2, 3, 5, 8)) * 1e-3 + rng.choice((0.0, 0.1e-3)),
        workspace_bytes=rng.choice((0, 0, 2, 5, 9, 14)),
        weight_bytes=rng.choice((0, 3, 3, 7, 12)),
    )


def _transforms(rng: random.Random) -> dict[tuple[Layout, Layout], float]:
    """Most direct transforms; what is missing must go by another layout, or cannot be."""
    found: dict[tuple[Layout, Layout], float] = {}
    for before, after in itertools.permutations(LAYOUTS, 2):
        if rng.random() < 0.85:
            found[before, after] = rng.choice((0.0, 0.1e-3, 0.2e-3, 0.5e-3))
    return found


def every_price(options: NetworkOptions) -> Iterator[tuple[tuple[int, ...], Price]]:
    """All choices that are possible, with their prices."""
    pricer = Pricer(options)
    for choice in itertools.product(*(range(len(own)) for own in options.layers)):
        try:
            yield choice, pricer.price(choice)
        except InfeasiblePlanError:
            continue


def brute_force(options: NetworkOptions) -> dict[Memory, list[tuple[int, int]]]:
    """By every definition: (bytes, picoseconds) of every unbeaten plan, least memory first."""
    prices = [price for _, price in every_price(options)]
    return {
        memory: unbeaten((price.memory_bytes(memory), price.time_ps) for price in prices)
        for memory in MEMORIES
    }


def unbeaten(pairs: Iterable[tuple[int, T]]) -> list[tuple[int, T]]:
    """Ascending in the first, strictly descending in the second."""
    kept: list[tuple[int, T]] = []
    for pair in sorted(pairs):
        if not kept or pair[1] < kept[-1][1]:
            kept.append(pair)
    return kept


def entangled(seed: int, tensors: int, *, options_each: int = 3) -> NetworkOptions:
    """So many tensors, all of them read by each of several later layers: layouts hang together widely."""
    rng = random.Random(seed)
    layers = [Layer("input", "input", (), output_bytes=4)]
    layers += [Layer(f"tensor {at}", "convolution", (0,), output_bytes=2) for at in range(tensors)]
    every = tuple(range(1, tensors + 1))
    layers += [Layer(f"reader {at}", "convolution", every, output_bytes=1) for at in range(3)]
    network = Network(f"entangled {tensors}", tuple(layers))
    options = [(Option("input", "chw", "chw", 0.0),)]
    options += [tuple(_option(rng, at) for at in range(options_each)) for _ in range(len(network.layers) - 1)]
    direct = {pair: rng.choice((0.1e-3, 0.2e-3, 0.5e-3)) for pair in itertools.permutations(LAYOUTS, 2)}
    return NetworkOptions(
        network,
        tuple(options),
        (direct,) * len(layers),
        live_bytes=network.live_bytes,
        tensor_bytes=tuple(layer.output_bytes for layer in layers),
    )


def random_frontier(seed: int, name: str, *, most_points: int = 6, most_bytes: int = 30) -> Frontier:
    """A frontier of made-up points: whole microseconds, few different steps, so that ties are frequent."""
    rng = random.Random(seed)
    count = rng.randint(1, most_points)
    memory = sorted(rng.sample(range(most_bytes), count))
    times = sorted(rng.sample(range(1, 20), count), reverse=True)
    points = [Point(m, t * 1e-6, (at,)) for at, (m, t) in enumerate(zip(memory, times, strict=True))]
    return Frontier(name, "peak-workspace", tuple(points))
