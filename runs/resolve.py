"""What a scenario names: its board, networks and policy, looked up and put together."""

from __future__ import annotations

import difflib
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
from ..policies.contract import Plan, PlanError, Policy
from ..workloads import catalogue
from ..workloads.network import Layer, Network
from .scenario import InlineNetwork, Scenario

AsExecuted = Callable[[str, Network | None], Network | None]
"""From a name in a scenario, and what the board's profile knows by it, to the network that is executed."""


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
    if choice.storage:
        changes["storage"] = choice.storage
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


def profile_name(name: str) -> str:
    """What a profile calls a network that a scenario names: an ONNX file goes by its stem."""
    return Path(name).stem if name.lower().endswith(".onnx") else name


def network_of(name: str, folder: Path | None = None) -> Network:
    """The network a scenario names: one of the catalogue, or an ONNX file (``model.onnx``).

    Raises ``ValueError`` where there is none or the file is no model.
    """
    if name.lower().endswith(".onnx"):
        from ..workloads import onnx_import

        return onnx_import.load(folder / name if folder is not None else Path(name))
    return catalogue.build(name)


def costs_of(
    scenario: Scenario,
    device: Device,
    names: Sequence[str],
    folder: Path | None = None,
    networks: AsExecuted | None = None,
) -> dict[str, NetworkCost]:
    """The costs of every named network, as ``networks`` knows it, else as the board's profile does.

    Raises ``ScenarioError`` for one that does not exist.
    """
    inline = {spec.name: spec for spec in scenario.networks}
    model: CostModel | None = None
    costs: dict[str, NetworkCost] = {}
    for name in names:
        if name in inline:
            costs[name] = inline_cost(inline[name], device)
            continue
        try:
            if model is None:
                model = CostModel(device)
            network = model.network(profile_name(name))
            if networks is not None:
                network = networks(name, network)
            costs[name] = model.cost(network or network_of(name, folder))
        except (ValueError, ImportError) as error:
            near = difflib.get_close_matches(name, inline, n=1)
            unknown = isinstance(error, catalogue.UnknownNetworkError) and inline
            listed = f" (written in this scenario: {', '.join(inline)})" if unknown else ""
            message = f"unknown network {name!r}; did you mean {near[0]}?" if near else str(error)
            raise ScenarioError("workload.networks", f"{message}{listed}") from error
    _check_storage(costs, device)
    return costs


def _check_storage(costs: Mapping[str, NetworkCost], device: Device) -> None:
    """All weights together must fit the storage. Raises ``ScenarioError``."""
    held = device.storage.total_bytes
    demand = sum(cost.network.weight_bytes for cost in costs.values())
    if held is not None and demand > held:
        each = ", ".join(f"{name} {cost.network.weight_bytes}" for name, cost in costs.items())
        raise ScenarioError(
            "workload.networks",
            f"their weights take {demand} bytes ({each}), the storage of {device.name} holds {held}; it fits "
            f"with storage.total_bytes of at least {demand}, or with fewer or smaller networks",
        )


def planned(
    policy: Policy, costs: Mapping[str, NetworkCost], device: Device
) -> tuple[dict[str, NetworkCost], Plan | None]:
    """The costs under the policy's offline plan, and the plan.

    Its budgets are what the networks reserve. Raises ``ScenarioError`` for a plan of networks that no stream
    needs, and where the policy finds that none fits.
    """
    try:
        plan = policy.plan(list(costs.values()), device)
    except PlanError as error:
        raise ScenarioError("policy", str(error)) from error
    if plan is None:
        return dict(costs), None
    needed = {cost.name for cost in costs.values()}
    for what in (plan.budgets_bytes, plan.costs, plan.primitives, plan.processors):
        for name in what:
            if name not in needed:
                raise ScenarioError("policy", f"its plan has {name!r}, which no stream needs")
    return {name: _under(plan, cost) for name, cost in costs.items()}, plan


def _under(plan: Plan, cost: NetworkCost) -> NetworkCost:
    """A network's cost under the plan."""
    found = plan.costs.get(cost.name, cost)
    budget = plan.budgets_bytes.get(cost.name)
    return found if budget is None else replace(found, reservation_bytes=budget)
