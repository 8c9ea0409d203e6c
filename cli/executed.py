"""Plans executed on this machine: what was predicted, what they took and used, whether they are right."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from .terminal import seconds, size, table

if TYPE_CHECKING:
    from rich.console import Console

    from ..devices.options import NetworkOptions
    from ..policies.planning.frontier import Point


def execute(
    screen: Console, options: Sequence[NetworkOptions], points: Sequence[Point], rounds: int
) -> list[dict[str, Any]]:
    """Run every plan ``rounds`` times alone and all of them at once, with random weights; show and return it.

    Raises ``PlannedError``, and ``InputError`` without the packages that primitives need.
    """
    from ..devices.reading import InputError

    try:
        from ..bridge.planned.concurrent import execute_together
        from ..bridge.planned.program import PlannedProgram
    except ImportError as error:
        raise InputError(f"--execute: {error}; pip install 'edgesched[primitives]'") from error
    with ExitStack() as stack:
        programs = [
            stack.enter_context(closing(PlannedProgram(each, point.choice)))
            for each, point in zip(options, points, strict=True)
        ]
        found = execute_together(programs, rounds)
        records: list[dict[str, Any]] = [
            {
                "network": ran.network,
                "planned_s": point.time_s,
                "alone_s": ran.solo_median_s,
                "at_once_s": ran.together_median_s if len(programs) > 1 else None,
                "planned_workspace_bytes": program.workspace_bytes,
                "used_workspace_bytes": ran.workspace_high_water_bytes,
                "planned_arena_bytes": program.arena_bytes,
                "used_arena_bytes": ran.arena_high_water_bytes,
                "largest_relative_error": ran.relative_error,
            }
            for point, program, ran in zip(points, programs, found.networks, strict=True)
        ]
    heads = ("planned", "alone", "at once", "workspace", "used", "output error")
    rows = table("executed here", *heads, right=heads)
    for each in records:
        at_once = each["at_once_s"]
        rows.add_row(
            each["network"],
            seconds(each["planned_s"]),
            _beside(each["alone_s"], each["planned_s"]),
            "" if at_once is None else _beside(at_once, each["planned_s"]),
            size(each["planned_workspace_bytes"]),
            size(each["used_workspace_bytes"]),
            f"{each['largest_relative_error']:.1e}",
        )
    screen.print()
    screen.print(rows)
    return records


def _beside(measured_s: float, planned_s: float) -> str:
    off = f" ({measured_s / planned_s - 1:+.0%})" if planned_s else ""
    return f"{seconds(measured_s)}{off}"
