"""``edgesched run``: simulate one scenario."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..traces.atomic import write_whole
from .files import check_folder, check_target

if TYPE_CHECKING:
    from ..runs.load import Source
    from ..runs.result import RunResult
    from ..runs.scenario import Scenario


def run(
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
        Path | None, typer.Option(help="Folder for scenario, tables and summary.", show_default=False)
    ] = None,
    tasks: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Write every task of replication 0.", show_default=False),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json[.gz]",
            help="Write a timeline of replication 0 for ui.perfetto.dev.",
            show_default=False,
        ),
    ] = None,
    trace_limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Keep at most so many tasks; without --tasks and --trace: in --out.",
            show_default=False,
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the summary.", show_default=False)
    ] = None,
) -> None:
    """Simulate a scenario and show what came of it.

    A run that does not fit into memory is a result too: the verdict says what it needs and what would fit.
    """
    from ..runs.load import read_source
    from ..runs.summary import across, summarise
    from ..runs.tasks import Trace
    from .report import show_run

    for option, file in (("--tasks", tasks), ("--trace", trace), ("--json", json_file)):
        check_target(option, file)
    check_folder("--out", out)
    source = read_source(scenario, overrides(scenario.parent, policy, setting, seed, replications))
    checked = source.scenario()
    if out is not None:
        from ..runs.folder import check_replaceable

        check_replaceable(out)
    traced = tasks is not None or trace is not None or trace_limit is not None
    results: list[RunResult] = []
    summaries = []
    for number in range(checked.run.replications):
        keeps = traced and (number == 0 or out is not None)
        result = _simulate(source, checked, number, Trace(trace_limit) if keeps else None)
        summaries.append(summarise(result))
        if number == 0 or out is not None:
            results.append(result)
    _write(results, summaries, out=out, tasks=tasks, trace=trace, json_file=json_file)
    show_run(source.data, results[0], summaries, across(summaries), swept=bool(checked.sweep))


def overrides(
    folder: Path, policy: str | None, settings: list[str] | None, seed: int | None, replications: int | None
) -> dict[str, Any]:
    """What the command line changes of a scenario, by dotted path; ``folder`` is the scenario's."""
    from ..runs.load import InputError, from_here, parse_setting

    overrides: dict[str, Any] = {}
    for text in settings or ():
        name, value = parse_setting(text)
        if name in overrides:
            raise InputError(f"--set {name}: is given twice")
        overrides[name] = value
    if policy is not None:
        overrides["policy"] = from_here(policy, folder)
    numbers = {"run.seed": seed, "run.replications": replications}
    overrides.update((name, number) for name, number in numbers.items() if number is not None)
    return overrides


def _simulate(source: Source, scenario: Scenario, replication: int, trace: Any) -> RunResult:
    """One replication; what a user's own policy raises is the user's to put right."""
    from ..policies import registry
    from ..runs.check import failure
    from ..runs.resolve import ScenarioError
    from ..sim.run import simulate

    name = scenario.policy.name
    try:
        return simulate(scenario, replication, trace=trace, folder=source.folder)
    except ScenarioError as error:
        raise source.error((error.key,), str(error)) from error
    except Exception as error:
        if name in registry.BUILT_IN:
            raise
        raise source.error(("policy",), f"policy: {failure(name, 'a hook', error)}") from error


def _write(
    results: list[RunResult],
    summaries: list[dict[str, Any]],
    *,
    out: Path | None,
    tasks: Path | None,
    trace: Path | None,
    json_file: Path | None,
) -> None:
    import json

    from ..runs import tables
    from ..runs.folder import write_run
    from ..runs.perfetto import write_trace
    from ..runs.summary import across

    if out is not None:
        write_run(out, results, summaries=summaries)
    if tasks is not None:
        write_whole(tasks, lambda draft: tables.write_csv(tables.tasks(results[0]), draft))
    if trace is not None:
        write_trace(results[0], trace)
    if json_file is not None:
        data = {"together": across(summaries), "replications": summaries}
        text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        write_whole(json_file, lambda draft: draft.write_text(text, encoding="utf-8"))
