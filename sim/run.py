"""From a scenario to a result: look everything up, draw the requests, run the engine."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..devices import boards
from ..devices.cost import NetworkCost, network_cost
from ..devices.costing import CostModel
from ..devices.explain import booleans, dotted, explain
from ..devices.model import Device
from ..devices.reading import InputError
from ..policies import registry
from ..policies.contract import Policy
from ..policies.scheduler import Composition, DoesNotFit, Scheduler
from ..workloads import catalogue
from ..workloads.network import Layer, Network
from ..workloads.workload import RequestPlan, child_generator, generate
from .engine import Engine
from .overheads import NoiseSource, OverheadEngine
from .records import Records
from .result import Infeasible, RunResult
from .scenario import InlineNetwork, Scenario
from .tasks import Trace


class ScenarioError(ValueError):
    """A scenario asks for something that does not exist or cannot be; ``key`` says where."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key


def located(name: str, folder: Path | None) -> str:
    """A relative path to a file (``*.yaml``, ``*.py``, ``*.py:Class``) as seen from here; else the name."""
    is_path = name.endswith((".yaml", ".yml")) or registry.is_file(name)
    return str(folder / name) if folder is not None and is_path else name


def device_of(scenario: Scenario, folder: Path | None = None) -> Device:
    """The scenario's board with its changes. Raises ``ScenarioError``."""
    choice = scenario.device
    try:
        board = boards.load(located(choice.board, folder))
    except (boards.BoardError, InputError) as error:
        raise ScenarioError("device", str(error)) from error
    changes: dict[str, Any] = {}
    if choice.runtime:
        changes["runtime"] = choice.runtime
    memory = dict(choice.memory)
    if choice.memory_limit is not None:
        memory["limit_bytes"] = choice.memory_limit
    if memory:
        changes["memory"] = memory
    if not changes:
        return board
    for place in booleans(Device, changes, ("device",)):
        raise ScenarioError(dotted(place), "must be a number or a text, not true or false")
    data = boards.merged(board.model_dump(), changes)
    try:
        return Device.model_validate(data)
    except ValidationError as error:
        location, text = explain(error, Device, data, ("device",))
        key = dotted(location)
        raise ScenarioError(key, text.removeprefix(f"{key}: ")) from error


def policy_of(scenario: Scenario, folder: Path | None = None) -> Policy:
    """The scenario's policy. Raises ``ScenarioError``."""
    try:
        return registry.make(located(scenario.policy.name, folder), scenario.policy.parameters)
    except registry.PolicyError as error:
        raise ScenarioError("policy", str(error)) from error


def inline_cost(spec: InlineNetwork, device: Device) -> NetworkCost:
    """The costs of a network that is written out in the scenario."""
    layers = tuple(
        Layer(
            name=layer.name or f"layer {index}",
            op="inline",
            inputs=(index - 1,) if index else (),
            weight_bytes=layer.weight_bytes,
            output_bytes=layer.output_bytes,
            workspace_bytes=layer.workspace_bytes,
        )
        for index, layer in enumerate(spec.layers)
    )
    network = Network(
        spec.name,
        layers,
        conv_layers=len(layers) if spec.conv_layers is None else spec.conv_layers,
        load_copies=spec.load_copies,
    )
    return network_cost(
        network,
        device.runtime,
        init_s=spec.init_s,
        load_s=tuple(layer.load_s for layer in spec.layers),
        execute_s=tuple(layer.execute_s for layer in spec.layers),
        expected_s=spec.expected_s,
        reservation_bytes=spec.reservation_bytes,
    )


def network_of(name: str, folder: Path | None = None) -> Network:
    """The network a scenario names: one of the catalogue, or an ONNX file (``model.onnx``).

    Raises ``ValueError`` where there is none or the file is no model.
    """
    if name.lower().endswith(".onnx"):
        from ..workloads import onnx_import

        return onnx_import.load(folder / name if folder is not None else Path(name))
    return catalogue.build(name)


