"""EDF: earliest deadline first."""

from __future__ import annotations

from .one_at_a_time import OneAtATime
from .scheduler import Job


class Edf(OneAtATime):
    """Whole networks, the request with the earliest deadline first; without a deadline last."""

    def rank(self, job: Job) -> float:
        """The job's absolute deadline."""
        return job.due_s
