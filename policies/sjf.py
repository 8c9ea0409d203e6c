"""SJF: shortest expected job first."""

from __future__ import annotations

from .one_at_a_time import OneAtATime
from .scheduler import Job


class Sjf(OneAtATime):
    """Whole networks, the one with the smallest expected time first; not preemptive."""

    def rank(self, job: Job) -> float:
        """The network's expected solo seconds."""
        return job.network.expected_s
