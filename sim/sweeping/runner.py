"""Runs the points of a sweep on any ``concurrent.futures.Executor``; no finished point is lost or run again.

When a worker dies, every point that may have killed it is run again alone; a point that kills its worker
``max_attempts`` times alone is quarantined: it becomes an error row and the sweep goes on.
"""

from __future__ import annotations

import pickle
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from .executors import is_broken, is_killed_worker, kill
from .rowfile import Journal, error_line, row_line

PointFunction = Callable[[Any], dict[str, Any]]
Progress = Callable[[int, int, int], None]

BATCH_S = 0.01
"""Short points travel together until a task lasts about this long; a longer point travels alone."""

MAX_BATCH = 64

LOST_S = 2.0
"""How often to look whether the pool is broken though no task says so: until Python 3.12.1, a task that is
submitted just while a worker dies is forgotten."""


class RunnerError(RuntimeError):
    """The sweep cannot go on; the rows written so far are kept."""


@dataclass(frozen=True, slots=True)
class RunnerReport:
    """What ``run_points`` did. ``total = resumed + ran``; failed and quarantined are counts of rows in it."""

    total: int
    resumed: int
    ran: int
    failed: int
    quarantined: int
    pools_lost: int


def run_points(
    function: PointFunction,
    todo: Mapping[str, Any],
    *,
    executor_factory: Callable[[], Executor],
    path: Path,
    window: int,
    max_attempts: int = 3,
    progress: Progress | None = None,
    retry_failed: bool = False,
    batch: int | None = None,
) -> RunnerReport:
    """Run ``function(argument)`` for every key of ``todo`` that has no row in ``path`` yet.

    ``function`` is a top-level callable that workers can import; it takes one picklable argument and returns
    a dict of JSON values without the keys ``key`` and ``error``. What it raises becomes an error row; error
    rows are run again only with ``retry_failed``. At most ``window`` tasks are in flight: twice the number of
    workers is good. ``batch`` is the number of points per task; by default as many as take ``BATCH_S``
    seconds (on a cluster, where a task costs about 10 ms, give 5 to 20 for short points). ``progress(done,
    total, failed)`` is called at the start and after each point.

    Ctrl-C stops at once: finished points are kept, workers are killed, KeyboardInterrupt goes up. Raises
    LockedError if another sweep writes ``path``, CorruptFileError if it is damaged before its last line (a
    torn last line is cut off and its point run again), RunnerError if workers cannot run the function at all
    or the cluster is lost, ValueError for limits below 1, and what pickle raises if ``function`` cannot be
    sent.
    """
    limits = _Limits(window, max_attempts, batch)
    pickle.dumps(function)
    journal = Journal(path, todo.keys())
    try:
        return _Run(function, todo, executor_factory, journal, limits, progress, retry_failed).drive()
    finally:
        journal.close()


def _run_batch(
    function: PointFunction, points: Sequence[tuple[str, Any]], budget_s: float
) -> tuple[list[tuple[str, bool, str]], float]:
    """In a worker: (key, failed, line) of the points begun within ``budget_s``, and the seconds used."""
    start, used_s, rows = perf_counter(), 0.0, []
    for key, argument in points:
        try:
            row = function(argument)
            if not isinstance(row, dict):
                raise TypeError(f"a point must return a dict, not {type(row).__name__}")
            rows.append((key, False, row_line(key, row)))
        except (Exception, SystemExit) as error:
            rows.append((key, True, error_line(key, type(error).__name__, str(error))))
        used_s = perf_counter() - start
        if used_s >= budget_s:
            break
    return rows, used_s


def _can_import(function: PointFunction) -> bool:
    return callable(function)


