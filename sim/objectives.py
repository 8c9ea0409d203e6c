"""What a sweep's recommendation and its curves compare: the one table of it."""

from __future__ import annotations

from enum import StrEnum


class Objective(StrEnum):
    """A statistic of a run, smaller is better, by the name that a user gives it.

    ``column`` is its key in summaries and tables (docs/metrics.md), where ``COLUMN_lo`` and ``COLUMN_hi``
    bound its 95 % interval; ``label`` says it in words; ``unit`` is s or J.
    """

    column: str
    label: str
    unit: str

    mean = "mean", "response_mean_s", "mean response time"
    median = "median", "response_median_s", "median response time"
    p95 = "p95", "response_p95_s", "95th percentile of response time"
    p99 = "p99", "response_p99_s", "99th percentile of response time"
    network_mean = "network-mean", "job_response_mean_s", "mean response time of networks"
    energy = "energy", "energy_per_request_j", "energy per request", "J"

    def __new__(cls, name: str, column: str, label: str, unit: str = "s") -> Objective:
        """A member that is its name."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.column, member.label, member.unit = column, label, unit
        return member

    @property
    def choice_file(self) -> str:
        """The name of the recommendation for it: ``recommendation.csv`` for the mean."""
        return f"recommendation{'' if self is Objective.mean else f'-{self.value}'}.csv"

    @property
    def figure_stem(self) -> str:
        """How the names of its figures begin."""
        return self.value if self is Objective.energy else f"response-{self.value}"
