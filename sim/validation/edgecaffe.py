"""EdgeCaffe's measured end-to-end times against the simulation, with the committed calibration, no refit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...devices import boards
from ...devices.boards import merged
from ...devices.model import Device
from ...policies import registry
from ...policies.contract import Policy
from ...traces.published import PublishedTotal
from ..once import makespan_s

POLICIES = {"bulk": "fifo", "linear": "linear", "partial": "partial", "deepeye": "deepeye"}
"""EdgeCaffe's mode and the policy that is it."""


class UnknownSetupError(ValueError):
    """A row was measured on a device or in a mode that the catalogue does not model."""


def board_of(total: PublishedTotal) -> str:
    """The board that models where the row was measured."""
    if total.device == "laptop":
        if total.kind == "run":
            return "edgecaffe-laptop"
        return f"edgecaffe-laptop-{total.build.lower()}"
    sizes = {"rpi-1": "1gb", "rpi-2": "2gb", "rpi-4": "4gb"}
    if total.device in sizes:
        return f"raspberry-pi-4-{sizes[total.device]}"
    raise UnknownSetupError(f"{total.id}: no board for device {total.device!r}")


def limited(device: Device, limit_bytes: int) -> Device:
    """The device under another memory limit."""
    return Device.model_validate(merged(device.model_dump(), {"memory": {"limit_bytes": limit_bytes}}))


def policy_of(total: PublishedTotal) -> Policy:
    """The policy that is the row's mode."""
    if total.policy not in POLICIES:
        raise UnknownSetupError(f"{total.id}: no policy for mode {total.policy!r}")
    return registry.make(POLICIES[total.policy])


def predict_s(total: PublishedTotal, device: Device | None = None) -> float:
    """The simulated value of one row, seconds; ``device`` None: the board of the catalogue."""
    board = boards.load(board_of(total)) if device is None else device
    board = limited(board, total.memory_limit_bytes)
    if total.kind == "solo-mean":
        return sum(
            weight * makespan_s(board, policy_of(total), [name])
            for name, weight in zip(total.networks, total.weights, strict=True)
        )
    return makespan_s(board, policy_of(total), total.networks)


@dataclass(frozen=True, slots=True)
class Bar:
    """Largest median and 90th percentile of the absolute relative errors of rows that were not fitted."""

    rows: str
    kinds: tuple[str, ...]
    median: float
    p90: float


BARS = (
    Bar("version A totals", ("run",), 0.10, 0.25),
    Bar("board means and batch times", ("solo-mean", "batch"), 0.15, 0.35),
)
CLEARLY = 0.10
"""Policies are told apart where their measured times differ by more than this."""
FILES = {
    "run": "memory_limit_totals.csv",
    "batch": "batch_service_times.csv",
    "solo-mean": "solo_mean_durations.csv",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One measured value and what the simulation says."""

    total: PublishedTotal
    predicted_s: float

    @property
    def relative_error(self) -> float:
        """Predicted / measured - 1."""
        return self.predicted_s / self.total.value_s - 1

    def record(self) -> dict[str, object]:
        """The row as plain data; ``case`` begins with the data file's name."""
        return {
            "case": f"{FILES[self.total.kind]}/{self.total.id}",
            "measured": self.total.value_s,
            "predicted": self.predicted_s,
            "relative_error": abs(self.relative_error),
            "role": self.total.role,
            "unit": "s",
        }


def predictions(totals: Sequence[PublishedTotal]) -> list[Row]:
    """Every row with the committed boards."""
    return [Row(total, predict_s(total)) for total in totals]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one bar is met, and what it was held against."""

    what: str
    measured: str
    bar: str
    passed: bool


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """The bars, on rows that were not fitted, and the order of policies at each limit."""
    found = []
    for bar in BARS:
        errors = sorted(
            abs(row.relative_error)
            for row in rows
            if row.total.kind in bar.kinds and row.total.role == "held-out"
        )
        if not errors:
            continue
        median, p90 = quantile(errors, 0.5), quantile(errors, 0.9)
        found.append(
            Verdict(
                f"{bar.rows}, {len(errors)} held out",
                f"median {median:.1%}, 90th percentile {p90:.1%}",
                f"median {bar.median:.0%}, 90th percentile {bar.p90:.0%}",
                median <= bar.median and p90 <= bar.p90,
            )
        )
    by_limit: dict[int, list[Row]] = {}
    for row in rows:
        if row.total.kind == "run":
            by_limit.setdefault(row.total.memory_limit_bytes, []).append(row)
    for limit, group in sorted(by_limit.items()):
        if len(group) > 1:
            found.extend(_order(limit, group))
    return found


def _order(limit: int, group: Sequence[Row]) -> list[Verdict]:
    """Whether the simulation names the measured fastest and slowest policy, or one not clearly behind."""
    found = []
    for name, choose, sign in (("fastest", min, 1.0), ("slowest", max, -1.0)):
        measured = choose(group, key=lambda row: row.total.value_s)
        said = choose(group, key=lambda row: row.predicted_s)
        gap = sign * (said.total.value_s / measured.total.value_s - 1)
        found.append(
            Verdict(
                f"{name} policy at {limit >> 20} MiB",
                f"{said.total.policy} (measured: {measured.total.policy})",
                f"the same, or within {CLEARLY:.0%} of it",
                gap <= CLEARLY,
            )
        )
    return found


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between order statistics (as numpy.percentile does)."""
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)
