"""Profile primitives on this machine: every implementation of every layer, every transform between layouts.

In some sweeps over all layers, in an order of the seed; for each layer rounds in which every candidate is
timed once, in random order, so that what changes slowly on a machine changes all candidates of a layer alike,
and no layer is measured in a good or a bad minute only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ...runs.resolve import network_of
from ...traces.primitives import PrimitiveProfile, PrimitiveRow, write_primitives
from ..planned.program import one_blas_thread
from ..prepare import Tell
from . import here
from .bench import Bench
from .candidates import Item, items_of
from .passes import Timed
from .primitivebench import FILL_BYTES
from .profiling import MOST, ROUNDS, Progress, machine_header, one_line
from .quiet import unrest
from .samplefile import SampleFile
from .samples import MIN_CLEAN, Config, Pass, Samples

SWEEPS = 3
"""Times that every layer is come back to; making a layer ready takes about as long as measuring it once."""
SLOW = 20.0
"""Times the time of a layer's fastest candidate: what takes longer is measured ``MIN_CLEAN`` times only."""
SLOW_S = 1e-3
"""What takes no longer is not slow."""


class PrimitiveProfilingError(ValueError):
    """What was asked for cannot be profiled; the message says why."""


def profile_primitives(
    names: Iterable[str],
    folder: Path | None,
    out: Path,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    threads: int = 1,
    tell: Tell | None = None,
    progress: Progress | None = None,
) -> Path:
    """Measure every primitive of every distinct layer of the networks and write ``out``; returns it.

    ``names`` are of the catalogue, or of ``model.onnx`` files below ``folder``. ``seed`` is that of the order
    and of the weights. Samples lie in ``<out>.samples`` until the profile is written: the same call goes on
    where an interrupted one stopped. ``tell`` hears warnings and how many samples were left out.

    Raises ValueError: PrimitiveProfilingError, or what the networks, the samples' file or the measuring
    raised.
    """
    say = tell or (lambda text: None)
    if out.suffix.lower() != ".csv":
        raise PrimitiveProfilingError(f"{out}: is to be a primitive profile, whose name ends in .csv")
    if rounds < 1 or seed < 0:
        raise PrimitiveProfilingError(
            f"needs one round or more and a seed of at least 0, seen {rounds} and {seed}"
        )
    if threads != 1:
        raise PrimitiveProfilingError(f"threads: seen {threads}; a primitive is computed by one thread")
    paths = [str((folder / name).resolve()) if _is_file(name) and folder else name for name in names]
    items = items_of([(name, network_of(name)) for name in dict.fromkeys(paths)], say)
    if not items:
        raise PrimitiveProfilingError("no network was named, or none with a layer that is known")
    cpus = here.worker_cpus(threads)[0]
    options = {
        "primitives of": {item.key: [each.name for each in item.candidates] for item in items},
        "rounds": rounds,
        "seed": seed,
    }
    with SampleFile(out.with_name(f"{out.name}.samples"), options) as file:
        passes = list(file.passes)
        samples = Samples(passes)
        if passes:
            say(f"{file.path}: going on after {len(samples.taken)} rounds of layers")
        elif (warning := unrest()) is not None:
            say(f"warning: {warning}")
        for each in _passes(items, cpus, rounds, seed, samples, progress):
            file.append(each)
            passes.append(each)
            samples.add(each)
        rows, doubtful = _rows(items, passes, samples, rounds)
        metadata = _header(paths, rounds, seed, samples, doubtful)
        write_primitives(PrimitiveProfile(tuple(rows), metadata, str(out)), out)
        file.remove()
    say(f"{metadata['samples']}; left out as disturbed: {metadata['disturbed']}")
    if doubtful:
        say(f"warning: too few undisturbed samples of {len(doubtful)} primitives, so all were used")
    return out


def _is_file(name: str) -> bool:
    return name.lower().endswith(".onnx")


def _config(item: Item) -> Config:
    return Config(item.key, 1, "primitive")


# -- measuring ----------------------------------------------------------------------------------------------


class _Measuring:
    """The measuring process: started when it is first needed, and ready for one item at a time."""

    def __init__(self, cpus: Sequence[int], seed: int) -> None:
        self.cpus = cpus
        self.seed = seed
        self._bench: Bench | None = None
        self._item = ""
        self._seconds: dict[str, float] = {}

    def ready(self, item: Item) -> dict[str, float]:
        """Make the item ready, unless it is; what a call of each candidate took."""
        if self._bench is None:
            self._bench = Bench()
        if self._item != item.key:
            self._seconds = self._bench.ask(
                "primitives",
                cpus=self.cpus,
                network=item.network,
                layer=item.index,
                tensor=item.tensor,
                workspace={each.name: each.workspace_bytes for each in item.candidates},
                seed=self.seed,
            )
            self._item = item.key
        return self._seconds

    def samples(self, item: Item, names: Sequence[str]) -> list[tuple[str, list[list[Any]]]]:
        """One sample of each candidate, in that order; in groups, with what disturbed each."""
        self.ready(item)
        assert self._bench is not None
        found: list[tuple[str, list[list[Any]]]] = self._bench.ask("samples", cpus=self.cpus, names=names)
        return found

    def close(self) -> None:
        """End the process."""
        if self._bench is not None:
            self._bench.close()


