"""One request on an otherwise idle device: how long do these networks take together?"""

from __future__ import annotations

from collections.abc import Sequence

from ..devices.costing import CostModel
from ..devices.model import Device
from ..policies.contract import Policy
from ..runs.records import Records
from ..workloads import catalogue
from ..workloads.mix import together
from ..workloads.workload import RequestPlan
from .engine import Engine
from .overheads import OverheadEngine


def serve_once(device: Device, policy: Policy, names: Sequence[str]) -> Engine:
    """Run one request for the networks ``names``, all submitted at time 0, to its end.

    The engine's ``records`` tell when each job finished, its scheduler the memory peak.
    """
    model = CostModel(device)
    costs = [model.cost(catalogue.build(name)) for name in names]
    plan = RequestPlan(streams=("image",), deadline_s=[None], compositions=[together(tuple(names))])
    plan.gap_s.append(0.0)
    plan.stream.append(0)
    plan.composition.append(0)
    engine = OverheadEngine(policy, device, plan, lambda s: [s.composition(costs)], Records())
    engine.run()
    return engine


def makespan_s(device: Device, policy: Policy, names: Sequence[str]) -> float:
    """Seconds from submission to the end of the last network."""
    return max(serve_once(device, policy, names).records.job_finish_s)