def costs_of(
    scenario: Scenario, device: Device, names: Sequence[str], folder: Path | None = None
) -> dict[str, NetworkCost]:
    """The costs of every named network. Raises ``ScenarioError`` for one that does not exist."""
    inline = {spec.name: spec for spec in scenario.networks}
    model: CostModel | None = None
    costs: dict[str, NetworkCost] = {}
    for name in names:
        if name in inline:
            costs[name] = inline_cost(inline[name], device)
            continue
        try:
            network = network_of(name, folder)
            if model is None:
                model = CostModel(device)
            costs[name] = model.cost(network)
        except (ValueError, ImportError) as error:
            near = difflib.get_close_matches(name, inline, n=1)
            unknown = isinstance(error, catalogue.UnknownNetworkError) and inline
            known = f" (written in this scenario: {', '.join(inline)})" if unknown else ""
            message = f"unknown network {name!r}; did you mean {near[0]}?" if near else str(error)
            raise ScenarioError("workload.networks", f"{message}{known}") from error
    return costs


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
    device = device_of(scenario, folder)
    try:
        names = scenario.workload.networks(folder)
        plan = generate(
            scenario.workload,
            count=scenario.run.requests,
            duration_s=scenario.run.duration_s,
            seed=scenario.run.seed,
            replication=replication,
            folder=folder,
        )
    except ValueError as error:
        raise ScenarioError("workload", str(error)) from error
    costs = costs_of(scenario, device, names, folder)
    policy = policy_of(scenario, folder)
    costs = planned(policy, costs, device)
    records = Records()
    expand = _expansion(plan, costs)
    noise = _noise(device, scenario, replication)
    engine = _engine(policy, device, plan, expand, records, trace, noise)
    infeasible = None
    until_s = scenario.run.duration_s if plan.closed and scenario.run.requests is None else None
    try:
        engine.run(until_s)
    except DoesNotFit as error:
        infeasible = _infeasible(error, engine)
    ledger = engine.scheduler.memory
    paged = engine.paged_bytes if isinstance(engine, OverheadEngine) else (0, 0)
    return RunResult(
        scenario=scenario.model_dump(mode="json"),
        policy=scenario.policy.name,
        device=device.name,
        seed=scenario.run.seed,
        replication=replication,
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
        trace=trace,
        infeasible=infeasible,
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


def _expansion(plan: RequestPlan, costs: dict[str, NetworkCost]) -> Callable[[Scheduler], list[Composition]]:
    def expand(scheduler: Scheduler) -> list[Composition]:
        return [
            scheduler.composition([costs[m.network] for m in members], [m.after for m in members])
            for members in plan.compositions
        ]

    return expand


def planned(policy: Policy, costs: Mapping[str, NetworkCost], device: Device) -> dict[str, NetworkCost]:
    """The costs under the policy's offline plan: its budgets are what the networks reserve."""
    plan = policy.plan(list(costs.values()), device)
    budgets = {} if plan is None else plan.budgets_bytes
    for name in budgets:
        if name not in costs:
            raise ScenarioError("policy", f"its plan has a budget for {name!r}, which no stream needs")
    return {
        name: replace(cost, reservation_bytes=budgets[name]) if name in budgets else cost
        for name, cost in costs.items()
    }


def _engine(
    policy: Policy,
    device: Device,
    plan: RequestPlan,
    expand: Callable[[Scheduler], list[Composition]],
    records: Records,
    trace: Trace | None,
    noise: NoiseSource | None,
) -> Engine:
    runtime = device.runtime
    delays = (runtime.dispatch_period_s, runtime.worker_pause_s, runtime.worker_poll_s, runtime.submission_s)
    if any(delays) or runtime.slowdown or noise is not None or device.memory.swap is not None:
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
    levers = [f"{what} of at least {error.demand_bytes} bytes"]
    if others > 0:
        levers.append(f"a policy that admits fewer networks at once ({others} others are active)")
    base = ledger.base_bytes
    if base + network.layerwise_peak_bytes <= error.limit_bytes < base + network.bulk_peak_bytes:
        levers.append("a layer-wise policy (linear): the network alone fits layer by layer")
    elif base + network.layerwise_peak_bytes > error.limit_bytes:
        levers.append(
            f"a smaller network: {network.name} alone needs {base + network.layerwise_peak_bytes} bytes"
        )
    return Infeasible(
        network=network.name,
        task=f"{task.kind.name} {task.layer if task.layer >= 0 else 'all'}" if task else "submission",
        at_s=engine.now_s,
        demand_bytes=error.demand_bytes,
        limit_bytes=error.limit_bytes,
        fits_with=levers,
    )
