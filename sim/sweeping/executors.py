"""Where the points of a sweep run: in this process, in processes of this machine, on a Dask cluster.

Each is a ``concurrent.futures.Executor``, and what differs between them beyond that is here: how one is seen
to be broken, how its workers are ended at once, and how a worker notices that its driver is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import connection
from typing import Any


def local_executor(workers: int, *, isolate: bool = False, preload: Sequence[str] = ()) -> Executor:
    """Processes of this machine, or for one worker this process itself (``isolate`` gives it a process too).

    Without isolation a point that kills its process kills the sweep. ``preload`` names modules that the fork
    server imports once for all workers, as the one that holds the point's function. Workers end within 2 s of
    the end of the driver, however it ends. Raises ValueError if ``workers`` is below 1.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; it must be 1 or more")
    if workers == 1 and not isolate:
        return SerialExecutor()
    server = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if server else "spawn")
    if server:
        context.set_forkserver_preload([__name__, *preload])
    pool = ProcessPoolExecutor(workers, context, _start_worker)
    # Start all workers before the first task: until Python 3.12.1, one that starts just while another dies
    # can break submit with an OSError, or be waited for for ever.
    pool._safe_to_dynamically_spawn_children = False  # type: ignore[attr-defined]
    return pool


def cluster_executor(address: str) -> Executor:
    """The workers of a Dask cluster whose scheduler listens at ``address``, as ``tcp://host:8786``.

    Each worker must be able to import the point's function, and should have one thread. Raises ImportError
    without the extra ``cluster``, OSError if nobody answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError("sweeps on a cluster need Dask: pip install 'edgesched[cluster]'") from error
    return _ClusterExecutor(Client(address, set_as_default=False))


class SerialExecutor(Executor):
    """Runs each call at once, in the caller's thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is already done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class _ClusterExecutor(Executor):
    """Dask's executor that closes its client, too."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._inner = client.get_executor(pure=False)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._inner.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        # Dask has no cancel_futures: without waiting, it cancels.
        self._inner.shutdown(wait=wait and not cancel_futures)
        self._client.close()


def _start_worker() -> None:
    """In a new worker: Ctrl-C is the driver's business; the end of the driver is the end of the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()


def _end_with_driver() -> None:
    # The sentinel is a pipe that the driver holds open (its pid would live on in a zombie). Should a process
    # forked off the driver hold it, too, then without a fork server the change of the parent's pid tells.
    driver, parent_pid = multiprocessing.parent_process(), os.getppid()
    if driver is None:
        raise RuntimeError("this process was not started by multiprocessing; it has no driver to watch")
    while not connection.wait([driver.sentinel], 1.0) and os.getppid() == parent_pid:
        pass
    os._exit(1)


def is_killed_worker(error: Exception) -> bool:
    """Whether Dask says that the workers of the task died, as often as it tried."""
    distributed = sys.modules.get("distributed")
    return distributed is not None and isinstance(error, distributed.KilledWorker)


def is_broken(executor: Executor) -> bool:
    """Whether a pool of processes has lost one and takes no more tasks."""
    return isinstance(executor, ProcessPoolExecutor) and bool(executor._broken)


def kill(executor: Executor) -> None:
    """End the workers now, and wait until they are gone.

    A broken pool needs it, too, for a worker that was being started meanwhile: see ``local_executor``.
    """
    if isinstance(executor, ProcessPoolExecutor):
        for process in list((executor._processes or {}).values()):
            process.kill()
    executor.shutdown(cancel_futures=True)
