"""How a layer's output gets from one layout into another, and whole picoseconds to count it in.

Times are counted in whole picoseconds, each rounded to the nearest (half to even) before anything is added,
so that equal sums compare equal whatever the order of adding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

from ...devices import relayout
from ...primitives.layouts import Layout

PICO = 10**12
LONGEST_PS = 2**53
"""Sums of picoseconds below this (2.5 hours) are exact as float64."""


class PlanningError(ValueError):
    """What is to be planned cannot be; the message says where, what was seen and what is allowed."""


class NoPlanError(PlanningError):
    """No choice of primitives can be connected: some layer never gets the layout it reads."""


class Path(NamedTuple):
    """How a tensor is transformed: the time of all steps together, and how many there are (0 to 2)."""

    time_ps: int
    steps: int


def picoseconds(time_s: float, where: str = "a time") -> int:
    """Whole picoseconds. Raises ``PlanningError`` for what is no time; ``where`` is for its message."""
    if not (math.isfinite(time_s) and time_s >= 0):
        raise PlanningError(f"{where} is {time_s} s, must be a finite number of at least 0")
    return round(time_s * PICO)


def paths(
    transform_s: Mapping[tuple[Layout, Layout], float], where: str = "a transform"
) -> dict[tuple[Layout, Layout], Path]:
    """How to get between every two layouts, as ``devices/relayout.py`` chooses the path.

    Each direct transform is rounded by itself. A pair that cannot be reached is missing.
    """
    direct_ps = {pair: picoseconds(time_s, f"{where} {pair}") for pair, time_s in transform_s.items()}
    found = {}
    for (before, after), path in relayout.paths(transform_s).items():
        legs = itertools.pairwise((before, *path.steps))
        found[before, after] = Path(sum(direct_ps[leg] for leg in legs), len(path.steps))
    return found
