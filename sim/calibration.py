"""Fitting a board's constants to measured end-to-end times, through the same engine that predicts them.

A ``Fit`` names a board, the constants that may move (dotted paths into its YAML) and the rows they are fitted
to; fits run in order, so a later one sees the constants of the earlier ones. Everything else on a board is
assumed and says so in its file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..devices.boards import resolve
from ..traces.published import PublishedTotal
from ..traces.table import write_atomically
from .validation.edgecaffe import predict_s


@dataclass(frozen=True, slots=True)
class Fit:
    """Constants of one board fitted together to some rows (ids of ``PublishedTotal``)."""

    board: str
    parameters: tuple[str, ...]
    rows: tuple[str, ...]
    bounds: tuple[tuple[float, float], ...]
    """Per parameter the least and greatest value that makes sense."""


@dataclass(slots=True)
class Outcome:
    """What a fit came to: relative errors (predicted / measured - 1) with all rows and with each left out."""

    fit: Fit
    values: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, float] = field(default_factory=dict)
    """Error on each row by the fit to the others; empty where too few rows remain to fit."""


MIB = float(1 << 20)
LAPTOP_CELLS = tuple(f"run-{policy}-4G" for policy in ("partial", "bulk", "deepeye", "linear"))
EDGECAFFE_FITS = (
    Fit(
        "edgecaffe-laptop",
        ("cost.gemm_scale", "runtime.slowdown.execute.execute", "runtime.submission_s"),
        LAPTOP_CELLS,
        ((0.1, 1.0), (1.0, 2.0), (0.05, 0.6)),
    ),
    Fit(
        "edgecaffe-laptop",
        ("memory.swap.read_bytes_per_s",),
        ("run-linear-1G", "run-linear-512M", "run-linear-256M"),
        ((20 * MIB, 400 * MIB),),
    ),
    Fit("edgecaffe-laptop", ("memory.swap.queue_gain",), ("run-partial-512M",), ((1.0, 2.0),)),
    Fit("edgecaffe-laptop", ("memory.swap.bulk_penalty",), ("run-bulk-512M",), ((0.7, 3.0),)),
    Fit(
        "edgecaffe-laptop-debug",
        ("runtime.submission_s", "cost.init_byte_s"),
        tuple(
            f"batch-laptop-debug-{batch}-2G"
            for batch in ("AgeNet+AgeNet", "FaceNet+FaceNet", "AgeNet+FaceNet", "SoS+SoS")
        ),
        ((0.0, 0.6), (0.0, 4e-9)),
    ),
    Fit(
        "edgecaffe-laptop-release",
        ("cost.load_scale", "cost.gemm_scale"),
        (
            "batch-laptop-release-AgeNet+AgeNet+AgeNet-2G",
            "batch-laptop-release-AgeNet+GenderNet+FaceNet-2G-4w",
            "batch-laptop-release-FaceNet+FaceNet+FaceNet-2G",
        ),
        ((0.05, 1.0), (0.05, 1.5)),
    ),
    Fit(
        "raspberry-pi-4-4gb",
        ("cost.load_scale", "cost.gemm_scale", "cost.other_scale"),
        (
            "solo-rpi-4-2G-9",
            "solo-rpi-4-2G-10",
            "solo-rpi-4-2G-5",
            "batch-rpi-4-release-FaceNet+FaceNet-4G",
        ),
        ((0.5, 10.0), (0.2, 10.0), (0.1, 10.0)),
    ),
    Fit(
        "raspberry-pi-4-4gb",
        ("memory.swap.read_bytes_per_s",),
        ("solo-rpi-4-512M-9",),
        ((1 * MIB, 60 * MIB),),
    ),
)
"""How the committed boards were calibrated to EdgeCaffe's visible rows."""


