"""What a policy decided before the run, as plain data for a run's folder and report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .setup import Setup


def plan_record(setup: Setup) -> dict[str, Any] | None:
    """Per network, by the scenario's names, what was decided for it; None where nothing was.

    ``footprint_bytes`` is the most that one inference adds to memory layer by layer, ``solo_s`` what its
    tasks take one after the other. ``primitives`` are those of the layers in order; they are missing where
    the policy decides them only during the run.
    """
    plan = setup.offline
    if plan is None or not plan.costs:
        return None
    networks: dict[str, Any] = {}
    for name, cost in setup.costs.items():
        networks[name] = {
            "processor": plan.processors.get(cost.name),
            "footprint_bytes": cost.layerwise_peak_bytes,
            "solo_s": cost.solo_s,
        }
        if cost.name in plan.primitives:
            layers = zip(cost.network.layers, plan.primitives[cost.name], strict=True)
            networks[name]["primitives"] = [[layer.name, primitive] for layer, primitive in layers]
    return {"networks": networks}
