"""``edgesched verify``: measure this machine, simulate, replay, and say how far the simulation was off."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..traces.atomic import write_whole
from .files import check_folder, check_target, write_json
from .run import overrides
from .terminal import console, message, seconds, table

if TYPE_CHECKING:
    from ..bridge.outcome import Replayed
    from ..runs.load import Source
    from ..runs.scenario import Scenario
    from ..sim.comparing.comparison import Comparison

app = typer.Typer(add_completion=False)

BOARD, PROFILE, POINTS, FINISHED = "board.yaml", "profile.csv", "points", "comparison.json"
FIRST_BOARD, FIRST_PROFILE = "first-board.yaml", "first-profile.csv"
DIFFER = 0.05
"""Policies whose mean response times differ by less are not ranked against each other."""


@dataclass(frozen=True)
class Verified:
    """One point: what the sweep set, and how the simulation compares with the replay."""

    settings: Mapping[str, Any]
    comparison: dict[str, Any]

    @property
    def policy(self) -> str:
        """The policy's name."""
        return str(self.comparison["policy"])

    def error(self, kind: str, which: str) -> float | None:
        """``predictive`` or ``trace_driven_error``, of ``mean`` or ``p95``."""
        totals = self.comparison["totals"]
        errors = None if totals is None else totals[kind]
        return None if errors is None else errors[which]

    def mean_s(self, run: str) -> float | None:
        """Mean response time, ``simulated`` or ``replayed``."""
        totals = self.comparison["totals"]
        return None if totals is None else totals[run]["mean_s"]


@app.command()
def verify(
    scenario: Annotated[Path, typer.Argument(help="The scenario, a YAML file.", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="Folder for board, profile, runs and comparisons.", show_default=False)
    ],
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the errors.", show_default=False)
    ] = None,
    board: Annotated[
        Path | None,
        typer.Option(help="Board of this machine; default: measured now.", show_default=False),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=3,
            help="Rounds of the profile; default: 11, at the storage's own speed 44.",
            show_default=False,
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Set a key of the scenario. Repeatable."),
    ] = None,
    nice: Annotated[
        int, typer.Option(min=-20, max=19, help="Priority of the replaying process (needs root below 0).")
    ] = 0,
) -> None:
    """Measure this machine, simulate the scenario on it, replay it, and compare the two.

    The scenario's board is replaced by one that is measured here (or by --board). Every point of a sweep is
    simulated and replayed. Started again with the same --out, it goes on where it was.
    """
    from ..bridge.interrupts import Interrupts
    from ..runs.load import read_source

    check_target("--json", json_file)
    check_folder("--out", out)
    raw = read_source(scenario, overrides(scenario.parent, None, setting, None, None))
    out.mkdir(parents=True, exist_ok=True)
    names = _networks(raw)
    with Interrupts():
        board = board or device_here(names, raw.folder, out)
        done = [
            _point(raw, data, label, dict(chosen), board, names, rounds, out / POINTS / label, nice)
            for label, chosen, data in _points(raw)
        ]
    result = summary(done)
    if json_file is not None:
        write_json(json_file, result)
    write_json(out / "verify.json", result)
    _show(done, result)


def pace_of(data: Mapping[str, Any]) -> float | None:
    """The pace that a scenario's data sets for reading weights; None: none."""
    device = data.get("device")
    storage = device.get("storage") if isinstance(device, Mapping) else None
    if not isinstance(storage, Mapping):
        return None
    pace = storage.get("pace_bytes_per_s")
    return float(pace) if isinstance(pace, int | float) else None


def _networks(raw: Source) -> list[str]:
    """The networks of a scenario whose board is not known yet."""
    from ..runs.load import scenario_of

    device = raw.data.get("device")
    plain = {**raw.data, "device": {**(device if isinstance(device, Mapping) else {}), "board": "ideal"}}
    try:
        return list(scenario_of(plain).workload.networks(raw.folder))
    except ValueError:
        replace(raw, data=plain).scenario()  # says what is wrong, and where
        raise


def device_here(names: list[str], folder: Path | None, out: Path) -> Path:
    """The board of this machine, measured into ``out`` unless it lies there; ``folder`` is the models'."""
    from ..bridge.measuring.board import profile_device
    from ..bridge.measuring.profiling import profile_networks

    board = out / BOARD
    if board.exists():
        message(f"using the measurements in {out} (remove {board} to measure again)")
        return board
    profile = profile_networks(names, folder, out / PROFILE, tell=message)
    return profile_device(board, profile=profile, name="this-host", tell=message)


