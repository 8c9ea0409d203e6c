"""How far the simulator is off on this machine: the numbers of docs/validation.md, "This machine".

    python benchmarks/fidelity.py --out results/fidelity --json fidelity.json [--only 400]

Measures the machine and three networks, then simulates and replays every condition: storage paced to 40 and
to 400 MB/s, at the disk's own speed, and starved of memory; four policies; deterministic and Poisson arrivals
at utilisation 0.5 and 0.8 (of one worker that serves every image alone). Each condition is run several times
with other arrivals; the errors told are medians over runs, of all and of those in which the hypervisor left
this machine alone. Two hours, on a machine that does nothing else. Started again with the same folder, it
goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from edgesched.cli.verify import compare_here, device_here
from edgesched.runs.scenario import Scenario
from edgesched.runs.setup import set_up

NETWORKS = ["SqueezeNet 1.1", "MobileNet v2", "MobileNet v1"]
POLICIES = ["fifo", "linear", "deepeye", "masa"]
IMAGES = 20
RUNS = 5
RUNS_UNPACED = 11
"""A disk at its own speed drifts more than what is paced."""
UTILISATIONS = (0.5, 0.8)
PACED = {"40": 40e6, "400": 400e6}
UNDISTURBED = 0.003
"""What the hypervisor may take of the time of a run that counts as undisturbed; it counts ticks of 10 ms."""
STARVED = ["SqueezeNet 1.1", "MobileNet v1", "ResNet-18"]
STARVED_ROOM_BYTES = 36 << 20
"""Room for weights and arenas together where the device is starved: less than ResNet-18's weights alone."""


def conditions() -> dict[str, dict[str, Any]]:
    """What each condition changes of the device."""
    found: dict[str, dict[str, Any]] = {
        name: {"storage": {"pace_bytes_per_s": p}} for name, p in PACED.items()
    }
    found["unpaced"] = {"storage": {}}
    found["starved"] = {"storage": {"reads": "mapped", "pace_bytes_per_s": 100e6}}
    return found


def networks_of(device: dict[str, Any]) -> list[str]:
    """The networks of a condition, by what it changes of the device."""
    return STARVED if device["storage"].get("reads") == "mapped" else NETWORKS


def scenario(
    board: Path, device: dict[str, Any], policy: str, arrivals: dict[str, Any], runs: int
) -> Scenario:
    """One condition as a scenario."""
    return Scenario.model_validate(
        {
            "name": "fidelity",
            "device": {"board": str(board), **device},
            "workload": {"streams": [{"arrivals": arrivals, "networks": networks_of(device)}]},
            "policy": {"name": policy},
            "run": {"requests": IMAGES, "replications": runs, "seed": 1},
        }
    )


def service_s(board: Path, device: dict[str, Any]) -> float:
    """Seconds one image takes alone, layer by layer."""
    one = scenario(board, device, "linear", {"process": "deterministic", "rate_per_s": 1}, 1)
    return sum(cost.init_s + sum(cost.load_s) + sum(cost.execute_s) for cost in set_up(one).costs.values())


def run(
    board: Path,
    out: Path,
    name: str,
    device: dict[str, Any],
    runs: int,
    utilisations: Sequence[float],
    policies: Sequence[str],
) -> list[dict[str, Any]]:
    """The policies under all arrivals of one condition."""
    rows = []
    machine = yaml.safe_load(board.read_text())["description"]
    alone_s = service_s(board, device)
    for process in ("deterministic", "poisson"):
        for utilisation in utilisations:
            for policy in policies:
                folder = out / name / f"{process}-{utilisation}-{policy}"
                file = folder / "comparison.json"
                if not file.exists():
                    shutil.rmtree(folder, ignore_errors=True)
                    folder.mkdir(parents=True)
                    arrivals = {"process": process, "rate_per_s": utilisation / alone_s}
                    compared = compare_here(
                        partial(scenario, device=device, policy=policy, arrivals=arrivals, runs=runs),
                        board,
                        networks_of(device),
                        out,
                        folder,
                        pace=device["storage"].get("pace_bytes_per_s"),
                    )
                    file.write_text(json.dumps(compared.data(), indent=2))
                facts = json.loads((folder / "replayed" / "replay.json").read_text())["replications"]
                rows.append(
                    {"machine": machine, "condition": name, "process": process}
                    | {"utilisation": utilisation, "policy": policy}
                    | numbers(json.loads(file.read_text())["replications"], facts)
                )
                print(line(rows[-1]), flush=True)
    return rows


