"""From one layout to another: the cheapest way, with at most one layout between."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from ..primitives.layouts import LAYOUTS, Layout

Direct = Mapping[tuple[Layout, Layout], float]
"""Seconds of each direct transform of one tensor; what is missing cannot be done directly."""


class Path(NamedTuple):
    """How a tensor gets into another layout."""

    time_s: float
    steps: tuple[Layout, ...]
    """The layouts after each transform, the wanted one last; empty where nothing is to be done."""

    @property
    def copies(self) -> int:
        """Copies of the tensor that there are, beside the original, once the path is walked."""
        return min(1, len(self.steps))

    @property
    def walking_copies(self) -> int:
        """The most copies while it is walked: a layout between lives until the next one is made."""
        return min(2, len(self.steps))


STAY = Path(0.0, ())


def paths(direct: Direct) -> Mapping[tuple[Layout, Layout], Path]:
    """The cheapest path between every two layouts; a direct one where two cost the same.

    Pairs that no path connects are missing. Staying costs nothing, whatever a profile measured for it.
    """
    return _paths(tuple(sorted(direct.items())))


@lru_cache(maxsize=4096)
def _paths(direct: tuple[tuple[tuple[Layout, Layout], float], ...]) -> Mapping[tuple[Layout, Layout], Path]:
    seconds = dict(direct)
    found: dict[tuple[Layout, Layout], Path] = {}
    for before in LAYOUTS:
        for after in LAYOUTS:
            if before == after:
                found[before, after] = STAY
                continue
            ways = [Path(seconds[before, after], (after,))] if (before, after) in seconds else []
            ways += [
                Path(seconds[before, via] + seconds[via, after], (via, after))
                for via in LAYOUTS
                if via not in (before, after) and (before, via) in seconds and (via, after) in seconds
            ]
            if ways:
                # In picoseconds, so that sums which only differ by rounding are the tie that they are.
                found[before, after] = min(ways, key=lambda way: (round(way.time_s * 1e12), len(way.steps)))
    return found
