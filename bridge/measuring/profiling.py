"""Profile networks on this machine: what every layer takes and holds, executed as a replay executes it.

Rounds of passes, one inference each, in random order over networks, numbers of threads and ways to load, so
that what changes slowly on a machine (its temperature) changes all alike. Disturbed samples are left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

import numpy as np

from ...policies.graph import WHOLE_NETWORK
from ...traces.profile import Profile, ProfileRow, write_profile
from ..bundles.bundle import Bundle
from ..machine import host
from ..machine.storage import WeightsFile
from ..prepare import Tell, bundles_of
from . import here
from .bench import Bench
from .passes import EXECUTE, INIT, LOAD, Held, Timed
from .quiet import unrest
from .samplefile import SampleFile
from .samples import MIN_CLEAN, Cell, Config, Pass, Samples, Statistic

ROUNDS = 11
OWN_SPEED_ROUNDS = 44
"""Where a profile stands for a disk at its own speed, which drifts by a tenth within seconds."""
MOST = 3
"""Times the rounds asked for, where samples are disturbed."""
MEMORY_PASSES = 3

Progress = Callable[[int, int], object]
"""Told (passes done, all passes)."""


class ProfilingError(ValueError):
    """What was asked for cannot be profiled; the message says why."""


def profile_networks(names: Iterable[str], folder: Path | None, out: Path, **options: Any) -> Path:
    """Measure networks and write ``out``; returns it. Options and errors are those of ``Profiling``."""
    with Profiling(names, folder, out, **options) as profiling:
        profiling.measure()
        return profiling.finish()


class Profiling:
    """A profile in the making: some rounds of measuring now, some later, the file at the end."""

    def __init__(
        self,
        names: Iterable[str],
        folder: Path | None,
        out: Path,
        *,
        threads: Sequence[int] = (1,),
        rounds: int = ROUNDS,
        seed: int = 0,
        statistic: Statistic = "median",
        keep_disturbed: bool = False,
        pace_bytes_per_s: float | None = None,
        cache: Path | None = None,
        tell: Tell | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Get ready to measure networks (of the catalogue, or ``model.onnx`` below ``folder``) for ``out``.

        ``threads`` are the numbers of threads to execute with. ``keep_disturbed``: see ``Samples``.
        ``pace_bytes_per_s`` slows direct reads down, as in a replay at that pace: what waking from its waits
        costs is then in the profile. ``seed`` is that of the order of passes. Samples lie in
        ``<out>.samples`` until ``finish``: the same call goes on where an interrupted one stopped. ``tell``
        hears warnings and how many samples were disturbed.

        Raises ValueError: ProfilingError, or what made the bundles, the samples' file or the measuring
        raised.
        """
        self._say = tell or (lambda text: None)
        _check(out, threads, rounds, seed, statistic)
        self.rounds = rounds
        self._out = out
        self._threads = threads
        self._statistic = statistic
        self._keep_disturbed = keep_disturbed
        pins = {count: here.worker_cpus(count)[0] for count in threads}
        self._bundles = _by_name(bundles_of(names, folder, cache=cache, tell=tell).values())
        self._options = {
            "bundles": {name: bundle.sha256 for name, bundle in self._bundles.items()},
            "threads": list(threads),
            "rounds": rounds,
            "seed": seed,
            "pace_bytes_per_s": pace_bytes_per_s,
        }
        self._configs = _configs(self._bundles, list(pins))
        self._file = SampleFile(out.with_name(f"{out.name}.samples"), self._options)
        self._samples = Samples(self._file.passes, keep_disturbed=keep_disturbed)
        self._bench = _LateBench(self._bundles, pins, pace_bytes_per_s)
        self._passes = _passes(self._configs, pins, self._options, self._samples, self._bench, progress)
        if self._file.passes:
            self._say(f"{self._file.path}: going on after {len(self._file.passes)} passes")
        elif (warning := unrest()) is not None:
            self._say(f"warning: {warning}")

    def measure(self, rounds: int | None = None) -> None:
        """Make what is missing of the first ``rounds`` rounds; None: of all, and more where it is wanted."""
        self._bench.warm_up()
        wanted = math.inf if rounds is None else _count(self._configs, rounds)
        while len(self._samples.taken) < wanted and (each := next(self._passes, None)) is not None:
            self._file.append(each)
            self._samples.add(each)
        self._evict()

    def write(self, out: Path) -> Path:
        """Write what has been measured so far as a profile."""
        self._write(out)
        return out

    def finish(self) -> Path:
        """Write the profile, and drop the samples."""
        metadata, doubtful = self._write(self._out)
        self._file.remove()
        told = "disturbed, and added to all" if self._keep_disturbed else "left out as disturbed"
        self._say(f"{metadata['samples']}; {told}: {metadata['disturbed']}")
        if doubtful:
            self._say(f"warning: too few undisturbed samples, so all were used: {', '.join(doubtful)}")
        return self._out

    def _write(self, out: Path) -> tuple[dict[str, str], list[str]]:
        wanted = min(MIN_CLEAN, self.rounds)
        rows, doubtful = _rows(self._bundles, self._threads, self._samples, self._statistic, wanted)
        metadata = _header(self._options, self._samples, self._statistic, len(doubtful), self._keep_disturbed)
        write_profile(Profile(tuple(rows), metadata, str(out)), out)
        return metadata, doubtful

    def _evict(self) -> None:
        """What loading through the page cache has filled is empty again."""
        for bundle in self._bundles.values():
            with WeightsFile(bundle.weights_path, "cached") as weights:
                weights.evict()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._passes.close()
        self._bench.close()
        self._file.__exit__(kind, error, trace)


