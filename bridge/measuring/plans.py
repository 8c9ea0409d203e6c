"""Profile the plan of a scenario's policy on this machine: its layers as a replay loads and executes them.

A primitive profile measures primitives with weights that lie in memory. In a replay they have just been read,
and the thread has waited for them: the same layers take longer. What this profile has, a simulation prefers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...policies.graph import WHOLE_NETWORK
from ...runs.setup import set_up
from ...traces.profile import Profile, ProfileRow, write_profile
from ..planned import backend as planned
from ..prepare import Tell
from . import here
from .bench import Bench
from .passes import EXECUTE, INIT, LOAD, Timed
from .profiling import ROUNDS, Progress, machine_header, one_line
from .quiet import unrest
from .samples import MIN_CLEAN, Config, Pass, Samples, Statistic

if TYPE_CHECKING:
    from ...runs.scenario import Scenario
    from ...runs.setup import Setup


class PlanProfilingError(ValueError):
    """A scenario has no plan to measure, or the profile no fit name; the message says why."""


def profile_plan(
    scenario: Scenario,
    folder: Path | None,
    out: Path,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    statistic: Statistic = "mean",
    tell: Tell | None = None,
    progress: Progress | None = None,
) -> Path:
    """Measure the networks of the scenario under its policy's plan and write ``out``; returns it.

    Passes of all networks in random order over rounds, at the pace of the scenario's storage, in a thread
    that is pinned as a replay's worker is. A row holds one layer under its primitive, transforms of its
    inputs included. Raises ValueError: PlanProfilingError, ``PlannedError``, or what setting up raised.
    """
    say = tell or (lambda text: None)
    if out.suffix.lower() != ".csv":
        raise PlanProfilingError(f"{out}: is to be a profile, whose name ends in .csv")
    if rounds < 1:
        raise PlanProfilingError(f"needs one round or more, seen {rounds}")
    setup = set_up(scenario, folder=folder)
    plan = planned.plan_of(setup)
    if plan is None:
        raise PlanProfilingError(
            f"policy {scenario.policy.name} plans no primitives; measure its networks with edgesched profile "
            f"NETWORK"
        )
    planned.prepare(setup, plan)
    if (warning := unrest()) is not None:
        say(f"warning: {warning}")
    names = [cost.name for cost in setup.costs.values()]
    cpus = here.worker_cpus(1)[0]
    samples = Samples()
    with Bench() as bench:
        bench.ask("plan", scenario=scenario.model_dump(mode="json"), folder=str(folder or Path()), cpus=cpus)
        for number in range(rounds):
            for at in np.random.default_rng([seed, number]).permutation(len(names)):
                if progress is not None:
                    progress(number * len(names), rounds * len(names))
                answer = bench.ask("plan_pass", network=names[at], cpus=cpus)
                tasks = tuple(Timed(*task) for task in answer["tasks"])
                samples.add(Pass(number, _config(names[at]), answer["disturbed"], tasks))
    wanted = min(MIN_CLEAN, rounds)
    rows = [
        row for name in names for row in _rows(setup, plan.primitives[name], name, samples, statistic, wanted)
    ]
    write_profile(Profile(tuple(rows), _header(scenario, setup, samples, rounds, statistic), str(out)), out)
    return out


def _config(network: str) -> Config:
    return Config(network, 1, "direct")


def _rows(
    setup: Setup,
    primitives: tuple[str, ...],
    name: str,
    samples: Samples,
    statistic: Statistic,
    wanted: int,
) -> list[ProfileRow]:
    cost = next(cost for cost in setup.costs.values() if cost.name == name)
    config, processor = _config(name), setup.device.processors[0].name
    init = samples.cell(config, INIT, WHOLE_NETWORK, statistic, wanted)
    rows = [
        ProfileRow(
            name,
            primitive=setup.scenario.policy.name,
            processor=processor,
            threads=1,
            init_s=init.seconds,
            init_sd_s=init.sd_s,
            samples=init.samples,
        )
    ]
    for index, layer in enumerate(cost.network.layers):
        load = samples.cell(config, LOAD, index, statistic, wanted)
        execute = samples.cell(config, EXECUTE, index, statistic, wanted)
        rows.append(
            ProfileRow(
                name,
                index,
                layer.name,
                layer.op,
                primitive=primitives[index],
                processor=processor,
                threads=1,
                cold_load_s=load.seconds,
                cold_load_sd_s=load.sd_s,
                execute_s=execute.seconds,
                execute_sd_s=execute.sd_s,
                weight_bytes=layer.weight_bytes,
                samples=min(load.samples, execute.samples),
            )
        )
    return rows


def _header(
    scenario: Scenario, setup: Setup, samples: Samples, rounds: int, statistic: Statistic
) -> dict[str, str]:
    left_out = ", ".join(f"{reason} {count}" for reason, count in samples.disturbed.most_common())
    lines: dict[str, Any] = {
        "source": "measured by edgesched profile plan",
        **machine_header(),
        "policy": scenario.policy.model_dump_json(),
        "conditions": "layers under the policy's plan, executed as in a replay, one task at a time; "
        "cold_load_s past the page cache; the row without a layer has INIT",
        "statistic": f"{statistic} and standard deviation of undisturbed samples",
        "rounds": rounds,
        "disturbed": left_out or "none",
    }
    pace = setup.device.storage.pace_bytes_per_s
    if pace is not None:
        lines["pace_bytes_per_s"] = repr(pace)
    return {key: one_line(value) for key, value in lines.items() if value is not None}
