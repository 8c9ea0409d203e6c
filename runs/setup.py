"""Everything a run needs, looked up and drawn before its clock starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..devices.cost import NetworkCost
from ..devices.model import Device
from ..policies.contract import Plan, Policy
from ..policies.scheduler import Composition, Scheduler
from ..workloads.workload import RequestPlan, generate
from .resolve import AsExecuted, ScenarioError, costs_of, device_of, planned, policy_of
from .scenario import Scenario


@dataclass(frozen=True, slots=True)
class Setup:
    """One replication of a scenario, ready for a driver."""

    scenario: Scenario
    replication: int
    device: Device
    policy: Policy
    plan: RequestPlan
    costs: Mapping[str, NetworkCost]
    """Under the policy's offline plan, by the scenario's names."""
    offline: Plan | None = None
    """What the policy decided before the run."""

    @property
    def until_s(self) -> float | None:
        """When a run ends that would not end by itself: closed streams without a number of requests."""
        endless = self.plan.closed and self.scenario.run.requests is None
        return self.scenario.run.duration_s if endless else None

    @property
    def expand(self) -> Callable[[Scheduler], list[Composition]]:
        """Makes the plan's compositions known to a scheduler."""

        def expand(scheduler: Scheduler) -> list[Composition]:
            return [
                scheduler.composition([self.costs[m.network] for m in members], [m.after for m in members])
                for members in self.plan.compositions
            ]

        return expand


def set_up(
    scenario: Scenario,
    replication: int = 0,
    *,
    folder: Path | None = None,
    networks: AsExecuted | None = None,
) -> Setup:
    """Look up what the scenario names and draw its requests.

    ``folder`` is where relative files are looked up; ``networks`` knows networks as they are executed,
    where that is not just what the board's profile or the catalogue says. Raises ``ScenarioError`` for what
    does not exist.
    """
    device = device_of(scenario, folder)
    try:
        names = scenario.workload.networks(folder)
        plan = generate(
            scenario.workload,
            count=scenario.run.requests,
            duration_s=scenario.run.duration_s,
            seed=scenario.run.seed,
            replication=replication,
            folder=folder,
        )
    except ValueError as error:
        raise ScenarioError("workload", str(error)) from error
    costs = costs_of(scenario, device, names, folder, networks)
    policy = policy_of(scenario, folder)
    costs, offline = planned(policy, costs, device)
    return Setup(scenario, replication, device, policy, plan, costs, offline)
