"""What a scenario names must exist and go together: found out before anything runs."""

from __future__ import annotations

import hashlib
import json
import math
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..devices.cost import NetworkCost
from ..devices.model import Device
from ..devices.reading import shown
from ..policies import registry
from ..policies.contract import Policy
from ..policies.graph import NetworkGraph
from ..workloads.arrivals import Replay, closed
from ..workloads.mix import names_of
from ..workloads.workload import generate
from .resolve import ScenarioError, costs_of, device_of, located, planned, policy_of
from .scenario import Scenario

_PLAIN_TYPES = (bool, int, float, str, type(None))


class Checks:
    """Checks scenarios that share much (the points of a sweep); what was found good is remembered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._devices: dict[str, Device] = {}
        self._costs: dict[str, dict[str, NetworkCost]] = {}
        self._policies: set[str] = set()
        self._workloads: dict[str, tuple[str, ...]] = {}
        self._digests: dict[str, str] = {}

    def check(self, scenario: Scenario) -> dict[str, str]:
        """Digests of what the scenario takes from outside itself. Raises ``ScenarioError``."""
        names = self._requests(scenario)
        device_key = _json(scenario.device)
        device = self._devices.get(device_key)
        if device is None:
            device = self._devices[device_key] = device_of(scenario, self.folder)
            self._digests[device_key] = self._device_digest(device)
        inline = [network.model_dump(mode="json") for network in scenario.networks]
        costs_key = json.dumps([device_key, names, inline])
        costs = self._costs.get(costs_key)
        if costs is None:
            costs = self._costs[costs_key] = costs_of(scenario, device, names, self.folder)
        policy_key = f"{_json(scenario.policy)} {costs_key}"
        if policy_key not in self._policies:
            check_policy(scenario, device, costs, self.folder)
            self._policies.add(policy_key)
        _check_progress(scenario, costs)
        models = [name for name in names if name.lower().endswith(".onnx")]
        return {"device": self._digests[device_key], **self._files(scenario, models)}

    def _device_digest(self, device: Device) -> str:
        """Of all that the device is; its profile counts by its content, not by its place."""
        profile = device.cost.profile
        if profile is None or not profile.endswith(".csv"):
            return _digest(device.model_dump_json().encode())
        try:
            content = Path(profile).read_bytes()
        except OSError as error:
            raise ScenarioError("device", f"profile {_reason(error)}") from error
        return _digest(device.model_dump_json(exclude={"cost": {"profile"}}).encode() + content)

    def _requests(self, scenario: Scenario) -> tuple[str, ...]:
        """The networks that requests can name, after the requests were drawn once on trial."""
        run = scenario.run
        key = f"{_json(scenario.workload)} {run.requests is None} {run.duration_s}"
        names = self._workloads.get(key)
        if names is None:
            try:
                names = scenario.workload.networks(self.folder)
                generate(
                    scenario.workload,
                    count=None if run.requests is None else 1,
                    duration_s=run.duration_s,
                    seed=run.seed,
                    folder=self.folder,
                )
            except (ValueError, OSError) as error:
                raise ScenarioError("workload", _reason(error)) from error
            self._workloads[key] = names
        return names

    def _files(self, scenario: Scenario, models: Sequence[str]) -> dict[str, str]:
        names = [*models]
        names += [s.arrivals.file for s in scenario.workload.streams if isinstance(s.arrivals, Replay)]
        if registry.is_file(scenario.policy.name):
            names.append(scenario.policy.name)
        result = {}
        for name in names:
            path = self.folder / (name.partition(".py:")[0] + ".py" if ".py:" in name else name)
            if str(path) not in self._digests:
                self._digests[str(path)] = _digest(path.read_bytes())
            result[name] = self._digests[str(path)]
        return result


def check_policy(
    scenario: Scenario, device: Device, costs: Mapping[str, NetworkCost], folder: Path | None = None
) -> None:
    """Make the policy and ask each of its hooks once. Raises ``ScenarioError``."""
    choice = scenario.policy
    try:
        cls = registry.find(located(choice.name, folder))
        _check_types(choice.name, cls, choice.parameters)
    except registry.PolicyError as error:
        raise ScenarioError("policy", str(error)) from error
    policy = policy_of(scenario, folder)
    hook = "plan"
    try:
        costs, _ = planned(policy, costs, device)
        hook = "workers"
        workers = list(policy.workers(device))
        if not workers:
            raise ScenarioError(
                "policy", f"policy {choice.name!r} has no worker: workers() must return at least one"
            )
        hook = "expand"
        graphs = [policy.expand(cost, device) for cost in costs.values()]
        if not all(isinstance(graph, NetworkGraph) and graph.sources for graph in graphs):
            raise TypeError("must return a NetworkGraph in which at least one task waits for nothing")
        hook = "links"
        policy.links(graphs)
    except ScenarioError:
        raise
    except Exception as error:
        raise ScenarioError("policy", failure(choice.name, hook, error)) from error


def failure(name: str, hook: str, error: Exception) -> str:
    """What a policy did wrong, and where in its file."""
    where = ""
    frame = error.__traceback__
    while frame is not None:
        module = frame.tb_frame.f_globals.get("__name__", "")
        if module.startswith("edgesched_policy_"):
            where = f" (line {frame.tb_lineno} of its file)"
        frame = frame.tb_next
    if isinstance(error, ValueError) and not where:
        return f"policy {name!r}: {error}"
    return f"policy {name!r}: {hook}() raises {type(error).__name__}: {error}{where}"


def _check_types(name: str, cls: type[Policy], parameters: Mapping[str, Any]) -> None:
    """Compare parameters with the annotations of the policy's ``__init__``, where those are plain types."""
    try:
        hints = typing.get_type_hints(cls.__init__)
    except NameError:  # names that only type checkers import
        return
    for key, value in parameters.items():
        hint = hints.get(key)
        kinds = typing.get_args(hint) or (hint,)
        if hint is None or not all(kind in _PLAIN_TYPES for kind in kinds):
            continue
        try:
            TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python(value)
        except ValidationError as error:
            wanted = " or ".join("none" if k is type(None) else _WORDS[k] for k in kinds)
            raise registry.PolicyError(
                f"policy {name!r}: {key} must be {wanted}, seen {shown(value)}"
            ) from error


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _check_progress(scenario: Scenario, costs: Mapping[str, NetworkCost]) -> None:
    """A closed stream of networks that take no time would bring requests for ever within one instant."""
    if scenario.run.requests is not None:
        return
    for stream in scenario.workload.streams:
        if closed(stream.arrivals) is None or stream.count is not None or stream.networks is None:
            continue
        if not math.fsum(costs[name].solo_s for name in names_of(stream.networks)):
            raise ScenarioError(
                "workload",
                f"stream {stream.name!r}: its networks take no time, so it would bring requests without end "
                f"before run.duration_s; give run.requests or the stream's count",
            )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _json(part: Any) -> str:
    return str(part.model_dump_json())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:20]