class _LateBench:
    """The measuring process, started when something is to be measured."""

    def __init__(
        self, bundles: Mapping[str, Bundle], pins: Mapping[int, Sequence[int]], pace: float | None
    ) -> None:
        self._folders = {name: str(bundle.folder) for name, bundle in bundles.items()}
        self._pins = pins
        self._pace = pace
        self._stack = ExitStack()
        self._bench: Bench | None = None

    def ask(self, question: str, /, **arguments: Any) -> Any:
        """See ``Bench.ask``."""
        if self._bench is None:
            self._bench = self._stack.enter_context(Bench())
            self._bench.ask("prepare", bundles=self._folders, pins=self._pins, pace=self._pace)
        return self._bench.ask(question, **arguments)

    def warm_up(self) -> None:
        """Weights lie in the page cache again; a process that starts later brings them there itself."""
        if self._bench is not None:
            self._bench.ask("warm_up")

    def close(self) -> None:
        """End the process, if there is one."""
        self._stack.close()


def _check(out: Path, threads: Sequence[int], rounds: int, seed: int, statistic: str) -> None:
    if out.suffix.lower() != ".csv":
        raise ProfilingError(f"{out}: is to be a profile, whose name ends in .csv")
    if not threads or min(threads) < 1 or len(set(threads)) < len(threads):
        raise ProfilingError(f"threads: seen {list(threads)}, must be different whole numbers of at least 1")
    if rounds < 1 or seed < 0:
        raise ProfilingError(f"needs one round or more and a seed of at least 0, seen {rounds} and {seed}")
    if statistic not in get_args(Statistic):
        raise ProfilingError(f"statistic: seen {statistic!r}, must be {' or '.join(get_args(Statistic))}")


def _by_name(bundles: Iterable[Bundle]) -> dict[str, Bundle]:
    found: dict[str, Bundle] = {}
    for bundle in bundles:
        if found.setdefault(bundle.name, bundle) is not bundle:
            raise ProfilingError(f"two models are called {bundle.name!r}; rename one of the files")
    if not found:
        raise ProfilingError("no network was named")
    return found


# -- measuring ----------------------------------------------------------------------------------------------


def _passes(
    configs: Sequence[Config],
    pins: Mapping[int, Sequence[int]],
    options: Mapping[str, Any],
    samples: Samples,
    bench: _LateBench,
    progress: Progress | None,
) -> Generator[Pass, None, None]:
    """The passes that ``samples`` does not have; it must have each before the next one is asked for."""
    rounds, seed = options["rounds"], options["seed"]
    wanted = min(MIN_CLEAN, rounds)
    total = _count(configs, rounds)
    done = len(samples.taken)
    for number in range(rounds * MOST):
        chosen = _round(configs, number)
        if number >= rounds:
            chosen = [c for c in chosen if c.what != "memory" and samples.lacks(c, wanted)]
            total = max(total, done + len(chosen))
        for at in np.random.default_rng([seed, number]).permutation(len(chosen)):
            config = chosen[at]
            if (number, config) in samples.taken:
                continue
            if progress is not None:
                progress(done, total)
            yield _pass(number, config, bench.ask("pass", cpus=pins[config.threads], **config._asdict()))
            done += 1
    if progress is not None:
        progress(done, done)


def _configs(bundles: Iterable[str], threads: Sequence[int]) -> list[Config]:
    """What a round measures: loading through the page cache does not depend on the threads."""
    found = []
    for name in bundles:
        found.append(Config(name, threads[0], "cached"))
        found += [Config(name, count, "direct") for count in threads]
        found += [Config(name, count, "stretch") for count in threads]
        found += [Config(name, count, "memory") for count in threads]
    return found


def _round(configs: Sequence[Config], number: int) -> list[Config]:
    return [config for config in configs if config.what != "memory" or number < MEMORY_PASSES]


def _count(configs: Sequence[Config], rounds: int) -> int:
    """Passes of the first rounds."""
    return sum(len(_round(configs, number)) for number in range(rounds))


def _pass(number: int, config: Config, answer: Mapping[str, Any]) -> Pass:
    return Pass(
        number,
        config,
        answer.get("disturbed", ""),
        tuple(Timed(*row) for row in answer.get("tasks", ())),
        tuple(Held(*row) for row in answer.get("held", ())),
    )


# -- what came of it ----------------------------------------------------------------------------------------


