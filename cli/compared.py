"""A comparison as text: the same tables on the terminal and in a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..sim.comparing.comparison import DONE, percent
from .terminal import console, seconds, size, table

if TYPE_CHECKING:
    from ..sim.comparing.comparison import Comparison, Replication

SHOWN_TASKS = 10
"""Tasks in the terminal's table; the JSON has them all."""
STATISTICS = (("mean", "mean"), ("median", "median"), ("p95", "p95"), ("largest", "max"))


@dataclass(frozen=True)
class Section:
    """A table: its columns, those of text at the left first, and its rows."""

    columns: Sequence[str]
    texts: int
    rows: Sequence[Sequence[str]]


def show(comparison: Comparison) -> None:
    """Print it: the verdict first, then what made it."""
    screen = console()
    whole = all({r.simulated_outcome, r.replayed_outcome} == {DONE} for r in comparison.replications)
    screen.print(f"Verdict: {comparison.verdict}", style="bold green" if whole else "bold yellow")
    facts = table("", "", wrap=("",))
    facts.show_header = False
    for name, value in _circumstances(comparison):
        facts.add_row(name, value)
    screen.print(facts)
    for section in _sections(comparison):
        rows = table(*section.columns, right=section.columns[section.texts :])
        for first, *rest in section.rows:
            rows.add_row(f"  {first}", *rest)
        screen.print()
        screen.print(rows)
    screen.print()
    for line in _sentences(comparison):
        screen.print(line)
    for note in comparison.notes:
        screen.print(f"note: {note}", style="yellow")


def markdown(comparison: Comparison, figures: Sequence[tuple[str, str]]) -> str:
    """The report; ``figures`` are titles and file names relative to it."""
    lines = ["# A simulation against its replay", "", f"**Verdict: {comparison.verdict}**", ""]
    lines += [f"- {name}: {value}" for name, value in _circumstances(comparison)]
    lines += [f"- note: {note}" for note in comparison.notes]
    for section in _sections(comparison):
        rule = ["---"] * section.texts + ["---:"] * (len(section.columns) - section.texts)
        lines += ["", *(_row(cells) for cells in (section.columns, rule, *section.rows))]
    lines += ["", *_sentences(comparison)]
    for title, file in figures:
        lines += ["", f"## {title}", "", f"![{title}]({file})"]
    lines += [
        "",
        "An error is simulated / replayed - 1: negative where the simulation was too fast. Trace-driven is a "
        "simulation with the replay's own arrivals and durations. All numbers: comparison.json.",
    ]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _circumstances(comparison: Comparison) -> list[tuple[str, str]]:
    parts = comparison.replications
    compared = sum(part.totals.requests for part in parts if part.totals is not None)
    count = f"{compared:,} of {sum(part.requests for part in parts):,} compared"
    if len(parts) > 1:
        count += f", {len(parts)} replications"
    found = [("scenario", comparison.scenario)] if comparison.scenario else []
    found += [("policy", comparison.policy), ("device", comparison.device)]
    return [*found, ("requests", f"{count}, seed {comparison.seed}")]


def _sections(comparison: Comparison) -> list[Section]:
    parts = comparison.replications
    sections = [_errors(comparison)]
    if len(parts) > 1:
        sections.append(_replications(parts))
    if len(comparison.networks) > 1:
        sections.append(_networks(comparison))
    sections += [_tasks(comparison), _overlaps(comparison)]
    return [section for section in (*sections, _memory(parts)) if section.rows]


def _errors(comparison: Comparison) -> Section:
    columns = ("response time", "replayed", "simulated", "error", "trace-driven", "its error")
    totals = comparison.totals
    if totals is None:
        return Section(columns, 1, [])
    driven, errors = totals.trace_driven, totals.trace_driven_error
    rows = [
        (
            label,
            seconds(getattr(totals.replayed, f"{key}_s")),
            seconds(getattr(totals.simulated, f"{key}_s")),
            percent(getattr(totals.predictive, key)),
            "-" if driven is None else seconds(getattr(driven, f"{key}_s")),
            "-" if errors is None else percent(getattr(errors, key)),
        )
        for label, key in STATISTICS
    ]
    absolute = None if errors is None else errors.mean_absolute
    each = percent(totals.predictive.mean_absolute, sign=False), percent(absolute, sign=False)
    return Section(columns, 1, [*rows, ("each request, absolute", "", "", each[0], "", each[1])])


