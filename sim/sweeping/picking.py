"""Which points of a sweep a user means: ``PATH=VALUE``, as it was swept or in other words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ...devices.explain import nearest
from ...devices.reading import parse, shown
from ...devices.units import parse_bytes
from ...runs.load import InputError
from .figures import is_size
from .finished import SweptPoint
from .sweep import label


def pick(points: Sequence[SweptPoint], axes: Sequence[str], option: str, text: str) -> list[SweptPoint]:
    """The points with the value. ``text`` is PATH=VALUE as given with ``option``, PATH one of ``axes``.

    Sizes are equal by their bytes (1GiB is 1024MiB), a mapping goes by its label in tables. Raises
    ``InputError`` for a path that is not swept (with the nearest) and for a value that none of the points
    has (with theirs).
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise InputError(f"{option} {shown(text)}: must be PATH=VALUE, e.g. device.memory_limit=512MiB")
    if name not in axes:
        raise InputError(f"{option} {text}: {shown(name)} is not swept{nearest(name, list(axes))}")
    wanted = parse(value, f"{option} {name}").data
    found = [point for point in points if _same(name, point.settings[name], wanted, value)]
    if not found:
        raise InputError(f"{option} {text}: no point has this value; there are {listed(points, name)}")
    return found


def listed(points: Sequence[SweptPoint], axis: str) -> str:
    """The values of a path at the points, as they stand in tables."""
    return ", ".join(dict.fromkeys(str(point.labels[axis]) for point in points))


def several(points: Sequence[SweptPoint], axes: Sequence[str]) -> list[str]:
    """The paths that do not have one value at all of the points."""
    return [
        axis
        for axis in axes
        if len({json.dumps(point.settings[axis], sort_keys=True) for point in points}) > 1
    ]


def _same(axis: str, swept: Any, wanted: Any, text: str) -> bool:
    if isinstance(swept, bool) or isinstance(wanted, bool):
        return swept is wanted
    if swept == wanted or str(label(swept)) == text:
        return True
    if not is_size(axis):
        return False
    try:
        return parse_bytes(swept) == parse_bytes(wanted)
    except ValueError:
        return False