def run_fits(
    fits: Sequence[Fit],
    boards: Mapping[str, dict[str, Any]],
    totals: Sequence[PublishedTotal],
    progress: Callable[[Fit], None] | None = None,
) -> tuple[dict[str, dict[str, Any]], list[Outcome]]:
    """Fit in order; returns the boards' data with the fitted constants, and what each fit came to.

    Raises ``KeyError`` for a row or board that is not there.
    """
    rows = {total.id: total for total in totals}
    data = dict(boards)
    outcomes = []
    for fit in fits:
        if progress is not None:
            progress(fit)
        chosen = [rows[name] for name in fit.rows]
        board = data[fit.board]
        values = _minimise(fit, data, chosen)
        data[fit.board] = with_values(board, dict(zip(fit.parameters, values, strict=True)))
        outcome = Outcome(fit, dict(zip(fit.parameters, values, strict=True)))
        device = resolve(fit.board, data.__getitem__)
        for row in chosen:
            outcome.errors[row.id] = predict_s(row, device) / row.value_s - 1
        if len(chosen) > len(fit.parameters):
            for row in chosen:
                others = [other for other in chosen if other is not row]
                part = _minimise(fit, {**data, fit.board: board}, others)
                refit = {**data, fit.board: with_values(board, dict(zip(fit.parameters, part, strict=True)))}
                predicted = predict_s(row, resolve(fit.board, refit.__getitem__))
                outcome.left_out[row.id] = predicted / row.value_s - 1
        outcomes.append(outcome)
    return data, outcomes


def with_values(board: dict[str, Any], values: Mapping[str, float]) -> dict[str, Any]:
    """The board's data with values at dotted paths, rounded to four digits as its file holds them."""
    result = _copied(board)
    for path, value in values.items():
        *inner, last = path.split(".")
        place = result
        for key in inner:
            place = place.setdefault(key, {})
        place[last] = float(f"{value:.4g}")
    return result


def _copied(value: Any) -> Any:
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, dict) else value


def _minimise(
    fit: Fit, data: Mapping[str, dict[str, Any]], rows: Sequence[PublishedTotal]
) -> tuple[float, ...]:
    """The constants within bounds with the least sum of squared log errors."""

    def loss(point: Sequence[float]) -> float:
        values = dict(zip(fit.parameters, point, strict=True))
        changed = {**data, fit.board: with_values(data[fit.board], values)}
        device = resolve(fit.board, changed.__getitem__)
        return sum(math.log(predict_s(row, device) / row.value_s) ** 2 for row in rows)

    return pattern_search(loss, fit.bounds)


def pattern_search(
    loss: Callable[[Sequence[float]], float], bounds: Sequence[tuple[float, float]]
) -> tuple[float, ...]:
    """A minimum of ``loss`` in a box: a coarse grid, then compass search with halving steps.

    Derivative-free because simulated times jump where the order of tasks changes (Kolda, Lewis, Torczon,
    SIAM Review 45, 2003). Deterministic; the result is exact to about 1e-4 of the box.
    """
    size = len(bounds)
    # A full grid costs count ** size: with three constants three points an axis are enough to start from.
    count = {1: 25, 2: 9}.get(size)
    starts = [0.1, 0.3, 0.6] if count is None else [i / (count - 1) for i in range(count)]
    points: list[tuple[float, ...]] = [()]
    for low, high in bounds:
        points = [(*point, low + (high - low) * start) for point in points for start in starts]
    best = min(points, key=loss)
    least = loss(best)
    step = 0.25 if count is None else 1.0 / count
    while step > 1e-4:
        moved = False
        for axis, (low, high) in enumerate(bounds):
            for sign in (1.0, -1.0):
                value = min(high, max(low, best[axis] + sign * step * (high - low)))
                candidate = (*best[:axis], value, *best[axis + 1 :])
                found = loss(candidate)
                if found < least:
                    best, least, moved = candidate, found, True
        if not moved:
            step /= 2
    return best


def write_board(name: str, data: Mapping[str, Any], outcomes: Sequence[Outcome], folder: Path) -> Path:
    """Write the fitted board as YAML with its calibration beside the numbers; returns the path."""
    calibration = dict(data.get("calibration", {}))
    calibration["command"] = "edgesched calibrate edgecaffe"
    calibration["fitted"] = [
        {
            "constants": {path: float(f"{value:.4g}") for path, value in outcome.values.items()},
            "errors": {row: round(error, 4) for row, error in outcome.errors.items()},
            "left_out_errors": {row: round(error, 4) for row, error in outcome.left_out.items()},
        }
        for outcome in outcomes
        if outcome.fit.board == name
    ]
    text = yaml.safe_dump(
        {**data, "calibration": calibration}, sort_keys=False, width=110, allow_unicode=True
    )
    path = folder / f"{name}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(text.encode(), path)
    return path
