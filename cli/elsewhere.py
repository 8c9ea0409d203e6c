"""``edgesched replay --device`` and ``--package``: a replay that happens on another machine."""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import check_target, write_json
from .replayed import progress_bar, show_facts
from .terminal import message

if TYPE_CHECKING:
    from ..bridge.remote.remote import Job
    from ..bridge.remote.ssh import Address
    from ..bridge.remote.store import Status
    from ..runs.folder import RunFolder
    from ..runs.load import Source
    from ..runs.result import Infeasible
    from ..runs.scenario import Scenario


@dataclass(frozen=True, slots=True)
class _Fetched:
    """What the report needs of a run whose folder was fetched."""

    device: str
    seed: int
    limit_bytes: int | None
    infeasible: Infeasible | None
    plan: dict[str, Any] | None
    trace: None = None


def write_package(source: Source, scenario: Scenario, path: Path, nice: int) -> None:
    """Write the scenario as a package and say how to replay it."""
    from ..bridge.remote.package import make_package, models_of

    check_target("--package", path)
    models = models_of(_names(source, scenario), source.folder)
    made = make_package(path, scenario, source.folder, nice=nice, models=models)
    files = "".join(f" --model {shlex.quote(Path(name).name)}" for name in models)
    also = f", together with {', '.join(models)}" if models else ""
    message(f"{path}: written. Copy it to the other machine{also}, and run there:")
    message(f"  python3 -m edgesched.bridge.remote.receive run {shlex.quote(path.name)} --out results{files}")
    if made.manifest.policy is not None:
        message(f"note: the policy file is in it, and its code runs there: {scenario.policy.name}")


def replay_elsewhere(
    source: Source,
    scenario: Scenario,
    device: str,
    python: str,
    nice: int,
    out: Path | None,
    json_file: Path | None,
) -> int:
    """Replay on the device, fetch the results and report; returns the exit code."""
    from ..bridge.remote.package import make_package, models_of
    from ..bridge.remote.packaged import EXIT
    from ..bridge.remote.remote import Job
    from ..bridge.remote.ssh import Address
    from ..runs.folder import open_run

    address = Address.parse(device)
    models = models_of(_names(source, scenario), source.folder)
    target = None if out is None else out.resolve()
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="edgesched-") as scratch,
        # On the file system of --out, so that the results appear there at once.
        tempfile.TemporaryDirectory(dir=target and target.parent, prefix=".edgesched-") as beside,
    ):
        made = make_package(Path(scratch) / "package.zip", scenario, source.folder, nice=nice, models=models)
        if made.manifest.policy is not None:
            message(f"note: the policy file is sent to {address.host}, and its code runs there")
        fetched = Path(beside) / "run"
        status = _followed(address, Job(made, models, python), fetched, target)
        run = open_run(target or fetched)
        _report(source, run, address, swept=bool(scenario.sweep))
        if json_file is not None:
            write_json(json_file, run.summary)
    return EXIT[status.outcome]


def _names(source: Source, scenario: Scenario) -> list[str]:
    """The networks of the requests. Raises InputError for one that cannot be executed."""
    inline = {network.name for network in scenario.networks}
    names = scenario.workload.networks(source.folder)
    for name in names:
        if name in inline:
            raise source.error(
                ("networks",), f"networks: {name!r} is written out by its seconds: nothing to execute"
            )
    return list(names)


def _followed(address: Address, job: Job, folder: Path, target: Path | None) -> Status:
    """Replay, fetch into ``folder`` and move that to ``target``, with a bar on a terminal."""
    from ..bridge.remote.remote import replay_on
    from ..runs.folder import replace_run

    def keep(fetched: Path) -> None:
        if target is not None:
            replace_run(fetched, target)

    with progress_bar() as bar:

        def progress(status: Status) -> None:
            if bar is not None and status.all_tasks:
                before = status.replication * status.all_tasks
                bar(before + status.tasks, status.replications * status.all_tasks)

        return replay_on(address, job, folder, tell=message, progress=progress, keep=keep)


def _report(source: Source, run: RunFolder, address: Address, *, swept: bool) -> None:
    """The report of a local replay, from the folder."""
    from ..runs.result import Infeasible
    from .report import show_run

    facts = (run.replay() or [])[0]
    first = run.summary["replications"][0]
    short = facts.get("infeasible")
    shown = _Fetched(
        device=run.info["device"],
        seed=run.info["seed"],
        limit_bytes=first["limit_bytes"],
        infeasible=None if short is None else Infeasible(**short),
        plan=run.plan(),
    )
    summary = run.summary
    show_run(source.data, shown, summary["replications"], summary["together"], swept=swept, clock="measured")
    show_facts(facts, address.host)
