"""The backend of a replay whose policy has planned primitives: they execute, not the runtime's own choice."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ...devices.implementing import network_options
from .program import PlannedProgram, PlannedPrograms, one_blas_thread
from .steps import PlannedError

if TYPE_CHECKING:
    from ...policies.contract import Plan
    from ...runs.setup import Setup


def plan_of(setup: Setup) -> Plan | None:
    """The policy's plan where it names the primitives to execute; None where the runtime chooses.

    Raises ``PlannedError`` for a plan that cannot be executed here.
    """
    plan = setup.offline
    if plan is None or not (plan.costs or plan.primitives):
        return None
    policy, device = setup.scenario.policy.name, setup.device
    missing = [name for name in plan.costs if name not in plan.primitives]
    if missing:
        raise PlannedError(
            f"policy {policy}: decides only during the run how {', '.join(missing)} is computed; a replay "
            f"needs every primitive before it, as policy pareto has"
        )
    if device.runtime.threads != 1:
        raise PlannedError(
            f"device {device.name}: runtime.threads is {device.runtime.threads}, but a primitive is computed "
            f"by one"
        )
    if device.storage.reads not in ("direct", "cached"):
        raise PlannedError(
            f"device {device.name}: storage.reads is {device.storage.reads}; weights of primitives are read "
            f"'direct' or 'cached'"
        )
    return plan


def prepare(setup: Setup, plan: Plan, cache: Path | None = None) -> None:
    """Write the weights of all networks as the plan's primitives store them, where they are not yet."""
    for program in programs(setup, plan, cache=cache).values():
        with closing(program):
            pass


def programs(setup: Setup, plan: Plan, *, cache: Path | None = None) -> Mapping[str, PlannedProgram]:
    """The plan's programs, by the networks' own names. Raises ``PlannedError``."""
    found = {}
    for cost in setup.costs.values():
        options = network_options(cost.network, setup.device, processor=plan.processors.get(cost.name))
        choice = []
        for layer, own, name in zip(
            options.network.layers, options.layers, plan.primitives[cost.name], strict=True
        ):
            at = next((at for at, option in enumerate(own) if option.primitive == name), None)
            if at is None:
                raise PlannedError(f"{cost.name}: layer {layer.name!r} has no primitive {name!r} here")
            choice.append(at)
        found[cost.name] = PlannedProgram(options, choice, reads=setup.device.storage.reads, cache=cache)
    return found


__all__ = ["PlannedError", "PlannedPrograms", "one_blas_thread", "plan_of", "prepare", "programs"]
