"""What choosing primitives is worth on this machine, and how far plans are off.

    edgesched profile primitives AlexNet "SqueezeNet 1.1" GoogLeNet "MobileNet v1" ResNet-18 --out FILE.csv
    python benchmarks/primitives.py --profile FILE.csv [--json FILE] [--rounds 5]

Every plan named is executed (bridge/planned), alone or two at once, each on a processor of its own, in one
thread. Told are: the fastest choice against im2row everywhere and against the best single family; predicted
against measured times; planned against used arena; the memory that 15 % more time saves; and the regret of
choosing on one half of the profile's repetitions and scoring on the other.

Predicted is told twice: as the profile has it, and of the plan's own primitives timed once more by the
profiler, in turn with the inferences. A shared machine is a fifth faster in one minute than in the next; the
second number is free of that, and says whether a plan is the sum of its layers. Plans that are compared with
each other are executed in turn as well. The processors must be otherwise idle.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from edgesched.bridge.measuring.primitivebench import PrimitiveBench
from edgesched.bridge.planned.concurrent import execute_together
from edgesched.bridge.planned.program import PlannedProgram, one_blas_thread
from edgesched.devices.implementing import options_from_profile
from edgesched.devices.options import NetworkOptions, Option
from edgesched.policies.graph import WHOLE_NETWORK
from edgesched.policies.planning.frontier import Frontier, Point, frontier
from edgesched.policies.planning.pricing import price
from edgesched.primitives.catalogue import LIBRARY
from edgesched.primitives.layouts import transform_name
from edgesched.primitives.shape import CONVOLUTIONS, layer_key, tensor_key
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
PLAIN = "im2row-copy-short-ab-ik"
MORE_TIME = 0.15


def restricted(options: NetworkOptions, keep: Callable[[Option], bool]) -> NetworkOptions:
    """The options of convolutions that ``keep`` wants; im2row where it wants none, any where that fails."""

    def own(index: int) -> tuple[Option, ...]:
        every = options.layers[index]
        if options.network.layers[index].op not in CONVOLUTIONS:
            return every
        for rule in (keep, lambda option: option.primitive == PLAIN, of_family("im2row")):
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


class Timing:
    """A plan that is executed, and timed layer by layer, again and again."""

    def __init__(self, options: NetworkOptions, point: Point) -> None:
        self.options, self.point = options, point
        self.network = options.network
        self.program = PlannedProgram(options, point.choice)
        self.program.own.execute(WHOLE_NETWORK)
        self.inferences_s: list[float] = []
        self.layers_s: dict[Any, list[float]] = {}
        self.count: Counter[Any] = Counter()
        self._place: dict[Any, int] = {}
        for index, step in enumerate(self.program.steps):
            self._note((layer_key(self.network, index), step.primitive.name), index)
            for source, before, path in zip(
                self.network.layers[index].inputs, step.stored, step.transforms, strict=True
            ):
                for after in path.steps:
                    self._note(
                        (
                            tensor_key(self.network.layers[source].output_shape[1:]),
                            transform_name(before, after),
                        ),
                        source,
                    )
                    before = after

    def _note(self, key: Any, place: int) -> None:
        self.count[key] += 1
        self._place[key] = place

    def infer(self) -> float:
        """One inference; its seconds."""
        start_s = time.monotonic()
        self.program.own.execute(WHOLE_NETWORK)
        return time.monotonic() - start_s

    def time_layers(self, bench: PrimitiveBench) -> None:
        """Three samples of every primitive and transform of the plan, as the profiler takes them."""
        for (key, name), place in self._place.items():
            if key.startswith("transform "):
                bench.tensor(self.network.layers[place].output_shape[1:])
            else:
                bench.layer(self.network, place, {name: self.program.steps[place].workspace_bytes}, 0)
            found = [sample.seconds for _, group in bench.samples([name] * 3) for sample in group]
            self.layers_s.setdefault((key, name), []).extend(found)

    @property
    def layers_together_s(self) -> float:
        """The mean times of all layers and transforms, added up."""
        return sum(count * fmean(self.layers_s[key]) for key, count in self.count.items())

    def row(self, alone_s: Sequence[float], together_s: Sequence[float] = ()) -> dict[str, Any]:
        """What was predicted, what it took, what it used."""
        job = self.program.own
        return {
            "network": self.network.name,
            "memory_bytes": self.point.memory_bytes,
            "profiled_s": self.point.time_s,
            "layers_s": self.layers_together_s if self.layers_s else None,
            "alone_s": fmean(alone_s),
            "together_s": fmean(together_s) if together_s else None,
            "planned_workspace_bytes": self.program.workspace_bytes,
            "used_workspace_bytes": job.workspace_high_water_bytes,
            "planned_arena_bytes": self.program.arena_bytes,
            "used_arena_bytes": job.arena_high_water_bytes,
        }


@contextmanager
def on_one_processor() -> Iterator[None]:
    """Inside, this thread stays on the first processor that it may use."""
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


def alone(options: NetworkOptions, point: Point, rounds: int) -> dict[str, Any]:
    """Whole inferences and single layers of one plan, in turn."""
    timing = Timing(options, point)
    took: list[float] = []
    with closing(PrimitiveBench()) as bench, on_one_processor():
        for _ in range(rounds):
            took += [timing.infer() for _ in range(5)]
            timing.time_layers(bench)
        took += [timing.infer() for _ in range(5)]
    row = timing.row(took)
    timing.program.close()
    return row


def in_turn(cases: Mapping[str, NetworkOptions], rounds: int) -> dict[str, dict[str, Any]]:
    """The fastest plan of each case, inference after inference in turn."""
    timings = {name: Timing(options, fastest(options)) for name, options in cases.items()}
    took: dict[str, list[float]] = {name: [] for name in cases}
    with on_one_processor(), one_blas_thread():
        for _ in range(8 * rounds):
            for name, timing in timings.items():
                took[name].append(timing.infer())
    rows = {name: timing.row(took[name]) for name, timing in timings.items()}
    for timing in timings.values():
        timing.program.close()
    return rows


def together(options: Sequence[NetworkOptions], points: Sequence[Point], rounds: int) -> list[dict[str, Any]]:
    """Two plans at once, without a pause, in turn with each of them alone and with their single layers."""
    timings = [Timing(each, point) for each, point in zip(options, points, strict=True)]
    solo: list[list[float]] = [[] for _ in timings]
    both: list[list[float]] = [[] for _ in timings]
    with closing(PrimitiveBench()) as bench:
        for _ in range(rounds):
            found = execute_together([timing.program for timing in timings], 5)
            for at, (timing, ran) in enumerate(zip(timings, found.networks, strict=True)):
                solo[at] += ran.solo_s
                both[at] += ran.together_s
                with on_one_processor():
                    timing.time_layers(bench)
    rows = [timing.row(solo[at], both[at]) for at, timing in enumerate(timings)]
    for timing in timings:
        timing.program.close()
    return rows


def selection(options: NetworkOptions, rounds: int) -> dict[str, Any]:
    """The fastest choice against im2row everywhere and the best single family, executed in turn.

    im2row is one primitive for all layers that it computes; "any im2row" the best of the family for each.
    """
    families = {primitive.family for primitive in LIBRARY.values()}
    single = {family: restricted(options, of_family(family)) for family in families}
    best = min(families, key=lambda family: fastest(single[family]).time_s)
    cases = {
        "chosen": options,
        "im2row": restricted(options, lambda option: option.primitive == PLAIN),
        "any im2row": single["im2row"],
        "best family": single[best],
    }
    rows = in_turn(cases, rounds)
    result: dict[str, Any] = {"network": options.network.name, "best_family": best, "cases": rows}
    for name in ("im2row", "any im2row", "best family"):
        result[f"against {name}"] = rows[name]["alone_s"] / rows["chosen"]["alone_s"]
        result[f"against {name}, by the profile"] = rows[name]["profiled_s"] / rows["chosen"]["profiled_s"]
    return result


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
        plain = fastest(restricted(scored_on, lambda option: option.primitive == PLAIN)).time_s
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
    rows = [*result["solo"], *result["pairs"]]

    def errors(of: str, against: str, among: Sequence[dict[str, Any]]) -> list[float]:
        return [abs(row[of] / row[against] - 1) for row in among]

    found: dict[str, Any] = {"plans": len(result["solo"]), "pairs": len(result["pairs"]) // 2}
    for name, of, against, among in (
        ("alone, by layers in turn", "layers_s", "alone_s", result["solo"]),
        ("alone, by the profile", "profiled_s", "alone_s", result["solo"]),
        ("at once, by layers in turn", "layers_s", "together_s", result["pairs"]),
        ("at once, by the profile", "profiled_s", "together_s", result["pairs"]),
    ):
        off = errors(of, against, among)
        found[f"{name}: median error"], found[f"{name}: largest"] = median(off), max(off)
    found["workspaces exact"] = sum(r["planned_workspace_bytes"] == r["used_workspace_bytes"] for r in rows)
    found["arenas exact"] = sum(r["planned_arena_bytes"] == r["used_arena_bytes"] for r in rows)
    found["executed"] = len(rows)
    return found


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("selection", "plans"), help="a part of it")
    arguments = parser.parse_args()
    path = arguments.profile
    profile = read_primitives(Path(path) if path.lower().endswith(".csv") else path)
    options = {name: options_from_profile(catalogue.build(name), profile) for name in NETWORKS}
    fronts = {name: frontier(own, MEMORY) for name, own in options.items()}
    result: dict[str, Any] = {"profile": dict(profile.metadata), "rounds": arguments.rounds}
    result["trade_off"] = [trade_off(found) for found in fronts.values()]
    result["regret"] = [regret(name, profile) for name in NETWORKS]
    for key in ("trade_off", "regret"):
        for row in result[key]:
            print(_line(row))
    if arguments.only != "plans":
        result["selection"] = []
        for own in options.values():
            result["selection"].append(selection(own, arguments.rounds))
            print(_line(result["selection"][-1]), flush=True)
    if arguments.only != "selection":
        execute(options, fronts, arguments.rounds, result)
        print(_line(result["summary"]))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def execute(
    options: Mapping[str, NetworkOptions], fronts: Mapping[str, Frontier], rounds: int, result: dict[str, Any]
) -> None:
    """Execute plans of every network alone and of pairs at once, into ``result``."""
    result["solo"] = []
    for name, own in options.items():
        for point in some(fronts[name].points):
            result["solo"].append(alone(own, point, rounds))
            print(_line(result["solo"][-1]), flush=True)
    result["pairs"] = []
    for pair in PAIRS:
        for pick in (lambda f: f.points[-1], lambda f: f.knee):
            rows = together([options[n] for n in pair], [pick(fronts[n]) for n in pair], rounds)
            result["pairs"] += rows
            for row in rows:
                print(_line(row), flush=True)
    result["summary"] = summary(result)


def _line(row: dict[str, Any]) -> str:
    shown = {key: value for key, value in row.items() if not isinstance(value, dict)}
    return "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items())


if __name__ == "__main__":
    main()