def _with_profile(board: Path, profile: Path, pace: float | None, out: Path) -> Path:
    """``board`` with this profile and pace of reading weights, written to ``out``; returns it."""
    import yaml

    data = yaml.safe_load(board.read_text(encoding="utf-8"))
    data["cost"]["profile"] = profile.name
    if pace is not None:
        data["storage"]["pace_bytes_per_s"] = pace
    _write(out, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    return out


def _write(path: Path, text: str) -> None:
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def _points(raw: Source) -> Iterator[tuple[str, Mapping[str, Any], dict[str, Any]]]:
    """Every point of the sweep (or the scenario itself): a name for its folder, its settings, its data."""
    from ..runs import grid
    from ..runs.load import normal

    base = {key: value for key, value in raw.data.items() if key != "sweep"}
    sweep = raw.data.get("sweep")
    if not isinstance(sweep, Mapping) or not sweep:
        yield "scenario", {}, base
        return
    for number, point in enumerate(grid.expand(base, sweep, version="")):
        words = "-".join(str(v) for v in point.settings.values() if isinstance(v, str | int | float))
        name = "".join(c if c.isalnum() or c in ".-" else "_" for c in words)[:60]
        yield f"{number:03d}-{name}".rstrip("-"), point.settings, normal(point.scenario)


def _point(
    raw: Source,
    data: dict[str, Any],
    label: str,
    chosen: dict[str, Any],
    board: Path,
    names: list[str],
    rounds: int | None,
    folder: Path,
    nice: int,
) -> Verified:
    """Profile, simulate, replay and compare one point; or read what an earlier call wrote of it."""
    finished = folder / FINISHED
    content = json.loads(json.dumps(data))
    if finished.exists():
        kept = json.loads(finished.read_text(encoding="utf-8"))
        if kept["scenario"] == content:
            return Verified(chosen, kept["comparison"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    message(f"{label}: profiling, simulating, replaying")

    def placed(here: Path) -> Scenario:
        return replace(
            raw, data={**data, "device": {**data["device"], "board": str(here.resolve())}}
        ).scenario()

    comparison = compare_here(
        placed, board, names, raw.folder, folder, pace=pace_of(data), rounds=rounds, nice=nice
    )
    write_json(finished, {"scenario": content, "comparison": comparison.data()})
    return Verified(chosen, json.loads(json.dumps(comparison.data())))


def compare_here(
    placed: Callable[[Path], Scenario],
    board: Path,
    names: list[str],
    base: Path,
    folder: Path,
    *,
    pace: float | None = None,
    rounds: int | None = None,
    nice: int = 0,
) -> Comparison:
    """Profile this machine and replay a scenario on it in turns, simulate it, and compare.

    ``placed`` makes the scenario for a board file. Boards are ``board`` with a profile of the networks
    ``names`` at this ``pace``. ``base`` is where models and the scenario's other files are looked up; both
    runs and what was measured go to ``folder``.

    Machines drift by some per cent within minutes. So a share of the profile's rounds is measured before
    each replay, the rest after the last one. Means, not medians, and with what disturbances add: what
    sometimes happens, a host that takes the processor away for example, is a part of the replays' means.
    Nothing of a replay goes into the profile. Policies that decide by times know those of the first rounds.
    ``rounds`` None: as many as usual, without a pace as many as a disk at its own speed takes.

    Raises KeyboardInterrupt where a replay was interrupted.
    """
    from ..bridge.measuring.profiling import MEMORY_PASSES, OWN_SPEED_ROUNDS, ROUNDS, Profiling
    from ..bridge.prepare import bundles_of
    from ..bridge.replay import replay
    from ..bridge.results import write_replay
    from ..runs.folder import open_run, write_run
    from ..runs.summary import summarise
    from ..runs.tasks import Trace
    from ..sim.comparing.comparison import compare
    from ..sim.comparing.tracedriven import trace_driven
    from ..sim.run import simulate

    if rounds is None:
        rounds = OWN_SPEED_ROUNDS if pace is None else ROUNDS
    replays: list[Replayed] = []
    with Profiling(
        names,
        base,
        folder / PROFILE,
        rounds=rounds,
        statistic="mean",
        keep_disturbed=True,
        pace_bytes_per_s=pace,
    ) as profiling:
        profiling.measure(MEMORY_PASSES)
        first = profiling.write(folder / FIRST_PROFILE)
        known = placed(_with_profile(board, first, pace, folder / FIRST_BOARD))
        bundles = bundles_of(known.workload.networks(base), base, tell=message)
        parts = known.run.replications + 1
        for number in range(known.run.replications):
            profiling.measure(rounds * (number + 1) // parts)
            replays.append(replay(known, bundles, number, folder=base, nice=nice))
            if replays[-1].outcome == "interrupted":
                raise KeyboardInterrupt
        profiling.measure()
        profile = profiling.finish()
    write_replay(folder / "replayed", replays, [summarise(each.result) for each in replays])
    replayed = open_run(folder / "replayed")
    scenario = placed(_with_profile(board, profile, pace, folder / BOARD))
    numbers = range(scenario.run.replications)
    simulated = [simulate(scenario, number, trace=Trace(), folder=base) for number in numbers]
    write_run(folder / "simulated", simulated)
    whole = [number for number in numbers if len(replays[number].result.records.arrival_s)]
    driven = [trace_driven(known, replayed, number, scenario_folder=base) for number in whole]
    return compare(open_run(folder / "simulated"), replayed, driven)


# -- what came of it --------------------------------------------------------------------------------------


def summary(done: list[Verified]) -> dict[str, Any]:
    """The errors of all points: over all, per policy, and one by one; and whether policies rank alike.

    ``predictive_error_mean`` is the mean over points of the absolute error of the mean response time,
    ``trace_driven_error_mean`` the same of the trace-driven runs; None where no point has one.
    """
    policies = list(dict.fromkeys(each.policy for each in done))
    return {
        **_errors(done),
        "policies": {name: _errors([each for each in done if each.policy == name]) for name in policies},
        "ranking": _ranking(done),
        "points": [
            {
                "settings": dict(each.settings),
                "policy": each.policy,
                "verdict": each.comparison["verdict"],
                "simulated_mean_s": each.mean_s("simulated"),
                "replayed_mean_s": each.mean_s("replayed"),
                "predictive_error_mean": each.error("predictive", "mean"),
                "predictive_error_p95": each.error("predictive", "p95"),
                "trace_driven_error_mean": each.error("trace_driven_error", "mean"),
                "same_order": all(r["order"] and r["order"]["same"] for r in each.comparison["replications"]),
            }
            for each in done
        ],
    }


def _errors(done: list[Verified]) -> dict[str, Any]:
    def mean(kind: str, which: str) -> float | None:
        values = [abs(e) for each in done if (e := each.error(kind, which)) is not None]
        return math.fsum(values) / len(values) if values else None

    return {
        "predictive_error_mean": mean("predictive", "mean"),
        "predictive_error_p95": mean("predictive", "p95"),
        "trace_driven_error_mean": mean("trace_driven_error", "mean"),
    }


def _ranking(done: list[Verified]) -> dict[str, Any]:
    """Pairs of policies at the same place whose replayed means differ by more than ``DIFFER``."""
    places: dict[str, list[Verified]] = {}
    for each in done:
        other = {k: v for k, v in each.settings.items() if k.partition(".")[0] != "policy"}
        places.setdefault(json.dumps(other, sort_keys=True), []).append(each)
    pairs, wrong = 0, []
    for place, group in places.items():
        usable = [each for each in group if each.mean_s("replayed") and each.mean_s("simulated")]
        for index, one in enumerate(usable):
            for two in usable[index + 1 :]:
                real = one.mean_s("replayed") / two.mean_s("replayed")  # type: ignore[operator]
                if 1 / (1 + DIFFER) <= real <= 1 + DIFFER:
                    continue
                pairs += 1
                if (one.mean_s("simulated") < two.mean_s("simulated")) != (real < 1):  # type: ignore[operator]
                    wrong.append(f"{one.policy} and {two.policy} at {place}")
    return {"pairs": pairs, "wrong": wrong}


def _show(done: list[Verified], result: dict[str, Any]) -> None:
    from ..sim.sweeping.figures import value_label

    screen = console()
    predicted, driven = result["predictive_error_mean"], result["trace_driven_error_mean"]
    if predicted is None:
        screen.print("Verdict: nothing was served by both simulation and replay", style="bold red")
    else:
        aside = "" if driven is None else f" (trace-driven {driven:.2%})"
        screen.print(
            f"Verdict: the simulation was off by {predicted:.1%} on the mean response time, over "
            f"{len(done)} points{aside}",
            style="bold green" if predicted <= DIFFER else "bold yellow",
        )
    names = list(dict.fromkeys(name for each in done for name in each.settings))
    heads = [name.rpartition(".")[2] for name in names]
    rows = table(
        *heads, "simulated", "replayed", "error", "p95", "trace-driven", "order",
        right=("simulated", "replayed", "error", "p95", "trace-driven"),
    )  # fmt: skip
    for each, point in zip(done, result["points"], strict=True):
        rows.add_row(
            *(value_label(name, each.settings[name]) if name in each.settings else "" for name in names),
            seconds(point["simulated_mean_s"]),
            seconds(point["replayed_mean_s"]),
            _percent(point["predictive_error_mean"]),
            _percent(point["predictive_error_p95"]),
            _percent(point["trace_driven_error_mean"], 2),
            "same" if point["same_order"] else "differs",
        )
    screen.print()
    screen.print(rows)
    ranking = result["ranking"]
    if ranking["pairs"]:
        right = ranking["pairs"] - len(ranking["wrong"])
        screen.print()
        screen.print(f"ranking of policies that differ by more than {DIFFER:.0%}: {right} of "
                     f"{ranking['pairs']} pairs as in the replay")  # fmt: skip
    for line in ranking["wrong"]:
        screen.print(f"  otherwise: {line}", style="yellow")


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:+.{digits}%}"