def _rows(
    bundles: Mapping[str, Bundle],
    threads: Sequence[int],
    samples: Samples,
    statistic: Statistic,
    wanted: int,
) -> tuple[list[ProfileRow], list[str]]:
    """The profile's rows, and the names of those that disturbed samples are in."""
    processor = here.processors()[0].name
    rows: list[ProfileRow] = []
    doubtful: list[str] = []
    for name, bundle in bundles.items():
        network = bundle.network()
        for count in threads:
            direct = Config(name, count, "direct")
            cached = Config(name, threads[0], "cached")
            stretch = Config(name, count, "stretch")
            held = samples.memory(Config(name, count, "memory"))

            def cell(config: Config, task: str, layer: int, what: str) -> Cell:
                found = samples.cell(config, task, layer, statistic, wanted)
                if not found.clean:
                    doubtful.append(what)
                return found

            where = f"{name} with {count} threads" if len(threads) > 1 else name
            init = cell(direct, INIT, WHOLE_NETWORK, f"{where} init")
            cold = cell(stretch, LOAD, WHOLE_NETWORK, f"{where} cold load at a stretch")
            execute = cell(stretch, EXECUTE, WHOLE_NETWORK, f"{where} at a stretch")
            rows.append(
                ProfileRow(
                    name,
                    processor=processor,
                    threads=count,
                    cold_load_s=cold.seconds,
                    init_s=init.seconds,
                    execute_s=execute.seconds,
                    weight_bytes=network.weight_bytes,
                    samples=min(init.samples, cold.samples, execute.samples),
                    cold_load_sd_s=cold.sd_s,
                    init_sd_s=init.sd_s,
                    execute_sd_s=execute.sd_s,
                    arena_bytes=bundle.arena_bytes,
                    **_bytes(held.get(WHOLE_NETWORK)),
                )
            )
            for index, layer in enumerate(network.layers):
                what = f"{where} {layer.name}"
                load = cell(cached, LOAD, index, f"{what} load")
                cold = cell(direct, LOAD, index, f"{what} cold load")
                execute = cell(direct, EXECUTE, index, what)
                rows.append(
                    ProfileRow(
                        name,
                        index,
                        layer.name,
                        layer.op,
                        processor=processor,
                        threads=count,
                        load_s=load.seconds,
                        cold_load_s=cold.seconds,
                        execute_s=execute.seconds,
                        weight_bytes=layer.weight_bytes,
                        samples=min(load.samples, cold.samples, execute.samples),
                        load_sd_s=load.sd_s,
                        cold_load_sd_s=cold.sd_s,
                        execute_sd_s=execute.sd_s,
                        inputs=layer.inputs,
                        macs=layer.macs,
                        output_bytes=layer.output_bytes,
                        **_bytes(held.get(index), workspace=True),
                    )
                )
    return rows, doubtful


def _bytes(held: Held | None, workspace: bool = False) -> dict[str, Any]:
    """What was resident, where it could be measured; the whole network has no workspace of its own."""
    if held is None:
        return {}
    found = {"peak_bytes": held.peak_bytes, "held_bytes": held.held_bytes}
    return {**found, "workspace_bytes": held.workspace_bytes} if workspace else found


def _header(
    options: Mapping[str, Any], samples: Samples, statistic: str, doubtful: int, keep_disturbed: bool
) -> dict[str, str]:
    left_out = ", ".join(f"{reason} {count}" for reason, count in samples.disturbed.most_common())
    which = "undisturbed samples"
    if keep_disturbed:
        which += ", with what disturbances added to all of their kind"
    lines: dict[str, Any] = {
        "source": "measured by edgesched profile",
        **machine_header(),
        "conditions": "layers executed as in a replay, one task at a time, in one thread on its processors, "
        "a whole network's row all layers at a stretch; cold_load_s past the page cache, load_s through it; "
        "workspace below 256 KiB counts as none",
        "statistic": f"{statistic} and standard deviation of {which}",
        "rounds": f"{options['rounds']}, in an order of seed {options['seed']}",
        "samples": f"{samples.count} samples in {len(samples.taken)} passes",
        "disturbed": left_out or "none",
        "doubtful": f"{doubtful} cells of all samples, as too few were undisturbed" if doubtful else None,
        "bundles": options["bundles"],
        "pace_bytes_per_s": options["pace_bytes_per_s"],
    }
    return {key: one_line(value) for key, value in lines.items() if value}


def machine_header() -> dict[str, Any]:
    """What a profile says of the machine it was measured on, now."""
    facts = host.facts()
    cluster = facts["clusters"][0]
    return {
        "role": "measured",
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "device": facts["board"],
        "cpu": facts["cpu"],
        "frequency": None if cluster["max_hz"] is None else f"at most {cluster['max_hz'] / 1e6:.0f} MHz",
        "governor": cluster["governor"],
        "temperatures": facts["temperatures"],
        "throttled since start": facts["throttled_since_start"],
        "os": facts["os"],
        "kernel": facts["kernel"],
        "virtualisation": facts["virtualisation"],
        "runtime": f"onnxruntime {facts['onnxruntime']}, python {facts['python']}, numpy {facts['numpy']}",
        "blas": facts["blas"],
    }


def one_line(value: Any) -> str:
    """A fact as a line of a profile's header."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split())
