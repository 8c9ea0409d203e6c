"""``edgesched replay``: run a scenario on this device, or on another one over ssh."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .elsewhere import replay_elsewhere, write_package
from .files import check_folder, check_target, write_json
from .replayed import progress_bar, show_facts
from .run import overrides
from .terminal import message

if TYPE_CHECKING:
    from ..bridge.outcome import Replayed

app = typer.Typer(add_completion=False)


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
    device: Annotated[
        str | None,
        typer.Option(metavar="ssh://USER@HOST", help="Replay on another machine.", show_default=False),
    ] = None,
    python: Annotated[
        str,
        typer.Option(help="With --device: the Python there that has edgesched, e.g. edgesched/bin/python."),
    ] = "python3",
    package: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.zip", help="Replay nothing: write what another machine needs.", show_default=False
        ),
    ] = None,
) -> None:
    """Run a scenario in real time, here or on another machine: layers are loaded, executed and freed.

    The same policy on the same arrivals as ``edgesched run``, under the scenario's memory limit. A policy
    that does not fit is killed by the limit, and that is the result. Interrupted, it keeps what was measured.
    """
    from ..bridge.interrupts import Interrupts
    from ..bridge.prepare import bundles_for
    from ..bridge.remote.packaged import EXIT
    from ..bridge.replay import replay as replay_once
    from ..bridge.results import write_replay
    from ..devices.reading import InputError
    from ..runs.folder import check_replaceable
    from ..runs.load import read_source
    from ..runs.summary import across, summarise
    from .report import show_run

    check_target("--json", json_file)
    check_folder("--out", out)
    source = read_source(scenario, overrides(scenario.parent, policy, setting, seed, replications))
    checked = source.scenario()
    if package is not None:
        if device is not None:
            raise InputError("--device and --package: give one of them")
        return write_package(source, checked, package, nice)
    if out is not None:
        check_replaceable(out)
    if device is not None:
        raise typer.Exit(replay_elsewhere(source, checked, device, python, nice, out, json_file))
    with Interrupts() as interrupts:
        bundles = bundles_for(checked, source.folder, tell=message)
        interrupts.check()
    replays: list[Replayed] = []
    for number in range(checked.run.replications):
        with progress_bar() as progress:
            replays.append(
                replay_once(checked, bundles, number, folder=source.folder, nice=nice, progress=progress)
            )
        if replays[-1].outcome in ("crashed", "interrupted"):
            break
    summaries = [summarise(replayed.result) for replayed in replays]
    if out is not None:
        write_replay(out, replays, summaries)
    if json_file is not None:
        write_json(json_file, {"together": across(summaries), "replications": summaries})
    swept = bool(checked.sweep)
    show_run(source.data, replays[0].result, summaries, across(summaries), swept=swept, clock="measured")
    show_facts(replays[0].facts, "this machine")
    code = EXIT[replays[-1].outcome]
    if code:
        raise typer.Exit(code)
