"""A simulation held against a replay: verdict, errors, where they come from, memory and order.

Every key is defined in docs/replay.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ...runs.folder import RunFolder
from ...runs.result import RunResult
from ...runs.scenario import Scenario
from ...workloads.arrivals import closed
from .comparable import check_scenarios, check_traces, common_replications
from .errors import (
    REPLAYED,
    SIMULATED,
    TRACE_DRIVEN,
    NetworkError,
    TaskError,
    Totals,
    error_of,
    network_errors,
    task_errors,
    together,
    totals_of,
)
from .overlaps import Overlap, Preempted, beside, overlaps, preempted
from .pairing import REQUEST, TASK, Tables, durations, job_responses, of_folder, of_results, responses

if TYPE_CHECKING:
    import pandas as pd

DONE, OUT_OF_MEMORY = "done", "out of memory"
OUTCOMES = {"ok": DONE, "infeasible": OUT_OF_MEMORY, "incomplete": "incomplete"}
"""A run's outcome by its summary's status; a replay also knows "crashed" and "interrupted"."""


@dataclass(frozen=True)
class Memory:
    """Peaks of one replication."""

    simulated_bytes: int
    replayed_bytes: int
    """By the scheduler's ledger, as the simulated one."""
    error: float | None
    measured_beyond_base_bytes: int | None
    """Peak of the replay's control group beyond what it held before the first request; None: not measured."""
    ledger_beyond_base_bytes: int | None
    """The same of the replay's ledger."""
    measured_error: float | None
    """Of the ledger against the control group."""


@dataclass(frozen=True)
class Order:
    """Whether the trace-driven run started all tasks in the replay's order."""

    tasks: int
    """How many the replay started (and finished)."""
    same: bool
    first_difference: str | None


@dataclass(frozen=True)
class Replication:
    """One replication of both runs."""

    replication: int
    verdict: str
    simulated_outcome: str
    replayed_outcome: str
    """done, out of memory, incomplete; of a replay also crashed, interrupted."""
    requests: int
    """That arrived in the replay, warm-up included."""
    tasks: int
    """Finished in both."""
    only_simulated: int
    """Tasks that only the simulation finished."""
    only_replayed: int
    totals: Totals | None
    """None where no request was finished by all."""
    memory: Memory
    order: Order | None
    """None without a trace-driven run."""


