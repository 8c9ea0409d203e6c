"""`edgesched validate`: does the simulator compute what it says?"""

from __future__ import annotations

import json as json_module
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..sim.validation.checks import Check
from ..traces.table import write_atomically
from . import terminal
from .files import check_target
from .planned import abbreviated

if TYPE_CHECKING:
    from ..sim.validation.primitives import Chain, Shared

app = typer.Typer(
    name="validate", help="Check the simulator against theory and measurements.", no_args_is_help=True
)


@app.callback()
def _group() -> None:
    """Check the simulator against theory and measurements."""


@app.command()
def theory(
    json: Annotated[
        Path | None,
        typer.Option("--json", dir_okay=False, help="Write the checks as a JSON list to this file."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A tenth of the requests: seconds instead of half a minute.")
    ] = False,
) -> None:
    """Compare the engine with recursions (every request) and with closed forms (means).

    Exit code 1 where a check misses its bar.
    """
    from ..sim.validation import theory as checks

    effort = checks.QUICK if quick else checks.FULL
    found = list(checks.theory_checks(effort))
    console = Console()
    console.print(_table(found))
    missed = [check for check in found if not check.passed]
    console.print(f"{len(found) - len(missed)} of {len(found)} checks within their bar")
    _write(json, [check.record() for check in found])
    if missed:
        raise typer.Exit(1)


@app.command()
def edgecaffe(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", file_okay=False, help="Measurements as DIR/edgecaffe/*.csv; default: our own table."
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option("--json", dir_okay=False, help="Write the rows as a JSON list to this file."),
    ] = None,
) -> None:
    """Predict EdgeCaffe's measured end-to-end times with the committed boards; nothing is refitted.

    Exit code 1 where a bar is missed.
    """
    from ..devices.reading import InputError
    from ..sim.validation import edgecaffe as checks
    from ..traces.importers import read_totals
    from ..traces.published import published_totals

    totals = published_totals() if data is None else read_totals(data)
    if not totals:
        raise InputError(f"{data}: holds no row of edgecaffe/{', edgecaffe/'.join(checks.FILES.values())}")
    rows = checks.predictions(totals)
    console = terminal.console()
    listing = terminal.table(
        "row", "measured s", "predicted s", "error", "role", right=("measured s", "predicted s", "error")
    )
    for row in rows:
        listing.add_row(
            row.total.id,
            f"{row.total.value_s:.3f}",
            f"{row.predicted_s:.3f}",
            f"{row.relative_error:+.1%}",
            row.total.role,
        )
    console.print(listing)
    console.print()
    verdicts = checks.verdicts(rows)
    table = terminal.table("bar", "found", "allowed", "")
    for verdict in verdicts:
        table.add_row(verdict.what, verdict.measured, verdict.bar, "" if verdict.passed else "MISSED")
    console.print(table)
    _write(json, [row.record() for row in rows])
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(1)


@app.command()
def footprint(
    json: Annotated[
        Path | None,
        typer.Option("--json", dir_okay=False, help="Write the rows as a JSON list to this file."),
    ] = None,
) -> None:
    """Hold the networks' memory against what EdgeCaffe's authors measured; nothing is fitted.

    Exit code 1 where a value that is no exception is missed, or the engine differs from the cost model.
    """
    from ..sim.validation import footprint as checks

    console = terminal.console()
    found = checks.footprints()
    peaks = terminal.table(
        "network", "layer-wise MiB", "bulk MiB", "engine", right=("layer-wise MiB", "bulk MiB")
    )
    for peak in found:
        engine = "equal" if peak.agrees else "DIFFERS"
        peaks.add_row(
            peak.network,
            f"{peak.layerwise_bytes / checks.MIB:.1f}",
            f"{peak.bulk_bytes / checks.MIB:.1f}",
            engine,
        )
    console.print(peaks)
    console.print()
    rows = checks.rows()
    listing = terminal.table(
        "published",
        "network",
        "measured MiB",
        "predicted MiB",
        "error",
        "",
        right=("measured MiB", "predicted MiB", "error"),
    )
    for row in rows:
        listing.add_row(
            row.quantity,
            row.network,
            f"{row.measured_bytes / checks.MIB:.1f}",
            f"{row.predicted_bytes / checks.MIB:.1f}",
            f"{row.relative_error:+.1%}",
            "MISSED" if row.missed else "exception" if row.exception else "",
        )
    console.print(listing)
    console.print()
    for row in rows:
        if row.exception or row.missed:
            word = "exception" if row.exception else "missed"
            console.print(f"{word}: {row.quantity} of {row.network}: {row.exception or row.remark}")
    held = [row for row in rows if not row.exception]
    missed = [row for row in held if row.missed]
    console.print(f"{len(held) - len(missed)} of {len(held)} values within {checks.BAR:.0%}")
    _write(json, [row.record() for row in rows])
    if missed or not all(peak.agrees for peak in found):
        raise typer.Exit(1)


@app.command()
def primitives(
    data: Annotated[
        Path,
        typer.Option(
            "--data", file_okay=False, help="triNNity's measurements as DIR/primitives/trinnity_*.csv."
        ),
    ],
    json: Annotated[
        Path | None,
        typer.Option("--json", dir_okay=False, help="Write frontiers and partitions as JSON to this file."),
    ] = None,
) -> None:
    """Plan AlexNet's convolutions with measured primitives: the exact frontier, and two in one budget.

    Nothing is fitted. Memory is the largest workspace; workspaces are read as published and as an
    implementation needs them.
    """
    from ..sim.validation import primitives as checks

    check_target("--json", json)
    chains = checks.read_chains(data)
    console = terminal.console()
    for reading, chain in chains.items():
        console.print(_plans(chain, f"frontier, workspaces {reading}"))
        console.print()
    found = checks.partitions(chains["published"])
    console.print(_shared(found))
    _write(json, checks.record(chains, found))


def _plans(chain: Chain, title: str) -> Table:
    """The points of a frontier, with the primitive of every convolution."""
    names = [layer.name for layer in chain.layers]
    rows = terminal.table("bytes", "ms", *names, right=("bytes", "ms"), title=title)
    for point in chain.frontier.points:
        plan = [abbreviated(each.name) for each in chain.chosen(point)]
        rows.add_row(f"{point.memory_bytes:,}", f"{chain.time_ns(point) / 1e6:.3f}", *plan)
    return rows


def _shared(found: Iterable[Shared]) -> Table:
    """The partitions of each budget; milliseconds for both networks."""
    names = ("budget bytes", "best partition ms", "equal split ms", "shared arena ms")
    rows = terminal.table(*names, right=names, title="two such networks, workspaces published")
    for each in found:
        times = (each.best_ns, each.equal_split_ns, each.shared_arena_ns)
        cells = ["does not fit" if time is None else f"{time / 1e6:.3f}" for time in times]
        rows.add_row(f"{each.budget_bytes:,}", *cells)
    return rows


def _write(path: Path | None, records: list[dict[str, Any]] | dict[str, Any]) -> None:
    if path is not None:
        write_atomically((json_module.dumps(records, indent=1) + "\n").encode(), path)


def _table(found: Iterable[Check]) -> Table:
    """One row a check; seconds."""
    table = Table(box=None, pad_edge=False)
    table.add_column("case", no_wrap=True)
    for name in ("measured s", "predicted s", "error", "bar", "requests"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("rule", no_wrap=True)
    table.add_column("")
    for check in found:
        share = ".2%" if check.rule.endswith("interval") else ".1g"
        table.add_row(
            check.case.removeprefix("theory/"),
            f"{check.measured:.5g}",
            f"{check.predicted:.5g}",
            f"{check.relative_error:{share}}",
            f"{check.bar:{share}}",
            f"{check.requests:,}",
            check.rule,
            "" if check.passed else "MISSED",
        )
    return table
