"""A sweep grid: the points made by setting dotted paths of a scenario.

The scenario is plain nested data (dicts, lists, scalars), as YAML gives it. A sweep maps names to lists::

    sweep:
      device.memory_bytes: [268435456, 536870912]      # a dotted path and its values
      workload.streams.0.arrivals.rate_per_s: [.1, .2] # a number indexes a list
      workload.arrivals:                               # a value may be a whole sub-mapping
        - {process: poisson, rate_per_s: 0.1}
        - {process: periodic, period_s: 10}
      zip load:                                        # "zip NAME": paths that change together
        - {run.count: 100, workload.deadline_s: 1.0}
        - {run.count: 400, workload.deadline_s: 0.5}

Points are ordered as nested loops: the last name varies fastest, and replications vary faster still. A key
with a dot in it cannot be reached by a dotted path; set the mapping that holds it instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import prod
from typing import Any

MAX_POINTS = 1_000_000
"""A larger grid is refused."""

ZIP = "zip "
"""What begins the name of a list of mappings whose paths change together."""

KEY_DIGITS = 20
"""Hex digits of a key: 80 bits, so two of a million points share one with probability 4e-13."""


class GridError(ValueError):
    """A sweep that cannot be expanded; the message names the path and what exists near it."""


@dataclass(frozen=True, slots=True)
class Point:
    """One scenario of the grid.

    ``key`` names the content (see ``point_key``), ``settings`` is what the sweep set: dotted path -> value.
    ``scenario`` shares its unchanged parts with the base and with other points: read it, do not change it.
    """

    key: str
    settings: dict[str, Any]
    scenario: dict[str, Any]
    replication: int = 0


def point_key(scenario: Mapping[str, Any], *, replication: int, version: str) -> str:
    """The content hash of one run: ``KEY_DIGITS`` hex digits of SHA-256 over canonical JSON.

    Pass the *resolved* scenario: a default that is left out is not part of the content.
    Raises GridError if the scenario holds something that JSON cannot.
    """
    content = {"scenario": scenario, "replication": replication, "version": version}
    return hashlib.sha256(_canonical(content).encode()).hexdigest()[:KEY_DIGITS]


def expand(
    base: dict[str, Any], sweep: Mapping[str, Sequence[Any]], *, version: str, replications: int = 1
) -> list[Point]:
    """All points of the grid, in order; an empty ``sweep`` gives the base alone.

    ``version`` is the package's version, part of every key. ``base`` is left as it is. A path's last key may
    be new (a setting left at its default); every key before it, and every list index, must exist in the base
    or in what an earlier name of the sweep put there.

    Raises GridError for a path through a missing key or a scalar, an empty list, a path or a value given
    twice, a path that overwrites an earlier one, ``replications`` below 1, or more than ``MAX_POINTS``
    points.
    """
    if replications < 1:
        raise GridError(f"replications is {replications}; it must be 1 or more")
    axes = [_axis(name, values) for name, values in sweep.items()]
    _check_paths(axes)
    count = prod((len(axis) for axis in axes), start=replications)
    if count > MAX_POINTS:
        sizes = " x ".join(str(len(axis)) for axis in axes)
        raise GridError(f"the grid has {count} points ({sizes} x {replications} runs); at most {MAX_POINTS}")
    points: list[Point] = []
    seen: dict[str, dict[str, Any]] = {}
    for settings, scenario in _product(base, axes, {}):
        for replication in range(replications):
            key = point_key(scenario, replication=replication, version=version)
            if key in seen:
                raise GridError(f"settings {seen[key]} and {settings} give the same scenario")
            seen[key] = settings
            points.append(Point(key, settings, scenario, replication))
    return points


def _axis(name: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    """The alternatives of one name: what each sets, path -> value."""
    if not isinstance(values, list | tuple):
        raise GridError(f"{name}: a sweep needs a list of values, not {type(values).__name__}")
    if not values:
        raise GridError(f"{name}: the list of values is empty")
    texts: set[str] = set()
    for value in values:
        text = _canonical(value)
        if text in texts:
            raise GridError(f"{name}: the value {text} is given twice")
        texts.add(text)
    if not name.startswith(ZIP):
        return [{name: value} for value in values]
    first = values[0]
    for value in values:
        if not isinstance(value, Mapping) or not value:
            raise GridError(f"{name}: each item must map dotted paths to values, not {value!r}")
        if value.keys() != first.keys():
            raise GridError(f"{name}: items must set the same paths, but {sorted(first)} and {sorted(value)}")
    return [dict(value) for value in values]


def _check_paths(axes: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """No path twice; none that overwrites what an earlier one set."""
    earlier: list[str] = []
    for axis in axes:
        for path in axis[0]:
            for other in earlier:
                if path == other:
                    raise GridError(f"{path}: the path is swept twice")
                if other.startswith(f"{path}."):
                    raise GridError(f"{path}: would overwrite {other}, set before it; list {path} first")
            earlier.append(path)


def _product(
    scenario: dict[str, Any], axes: Sequence[Sequence[Mapping[str, Any]]], settings: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    if not axes:
        yield settings, scenario
        return
    for alternative in axes[0]:
        changed = scenario
        for path, value in alternative.items():
            changed = _with(changed, path.split("."), 0, path, value)
        yield from _product(changed, axes[1:], {**settings, **alternative})


def _with(node: Any, names: list[str], depth: int, path: str, value: Any) -> Any:
    """A copy of ``node`` with the value at ``names[depth:]``; only the containers on the way are copied."""
    if depth == len(names):
        return value
    name, last = names[depth], depth + 1 == len(names)
    here = ".".join(names[:depth])
    if isinstance(node, list):
        if not name.isdecimal() or int(name) >= len(node):
            raise GridError(f"{path}: '{here}' is a list of {len(node)}; '{name}' is not an index of it")
        items = list(node)
        items[int(name)] = _with(node[int(name)], names, depth + 1, path, value)
        return items
    if not isinstance(node, dict):
        raise GridError(f"{path}: there is nothing below '{here}', which is {node!r}")
    if name not in node and (not last or not name):
        raise GridError(f"{path}: no '{name}' in {_place(here)}; {_nearest(name, here, node)}")
    return {**node, name: value if last else _with(node[name], names, depth + 1, path, value)}


def _place(here: str) -> str:
    return f"'{here}'" if here else "the scenario"


def _nearest(name: str, here: str, node: Mapping[str, Any]) -> str:
    keys = [str(key) for key in node]
    if not keys:
        return f"{_place(here)} is empty"
    close = get_close_matches(name, keys, n=1, cutoff=0.0)[0]
    nearest = f"{here}.{close}" if here else close
    return f"the nearest existing path is '{nearest}' (it has: {', '.join(keys)})"


def _canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; non-finite floats as NaN, Infinity and -Infinity."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise GridError(f"{value!r} is not plain data: {error}") from error
