"""The process that replays: ``python -m edgesched.bridge.process``, started and watched by ``replay.py``.

It reads one line of JSON (what to do), prepares, waits for a second line (the limit is in force, go), runs,
and writes what happens into the journal. It answers with one line of JSON only where the run ends otherwise.
Whoever kills it loses nothing that was counted.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backend import Backend

_PR_SET_PDEATHSIG = 1

CRASHED = 3
"""Exit code where a layer, the policy or the preparation raised."""
DOES_NOT_FIT = 4
"""Exit code where the ledger, as the only guard, refused a task."""


def main() -> None:
    """Do what standard input says."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the watching process decides what an interrupt means
    order = json.loads(sys.stdin.readline())
    from .journal import FAILED, Journal

    journal = Journal(order["journal"], *order["capacity"])
    try:
        _replay(order, journal)
    except Exception as error:
        journal.reach(FAILED)
        answer: dict[str, Any] = {"error": f"{type(error).__name__}: {error}"}
        from ..policies.scheduler import DoesNotFit

        if isinstance(error, DoesNotFit):
            task = error.task
            answer["does_not_fit"] = {
                "network": error.job.network.name,
                "kind": None if task is None else int(task.kind),
                "layer": None if task is None else task.layer,
                "demand_bytes": error.demand_bytes,
                "limit_bytes": error.limit_bytes,
            }
        else:
            traceback.print_exc()
        print(json.dumps(answer), flush=True)
        os._exit(DOES_NOT_FIT if isinstance(error, DoesNotFit) else CRASHED)
    os._exit(0)  # workers may still wait; nothing is left to tidy


def _replay(order: dict[str, Any], journal: Any) -> None:
    from ..runs.scenario import Scenario
    from ..runs.setup import set_up
    from .bundles.bundle import open_bundle
    from .engine import RealTimeEngine
    from .journal import DONE, READY, RUNNING
    from .machine.memory import fix_malloc_thresholds, return_free_memory
    from .machine.storage import Pace
    from .planned import backend as planned
    from .prepare import as_executed
    from .program import Program, Programs

    fix_malloc_thresholds()
    folder = Path(order["folder"])
    bundles = {name: open_bundle(Path(path)) for name, path in order["bundles"].items()}
    scenario = Scenario.model_validate(order["scenario"])
    setup = set_up(scenario, order["replication"], folder=folder, networks=as_executed(bundles))
    storage = setup.device.storage
    pace = None if storage.pace_bytes_per_s is None else Pace(storage.pace_bytes_per_s)
    programs: Mapping[str, Any]
    if (plan := planned.plan_of(setup)) is not None:
        planned.one_blas_thread().__enter__()  # until the process ends
        programs = planned.programs(setup, plan)
        backend: Backend = planned.PlannedPrograms(programs)
    else:
        threads = setup.device.runtime.threads
        programs = {
            setup.costs[name].network.name: Program(bundle, threads=threads, reads=storage.reads)
            for name, bundle in bundles.items()
        }
        backend = Programs(programs)
    for program in programs.values():
        _warm_up(program)
        program.set_pace(pace)
        program.reserve(order["reserve"])
    engine = RealTimeEngine(
        setup.policy,
        setup.device,
        setup.plan,
        setup.expand,
        journal,
        backend,
        order["cpus"],
    )
    if order["guarded"]:
        engine.scheduler.hard_limit_bytes = float("inf")
    gc.collect()
    gc.freeze()  # what exists now will not be looked through while tasks run
    return_free_memory()
    journal.reach(READY)
    if sys.stdin.readline().strip() != "go":
        raise RuntimeError("was not told to go")
    if order["nice"]:
        os.nice(order["nice"])
    journal.reach(RUNNING)
    engine.run(setup.until_s)
    journal.reach(DONE)


def _warm_up(program: Any) -> None:
    """One inference, so that nothing of the run happens for the first time."""
    job = program.begin()
    job.init()
    for layer in range(program.layer_count):
        job.load(layer)
        job.execute(layer)
        job.free_weights(layer)
    job.close()


if __name__ == "__main__":
    main()