@dataclass(frozen=True)
class Comparison:
    """All of it; ``data()`` is ready for ``json.dumps(..., allow_nan=False)``."""

    verdict: str
    scenario: str
    policy: str
    device: str
    seed: int
    totals: Totals | None
    """Means over the replications (``max_s``: the largest), None where one of them has none."""
    replications: tuple[Replication, ...]
    networks: tuple[NetworkError, ...]
    tasks: tuple[TaskError, ...]
    """Largest contribution first."""
    overlaps: tuple[Overlap, ...]
    preempted: Preempted | None
    """None where the replay counted no switches."""
    notes: tuple[str, ...]

    def data(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def compare(simulated: RunFolder, replayed: RunFolder, trace_driven: Sequence[RunResult] = ()) -> Comparison:
    """Hold a simulation against a replay of the same scenario.

    ``trace_driven`` holds a trace-driven run for each replication that both folders have, or nothing. Raises
    ComparisonError for folders of different scenarios and for runs without a trace.
    """
    numbers = common_replications(simulated, replayed)
    notes = check_scenarios(simulated, replayed)
    if len(numbers) < max(len(simulated.info["replications"]), len(replayed.info["replications"])):
        notes.append(f"only replications {', '.join(map(str, numbers))} are in both and compared")
    runs = {REPLAYED: of_folder(replayed, numbers), SIMULATED: of_folder(simulated, numbers)}
    if trace_driven:
        runs[TRACE_DRIVEN] = of_results(trace_driven)
    counted = responses(runs, _warmup(replayed))
    both = durations({name: runs[name] for name in (REPLAYED, SIMULATED)})
    check_traces(simulated, replayed, runs, both)
    parts = []
    for number in numbers:
        rows, tasks = _of(counted, number), _of(both, number)
        outcomes = _outcome(simulated, number), _outcome(replayed, number)
        totals = totals_of(rows) if len(rows) else None
        parts.append(
            Replication(
                replication=number,
                verdict=_verdict(*outcomes, totals),
                simulated_outcome=outcomes[0],
                replayed_outcome=outcomes[1],
                requests=len(_of(runs[REPLAYED].requests, number)),
                tasks=int(tasks[[SIMULATED, REPLAYED]].notna().all(axis=1).sum()),
                only_simulated=int(tasks[REPLAYED].isna().sum()),
                only_replayed=int(tasks[SIMULATED].isna().sum()),
                totals=totals,
                memory=_memory(simulated, replayed, number),
                order=_order(runs, number) if trace_driven else None,
            )
        )
    totals = together([part.totals for part in parts])
    tasks = both.dropna().merge(counted[REQUEST], on=REQUEST)
    placed = _placed(runs[REPLAYED].tasks, tasks) if len(tasks) else None
    for part in parts:
        notes += _reasons(simulated, replayed, part)
    return Comparison(
        verdict=_verdict_of_all(parts, totals),
        scenario=str(replayed.scenario.get("name", "")),
        policy=replayed.info["policy"],
        device=replayed.info["device"],
        seed=replayed.info["seed"],
        totals=totals,
        replications=tuple(parts),
        networks=network_errors(job_responses(runs, counted)),
        tasks=task_errors(tasks, len(counted)),
        overlaps=() if placed is None else overlaps(placed, len(counted)),
        preempted=None if placed is None else preempted(placed, len(counted)),
        notes=tuple(notes),
    )


def _of(table: pd.DataFrame, replication: int) -> pd.DataFrame:
    return table[table["replication"] == replication]


def _warmup(folder: RunFolder) -> int:
    return int(folder.scenario["run"]["warmup_requests"])


# -- overlaps, memory, order ------------------------------------------------------------------------------


def _placed(replayed: pd.DataFrame, tasks: pd.DataFrame) -> pd.DataFrame:
    """The compared tasks with what was beside them in the replay: columns ``beside`` and ``switches``."""
    import pandas as pd

    parts = [group.assign(beside=beside(group)) for _, group in replayed.groupby("replication")]
    return tasks.merge(pd.concat(parts)[[*TASK, "beside", "switches"]], on=TASK)


def _memory(simulated: RunFolder, replayed: RunFolder, number: int) -> Memory:
    peaks = [_summary(folder, number)["peak_bytes"] for folder in (simulated, replayed)]
    facts = _facts(replayed, number).get("memory", {})

    def beyond(peak: str, base: str) -> int | None:
        known = facts.get(peak) is not None and facts.get(base) is not None
        return facts[peak] - facts[base] if known else None

    measured, booked = beyond("peak_bytes", "base_bytes"), beyond("ledger_peak_bytes", "ledger_base_bytes")
    return Memory(
        simulated_bytes=peaks[0],
        replayed_bytes=peaks[1],
        error=error_of(*peaks),
        measured_beyond_base_bytes=measured,
        ledger_beyond_base_bytes=booked,
        measured_error=None if measured is None or booked is None else error_of(booked, measured),
    )


def _order(runs: Mapping[str, Tables], number: int) -> Order:
    replayed, driven = (_of(runs[name].tasks, number) for name in (REPLAYED, TRACE_DRIVEN))
    labels = ["kind", "layer", "network", "request", "job", "worker"]
    one, other = (list(run[labels].itertuples(index=False, name=None)) for run in (replayed, driven))
    place = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a[:5] != b[:5]), None)
    if place is None and len(one) != len(other):
        place = min(len(one), len(other))
    if place is None:
        return Order(len(one), True, None)

    def told(rows: list[Any], run: pd.DataFrame) -> str:
        if place >= len(rows):
            return "nothing more"
        kind, layer, network, request, _, worker = rows[place]
        what = " ".join(part for part in (kind, layer, "of", network) if part)
        return f"{what} (request {request}, {worker}) at {run['start_s'].iloc[place]:.6g} s"

    difference = (
        f"after {place} tasks the replay starts {told(one, replayed)}, "
        f"the trace-driven run {told(other, driven)}"
    )
    return Order(len(one), False, difference)


