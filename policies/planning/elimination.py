"""In which order the layouts of a network are decided, so that as few as possible hang together at a time.

Deciding a variable joins all tables that it stands in to one table over the variables that remain in them.
The next to be decided is the one whose joined table is smallest. On chains, branches that join again and
every other series-parallel network no table spans more than a few layouts.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping


class TooWideError(ValueError):
    """Too many layouts hang together for tables."""

    def __init__(self, network: str, cells: int, most_cells: int) -> None:
        super().__init__(
            f"{network}: {cells} combinations of layouts hang together, at most {most_cells} can be tabled"
        )


def elimination_order(scopes: Iterable[Iterable[int]], sizes: Mapping[int, int]) -> tuple[list[int], int]:
    """Every variable once, in the order of deciding it, and the cells of the largest joined table.

    ``scopes`` are the variables of each table, ``sizes`` how many values each variable has.
    """
    near: dict[int, set[int]] = {variable: set() for variable in sizes}
    for scope in scopes:
        scope = set(scope)
        for variable in scope:
            near[variable] |= scope - {variable}

    def cells(variable: int) -> int:
        return math.prod(sizes[other] for other in near[variable])

    heap = [(cells(variable), variable) for variable in sizes]
    heapq.heapify(heap)
    order: list[int] = []
    largest = 1
    while heap:
        size, variable = heapq.heappop(heap)
        if variable not in near or size != cells(variable):
            continue
        largest = max(largest, size * sizes[variable])
        order.append(variable)
        around = near.pop(variable)
        for other in around:
            near[other] |= around - {other}
            near[other].discard(variable)
            heapq.heappush(heap, (cells(other), other))
    return order, largest
