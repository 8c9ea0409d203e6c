"""Write the tables of docs/validation.md: every number there is computed here, with the committed boards.

    python benchmarks/validation_page.py [--theory FILE] [--engine FILE] [--fidelity FILE...]

The prose stands in the page and stays; what lies between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is
replaced. ``--theory`` takes what `edgesched validate theory --json FILE` writes, ``--engine`` what
`python benchmarks/engine.py --json FILE` writes, ``--fidelity`` what `benchmarks/fidelity.py --json FILE`
writes (of one condition or several; rows that were not measured again stay); without them those tables stay
as they are. Where a number changes, read the prose beside it again. Takes one to two minutes: some sections
fit again.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgesched.devices import boards
from edgesched.devices.boards import merged
from edgesched.devices.model import Device
from edgesched.sim import calibration
from edgesched.sim.validation import footprint
from edgesched.sim.validation.edgecaffe import POLICIES, Row, board_of, predict_s, predictions, verdicts
from edgesched.traces.published import PublishedTotal, published_totals

PAGE = Path(__file__).resolve().parent.parent / "docs" / "validation.md"
MIB = 1 << 20
LIMITS_MIB = (4096, 2048, 1024, 512, 256, 128)
BOARD_LIMITS_MIB = (2048, 1024, 512)
ASSUMPTIONS: dict[str, dict[str, Any]] = {
    "as committed": {},
    "base 35 MiB": {"base_bytes": 35 * MIB},
    "base 60 MiB": {"base_bytes": 60 * MIB},
    "write cost 0": {"swap": {"write_cost": 0.0}},
    "write cost 1": {"swap": {"write_cost": 1.0}},
}
HIDDEN = (
    *(("bulk", 1024), ("bulk", 256), ("linear", 128), ("partial", 1024), ("partial", 256)),
    *(("deepeye", 1024), ("deepeye", 512), ("deepeye", 256)),
)

FIDELITY_POLICIES = ("fifo", "linear", "deepeye", "masa")

Cells = Sequence[object]


def table(header: Cells, rows: Iterable[Cells], left: int = 1) -> str:
    """A Markdown table; columns after the first ``left`` are aligned right."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in (header, rule, *rows))


def limit(size_mib: int) -> str:
    """A limit as the source writes it."""
    return f"{size_mib >> 10}G" if size_mib >= 1024 else f"{size_mib}M"


def at(total: PublishedTotal, size_mib: int, on: Device | None = None, **changes: Any) -> float:
    """The prediction for the row under another limit, with other changes, on another board; seconds."""
    return predict_s(replace(total, memory_limit_bytes=size_mib * MIB, **changes), on)


def errors_table(rows: Sequence[Row], kind: str) -> str:
    """Measured and predicted seconds of the rows of one kind."""
    cells = [
        (
            row.total.id,
            row.total.role,
            f"{row.total.value_s:.3f}",
            f"{row.predicted_s:.3f}",
            f"{row.relative_error:+.1%}",
        )
        for row in rows
        if row.total.kind == kind
    ]
    return table(("row", "role", "measured s", "predicted s", "error"), cells, left=2)


def bars(rows: Sequence[Row]) -> str:
    """The verdicts on all rows."""
    cells = [(v.what, v.measured, v.bar, "met" if v.passed else "**missed**") for v in verdicts(rows)]
    return table(("bar", "found", "allowed", ""), cells, left=4)