def _passes(
    items: Sequence[Item],
    cpus: Sequence[int],
    rounds: int,
    seed: int,
    samples: Samples,
    progress: Progress | None,
) -> Iterator[Pass]:
    """The passes that ``samples`` does not have; it must have each before the next one is asked for."""
    tell = progress or (lambda done, total: None)
    total, done = rounds * sum(len(item.candidates) for item in items), 0
    with closing(_Measuring(cpus, seed)) as measuring:
        for at, number in _order(len(items), rounds, seed):
            item = items[at]
            tell(done, total)
            if number < rounds:
                done += len(item.candidates)
            if (number, _config(item)) in samples.taken:
                continue
            names = _chosen(item, number, rounds, samples, measuring)
            if not names:
                continue
            order = np.random.default_rng([seed, number]).permutation(len(names))
            for disturbed, tasks in measuring.samples(item, [names[i] for i in order]):
                yield Pass(number, _config(item), disturbed, tuple(Timed(*task) for task in tasks))
        tell(total, total)


def _order(count: int, rounds: int, seed: int) -> Iterator[tuple[int, int]]:
    """(item, round), some rounds of an item at a time; the last sweep has more, for what lacks samples."""
    numbers = np.array_split(np.arange(rounds), min(SWEEPS, rounds))
    numbers[-1] = np.append(numbers[-1], np.arange(rounds, rounds * MOST))
    for sweep, own in enumerate(numbers):
        for at in np.random.default_rng([seed, sweep]).permutation(count):
            for number in own:
                yield int(at), int(number)


def _chosen(item: Item, number: int, rounds: int, samples: Samples, measuring: _Measuring) -> list[str]:
    """What to measure in a round: slow candidates not every time, and after all rounds what lacks samples."""
    names = [each.name for each in item.candidates]
    if number >= rounds:
        clean = samples.clean_counts(_config(item))
        return [name for name in names if clean.get((name, 0), 0) < min(MIN_CLEAN, rounds)]
    if number < MIN_CLEAN:
        return names
    seconds = measuring.ready(item)
    most = max(SLOW * min(seconds.values()), SLOW_S)
    return [name for name in names if seconds[name] <= most]


# -- what came of it ----------------------------------------------------------------------------------------


def _rows(
    items: Sequence[Item], passes: Sequence[Pass], samples: Samples, rounds: int
) -> tuple[list[PrimitiveRow], list[str]]:
    """The profile's rows, and those that disturbed samples are in."""
    halves = [Samples(each for each in passes if each.round % 2 == parity) for parity in (0, 1)]
    processor = here.processors()[0].name
    wanted = min(MIN_CLEAN, rounds)
    rows, doubtful = [], []
    for item in items:
        config = _config(item)
        for each in item.candidates:
            cell = samples.cell(config, each.name, 0, "median", wanted)
            if not cell.clean:
                doubtful.append(f"{item.key} {each.name}")
            even, odd = (
                half.cell(config, each.name, 0, "median", 1).seconds
                if (each.name, 0) in half.clean_counts(config)
                else None
                for half in halves
            )
            rows.append(
                PrimitiveRow(
                    item.key,
                    each.name,
                    each.in_layout,
                    each.out_layout,
                    cell.seconds,
                    cell.sd_s,
                    cell.samples,
                    even,
                    odd,
                    each.workspace_bytes,
                    each.weight_bytes,
                    processor,
                    1,
                )
            )
    return rows, doubtful


def _header(
    names: Sequence[str], rounds: int, seed: int, samples: Samples, doubtful: Sequence[str]
) -> dict[str, str]:
    left_out = ", ".join(f"{reason} {count}" for reason, count in samples.disturbed.most_common())
    with one_blas_thread():
        machine = machine_header()
    lines: dict[str, Any] = {
        "source": "measured by edgesched profile primitives",
        **machine,
        "networks": ", ".join(Path(name).name if _is_file(name) else name for name in names),
        "conditions": "one image, float32, one thread on its processor, linear algebra in the same thread; "
        f"{FILL_BYTES // 1024**2} MiB of something else and then the input are read before each sample",
        "statistic": "median and standard deviation of undisturbed samples",
        "rounds": f"{rounds}, in an order of seed {seed}; {MIN_CLEAN} of a candidate that takes {SLOW:g} "
        "times as long as the fastest of its layer",
        "samples": f"{samples.count} samples",
        "disturbed": left_out or "none",
        "doubtful": f"{len(doubtful)} rows of all samples, as too few were undisturbed" if doubtful else None,
    }
    return {key: one_line(value) for key, value in lines.items() if value}
