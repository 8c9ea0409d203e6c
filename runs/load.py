"""Scenario files: read, checked whole before anything runs, with one message for whatever is wrong.

>>> scenario, folder = load_scenario("examples/hand-worked.yaml")  # doctest: +SKIP

Relative paths in a scenario (boards, policies, arrival files) are looked up in the scenario's folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..devices.explain import booleans, dotted, explain
from ..devices.reading import Document, InputError, Location, parse, read_mapping, shown
from ..policies import registry
from . import grid
from .check import Checks
from .resolve import ScenarioError
from .scenario import Scenario, normal

__all__ = [
    "InputError",
    "Source",
    "from_here",
    "load_scenario",
    "parse_setting",
    "read_source",
    "scenario_of",
]


@dataclass(frozen=True, slots=True)
class Source:
    """A scenario file as read, with what the command line changed of it; not checked yet."""

    path: Path
    document: Document
    data: dict[str, Any]
    """Plain data in the normal form, changes applied."""
    overrides: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where relative paths are looked up."""
        return self.path.parent

    def scenario(self) -> Scenario:
        """The scenario itself, its sweep left alone. Raises ``InputError``."""
        try:
            scenario = scenario_of(self.data)
            Checks(self.folder).check(scenario)
        except _Wrong as error:
            raise self.error(error.location, error.text) from error
        except ScenarioError as error:
            raise self.error(tuple(error.key.split(".")), str(error)) from error
        return scenario

    def points(self, *, version: str) -> list[grid.Point]:
        """Every point of the sweep, each checked, replications apart. Raises ``InputError``."""
        base = {key: value for key, value in self.data.items() if key != "sweep"}
        sweep = self.data.get("sweep")
        if sweep is None:
            raise self.error((), "sweep is missing: a mapping from dotted paths to lists of values")
        if not isinstance(sweep, Mapping) or not sweep:
            raise self.error(
                ("sweep",), f"sweep: must map dotted paths to lists of values, seen {shown(sweep)}"
            )
        for name in sweep:
            if name.partition(".")[0] in ("sweep", "name", "description") or name == "run.replications":
                raise self.error(("sweep", name), f"sweep: {name} cannot be swept")
        try:
            points = grid.expand(base, sweep, version=version)
        except grid.GridError as error:
            name = next((n for n in sweep if str(error).startswith(f"{n}:")), None)
            raise self.error(("sweep",) if name is None else ("sweep", name), f"sweep: {error}") from error
        return self._checked(points, version)

    def _checked(self, points: Sequence[grid.Point], version: str) -> list[grid.Point]:
        checks = Checks(self.folder)
        result: list[grid.Point] = []
        for point in points:
            try:
                scenario = scenario_of(normal(point.scenario))
                content = checks.check(scenario)
            except _Wrong as error:
                raise self.error_at(point.settings, error.location, error.text) from error
            except ScenarioError as error:
                raise self.error_at(point.settings, tuple(error.key.split(".")), str(error)) from error
            resolved = resolved_point(scenario)
            # What lies outside the scenario (board, files) is content too: the key must change with it.
            keyed = {"scenario": {**resolved, "name": "", "description": ""}, "content": content}
            for replication in range(scenario.run.replications):
                key = grid.point_key(keyed, replication=replication, version=version)
                result.append(grid.Point(key, point.settings, resolved, replication))
        return result

    def error(self, location: Location, text: str) -> InputError:
        """``file:line: key: message``, or the option of the command line that set the key."""
        path = dotted(location)
        for name, value in self.overrides.items():
            if path == name or path.startswith(f"{name}."):
                return InputError(f"--set {name}={value}: {text}")
        line = self.document.line(location)
        return InputError(f"{self.path}{'' if line is None else f':{line}'}: {text}")

    def error_at(self, settings: Mapping[str, Any], location: Location, text: str) -> InputError:
        """The error of one point of the sweep."""
        path = dotted(location)
        where = location
        for name in settings:
            if path == name or path.startswith(f"{name}.") or name.startswith(f"{path}."):
                where = ("sweep", name)
        point = ", ".join(f"{name}={shown(value, 40)}" for name, value in settings.items())
        return self.error(where, f"{text} (at the point {point})")


class _Wrong(ValueError):
    def __init__(self, location: Location, text: str) -> None:
        super().__init__(text)
        self.location = location
        self.text = text


def scenario_of(data: Mapping[str, Any]) -> Scenario:
    """The data (in the normal form) as a scenario. Raises ValueError whose message begins with the key."""
    for place in booleans(Scenario, data):
        raise _Wrong(place, f"{dotted(place)}: must be a number or a text, not true or false")
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        location, text = explain(error, Scenario, data)
        raise _Wrong(location, text) from error


def resolved_point(scenario: Scenario) -> dict[str, Any]:
    """The scenario of one point as plain data: no sweep, one replication."""
    data = scenario.model_dump(mode="json", exclude={"sweep"})
    data["run"]["replications"] = 1
    return data


def read_source(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Source:
    """Read a scenario file and set the ``overrides`` (dotted path -> value). Raises ``InputError``."""
    file = Path(path)
    document = read_mapping(file)
    data = normal(document.data)
    for name, value in (overrides or {}).items():
        try:
            data = normal(grid.expand(data, {name: [value]}, version="")[0].scenario)
        except grid.GridError as error:
            raise InputError(f"--set {error}") from error
    return Source(file, document, data, dict(overrides or {}))


def load_scenario(path: str | Path, overrides: Mapping[str, Any] | None = None) -> tuple[Scenario, Path]:
    """The checked scenario in a file and the folder for its relative paths. Raises ``InputError``."""
    source = read_source(path, overrides)
    return source.scenario(), source.folder


def parse_setting(text: str) -> tuple[str, Any]:
    """``path=value`` of the command line, the value as in YAML. Raises ``InputError``."""
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or not name:
        raise InputError(f"--set {shown(text)}: must be path=value, e.g. device.memory_limit=512MiB")
    if name.startswith(grid.ZIP):
        raise InputError(f"--set {shown(text)}: zip belongs into a sweep")
    return name, parse(value, f"--set {name}").data


def from_here(policy: str, folder: Path) -> str:
    """A policy file named on the command line, where paths begin here, as seen from the scenario's folder."""
    if not registry.is_file(policy) or os.path.isabs(policy):
        return policy
    return os.path.relpath(policy, folder)
