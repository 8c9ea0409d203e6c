"""How much faster is a sweep on two processes than on one?

    python benchmarks/sweep.py [--json FILE] [--rounds 5]

The same points, one process and two in turn, wall time; the median of the ratios inside each round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from edgesched.sim.sweeping import runner
from edgesched.sim.sweeping.executors import local_executor
from edgesched.sim.sweeping.sweep import run_point

SCENARIO: dict[str, Any] = {
    "device": {"board": "raspberry-pi-4-4gb", "memory_limit": "1GiB"},
    "workload": {
        "streams": [
            {
                "arrivals": {"process": "poisson", "rate_per_s": 0.02},
                "networks": ["EmotionNet", "MemNet", "TinyYolo", "SceneNet", "SoS"],
            }
        ]
    },
    "policy": {"name": "masa"},
    "run": {"requests": 60},
}
POINTS = 80

PRELOAD = "edgesched.sim.sweeping.sweep"


def wall_s(workers: int) -> float:
    """Seconds for all points, workers' start included."""
    todo = {f"{i}": {"scenario": SCENARIO, "replication": i, "folder": "."} for i in range(POINTS)}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        runner.run_points(
            run_point,
            todo,
            executor_factory=partial(
                local_executor, workers, isolate=True, preload=["edgesched.sim.sweeping.sweep"]
            ),
            path=Path(folder) / "points.jsonl",
            window=2 * workers,
        )
        return time.perf_counter() - start


def main() -> None:
    """Measure, print and, where asked, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    pairs = [(wall_s(1), wall_s(2)) for _ in range(arguments.rounds)]
    figures = {
        "one_process_s": statistics.median(one for one, _ in pairs),
        "two_processes_s": statistics.median(two for _, two in pairs),
        "speed_up": statistics.median(one / two for one, two in pairs),
    }
    for key, value in figures.items():
        print(f"{key:20s} {value:8.3f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
