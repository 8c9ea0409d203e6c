"""Boards by name: YAML files in ``devices/catalogue``, or a user's own file of the same form."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .explain import booleans, dotted, explain
from .model import Device
from .reading import Document, Location, parse, read_mapping, shown


class BoardError(ValueError):
    """A board cannot be found or its file is wrong; the message says where and what is allowed."""


def names() -> list[str]:
    """Names of the boards in the catalogue, in alphabetical order."""
    folder = resources.files(__package__) / "catalogue"
    return sorted(item.name[: -len(".yaml")] for item in folder.iterdir() if item.name.endswith(".yaml"))


def _document(name: str) -> Document:
    if name.endswith((".yaml", ".yml")):
        return read_mapping(Path(name), "device")
    return _catalogued(name)


@lru_cache(maxsize=64)
def _catalogued(name: str) -> Document:
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise BoardError(
            f"unknown device {name!r}{hint} (known: {', '.join(names())}; or a path to a .yaml file)"
        )
    return parse((resources.files(__package__) / "catalogue" / f"{name}.yaml").read_text("utf-8"), name)


def raw(name: str) -> dict[str, Any]:
    """The board's file as it stands, ``like`` not followed. Raises ``BoardError`` or ``InputError``."""
    return _document(name).data


def load(name: str) -> Device:
    """The board ``name`` of the catalogue, or the one in the file ``name`` (a path that ends in .yaml).

    A file may say ``like: BOARD`` and only what differs; a profile that it names lies beside it. Raises
    ``BoardError`` or ``InputError``.
    """
    return resolve(name, _placed, _document(name))


def _placed(name: str) -> dict[str, Any]:
    """``raw``, a file's relative paths to profiles seen from here."""
    data = raw(name)
    cost = data.get("cost")
    if not (name.endswith((".yaml", ".yml")) and isinstance(cost, dict)):
        return data
    seen = {
        key: str(Path(name).parent / cost[key])
        for key in ("profile", "primitives", "primitive_ratios")
        if isinstance(cost.get(key), str) and cost[key].lower().endswith(".csv")
    }
    return {**data, "cost": {**cost, **seen}}


def resolve(name: str, read: Callable[[str], Mapping[str, Any]], document: Document | None = None) -> Device:
    """The device whose data ``read(name)`` gives, with what it is ``like`` filled in.

    ``document`` tells the lines for messages. Raises ``BoardError``.
    """
    data = dict(read(name))
    chain = [name]
    while "like" in data:
        base = data.pop("like")
        if not isinstance(base, str):
            raise _error(name, document, ("like",), f"like: must be the name of a board, seen {shown(base)}")
        if base in chain:
            raise _error(name, document, ("like",), f"like: {' -> '.join([*chain, base])} goes in a circle")
        chain.append(base)
        # A board's own calibration is not its relative's.
        data = merged({k: v for k, v in read(base).items() if k != "calibration"}, data)
    for place in booleans(Device, data):
        raise _error(name, document, place, f"{dotted(place)}: must be a number, seen true or false")
    try:
        return Device.model_validate(data)
    except ValidationError as error:
        found = explain(error, Device, data)
        raise _error(name, document, found.location, found.text) from error


def _error(name: str, document: Document | None, place: Location, message: str) -> BoardError:
    line = document.line(place) if document is not None else None
    where = f"{name}:{line}" if line else name
    return BoardError(f"device {where}: {message}")


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` put over it, mapping by mapping."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result