def _replications(parts: Sequence[Replication]) -> Section:
    rows = [
        (
            str(part.replication),
            f"{part.totals.requests:,}",
            seconds(part.totals.replayed.mean_s),
            seconds(part.totals.simulated.mean_s),
            percent(part.totals.predictive.mean),
            percent(part.totals.trace_driven_error.mean) if part.totals.trace_driven_error else "-",
        )
        for part in parts
        if part.totals is not None
    ]
    columns = ("replication", "requests", "replayed mean", "simulated mean", "error", "trace-driven error")
    return Section(columns, 1, rows)


def _networks(comparison: Comparison) -> Section:
    rows = [
        (
            each.network,
            f"{each.jobs:,}",
            seconds(each.replayed_mean_s),
            seconds(each.simulated_mean_s),
            percent(each.error),
            percent(each.trace_driven_error),
        )
        for each in comparison.networks
    ]
    columns = ("network", "jobs", "replayed mean", "simulated mean", "error", "trace-driven error")
    return Section(columns, 1, rows)


def _tasks(comparison: Comparison) -> Section:
    rows = [
        (
            each.network,
            f"{each.kind} {each.layer}".strip(),
            f"{each.tasks:,}",
            seconds(each.replayed_median_s),
            seconds(each.replayed_mean_s),
            seconds(each.simulated_s),
            percent(each.error),
            _signed(each.seconds_per_request),
        )
        for each in comparison.tasks[:SHOWN_TASKS]
    ]
    names = ("largest differences", "task", "tasks", "replayed median", "replayed mean", "simulated", "error")
    return Section((*names, "per request"), 2, rows)


def _overlaps(comparison: Comparison) -> Section:
    rows = [
        (
            each.kind,
            each.beside,
            f"{each.tasks:,}",
            "-" if each.ratio is None else f"{each.ratio:.3f}",
            _signed(each.seconds_per_request),
        )
        for each in comparison.overlaps
    ]
    return Section(("tasks", "beside", "count", "replayed / simulated", "per request"), 2, rows)


def _memory(parts: Sequence[Replication]) -> Section:
    rows: list[tuple[str, ...]] = []
    for part in parts:
        memory = part.memory
        where = "" if len(parts) == 1 else f", replication {part.replication}"
        peaks = size(memory.replayed_bytes), size(memory.simulated_bytes), percent(memory.error)
        rows.append((f"simulation against the replay's ledger{where}", *peaks))
        measured, booked = memory.measured_beyond_base_bytes, memory.ledger_beyond_base_bytes
        if measured is not None and booked is not None:
            beyond = size(measured), size(booked), percent(memory.measured_error)
            rows.append((f"ledger against the control group, beyond the base{where}", *beyond))
    return Section(("peak memory", "replayed", "predicted", "error"), 1, rows)


def _sentences(comparison: Comparison) -> list[str]:
    """What stands behind the tables."""
    lines = []
    if (hit := comparison.preempted) is not None:
        lines.append(
            f"tasks preempted by other processes: {hit.tasks:,}, which contribute "
            f"{_signed(hit.seconds_per_request)} per request"
        )
    for part in comparison.replications:
        if part.order is None:
            continue
        where = "" if len(comparison.replications) == 1 else f", replication {part.replication}"
        if part.order.same:
            what = f"the trace-driven run starts all {part.order.tasks:,} tasks as the replay did"
        else:
            what = part.order.first_difference or ""
        lines.append(f"order of tasks{where}: {what}")
    return lines


def _signed(value: float) -> str:
    return f"+{seconds(value)}" if value > 0 else seconds(value)
