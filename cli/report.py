"""A run's result on the terminal: the verdict first, then what made it, then statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .terminal import console, interval, seconds, share, significant, size, table

if TYPE_CHECKING:
    from rich.table import Table

    from ..runs.result import Infeasible
    from ..runs.tasks import Trace

RESPONSES = (
    ("mean", "response_mean"),
    ("median", "response_median"),
    ("p95", "response_p95"),
    ("p99", "response_p99"),
)


class Shown(Protocol):
    """What the report says of a run beside its summaries: a ``RunResult``, or what was read from a folder."""

    @property
    def device(self) -> str:
        """The device's name."""

    @property
    def seed(self) -> int:
        """The root seed."""

    @property
    def limit_bytes(self) -> int | None:
        """What the run may hold."""

    @property
    def infeasible(self) -> Infeasible | None:
        """What did not fit."""

    @property
    def trace(self) -> Trace | None:
        """The tasks, to tell how many were not kept."""

    @property
    def plan(self) -> Mapping[str, Any] | None:
        """What the policy decided before the run."""


def show_run(
    data: Mapping[str, Any],
    result: Shown,
    summaries: Sequence[Mapping[str, Any]],
    together: Mapping[str, Any],
    *,
    swept: bool,
    clock: str = "simulated",
) -> None:
    """Print the run: ``data`` is the scenario as written, ``result`` its first replication.

    ``clock`` says of its times whether they were simulated or measured.
    """
    screen = console()
    screen.print(_verdict(together["status"]), style=_style(together["status"]))
    screen.print(_circumstances(data, result, summaries, together, clock))
    if result.plan is not None:
        screen.print()
        screen.print(_plan(result.plan))
    if result.infeasible is not None:
        screen.print()
        screen.print(_shortage(result))
    elif together["status"] == "ok":
        screen.print()
        screen.print(_responses(summaries, together))
        if len(summaries[0]["networks"]) > 1:
            screen.print()
            screen.print(_networks(summaries))
    for warning in together["warnings"]:
        screen.print(f"warning: {warning}", style="yellow")
    if result.trace is not None and result.trace.dropped:
        screen.print(
            f"warning: {result.trace.dropped} tasks beyond the trace's limit were not kept", style="yellow"
        )
    if swept:
        screen.print("note: this scenario has a sweep, which was left out here: edgesched sweep", style="dim")


def _verdict(status: str) -> str:
    return {
        "ok": "Verdict: ok, every request was served",
        "infeasible": "Verdict: infeasible, it does not fit into memory",
        "incomplete": "Verdict: incomplete, not every request was served",
    }.get(status, f"Verdict: {status}")


def _style(status: str) -> str:
    return {"ok": "bold green", "infeasible": "bold red"}.get(status, "bold yellow")


def _circumstances(
    data: Mapping[str, Any],
    result: Shown,
    summaries: Sequence[Mapping[str, Any]],
    together: Mapping[str, Any],
    clock: str,
) -> Table:
    rows = table("", "", wrap=("",))
    rows.show_header = False
    name = data.get("name")
    if name:
        rows.add_row("scenario", str(name))
    rows.add_row("policy", _policy(data["policy"]))
    limit = size(result.limit_bytes) if result.limit_bytes and result.limit_bytes < 1 << 50 else "no"
    rows.add_row("device", f"{result.device}, {limit} memory limit")
    first = summaries[0]
    count = f"{first['requests']:,}"
    if first["warmup_requests"]:
        count += f" ({first['warmup_requests']:,} of them warm-up)"
    repeated = f", {len(summaries)} replications" if len(summaries) > 1 else ""
    rows.add_row("requests", f"{count} in {seconds(first['end_s'])} {clock}{repeated}, seed {result.seed}")
    if first["requests"] > 1:
        rows.add_row("arrivals", _rate(first["arrival_rate_per_s"]))
    if together["status"] == "ok":
        rows.add_row("throughput", _rate(together["throughput_per_s"]))
    rows.add_row("peak memory", size(together["peak_bytes"]))
    if together["paged_in_bytes"] or together["paged_out_bytes"]:
        rows.add_row(
            "paged", f"{size(together['paged_in_bytes'])} in, {size(together['paged_out_bytes'])} out"
        )
    busy = ", ".join(f"{worker} {share(value)}" for worker, value in together["utilisation"].items())
    rows.add_row("workers busy", busy)
    if first["with_deadline"]:
        rows.add_row("deadline missed", share(together["deadline_missed_share"]))
    if together["status"] != "ok" and result.infeasible is None:
        rows.add_row("reason", str(together["reason"]))
    return rows


def _rate(value: float | None) -> str:
    if value is None:
        return "all at once"
    return (
        f"{significant(value)} requests/s"
        if value >= 0.1
        else f"{significant(value)} requests/s (one in {seconds(1 / value)})"
    )


def _policy(policy: Mapping[str, Any]) -> str:
    parameters = ", ".join(f"{key}={value}" for key, value in policy.items() if key != "name")
    return f"{policy['name']} ({parameters})" if parameters else str(policy["name"])


def _plan(plan: Mapping[str, Any]) -> Table:
    """What was decided for every network before the run."""
    rows = table("planned", "processor", "footprint", "alone", right=("footprint", "alone"))
    for name, each in plan["networks"].items():
        rows.add_row(name, each["processor"], size(each["footprint_bytes"]), seconds(each["solo_s"]))
    return rows


def _responses(summaries: Sequence[Mapping[str, Any]], together: Mapping[str, Any]) -> Table:
    rows = table("response time", "", "95 % interval", right=("",))
    first = summaries[0]
    for name, key in RESPONSES:
        if len(summaries) > 1:
            value = together[f"{key}_s"]
            spread = interval(_floored(together[f"{key}_s_lo"]), together[f"{key}_s_hi"])
        else:
            value, half = first[f"{key}_s"], first[f"{key}_half_width_s"]
            spread = "" if half is None or value is None else interval(max(0.0, value - half), value + half)
        rows.add_row(f"  {name}", seconds(value), spread or "too few requests")
    rows.add_row("  largest", seconds(max(s["response_max_s"] for s in summaries)), "")
    return rows


def _floored(value: float | None) -> float | None:
    """No response time is negative, whatever a wide interval says."""
    return None if value is None else max(0.0, value)


def _networks(summaries: Sequence[Mapping[str, Any]]) -> Table:
    rows = table(
        "network", "jobs", "mean response", "mean waiting", right=("jobs", "mean response", "mean waiting")
    )
    for name in summaries[0]["networks"]:
        each = [s["networks"][name] for s in summaries if name in s["networks"]]
        jobs = sum(n["completed"] for n in each)
        rows.add_row(
            f"  {name}",
            f"{jobs:,}",
            *(seconds(_mean(each, key)) for key in ("response_mean_s", "waiting_mean_s")),
        )
    return rows


def _mean(each: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [n[key] for n in each if n[key] is not None]
    return sum(values) / len(values) if values else None


def _shortage(result: Shown) -> Table:
    short = result.infeasible
    assert short is not None
    rows = table("what does not fit", "", wrap=("",))
    rows.add_row("  task", f"{short.task} of {short.network} at {seconds(short.at_s)}")
    rows.add_row("  needs", f"{size(short.demand_bytes)} resident")
    rows.add_row("  limit", size(short.limit_bytes))
    for index, lever in enumerate(short.fits_with):
        rows.add_row("  fits with" if not index else "  or with", lever)
    return rows