def numbers(parts: list[dict[str, Any]], facts: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the runs of one condition."""
    totals = [part["totals"] for part in parts if part["totals"] is not None]
    undisturbed = [
        part["totals"]
        for part, fact in zip(parts, facts, strict=True)
        if part["totals"] is not None and (stolen(fact["disturbance"]) or 0.0) <= UNDISTURBED
    ]
    memory = [part["memory"] for part in parts]

    def mid(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return median(known) if known else None

    return {
        "runs": len(totals),
        "replayed_mean_s": mid([t["replayed"]["mean_s"] for t in totals]),
        "simulated_mean_s": mid([t["simulated"]["mean_s"] for t in totals]),
        "mean_error": mid([t["predictive"]["mean"] for t in totals]),
        "mean_errors": [t["predictive"]["mean"] for t in totals],
        "p95_error": mid([t["predictive"]["p95"] for t in totals]),
        "undisturbed_runs": len(undisturbed),
        "undisturbed_mean_error": mid([t["predictive"]["mean"] for t in undisturbed]),
        "undisturbed_p95_error": mid([t["predictive"]["p95"] for t in undisturbed]),
        "trace_driven_error": mid([abs(t["trace_driven_error"]["mean"]) for t in totals]),
        "trace_driven_worst": max((abs(t["trace_driven_error"]["mean"]) for t in totals), default=None),
        "same_order": all(part["order"] is not None and part["order"]["same"] for part in parts),
        "peak_beyond_base_bytes": mid([m["measured_beyond_base_bytes"] for m in memory]),
        "ledger_beyond_base_bytes": mid([m["ledger_beyond_base_bytes"] for m in memory]),
        "scheduler_per_task_s": mid([f["scheduler"]["per_task_s"] for f in facts]),
        "scheduler_of_busy": mid([f["scheduler"]["of_busy"] for f in facts]),
        "switches": mid([f["switches"] for f in facts]),
        "stolen": mid([stolen(f["disturbance"]) for f in facts]),
        "load_1min": mid([f["disturbance"]["load_1min"] for f in facts]),
    }


def stolen(disturbance: dict[str, Any]) -> float | None:
    """Seconds of processors that the hypervisor gave to others, by second of the run."""
    taken_s = disturbance["steal_s"]
    return None if taken_s is None else taken_s / disturbance["elapsed_s"]


def line(row: dict[str, Any]) -> str:
    """One row for the terminal."""

    def percent(value: float | None) -> str:
        return "     -" if value is None else f"{value:+6.1%}"

    return (
        f"{row['condition']:>8} {row['process']:>13} {row['utilisation']} {row['policy']:>8}  "
        f"mean {percent(row['mean_error'])}  p95 {percent(row['p95_error'])}  "
        f"trace-driven {percent(row['trace_driven_error'])}  "
        f"order {'same' if row['same_order'] else 'DIFFERS'}  stolen {percent(row['stolen'])}  "
        f"undisturbed {row['undisturbed_runs']} of {row['runs']}: "
        f"mean {percent(row['undisturbed_mean_error'])}  p95 {percent(row['undisturbed_p95_error'])}"
    )


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for everything measured")
    parser.add_argument("--json", type=Path, help="write all rows here")
    parser.add_argument("--only", nargs="*", help="conditions: 40, 400, unpaced, starved")
    parser.add_argument("--runs", type=int, help=f"of each condition; {RUNS}, {RUNS_UNPACED} without a pace")
    parser.add_argument("--utilisations", nargs="*", type=float, default=UTILISATIONS)
    parser.add_argument("--policies", nargs="*", choices=POLICIES, default=POLICIES)
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in conditions() if not arguments.only or name in arguments.only]
    board = device_here([*NETWORKS, "ResNet-18"], None, out)
    rows = []
    for name, device in conditions().items():
        if name not in wanted:
            continue
        if name == "starved":
            base = set_up(
                scenario(board, device, "linear", {"process": "poisson", "rate_per_s": 1}, 1)
            ).device
            device["memory_limit"] = base.memory.base_bytes + STARVED_ROOM_BYTES
        runs = arguments.runs or (RUNS_UNPACED if name == "unpaced" else RUNS)
        rows += run(board, out, name, device, runs, arguments.utilisations, arguments.policies)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