@dataclass(frozen=True, slots=True)
class _Limits:
    window: int
    max_attempts: int
    batch: int | None

    def __post_init__(self) -> None:
        for name in ("window", "max_attempts", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be 1 or more")


class _Run:
    """One call of ``run_points``. A key is in ``waiting``, ``suspects``, a task of ``flying``, or has a row.

    While there are suspects nothing else starts: each runs alone, so that the blame for a death is exact.
    """

    def __init__(
        self,
        function: PointFunction,
        todo: Mapping[str, Any],
        factory: Callable[[], Executor],
        journal: Journal,
        limits: _Limits,
        progress: Progress | None,
        retry_failed: bool,
    ) -> None:
        self.function, self.todo, self.factory = function, todo, factory
        self.journal, self.limits, self.progress = journal, limits, progress
        done = {key: error for key, error in journal.errors.items() if not (error and retry_failed)}
        self.waiting = deque(key for key in todo if key not in done)
        self.suspects: deque[str] = deque()
        self.flying: dict[Future[Any], tuple[list[str], bool]] = {}
        self.deaths: Counter[str] = Counter()
        self.point_s = BATCH_S
        self.resumed, self.ran, self.pools_lost = len(done), 0, 0
        self.failed = sum(error is not None for error in done.values())
        self.quarantined = sum(bool(error and error["quarantined"]) for error in done.values())

    def drive(self) -> RunnerReport:
        self._tell()
        if self.waiting:
            self.executor = self.factory()
            try:
                self._loop()
            except BaseException:
                try:
                    self._keep_finished()
                finally:
                    kill(self.executor)
                raise
            self.executor.shutdown()
        return RunnerReport(
            len(self.todo), self.resumed, self.ran, self.failed, self.quarantined, self.pools_lost
        )

    def _loop(self) -> None:
        while self.waiting or self.suspects or self.flying:
            broken = not self._fill()
            done: Iterable[Future[Any]] = ()
            if self.flying and not broken:
                done = wait(self.flying, timeout=LOST_S, return_when=FIRST_COMPLETED).done
                broken = not done and is_broken(self.executor)
            for future in done:
                broken |= self._settle(future)
            if broken:
                self._replace_executor()

    def _fill(self) -> bool:
        """Submit what may start now. False if the executor turns out to be broken."""
        while len(self.flying) < self.limits.window:
            alone = bool(self.suspects)
            if (alone and self.flying) or not (alone or self.waiting):
                return True
            source = self.suspects if alone else self.waiting
            keys = [source.popleft() for _ in range(1 if alone else self._batch_size())]
            points = [(key, self.todo[key]) for key in keys]
            budget_s = 2 * BATCH_S if self.limits.batch is None else float("inf")
            try:
                future = self.executor.submit(_run_batch, self.function, points, budget_s)
            except BaseException as error:
                source.extendleft(reversed(keys))
                if isinstance(error, BrokenExecutor) or (
                    isinstance(error, Exception) and is_broken(self.executor)
                ):
                    return False
                raise
            self.flying[future] = keys, alone
            if future.done():  # a serial executor: write before going on
                return True
        return True

    def _batch_size(self) -> int:
        if self.limits.batch is not None:
            return min(self.limits.batch, len(self.waiting))
        share = -(-len(self.waiting) // self.limits.window)
        return min(max(1, int(BATCH_S / self.point_s)), MAX_BATCH, share)

    def _settle(self, future: Future[Any]) -> bool:
        """Write the rows of an ended task, or decide what its points do next. True if its worker died."""
        keys, alone = self.flying.pop(future)
        try:
            rows, used_s = future.result()
        except CancelledError as error:
            raise RunnerError("the executor gave up its tasks: was the cluster lost?") from error
        except BrokenExecutor:
            if alone:
                self.deaths[keys[0]] += 1
            self._suspect(keys, guilty=self.deaths[keys[0]] >= self.limits.max_attempts)
            return True
        except Exception as error:
            if is_killed_worker(error):  # Dask has tried several times itself, but perhaps not alone
                self._suspect(keys, guilty=alone)
            elif len(keys) > 1:  # one of the arguments cannot be sent
                self._suspect(keys, guilty=False)
            else:
                self._write([(keys[0], True, error_line(keys[0], type(error).__name__, str(error)))])
            return False
        self._write(rows)
        self.waiting.extendleft(reversed(keys[len(rows) :]))
        self.point_s = max(0.7 * self.point_s + 0.3 * used_s / len(rows), 1e-9)
        return False

    def _suspect(self, keys: list[str], guilty: bool) -> None:
        if not guilty:
            self.suspects.extend(keys)
            return
        self.quarantined += 1
        message = "the worker process died each time it ran this point alone"
        self._write([(keys[0], True, error_line(keys[0], "WorkerDied", message, quarantined=True))])

    def _write(self, rows: Sequence[tuple[str, bool, str]]) -> None:
        self.journal.append(line for _, _, line in rows)
        for _, failed, _ in rows:
            self.ran += 1
            self.failed += failed
            self._tell()

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(self.resumed + self.ran, len(self.todo), self.failed)

    def _replace_executor(self) -> None:
        self.pools_lost += 1
        kill(self.executor)
        for future in list(self.flying):
            if not future.done():  # submitted while the pool broke; see LOST_S
                future.set_exception(BrokenExecutor())
            self._settle(future)
        self.executor = self.factory()
        if not self.ran:  # is it the points, or can workers not even start and import the function?
            try:
                self.executor.submit(_can_import, self.function).result()
            except BrokenExecutor as error:
                raise RunnerError("workers die before they run a point: see stderr") from error

    def _keep_finished(self) -> None:
        for future in [f for f in self.flying if f.done() and not f.cancelled() and f.exception() is None]:
            self._settle(future)
