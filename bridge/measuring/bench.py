"""A process of its own, in which things are measured: ``python -m edgesched.bridge.measuring.bench``.

``Bench`` drives it. It is prepared as the replaying process is, and nothing else happens in it: no progress
bar, no files. Each line of JSON in asks for something, and one line out answers.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..machine.cgroup import UNLIMITED_BYTES, MemoryGroup, Unavailable

_PR_SET_PDEATHSIG = 1


class BenchError(ValueError):
    """Something could not be measured; the message is that of what failed."""


class Bench:
    """The measuring process, as seen from the one that needs the measurements."""

    def __init__(self) -> None:
        """Start it."""
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.bench"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            start_new_session=True,  # an interrupt at the terminal is for us only
            text=True,
        )

        # A replay's process is charged for its memory, which makes every page fault dearer: so is this one.
        try:
            self._group: MemoryGroup | None = MemoryGroup.create(UNLIMITED_BYTES)
            self._group.add(self._process.pid)
        except Unavailable:
            self._group = None

    def ask(self, question: str, /, **arguments: Any) -> Any:
        """Have something measured; the arguments are those of the function ``do_<question>`` below.

        Raises BenchError where that raised, or where the process died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([question, arguments]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise BenchError(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise BenchError(answer["error"])
        return answer["found"]

    def _last_words(self) -> str:
        code = self._process.wait()
        self._complaints.seek(0)
        said = self._complaints.read().decode(errors="replace").strip().splitlines()[-1:]
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return ": ".join([f"the measuring process ended with {how}", *said])

    def close(self) -> None:
        """End the process, whatever it is doing; a second call does nothing."""
        self._process.kill()
        self._process.communicate()
        if self._group is not None:
            self._group.close()
        self._complaints.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# -- in the process itself ----------------------------------------------------------------------------------


class _Measuring:
    """What the process holds between two questions."""

    def __init__(self) -> None:
        self.programs: dict[tuple[str, int], Any] = {}
        self.files: dict[tuple[str, str], Any] = {}
        self.threads: dict[tuple[int, ...], ThreadPoolExecutor] = {}
        self.loops: dict[str, Any] = {}
        self.before: Any = None
        self.primitives: Any = None
        self.one_thread: Any = None

    def do_prepare(
        self, bundles: dict[str, str], pins: dict[str, list[int]], pace: float | None = None
    ) -> None:
        """Open the bundles by network, for every number of threads in ``pins`` and its processors.

        Direct reads keep the ``pace`` in bytes/s, None: as fast as they can.
        """
        from ..bundles.bundle import open_bundle
        from ..machine.storage import Pace, WeightsFile
        from ..program import Program
        from .passes import timed_pass

        kept = None if pace is None else Pace(pace)
        for name, folder in bundles.items():
            bundle = open_bundle(Path(folder), name=name)
            self.files[name, "direct"] = WeightsFile(bundle.weights_path, "direct", kept)
            self.files[name, "cached"] = WeightsFile(bundle.weights_path, "cached")
            for threads, cpus in pins.items():
                # The threads of a session may run where the thread that makes it may: anywhere.
                program = Program(bundle, threads=int(threads))
                self.programs[name, int(threads)] = program
                for what in ("cached", "direct"):
                    program.file = self.files[name, what]
                    self.pinned(cpus, timed_pass, program)
        gc.collect()
        gc.freeze()

    def do_warm_up(self) -> None:
        """Weights lie in the page cache, where passes that load through it expect them."""
        for (_, how), file in self.files.items():
            if how == "cached":
                file.path.read_bytes()

    def do_pass(self, network: str, threads: int, what: str, cpus: list[int]) -> dict[str, Any]:
        """One pass of ``passes.timed_pass``, ``timed_stretch`` or ``memory_pass``; what disturbed it, too."""
        from .passes import memory_pass, timed_pass, timed_stretch

        program = self.programs[network, threads]
        program.file = self.files[network, "cached" if what == "cached" else "direct"]
        if what == "memory":
            return {"held": self.pinned(cpus, memory_pass, program)}
        return self.watched(cpus, timed_stretch if what == "stretch" else timed_pass, program)

    def do_plan(self, scenario: dict[str, Any], folder: str, cpus: list[int]) -> None:
        """Make the networks of a scenario ready under its policy's plan, at its storage's pace."""
        from ...runs.scenario import Scenario
        from ...runs.setup import set_up
        from ..machine.memory import fix_malloc_thresholds
        from ..machine.storage import Pace
        from ..planned import backend as planned
        from .passes import timed_pass

        fix_malloc_thresholds()
        setup = set_up(Scenario.model_validate(scenario), folder=Path(folder))
        plan = planned.plan_of(setup)
        assert plan is not None
        self.one_thread = planned.one_blas_thread()
        pace = setup.device.storage.pace_bytes_per_s
        for name, program in planned.programs(setup, plan).items():
            self.programs[name, 1] = program
            self.pinned(cpus, timed_pass, program)  # compiles, and fills what is made at first use
            program.set_pace(None if pace is None else Pace(pace))
        gc.collect()
        gc.freeze()

    def do_plan_pass(self, network: str, cpus: list[int]) -> dict[str, Any]:
        """One pass of ``passes.timed_pass`` of a network under its plan, and what disturbed the machine."""
        from .passes import timed_pass

        return self.watched(cpus, timed_pass, self.programs[network, 1])

    def watched(self, cpus: Sequence[int], call: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Call in a pinned thread: the tasks that it timed, and what disturbed the machine meanwhile."""
        from ..machine.host import Disturbance, Snapshot
        from .samples import machine_disturbed

        if self.before is None:
            self.before = Snapshot.take()
        tasks = self.pinned(cpus, call, *arguments)
        # Taken right after work each time: an idle processor's frequency would say nothing.
        before, self.before = self.before, Snapshot.take()
        return {"tasks": tasks, "disturbed": machine_disturbed(Disturbance.between(before, self.before))}

    def do_loops(self, compute: str, memory: str) -> None:
        """Make ready what ``do_beside`` repeats, see ``beside.loops``; the arguments are bundles."""
        from ..bundles.bundle import open_bundle
        from .beside import loops

        self.loops = loops(open_bundle(Path(compute)), open_bundle(Path(memory)))

    def do_beside(self, classes: list[str], cpus: list[list[int]], seconds: float) -> list[Any]:
        """Repeat a loop of each class, all at once, each on its processors: samples of each."""
        from .beside import repeat

        chosen = [self.loops[name][number] for number, name in enumerate(classes)]
        start = threading.Barrier(len(chosen))
        running = [
            self.pool(places).submit(repeat, loop, start, seconds)
            for places, loop in zip(cpus, chosen, strict=True)
        ]
        return [each.result() for each in running]

    def do_dispatch(self, cpus: list[int], requests: int) -> tuple[list[float], list[float]]:
        """Durations of tasks that do nothing, see ``dispatch.py``."""
        from .dispatch import measure

        return measure(cpus, requests)

    def do_primitives(
        self,
        cpus: list[int],
        network: str,
        layer: int,
        tensor: list[int] | None,
        workspace: dict[str, int],
        seed: int,
    ) -> dict[str, float]:
        """Make the primitives of a layer ready, or the transforms of a tensor: see ``primitivebench.py``."""
        from ...runs.resolve import network_of
        from .primitivebench import PrimitiveBench

        if self.primitives is None:
            self.primitives = PrimitiveBench()
        if tensor is not None:
            return self.pinned(cpus, self.primitives.tensor, tuple(tensor))
        return self.pinned(cpus, self.primitives.layer, network_of(network), layer, workspace, seed)

    def do_samples(self, cpus: list[int], names: list[str]) -> list[Any]:
        """One sample of each of these primitives, in groups with what disturbed them."""
        return self.pinned(cpus, self.primitives.samples, names)

    def do_blas_threads(self) -> list[int]:
        """How many threads each loaded library of linear algebra computes with."""
        from threadpoolctl import threadpool_info

        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    def pinned(self, cpus: Sequence[int], call: Callable[..., Any], *arguments: Any) -> Any:
        """Call in a thread that is bound as a replay's worker is."""
        return self.pool(cpus).submit(call, *arguments).result()

    def pool(self, cpus: Sequence[int]) -> ThreadPoolExecutor:
        key = tuple(cpus)
        if key not in self.threads:
            self.threads[key] = ThreadPoolExecutor(1, initializer=_settle, initargs=(key,))
        return self.threads[key]


def _settle(cpus: Sequence[int]) -> None:
    from ..machine.host import pin
    from ..machine.storage import precise_timers

    pin(cpus)
    precise_timers()


def main() -> None:
    """Answer until nobody asks any more."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the asking process decides what an interrupt means
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer
    from ..machine.memory import fix_malloc_thresholds

    fix_malloc_thresholds()
    measuring = _Measuring()
    for line in sys.stdin:
        question, arguments = json.loads(line)
        try:
            answer = {"found": getattr(measuring, f"do_{question}")(**arguments)}
        except Exception as error:
            traceback.print_exc()
            text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            answer = {"error": text}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    os._exit(0)  # threads may still wait; nothing is left to tidy


if __name__ == "__main__":
    main()
