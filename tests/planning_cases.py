"""Small random networks with random primitives, and all their plans by enumeration."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from edgesched.devices.options import NetworkOptions, Option
from edgesched.policies.planning.memory import Memory
from edgesched.policies.planning.pricing import InfeasiblePlanError, Price, price
from edgesched.primitives.layouts import LAYOUTS, Layout
from edgesched.workloads.network import Layer, Network


def random_case(seed: int, *, most_layers: int = 6) -> NetworkOptions:
    """A chain or a branching graph of 2 to 6 layers with 2 to 4 options each; ties and gaps are frequent."""
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
    return tuple(
        Option(
            f"primitive {at}",
            rng.choice(LAYOUTS),
            rng.choice(LAYOUTS),
            rng.choice((1, 2, 3, 5, 8)) * 1e-3 + rng.choice((0.0, 0.1e-3)),
            workspace_bytes=rng.choice((0, 0, 2, 5, 9, 14)),
            weight_bytes=rng.choice((0, 3, 3, 7, 12)),
        )
        for at in range(rng.randint(2, 3 if few else 4))
    )


def _transforms(rng: random.Random) -> dict[tuple[Layout, Layout], float]:
    """Most direct transforms; what is missing must go by another layout, or cannot be."""
    found: dict[tuple[Layout, Layout], float] = {}
    for before, after in itertools.permutations(LAYOUTS, 2):
        if rng.random() < 0.85:
            found[before, after] = rng.choice((0.0, 0.1e-3, 0.2e-3, 0.5e-3))
    return found


def every_price(options: NetworkOptions) -> Iterator[Price]:
    """The prices of all choices that are possible."""
    for choice in itertools.product(*(range(len(own)) for own in options.layers)):
        try:
            yield price(options, choice)
        except InfeasiblePlanError:
            continue


def brute_force(options: NetworkOptions, memory: Memory) -> list[tuple[int, int]]:
    """(bytes, picoseconds) of every undominated plan, least memory first."""
    kept: list[tuple[int, int]] = []
    for pair in sorted((found.memory_bytes(memory), found.time_ps) for found in every_price(options)):
        if not kept or pair[1] < kept[-1][1]:
            kept.append(pair)
    return kept
