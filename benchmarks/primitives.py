"""What choosing primitives is worth on this machine, and how far plans are off.

    edgesched profile primitives AlexNet "SqueezeNet 1.1" GoogLeNet "MobileNet v1" ResNet-18 --out FILE.csv
    python benchmarks/primitives.py --profile FILE.csv [--json FILE] [--rounds 15]

Every plan named is executed (bridge/planned), alone or two at once, each on a processor of its own, in one
thread. Told are: the fastest choice against im2row everywhere and against the best single family; predicted
against measured times; planned against used arena; the memory that 15 % more time saves; and the regret of
choosing on one half of the profile's repetitions and scoring on the other. The processor must be otherwise
idle.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from edgesched.bridge.planned.concurrent import execute_together
from edgesched.bridge.planned.program import PlannedProgram
from edgesched.devices.implementing import options_from_profile
from edgesched.devices.options import NetworkOptions, Option
from edgesched.policies.planning.frontier import Frontier, Point, frontier
from edgesched.policies.planning.pricing import price
from edgesched.primitives.library import LIBRARY
from edgesched.primitives.shape import CONVOLUTIONS
from edgesched.traces.primitives import PrimitiveProfile, read_primitives
from edgesched.workloads import catalogue

NETWORKS = ("AlexNet", "SqueezeNet 1.1", "GoogLeNet", "MobileNet v1", "ResNet-18")
PAIRS = (
    ("AlexNet", "SqueezeNet 1.1"),
    ("GoogLeNet", "MobileNet v1"),
    ("ResNet-18", "SqueezeNet 1.1"),
    ("GoogLeNet", "ResNet-18"),
    ("AlexNet", "MobileNet v1"),
)
MEMORY = "peak-workspace"
PLAIN = "im2row"
MORE_TIME = 0.15


def restricted(options: NetworkOptions, keep: Callable[[Option], bool]) -> NetworkOptions:
    """The options of convolutions that ``keep`` wants; im2row where it wants none, any where that fails."""

    def own(index: int) -> tuple[Option, ...]:
        every = options.layers[index]
        if options.network.layers[index].op not in CONVOLUTIONS:
            return every
        for rule in (keep, of_family(PLAIN)):
            if found := tuple(option for option in every if rule(option)):
                return found
        return every

    return replace(options, layers=tuple(own(index) for index in range(len(options.layers))))


def of_family(family: str) -> Callable[[Option], bool]:
    """Whether an option belongs to the family."""
    return lambda option: LIBRARY[option.primitive].family == family


def fastest(options: NetworkOptions) -> Point:
    """The fastest plan."""
    return frontier(options, MEMORY).points[-1]


def measured(options: Sequence[NetworkOptions], points: Sequence[Point], rounds: int) -> list[dict[str, Any]]:
    """Execute plans alone and at once: what was predicted, what it took, what it used."""
    programs = [PlannedProgram(each, point.choice) for each, point in zip(options, points, strict=True)]
    try:
        found = execute_together(programs, rounds)
    finally:
        for program in programs:
            program.close()
    rows = []
    for each, point, program, ran in zip(options, points, programs, found.networks, strict=True):
        rows.append(
            {
                "network": each.network.name,
                "memory_bytes": point.memory_bytes,
                "predicted_s": point.time_s,
                "solo_s": ran.solo_median_s,
                "together_s": ran.together_median_s if len(programs) > 1 else None,
                "planned_arena_bytes": program.arena_bytes,
                "used_arena_bytes": ran.arena_high_water_bytes,
                "relative_error": ran.relative_error,
            }
        )
    return rows


def selection(options: NetworkOptions, rounds: int) -> dict[str, Any]:
    """The fastest choice against im2row everywhere and the best single family, all executed."""
    families = {primitive.family for primitive in LIBRARY.values()}
    single = {family: restricted(options, of_family(family)) for family in families}
    best = min(families, key=lambda family: fastest(single[family]).time_s)
    cases = {"chosen": options, PLAIN: single[PLAIN], "best family": single[best]}
    rows = {name: measured([own], [fastest(own)], rounds)[0] for name, own in cases.items()}
    again = measured([options], [fastest(options)], rounds)[0]  # drift shows here
    chosen_s = min(rows["chosen"]["solo_s"], again["solo_s"])
    return {
        "network": options.network.name,
        "best_family": best,
        "cases": rows,
        "again_s": again["solo_s"],
        "against_im2row": rows[PLAIN]["solo_s"] / chosen_s,
        "against_best_family": rows["best family"]["solo_s"] / chosen_s,
        "predicted_against_im2row": rows[PLAIN]["predicted_s"] / rows["chosen"]["predicted_s"],
        "predicted_against_best_family": rows["best family"]["predicted_s"] / rows["chosen"]["predicted_s"],
    }


def some(points: Sequence[Point], count: int = 4) -> list[Point]:
    """Points spread over a frontier, its ends among them."""
    places = {round(at * (len(points) - 1) / max(1, count - 1)) for at in range(count)}
    return [points[at] for at in sorted(places)]


def trade_off(found: Frontier) -> dict[str, Any]:
    """Memory of the fastest plan against the plan that takes at most 15 % longer, and the knee."""
    last, within, knee = found.points[-1], found.within(MORE_TIME), found.knee
    return {
        "network": found.network,
        "points": len(found.points),
        "fastest": [last.memory_bytes, last.time_s],
        "within_15_percent": [within.memory_bytes, within.time_s],
        "knee": [knee.memory_bytes, knee.time_s],
        "less_memory": None if not within.memory_bytes else last.memory_bytes / within.memory_bytes,
        "more_time": within.time_s / last.time_s - 1,
    }


def regret(name: str, profile: PrimitiveProfile) -> dict[str, Any]:
    """Choose on one half of the repetitions, score on the other: gains over im2row, and what was lost."""
    halves = [half_of(name, profile, which) for which in ("even_s", "odd_s")]
    rows = []
    for chosen_on, scored_on in (halves, halves[::-1]):
        choice = fastest(chosen_on).choice
        scored = price(scored_on, choice).time_s
        best = fastest(scored_on).time_s
        plain = fastest(restricted(scored_on, of_family(PLAIN))).time_s
        told = fastest(chosen_on).time_s
        rows.append((scored / best - 1, plain / scored, scored / told - 1))
    return {
        "network": name,
        "regret": max(row[0] for row in rows),
        "gain_over_im2row": min(row[1] for row in rows),
        "optimism": max(row[2] for row in rows),
    }


def half_of(name: str, profile: PrimitiveProfile, which: str) -> NetworkOptions:
    """The options by the even or the odd repetitions; all of them where a half is missing."""
    rows = tuple(replace(row, execute_s=getattr(row, which) or row.execute_s) for row in profile.rows)
    return options_from_profile(
        catalogue.build(name), PrimitiveProfile(rows, profile.metadata, profile.source)
    )


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """The figures that bars are set for."""
    solo = [abs(row["predicted_s"] / row["solo_s"] - 1) for row in result["solo"]]
    pairs = [abs(row["predicted_s"] / row["together_s"] - 1) for row in result["pairs"]]
    rows = [*result["solo"], *result["pairs"]]
    return {
        "plans": len(solo),
        "solo_median_error": median(solo),
        "solo_largest_error": max(solo),
        "pairs_median_error": median(pairs),
        "pairs_largest_error": max(pairs),
        "arena_exact": sum(row["planned_arena_bytes"] == row["used_arena_bytes"] for row in rows),
        "arenas": len(rows),
        "largest_output_error": max(row["relative_error"] for row in rows),
    }


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    path = arguments.profile
    profile = read_primitives(Path(path) if path.lower().endswith(".csv") else path)
    options = {name: options_from_profile(catalogue.build(name), profile) for name in NETWORKS}
    fronts = {name: frontier(own, MEMORY) for name, own in options.items()}
    result: dict[str, Any] = {"profile": dict(profile.metadata), "rounds": arguments.rounds}
    result["trade_off"] = [trade_off(found) for found in fronts.values()]
    result["regret"] = [regret(name, profile) for name in NETWORKS]
    result["selection"] = []
    for own in options.values():
        result["selection"].append(selection(own, arguments.rounds))
        print(_line(result["selection"][-1]), flush=True)
    result["solo"] = []
    for name, own in options.items():
        for point in some(fronts[name].points):
            result["solo"] += measured([own], [point], arguments.rounds)
            print(_line(result["solo"][-1]), flush=True)
    result["pairs"] = []
    for pair in PAIRS:
        for pick in (lambda f: f.points[-1], lambda f: f.knee):
            rows = measured([options[n] for n in pair], [pick(fronts[n]) for n in pair], arguments.rounds)
            result["pairs"] += rows
            for row in rows:
                print(_line(row), flush=True)
    result["summary"] = summary(result)
    for key in ("trade_off", "regret"):
        for row in result[key]:
            print(_line(row))
    print(_line(result["summary"]))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _line(row: dict[str, Any]) -> str:
    shown = {key: value for key, value in row.items() if not isinstance(value, dict)}
    return "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items())


if __name__ == "__main__":
    main()