def all_cells(rows: Sequence[Row]) -> str:
    """Version A: all 24 cells, the measured values where we have them."""
    runs = [row.total for row in rows if row.total.kind == "run"]
    visible = {(total.policy, total.memory_limit_bytes // MIB): total for total in runs}
    cells = []
    for policy in POLICIES:
        line = [policy]
        for size in LIMITS_MIB:
            seen = visible.get((policy, size))
            value = f"{at(runs[0], size, policy=policy):.1f}"
            if seen is not None:
                value = f"**{value}** / {seen.value_s:.1f}"
            line.append(value)
        cells.append(line)
    return table(("policy", *map(limit, LIMITS_MIB)), cells)


def batch_cells(rows: Sequence[Row]) -> str:
    """Every batch on its board under other limits."""
    totals = [row.total for row in rows if row.total.kind == "batch"]
    setups = {(board_of(total), "+".join(total.networks)): total for total in reversed(totals)}
    cells = [
        (*setup, *(f"{at(total, size):.2f}" for size in BOARD_LIMITS_MIB))
        for setup, total in sorted(setups.items())
    ]
    return table(("board", "batch", *map(limit, BOARD_LIMITS_MIB)), cells, left=2)


def solo_cells(rows: Sequence[Row]) -> str:
    """Solo means on every board under every limit."""
    sizes = {len(row.total.networks): row.total for row in rows if row.total.kind == "solo-mean"}
    cells = [
        (device, count, *(f"{at(sizes[count], size, device=device):.2f}" for size in BOARD_LIMITS_MIB))
        for device in ("rpi-4", "rpi-2", "rpi-1")
        for count in sorted(sizes)
    ]
    return table(("board", "networks", *map(limit, BOARD_LIMITS_MIB)), cells, left=2)


def peaks() -> str:
    """Peaks of the ten networks."""
    cells = [
        (
            peak.network,
            f"{peak.layerwise_bytes / MIB:.1f}",
            f"{peak.bulk_bytes / MIB:.1f}",
            "equal" if peak.agrees else "**differs**",
        )
        for peak in footprint.footprints()
    ]
    return table(("network", "layer-wise MiB", "bulk MiB", "engine"), cells)


def footprints() -> str:
    """Published footprints with ours; exceptions and misses with their reasons."""
    rows = footprint.rows()
    cells = [
        (
            row.quantity,
            row.network,
            "exception" if row.exception else "**missed**" if row.missed else "",
            f"{row.measured_bytes / MIB:.1f}",
            f"{row.predicted_bytes / MIB:.1f}",
            f"{row.relative_error:+.1%}",
        )
        for row in rows
    ]
    held = [row for row in rows if not row.exception]
    missed = [row for row in held if row.missed]
    parts = [
        table(("published", "network", "", "measured MiB", "predicted MiB", "error"), cells, left=3),
        f"{len(held) - len(missed)} of {len(held)} values are within {footprint.BAR:.0%}. Exceptions:",
        "\n".join(f"- {row.quantity} of {row.network}: {row.exception}." for row in rows if row.exception),
        "Missed, and what would explain it:",
        "\n".join(f"- {row.quantity} of {row.network}: {row.remark}." for row in missed),
    ]
    return "\n\n".join(parts)


def fitted() -> str:
    """Constants with the errors of their rows, and assumptions, board by board."""
    parts = []
    for name in boards.names():
        recorded = boards.load(name).calibration
        if recorded is None:
            continue
        parts.append(f"### {name}")
        for group in recorded.fitted:
            parts.append(", ".join(f"`{path}` = {value:.4g}" for path, value in group.constants.items()))
            left_out = {row: f"{error:+.1%}" for row, error in group.left_out_errors.items()}
            cells = [(row, f"{error:+.1%}", left_out.get(row, "–")) for row, error in group.errors.items()]
            parts.append(table(("fitted to", "error", "left out"), cells))
        if recorded.assumed:
            parts.append("Assumed:")
            parts.append("\n".join(f"- `{path}`: {reason}" for path, reason in recorded.assumed.items()))
    return "\n\n".join(parts)


def input_size(totals: Sequence[PublishedTotal]) -> str:
    """Four assumptions about the solo means, each fitted to those at 2G and held against a batch."""
    board = "raspberry-pi-4-4gb"
    fit = next(
        fit
        for fit in calibration.EDGECAFFE_FITS
        if fit.board == board and "cost.gemm_scale" in fit.parameters
    )
    means = tuple(row for row in fit.rows if row.startswith("solo-"))
    batch = next(total for total in totals if total.id in fit.rows and total.kind == "batch")
    cost = boards.load(board).cost
    # Any rate will do: its scale is fitted.
    rate = cost.load_byte_s + 2 * cost.load_byte_s_per_copy
    one_rate = {"cost": {"load_byte_s": rate, "load_byte_s_per_copy": 0.0}}
    cells = []
    for pixels, network in ((227, "FaceNet"), (1340, "FaceNet@1340")):
        for loading, changes in (("by copies", {}), ("one rate", one_rate)):
            data = {name: boards.raw(name) for name in boards.names()}
            data[board] = merged(data[board], changes)
            sized = [
                replace(t, networks=tuple(network if n == "FaceNet" else n for n in t.networks))
                if t.kind == "solo-mean"
                else t
                for t in totals
            ]
            found, (outcome,) = calibration.run_fits([replace(fit, rows=means)], data, sized)
            on_batch = predict_s(batch, boards.resolve(board, found.__getitem__)) / batch.value_s - 1
            errors = (f"{error:+.1%}" for error in (*outcome.errors.values(), on_batch))
            cells.append(
                (f"{pixels} px", loading, *errors, *(f"{value:.2f}" for value in outcome.values.values()))
            )
    scales = (path.removeprefix("cost.") for path in fit.parameters)
    return table(("FaceNet", "loading", *means, "batch, not fitted", *scales), cells, left=2)


def assumed(totals: Sequence[PublishedTotal]) -> str:
    """Version A's hidden cells under other assumptions, the swap's constants fitted again for each."""
    board = "edgecaffe-laptop"
    run = next(total for total in totals if total.kind == "run")
    fits = [
        fit
        for fit in calibration.EDGECAFFE_FITS
        if fit.board == board and fit.parameters[0].startswith("memory.swap.")
    ]
    cells: list[Cells] = []
    for name, memory in ASSUMPTIONS.items():
        data = {other: boards.raw(other) for other in boards.names()}
        if memory:
            data[board] = merged(data[board], {"memory": memory})
            data, _ = calibration.run_fits(fits, data, totals)
        device = boards.resolve(board, data.__getitem__)
        cells.append((name, *(f"{at(run, mib, device, policy=policy):.1f}" for policy, mib in HIDDEN)))
    return table(("assumed", *(f"{policy} {limit(mib)}" for policy, mib in HIDDEN)), cells)


def small_boards(totals: Sequence[PublishedTotal]) -> str:
    """What the Raspberry Pi's weak numbers come to."""
    rows = {total.id: total for total in totals}
    nine, ten = rows["solo-rpi-4-2G-9"], rows["solo-rpi-4-2G-10"]
    alone = replace(nine, networks=("ObjectNet",), weights=(1.0,))
    cells: list[Cells] = [
        (
            "1 GB board / 4 GB board, nine networks at 1G",
            f"{at(nine, 1024, device='rpi-1') / at(nine, 1024):.2f}",
        )
    ]
    for size in BOARD_LIMITS_MIB:
        seconds = at(alone, size)
        share = seconds / (len(ten.networks) * at(ten, size))
        cells.append(
            (f"ObjectNet alone at {limit(size)}", f"{seconds:.0f} s, {share:.0%} of the ten together")
        )
    return table(("quantity", "predicted"), cells)


def theory(file: Path) -> str:
    """The checks in ``file``."""
    checks = json.loads(file.read_text("utf-8"))
    cells = [
        (
            check["case"].removeprefix("theory/"),
            check["rule"],
            "met" if check["passed"] else "**missed**",
            f"{check['measured']:.5g}",
            f"{check['predicted']:.5g}",
            f"{check['relative_error']:.2g}",
            f"{check['bar']:.2g}",
            f"{check['requests']:,}",
        )
        for check in checks
    ]
    header = ("case", "rule", "", "measured s", "predicted s", "error", "bar", "requests")
    met = sum(check["passed"] for check in checks)
    return f"{table(header, cells, left=3)}\n\n{met} of {len(checks)} checks are within their bar."


def engine(file: Path) -> str:
    """The figures in ``file``."""
    figures = json.loads(file.read_text("utf-8"))
    return table(
        ("figure", "value"),
        [(f"`{key}`", f"{value:,.0f}" if value >= 100 else f"{value:.2f}") for key, value in figures.items()],
    )


def fidelity(files: Sequence[Path], page: str) -> str:
    """Errors of simulations against replays, by condition; rows of the page that the files lack stay."""
    rows = [row for file in files for row in json.loads(file.read_text("utf-8"))]

    def percent(value: float | None, digits: int = 1) -> str:
        return "-" if value is None else f"{value:+.{digits}%}"

    def mib(value: float | None) -> str:
        return "-" if value is None else f"{value / MIB:.1f}"

    names = {"40": "40 MB/s", "400": "400 MB/s", "unpaced": "its own speed", "starved": "starved, 100 MB/s"}
    header = (
        *("storage", "arrivals", "utilisation", "policy", "replayed mean, ms", "error", "95th percentile"),
        *("undisturbed runs", "their error", "their 95th percentile"),
        *("trace-driven", "same order", "peak beyond base, MiB", "by the ledger"),
        *("scheduler, us a task", "of busy time", "time stolen"),
    )
    cells: list[Cells] = [
        (
            names[row["condition"]],
            row["process"],
            str(row["utilisation"]),
            row["policy"],
            "-" if row["replayed_mean_s"] is None else f"{1e3 * row['replayed_mean_s']:.0f}",
            percent(row["mean_error"]),
            percent(row["p95_error"]),
            f"{row['undisturbed_runs']} of {row['runs']}",
            percent(row["undisturbed_mean_error"]),
            percent(row["undisturbed_p95_error"]),
            percent(row["trace_driven_error"], 2),
            "yes" if row["same_order"] else "no",
            mib(row["peak_beyond_base_bytes"]),
            mib(row["ledger_beyond_base_bytes"]),
            "-" if row["scheduler_per_task_s"] is None else f"{1e6 * row['scheduler_per_task_s']:.0f}",
            "-" if row["scheduler_of_busy"] is None else f"{row['scheduler_of_busy']:.1%}",
            "-" if row.get("stolen") is None else f"{row['stolen']:.1%}",
        )
        for row in rows
    ]
    before = page.partition("<!-- begin fidelity -->")[2].partition("<!-- end fidelity -->")[0]
    kept = [line.strip("| ").split(" | ") for line in before.strip().splitlines()[2:]]
    kept = [[*line, *["-"] * (len(header) - len(line))] for line in kept]
    together = {tuple(line[:4]): line for line in (*kept, *cells)}
    order = list(names.values()), ("deterministic", "poisson"), ("0.5", "0.8"), FIDELITY_POLICIES
    return table(
        header,
        [together[key] for key in itertools.product(*order) if key in together],
        left=4,
    )


def filled(page: str, blocks: dict[str, str]) -> str:
    """The page with the named blocks replaced. Raises ``SystemExit`` for a block that it does not have."""
    for name, block in blocks.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, _, rest = page.partition(begin)
        _, found, after = rest.partition(end)
        if not found or begin in rest:
            raise SystemExit(f"the page must have exactly one block {begin} ... {end}")
        page = f"{before}{begin}\n\n{block}\n\n{end}{after}"
    return page


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--theory", type=Path)
    parser.add_argument("--engine", type=Path)
    parser.add_argument("--fidelity", type=Path, nargs="*", default=())
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    page = arguments.page.read_text("utf-8")
    totals = published_totals()
    rows = predictions(totals)
    blocks = {
        "bars": bars(rows),
        "runs": errors_table(rows, "run"),
        "cells": all_cells(rows),
        "batches": errors_table(rows, "batch"),
        "batch-cells": batch_cells(rows),
        "solo": errors_table(rows, "solo-mean"),
        "solo-cells": solo_cells(rows),
        "peaks": peaks(),
        "footprints": footprints(),
        "fitted": fitted(),
        "input-size": input_size(totals),
        "assumed": assumed(totals),
        "boards": small_boards(totals),
    }
    if arguments.theory is not None:
        blocks["theory"] = theory(arguments.theory)
    if arguments.engine is not None:
        blocks["engine"] = engine(arguments.engine)
    if arguments.fidelity:
        blocks["fidelity"] = fidelity(arguments.fidelity, page)
    arguments.page.write_text(filled(page, blocks), encoding="utf-8")
    print(f"wrote {arguments.page}")


if __name__ == "__main__":
    main()
