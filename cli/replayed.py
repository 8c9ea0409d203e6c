"""What replays show on the terminal, whether they ran here or on another machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .terminal import console, seconds, share, size, table

if TYPE_CHECKING:
    from ..bridge.watch import Progress


@contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """A bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield None
        return
    columns = TextColumn("replaying"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show_facts(facts: Mapping[str, Any], where: str) -> None:
    """What only a real run has: the guard, the real peak, the scheduler's own time, disturbances."""
    memory, scheduler = facts["memory"], facts["scheduler"]
    rows = table(f"on {where}", "", wrap=("",))
    if memory["guard"] == "cgroup":
        limit = size(memory["limit_bytes"]) if "limit_bytes" in memory else "no limit below the machine's"
        rows.add_row("  guard", f"control group, {limit} (base {size(memory.get('base_bytes', 0))})")
        if memory.get("peak_bytes") is not None and "base_bytes" in memory:
            beyond = memory["peak_bytes"] - memory["base_bytes"]
            own = memory["ledger_peak_bytes"] - memory["ledger_base_bytes"]
            rows.add_row("  peak beyond base", f"{size(beyond)} measured, {size(own)} by the ledger")
    else:
        rows.add_row("  guard", f"the ledger only: {memory['why']}")
    if scheduler["per_task_s"] is not None:
        of_busy = share(scheduler["of_busy"])
        rows.add_row("  scheduler", f"{seconds(scheduler['per_task_s'])} a task, {of_busy} of busy time")
    disturbed = facts["disturbance"]
    parts = [f"{facts['switches']} involuntary switches"]
    if disturbed["steal_s"]:
        parts.append(f"{seconds(disturbed['steal_s'])} stolen by the hypervisor")
    if disturbed["throttled"]:
        parts.append(f"throttled ({', '.join(disturbed['throttled'])})")
    if disturbed["load_1min"] is not None:
        parts.append(f"load {disturbed['load_1min']:.1f}")
    rows.add_row("  disturbance", ", ".join(parts))
    screen = console()
    screen.print()
    screen.print(rows)
