"""``edgesched replay``: run a scenario on this device, or on another one over ssh."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .files import check_folder, check_target
from .run import overrides
from .terminal import console, message

if TYPE_CHECKING:
    from ..bridge.replay import Progress, Replayed

app = typer.Typer(add_completion=False)

EXIT = {"done": 0, "out of memory": 0, "crashed": 1, "interrupted": 130}
"""Exit code by outcome; running out of memory is a result, as in a simulation."""


@app.command()
def replay(
    scenario: Annotated[Path, typer.Argument(help="The scenario, a YAML file.", show_default=False)],
    policy: Annotated[
        str | None, typer.Option(help="Another policy: its name, or file.py:Class.", show_default=False)
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=VALUE", help="Set a key, e.g. device.memory_limit=512MiB. Repeatable."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed.", show_default=False)] = None,
    replications: Annotated[
        int | None, typer.Option(help="Another number of replications.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for scenario, tables, summary and counters.", show_default=False),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the summary.", show_default=False)
    ] = None,
    nice: Annotated[
        int, typer.Option(min=-20, max=19, help="Priority of the replaying process (needs root below 0).")
    ] = 0,
) -> None:
    """Run a scenario on this device in real time: layers are really loaded, executed and freed.

    The same policy on the same arrivals as ``edgesched run``, under the scenario's memory limit. A policy
    that does not fit is killed by the limit, and that is the result. Interrupted, it keeps what was measured.
    """
    from ..bridge.prepare import bundles_of
    from ..bridge.replay import replay as replay_once
    from ..bridge.results import write_replay
    from ..runs.folder import check_replaceable
    from ..runs.load import read_source
    from ..runs.summary import across, summarise
    from .report import show_run

    check_target("--json", json_file)
    check_folder("--out", out)
    source = read_source(scenario, overrides(scenario.parent, policy, setting, seed, replications))
    checked = source.scenario()
    if out is not None:
        check_replaceable(out)
    inline = {network.name for network in checked.networks}
    names = [name for name in checked.workload.networks(source.folder) if name not in inline]
    bundles = bundles_of(names, source.folder, tell=message)
    replays: list[Replayed] = []
    for number in range(checked.run.replications):
        with _progress() as progress:
            replays.append(
                replay_once(checked, bundles, number, folder=source.folder, nice=nice, progress=progress)
            )
        if replays[-1].outcome in ("crashed", "interrupted"):
            break
    summaries = [summarise(replayed.result) for replayed in replays]
    if out is not None:
        write_replay(out, replays, summaries)
    if json_file is not None:
        _write_json(json_file, {"together": across(summaries), "replications": summaries})
    swept = bool(checked.sweep)
    show_run(source.data, replays[0].result, summaries, across(summaries), swept=swept, clock="measured")
    _show_facts(replays)
    code = EXIT[replays[-1].outcome]
    if code:
        raise typer.Exit(code)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    import json

    from ..traces.atomic import write_whole

    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))


@contextmanager
def _progress() -> Iterator[Progress | None]:
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


def _show_facts(replays: list[Replayed]) -> None:
    """What only a real run has: the guard, the real peak, the scheduler's own time, disturbances."""
    from .terminal import seconds, share, size, table

    facts = replays[0].facts
    memory, scheduler = facts["memory"], facts["scheduler"]
    rows = table("on this machine", "", wrap=("",))
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
