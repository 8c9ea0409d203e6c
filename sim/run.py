"""From a scenario to a result: look everything up, draw the requests, run the engine."""

from __future__ import annotations

import math
from pathlib import Path

from ..devices.model import Device
from ..policies.scheduler import DoesNotFit
from ..runs.planrecord import plan_record
from ..runs.power import power_of
from ..runs.records import Records
from ..runs.result import Infeasible, RunResult
from ..runs.scenario import Scenario
from ..runs.setup import Setup, set_up
from ..runs.tasks import Trace
from ..workloads.workload import child_generator
from .engine import Engine
from .overheads import NoiseSource, OverheadEngine


def simulate(
    scenario: Scenario,
    replication: int = 0,
    *,
    trace: Trace | None = None,
    folder: Path | None = None,
) -> RunResult:
    """Run one replication. ``folder`` is where relative files are looked up.

    Raises ``ScenarioError`` for what the scenario names and does not exist.
    """
    setup = set_up(scenario, replication, folder=folder)
    noise = _noise(setup.device, scenario, replication)
    engine = _engine(setup, Records(), trace, noise)
    return run_out(setup, engine, setup.until_s)


def run_out(setup: Setup, engine: Engine, until_s: float | None) -> RunResult:
    """Run the engine to the end of all requests, or to ``until_s``, and put down what came of it."""
    scenario, plan, records = setup.scenario, engine.plan, engine.records
    infeasible = None
    try:
        engine.run(until_s)
    except DoesNotFit as error:
        infeasible = _infeasible(error, engine)
    ledger = engine.scheduler.memory
    paged = engine.paged_bytes if isinstance(engine, OverheadEngine) else (0, 0)
    return RunResult(
        scenario=scenario.model_dump(mode="json"),
        policy=scenario.policy.name,
        device=setup.device.name,
        seed=scenario.run.seed,
        replication=setup.replication,
        graphs=[c.graphs for c in engine.compositions],
        streams=list(plan.streams),
        deadline_s=list(plan.deadline_s),
        records=records,
        workers=[w.name for w in engine.scheduler.workers],
        busy_s=[tick.busy_s for tick in engine.workers],
        end_s=_end_s(engine, records),
        peak_bytes=ledger.peak_bytes,
        base_bytes=ledger.base_bytes,
        limit_bytes=ledger.limit_bytes,
        paged_in_bytes=paged[0],
        paged_out_bytes=paged[1],
        trace=engine.trace,
        infeasible=infeasible,
        power=power_of(setup.device, engine.scheduler.workers),
        plan=plan_record(setup),
        warnings=[] if infeasible is not None or until_s is not None else _stuck(scenario, records),
    )


def _stuck(scenario: Scenario, records: Records) -> list[str]:
    """A policy that leaves jobs although nothing more will happen never selects them."""
    left = sum(math.isnan(finish) for finish in records.job_finish_s)
    if not left:
        return []
    return [
        f"policy {scenario.policy.name} left {left} of {len(records.job_finish_s)} jobs although all workers "
        f"are idle: its select() returns None for what waits"
    ]


def _engine(setup: Setup, records: Records, trace: Trace | None, noise: NoiseSource | None) -> Engine:
    policy, device, plan, expand = setup.policy, setup.device, setup.plan, setup.expand
    runtime = device.runtime
    delays = (
        runtime.wake_s,
        runtime.dispatch_period_s,
        runtime.worker_pause_s,
        runtime.worker_poll_s,
        runtime.submission_s,
    )
    shares = runtime.slowdown or device.storage.pace_bytes_per_s is not None
    pages = device.memory.swap is not None or device.storage.reads == "mapped"
    stretches = any(any(cost.stretch_saving_s) for cost in setup.costs.values())
    if any(delays) or shares or noise is not None or pages or stretches:
        return OverheadEngine(policy, device, plan, expand, records, trace, noise)
    return Engine(policy, device, plan, expand, records, trace)


def _noise(device: Device, scenario: Scenario, replication: int) -> NoiseSource | None:
    """Random factors with mean 1, drawn from a stream of their own."""
    noise = device.runtime.noise
    if noise is None:
        return None
    import numpy as np

    rng = child_generator(scenario.run.seed, replication, "noise")

    def draw(count: int) -> list[float]:
        if noise.distribution == "exponential":
            return rng.standard_exponential(count).tolist()
        if noise.distribution == "gamma":
            shape = 1.0 / noise.cv**2
            return (rng.standard_gamma(shape, count) / shape).tolist()
        sigma2 = np.log1p(noise.cv**2)
        return np.exp(rng.standard_normal(count) * np.sqrt(sigma2) - sigma2 / 2).tolist()

    return draw


def _end_s(engine: Engine, records: Records) -> float:
    """The last completion where all jobs are done (a last scan comes later), else the present."""
    last = max(records.job_finish_s, default=0.0)
    return engine.now_s if any(math.isnan(finish) for finish in records.job_finish_s) else last


def _infeasible(error: DoesNotFit, engine: Engine) -> Infeasible:
    task = error.task
    ledger = engine.scheduler.memory
    others = ledger.active - (1 if error.job.started else 0)
    network = error.job.network
    what = "a memory limit" if engine.scheduler.device.memory.swap is None else "memory and swap"
    alone = ledger.base_bytes + network.layerwise_peak_bytes
    levers = [f"{what} of at least {max(error.demand_bytes, alone)} bytes"]
    if others > 0:
        levers.append(f"a policy that admits fewer networks at once ({others} others are active)")
    if alone <= error.limit_bytes < ledger.base_bytes + network.bulk_peak_bytes:
        levers.append("a layer-wise policy (linear): the network alone fits layer by layer")
    elif alone > error.limit_bytes:
        levers.append(f"a smaller network: {network.name} alone needs {alone} bytes")
    return Infeasible(
        network=network.name,
        task=f"{task.kind.name} {task.layer if task.layer >= 0 else 'all'}" if task else "submission",
        at_s=engine.now_s,
        demand_bytes=error.demand_bytes,
        limit_bytes=error.limit_bytes,
        fits_with=levers,
    )
