"""EDF: earliest deadline first."""

from __future__ import annotations

import math

from .one_at_a_time import OneAtATime
from .scheduler import Job


class Edf(OneAtATime):
    """Whole networks, the request with the earliest deadline first; without a deadline last."""

    def rank(self, job: Job) -> float:
        """The absolute deadline."""
        request = job.request
        return math.inf if request.deadline_s is None else request.arrival_s + request.deadline_s
