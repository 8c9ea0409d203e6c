"""How fast is the engine? Tasks per second with policy, ledger, requests and jobs recorded.

    python benchmarks/engine.py [--json FILE] [--requests 1000]

Ten 20-layer networks an image, Poisson arrivals, one core; CPU time, variants interleaved, medians of the
rounds and of the ratios inside each round. FIFO is in layer units (410 tasks an image) unless it says bulk.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from edgesched.devices.cost import NetworkCost, network_cost
from edgesched.devices.model import Device, Memory, Processor, Runtime
from edgesched.policies.contract import Policy
from edgesched.policies.fifo import Fifo
from edgesched.policies.masa import Masa
from edgesched.runs.records import Records
from edgesched.runs.tasks import Trace
from edgesched.sim.engine import Engine
from edgesched.workloads.mix import together
from edgesched.workloads.network import Layer, Network
from edgesched.workloads.workload import RequestPlan

sys.path.insert(0, str(Path(__file__).parent))
from heapq_loop import HeapqLoop

LAYERS, NETWORKS = 20, 10
TASKS_PER_NETWORK = 1 + 2 * LAYERS
DEVICE = Device(
    name="bench",
    processors=(Processor(name="cpu"),),
    memory=Memory(total_bytes=1 << 30, limit_bytes=1 << 29),
)


def networks() -> list[NetworkCost]:
    """Ten chains of twenty layers with random times."""
    rng = random.Random(1)
    costs = []
    for k in range(NETWORKS):
        layers = tuple(
            Layer(f"{i}", "convolution", inputs=(i - 1,) if i else (), weight_bytes=1000, output_bytes=100)
            for i in range(LAYERS)
        )
        costs.append(
            network_cost(
                Network(f"network {k}", layers, conv_layers=10),
                Runtime(),
                init_s=0.001,
                load_s=tuple(rng.random() for _ in range(LAYERS)),
                execute_s=tuple(rng.random() for _ in range(LAYERS)),
            )
        )
    return costs


def gaps(count: int, load: float, costs: list[NetworkCost]) -> list[float]:
    """Poisson gaps: ``load`` times what one worker can do."""
    rng = random.Random(2)
    rate = load / sum(cost.solo_s for cost in costs)
    return [rng.expovariate(rate) for _ in range(count)]


def plan_of(gap_s: list[float]) -> RequestPlan:
    """Every request needs all ten networks."""
    names = tuple(f"network {k}" for k in range(NETWORKS))
    plan = RequestPlan(streams=("images",), deadline_s=[None], compositions=[together(names)])
    plan.gap_s.extend(gap_s)
    plan.stream.extend([0] * len(gap_s))
    plan.composition.extend([0] * len(gap_s))
    return plan


def engine(
    policy: Policy, costs: list[NetworkCost], gap_s: list[float], trace: Trace | None = None
) -> Engine:
    """An engine ready to run."""
    return Engine(policy, DEVICE, plan_of(gap_s), lambda s: [s.composition(costs)], Records(), trace)


def cpu_s(call: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def speed(
    policy: Callable[[], Policy], costs: list[NetworkCost], gap_s: list[float], per_image: int
) -> float:
    """Tasks per CPU second of one run, setting up excluded."""
    prepared = engine(policy(), costs, gap_s)
    return len(gap_s) * per_image / cpu_s(prepared.run)


def heapq_speed(costs: list[NetworkCost], gap_s: list[float], per_image: int) -> float:
    """Tasks per CPU second of the yardstick with the same policy."""
    loop = HeapqLoop(Fifo("layer"), DEVICE, costs)
    return len(gap_s) * per_image / cpu_s(lambda: loop.run(gap_s))


def backlog(costs: list[NetworkCost], waiting: int) -> float:
    """Masa's speed while about ``waiting`` jobs wait all the time: a closed number of images in flight."""
    from edgesched.workloads.arrivals import Closed
    from edgesched.workloads.workload import ClosedPlan

    plan = plan_of([])
    images = max(1, waiting // NETWORKS)
    count = images + 200
    process = Closed("outstanding", outstanding=images, group=1)
    plan.closed.append(ClosedPlan(0, process, plan.composition + plan.composition.__class__("i", [0]), count))
    prepared = Engine(Masa(), DEVICE, plan, lambda s: [s.composition(costs)], Records())
    return count * NETWORKS * TASKS_PER_NETWORK / cpu_s(prepared.run)


def bytes_per_request(costs: list[NetworkCost], few: int, many: int) -> float:
    """Growth of the memory held after a run per further recorded request (tracemalloc)."""
    held = []
    for count in (few, many):
        gap_s = gaps(count, 0.5, costs)
        tracemalloc.start()
        prepared = Engine(Fifo(), DEVICE, _Plan(gap_s), lambda s: [s.composition(costs)], Records())
        prepared.run()
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    return (held[1] - held[0]) / (many - few)


class _Plan(RequestPlan):
    """A plan whose arrays were made before the measurement."""

    def __init__(self, gap_s: list[float]) -> None:
        made = plan_of(gap_s)
        super().__init__(
            made.streams, made.deadline_s, made.compositions, made.gap_s, made.stream, made.composition
        )


def measure(requests: int, rounds: int) -> dict[str, float]:
    """All figures of the table in docs/validation.md that concern the engine."""
    costs = networks()
    light, heavy = gaps(requests, 0.6, costs), gaps(requests, 0.9, costs)
    layer_tasks, bulk_tasks = NETWORKS * TASKS_PER_NETWORK, NETWORKS * 3
    columns: dict[str, list[float]] = {}

    def note(key: str, value: float) -> None:
        columns.setdefault(key, []).append(value)

    for _ in range(rounds):
        fifo = speed(lambda: Fifo("layer"), costs, light, layer_tasks)
        yardstick = heapq_speed(costs, light, layer_tasks)
        note("fifo_tasks_per_s", fifo)
        note("heapq_tasks_per_s", yardstick)
        note("ratio_to_heapq", fifo / yardstick)
        note("fifo_bulk_tasks_per_s", speed(Fifo, costs, light, bulk_tasks))
        note("masa_tasks_per_s", speed(Masa, costs, heavy, layer_tasks))
        trace = Trace()
        traced = engine(Fifo("layer"), costs, light, trace)
        note("trace_time_ratio", fifo * cpu_s(traced.run) / (requests * layer_tasks))
        few, many = backlog(costs, 10), backlog(costs, 300)
        note("speed_300_waiting_to_10", many / few)
    result = {key: statistics.median(values) for key, values in columns.items()}
    result["trace_bytes_per_row"] = trace.bytes_per_row
    small, large = gaps(1000, 0.6, costs), gaps(100_000, 0.6, costs)
    short = statistics.median(speed(Fifo, costs, small, bulk_tasks) for _ in range(9))
    result["speed_100000_requests_to_1000"] = speed(Fifo, costs, large, bulk_tasks) / short
    result["bytes_per_request"] = bytes_per_request(costs, 2000, 10_000)
    return result


def main() -> None:
    """Measure, print and, where asked, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    figures = measure(arguments.requests, arguments.rounds)
    for key, value in figures.items():
        print(f"{key:32s} {value:14,.3f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
