"""What counts as a plan's memory, and the error that says that it does not fit."""

from __future__ import annotations

from typing import Literal, get_args

Memory = Literal["peak-workspace", "peak-live", "total", "no-reuse"]
"""``peak-workspace``: the largest workspace of any layer. ``peak-live``: the most that lies in memory at once
of live activations, transformed copies and workspace. ``total``: all stored weights and ``peak-live``.
``no-reuse``: the sum of all workspaces."""

MEMORIES: tuple[Memory, ...] = get_args(Memory)


class DoesNotFitError(ValueError):
    """Nothing fits the budget. ``demand_bytes`` is the least budget that something would fit."""

    def __init__(self, what: str, demand_bytes: int, budget_bytes: int) -> None:
        self.demand_bytes, self.budget_bytes = demand_bytes, budget_bytes
        super().__init__(
            f"{what} needs at least {demand_bytes} bytes, the budget is {budget_bytes} bytes "
            f"({demand_bytes - budget_bytes} too few)"
        )