# -- words ------------------------------------------------------------------------------------------------


def _summary(folder: RunFolder, number: int) -> dict[str, Any]:
    return next(each for each in folder.summary["replications"] if each["replication"] == number)


def _facts(folder: RunFolder, number: int) -> dict[str, Any]:
    """What a replay wrote down of one replication; nothing for a run that is none."""
    facts = folder.replay()
    place = folder.info["replications"].index(number)
    return facts[place] if facts is not None and place < len(facts) else {}


def _outcome(folder: RunFolder, number: int) -> str:
    outcome = _facts(folder, number).get("outcome")
    if outcome is not None:
        return str(outcome)
    status = _summary(folder, number)["status"]
    return DONE if status == "incomplete" and _endless(folder) else OUTCOMES[status]


def _endless(folder: RunFolder) -> bool:
    """Whether the run ends with requests under way by design: closed streams without a number of requests."""
    scenario = Scenario.model_validate(folder.scenario)
    streams = scenario.workload.streams
    return scenario.run.requests is None and any(closed(stream.arrivals) for stream in streams)


def _verdict(simulated: str, replayed: str, totals: Totals | None) -> str:
    off = "no request was finished by both" if totals is None else _off(totals)
    if simulated == replayed == DONE:
        return off
    if simulated == replayed == OUT_OF_MEMORY:
        return "both ran out of memory"
    if OUT_OF_MEMORY in (simulated, replayed):
        which = "simulation" if simulated == OUT_OF_MEMORY else "replay"
        return f"only the {which} ran out of memory; {_until(off, totals)}"
    which, outcome = ("replay", replayed) if replayed != DONE else ("simulation", simulated)
    return f"the {which} is not whole ({outcome}); {_until(off, totals)}"


def _until(off: str, totals: Totals | None) -> str:
    return off if totals is None else f"over the {totals.requests} requests that both finished {off}"


def _off(totals: Totals) -> str:
    driven = totals.trace_driven_error
    aside = "" if driven is None else f" (trace-driven {percent(driven.mean, sign=False)})"
    return f"the simulation was off by {percent(totals.predictive.mean)} on the mean response time{aside}"


def _verdict_of_all(parts: Sequence[Replication], totals: Totals | None) -> str:
    if len(parts) == 1:
        return parts[0].verdict
    odd = next((part for part in parts if {part.simulated_outcome, part.replayed_outcome} != {DONE}), None)
    if odd is None and totals is not None:
        return _off(totals)
    first = odd if odd is not None else parts[0]
    return f"replication {first.replication}: {first.verdict}"


def _reasons(simulated: RunFolder, replayed: RunFolder, part: Replication) -> list[str]:
    """Why a run is not whole, in its own words; how much of it is compared."""
    found = []
    for name, folder, outcome in (
        ("simulation", simulated, part.simulated_outcome),
        ("replay", replayed, part.replayed_outcome),
    ):
        if outcome != DONE:
            reason = _facts(folder, part.replication).get("message")
            reason = reason or _summary(folder, part.replication)["reason"]
            found.append(f"replication {part.replication}, {name}: {outcome}: {reason}")
    if part.only_simulated or part.only_replayed:
        found.append(
            f"replication {part.replication}: {part.tasks} tasks are compared; {part.only_simulated} were "
            f"finished in the simulation only, {part.only_replayed} in the replay only"
        )
    return found


def percent(value: float | None, *, sign: bool = True) -> str:
    """A share in percent to a tenth: +1.2 %, and 0.0 % for what rounds to it."""
    if value is None:
        return "-"
    rounded = round(100 * value, 1) or 0.0
    return f"{rounded:+.1f} %" if sign and rounded else f"{abs(rounded):.1f} %"
