"""Replay a package on this machine, whoever brought it: the scenario that it holds, and its results."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path

from ...runs.folder import check_replaceable
from ...runs.resolve import profile_name
from ...runs.summary import summarise
from ..bundles.bundle import Bundle
from ..bundles.cache import bundle_of
from ..interrupts import Interrupts, collected
from ..prepare import bundles_of
from ..replay import replay
from ..results import write_replay
from .package import Package
from .store import Status, StoreError, model_path

EXIT = {"done": 0, "out of memory": 0, "crashed": 1, "interrupted": 130}
"""Exit code by outcome; running out of memory is a result, as in a simulation."""
TELL_EVERY_S = 0.5

Tell = Callable[[Status], None]


def replay_package(
    package: Package, content: Path, out: Path, cache: Path, tell: Tell, interrupts: Interrupts
) -> str:
    """Replay an unpacked package on this machine and write the run's folder ``out``; returns the outcome.

    An interrupt (SIGINT, SIGTERM) ends it and keeps what was measured; before that is anything, it raises
    KeyboardInterrupt. Raises StoreError for a package of another version or a model that is not here, and
    what ``replay`` raises.
    """
    here = metadata.version("edgesched")
    if package.manifest.version != here:
        raise StoreError(
            f"the package was made by edgesched {package.manifest.version}, here is {here}: both sides need "
            f"the same version"
        )
    missing = missing_models(package, cache)
    if missing:
        raise StoreError(f"the model of {', '.join(missing)} is not here: give the file with --model")
    check_replaceable(out)
    scenario = package.runnable
    numbers = package.manifest.replications
    status = Status("preparing", replications=len(numbers))
    bundles = _bundles(package, content, cache, lambda text: tell(replace(status, message=text)))
    replays = []
    outcome = "done"
    for index, number in enumerate(numbers):
        status = replace(status, phase="replaying", replication=index)
        progress = _seldom(tell, status)
        try:
            interrupts.check()
            replayed = replay(
                scenario, bundles, number, folder=content, nice=package.manifest.nice, progress=progress
            )
        except KeyboardInterrupt:  # while it was prepared or written down: those before it count
            outcome = "interrupted"
            break
        # The results are those of the scenario as its author wrote it.
        replayed.result.scenario = package.scenario.model_dump(mode="json")
        replayed.result.policy = package.scenario.policy.name
        short = replayed.result.infeasible
        replayed.facts["infeasible"] = None if short is None else asdict(short)
        replays.append(replayed)
        outcome = replayed.outcome
        if outcome in ("crashed", "interrupted"):
            break
    if not replays:
        raise KeyboardInterrupt
    interrupts.answered()
    with collected():  # too late: what was measured is written down
        write_replay(out, replays, [summarise(replayed.result) for replayed in replays])
    return outcome


def _bundles(package: Package, content: Path, cache: Path, tell: Callable[[str], None]) -> dict[str, Bundle]:
    names = package.runnable.workload.networks(content)
    models = package.manifest.models
    lost = [name for name in names if name.lower().endswith(".onnx") and name not in models]
    if lost:
        raise StoreError(f"the package says nothing about the model {lost[0]}")
    bundles = bundles_of([name for name in names if name not in models], content, cache=cache, tell=tell)
    for name in names:
        if name in models:
            tell(f"{profile_name(name)}: cutting the model into layers")
            bundles[name] = bundle_of(model_path(models[name], cache), name=profile_name(name), cache=cache)
    return bundles


def missing_models(package: Package, cache: Path) -> list[str]:
    """Networks whose models are not in the store."""
    models = package.manifest.models
    return [name for name, key in models.items() if not model_path(key, cache).exists()]


def _seldom(tell: Tell, status: Status) -> Callable[[int, int], None]:
    """A replay's progress, told at most twice a second: telling must not disturb what is measured."""
    told_s = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if now_s - told_s >= TELL_EVERY_S:
            told_s = now_s
            tell(replace(status, tasks=done, all_tasks=total))

    return progress
