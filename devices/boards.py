"""Boards by name: YAML files in ``devices/catalogue``, or a user's own file of the same form."""

from __future__ import annotations

import difflib
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .model import Device


class BoardError(ValueError):
    """A board cannot be found or its file is wrong; the message says where and what is allowed."""


def names() -> list[str]:
    """Names of the boards in the catalogue, in alphabetical order."""
    folder = resources.files(__package__) / "catalogue"
    return sorted(item.name[: -len(".yaml")] for item in folder.iterdir() if item.name.endswith(".yaml"))


@lru_cache(maxsize=64)
def load(name: str) -> Device:
    """The board ``name`` of the catalogue, or the one in the file ``name`` (a path that ends in .yaml).

    Raises ``BoardError``.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise BoardError(f"device {name!r}: there is no such file")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BoardError(f"device file {name}: cannot be read: {error}") from error
        return _parsed(text, name)
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise BoardError(
            f"unknown device {name!r}{hint} (known: {', '.join(names())}; or a path to a .yaml file)"
        )
    return _parsed((resources.files(__package__) / "catalogue" / f"{name}.yaml").read_text("utf-8"), name)


def _parsed(text: str, where: str) -> Device:
    try:
        data: Any = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BoardError(f"device file {where} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise BoardError(f"device file {where}: must be a mapping, seen {type(data).__name__}")
    base = data.pop("like", None)
    if base is not None:
        if not isinstance(base, str):
            raise BoardError(f"device file {where}: like: must be the name of a board, seen {base!r}")
        data = merged(load(base).model_dump(exclude_unset=True), data)
    try:
        return Device.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BoardError(
            f"device file {where}: {key}: {first['msg']}, seen {first['input']!r:.80}"
        ) from error


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` put over it, mapping by mapping."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result
