"""What a run writes down while it runs: flat columns, 16 bytes a job and 13 a request."""

from __future__ import annotations

from array import array

NAN = float("nan")


class Records:
    """Requests and jobs as columns; a request's jobs stand in consecutive rows.

    ``job_start_s`` and ``job_finish_s`` are nan until the job's first task starts and its last one is done.
    """

    __slots__ = ("_blank", "arrival_s", "composition", "job_finish_s", "job_start_s", "stream")

    def __init__(self) -> None:
        self.arrival_s = array("d")
        self.stream = array("H")
        self.composition = array("i")
        self.job_start_s = array("d")
        self.job_finish_s = array("d")
        self._blank: dict[int, array[float]] = {}

    def arrive(self, now_s: float, stream: int, composition: int, jobs: int) -> tuple[int, int]:
        """A request arrived: its row, and the row of its first job."""
        row, first = len(self.arrival_s), len(self.job_start_s)
        self.arrival_s.append(now_s)
        self.stream.append(stream)
        self.composition.append(composition)
        blank = self._blank.get(jobs)
        if blank is None:
            blank = self._blank[jobs] = array("d", [NAN] * jobs)
        self.job_start_s.extend(blank)
        self.job_finish_s.extend(blank)
        return row, first

    @property
    def bytes_per_request(self) -> float:
        """Mean bytes of a recorded request, jobs included."""
        count = len(self.arrival_s)
        jobs = len(self.job_start_s)
        return (14 * count + 16 * jobs) / count if count else 0.0
