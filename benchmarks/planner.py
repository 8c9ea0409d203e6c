"""How long does the planner take? Seconds of one core for the exact frontier of a network, and its points.

    python benchmarks/planner.py [--json FILE] [--primitives 71] [--all]

The shapes are those of the catalogue's networks. Every convolution has 71 primitives of random time,
workspace, weights and layouts; every other layer has three, one for each layout. Without ``--all`` only
GoogLeNet's ``peak-workspace``; with it every definition of memory on three networks, and the sharing of a
budget among them. CPU time, median of the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgesched.devices.options import NetworkOptions, Option
from edgesched.policies.planning.frontier import Frontier, frontier, solve
from edgesched.policies.planning.memory import MEMORIES, Memory
from edgesched.policies.planning.partition import partition
from edgesched.primitives.layouts import LAYOUTS
from edgesched.workloads import catalogue
from edgesched.workloads.network import shape_bytes

NETWORKS = ("AlexNet", "SqueezeNet 1.1", "GoogLeNet")
LARGEST_WORKSPACE_BYTES = 10**7
WEIGHTS = (1, 1, 1, 16 / 9, 25 / 9, 4)
"""Stored weights of a primitive in terms of the plain ones: as they are, or Winograd's of several tiles."""


def random_options(name: str, primitives: int, seed: int = 1) -> NetworkOptions:
    """The network with random primitives."""
    network = catalogue.build(name)
    rng = random.Random(seed)
    layers = []
    for layer in network.layers:
        if not layer.inputs:
            layers.append((Option("input", "chw", "chw", 0.0),))
        elif layer.op == "convolution":
            layers.append(
                tuple(
                    Option(
                        f"primitive {at}",
                        rng.choice(LAYOUTS),
                        rng.choice(LAYOUTS),
                        rng.uniform(1e-3, 20e-3),
                        rng.randrange(LARGEST_WORKSPACE_BYTES),
                        int(layer.weight_bytes * rng.choice(WEIGHTS)),
                    )
                    for at in range(primitives)
                )
            )
        else:
            weights = layer.weight_bytes
            layers.append(tuple(Option(a, a, a, rng.uniform(1e-4, 1e-3), 0, weights) for a in LAYOUTS))
    direct = [
        {pair: rng.uniform(1e-5, 1e-3) for pair in itertools.permutations(LAYOUTS, 2)} for _ in network.layers
    ]
    sizes = tuple(shape_bytes(layer.output_shape) for layer in network.layers)
    return NetworkOptions(network, tuple(layers), tuple(direct), network.live_bytes, sizes)


def median_s(call: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """CPU seconds of a call, and what it returned."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        result = call()
        times.append(time.process_time() - start)
    return statistics.median(times), result


def measured(name: str, memory: Memory, primitives: int, rounds: int) -> tuple[dict[str, Any], Frontier]:
    """Seconds of one frontier, and of its middle point alone."""
    options = random_options(name, primitives)
    whole_s, found = median_s(lambda: frontier(options, memory), rounds)
    budget = found.points[len(found.points) // 2].memory_bytes
    single_s, _ = median_s(lambda: solve(options, memory, budget), 1)
    print(
        f"{name}, {len(options.network.layers)} layers, {memory}: {len(found.points)} points in "
        f"{whole_s:.3f} s; one budget {single_s:.3f} s"
    )
    row = {"network": name, "memory": memory, "points": len(found.points), "frontier_s": whole_s}
    return row | {"single_s": single_s}, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--primitives", type=int, default=71)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--all", action="store_true")
    args = parser.parse_args()
    rows = []
    fronts = []
    for name in NETWORKS if args.all else ("GoogLeNet",):
        for memory in MEMORIES if args.all else MEMORIES[:1]:
            row, found = measured(name, memory, args.primitives, args.rounds)
            rows.append(row)
            if memory == "total":
                fronts.append(found)
    if fronts:
        least, most = (sum(front.points[at].memory_bytes for front in fronts) for at in (0, -1))
        seconds, _ = median_s(lambda: partition(fronts, (least + most) // 2), args.rounds)
        print(f"one budget for the {len(fronts)} networks, by total: {seconds:.3f} s")
        rows.append({"partition_of": list(NETWORKS), "partition_s": seconds})
    if args.json:
        args.json.write_text(json.dumps({"planner": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
