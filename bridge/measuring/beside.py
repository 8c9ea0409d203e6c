"""How much tasks slow each other down: loops of one class of task, alone and beside one of another.

The classes of ``Runtime.slowdown``: a convolution that fits the caches (compute), a fully-connected layer
whose weights do not (memory), direct reads (load). They run as a replay's tasks do, in threads of one process
that are bound to processors of their own, each in turn on either: one of them serves the disk's interrupts.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ..bundles.cache import bundle_of
from ..machine.memory import Region
from ..machine.storage import WeightsFile
from ..program import Program

if TYPE_CHECKING:
    from ..bundles.bundle import Bundle
    from .bench import Bench

CLASSES = ("compute", "memory", "load")
CHANNELS, SIDE = 96, 28
"""Of the convolution: less than a megabyte in all, 65 million multiply-accumulates."""
FEATURES = 4096
"""Of the fully-connected layer: 64 MiB of weights."""
PIECE_BYTES = 256 * 1024
"""Of one load: a layer's, as networks for small devices have them on average."""
BLOCK_S = 0.2
ROUNDS = 8
MIN_SAMPLES = 3
"""Of each loop in a block, however long it takes; and those that count, for a round to count."""
MIN_ROUNDS = 3


class Stretch(NamedTuple):
    """One turn of a loop."""

    start_s: float
    end_s: float


class Factor(NamedTuple):
    """How many times longer a task takes beside another: median and quartiles of so many rounds."""

    factor: float
    low: float
    high: float
    rounds: int


def measure(
    bench: Bench, compute: Path, memory: Path, cpus: Sequence[Sequence[int]]
) -> dict[tuple[str, str], Factor]:
    """Factors by (class, class beside it); a pair with too few samples is missing.

    ``compute`` and ``memory`` are folders of bundles, ``cpus`` those of two workers.
    """
    bench.ask("loops", compute=str(compute), memory=str(memory))
    blocks = [(name,) for name in CLASSES] + [
        (a, b) for index, a in enumerate(CLASSES) for b in CLASSES[index:]
    ]
    places = [(block, order) for block in blocks for order in (cpus[:2], cpus[1::-1])]
    rng = np.random.default_rng(0)
    rounds = []
    for _ in range(ROUNDS):
        found: dict[tuple[str, ...], list[float]] = {}
        for at in rng.permutation(len(places)):
            block, order = places[at]
            turns = [
                [Stretch(*row) for row in rows]
                for rows in bench.ask("beside", classes=block, cpus=order[: len(block)], seconds=BLOCK_S)
            ]
            found.setdefault(block, []).extend(taken_s(turns[0], *turns[1:]))
            if len(block) == 2:
                found.setdefault(block[::-1], []).extend(taken_s(turns[1], turns[0]))
        rounds.append(found)
    return factors(rounds)


def factors(rounds: Sequence[Mapping[tuple[str, ...], Sequence[float]]]) -> dict[tuple[str, str], Factor]:
    """Factors from times by class (alone) and by pair of classes, of several rounds.

    What is alone and what is beside are held against each other within a round, since a disk may be faster
    now and slower then. Means: most of what a load takes from an execution it takes at once, in interrupts.
    """
    ratios: dict[tuple[str, str], list[float]] = {}
    for found in rounds:
        for classes, samples in found.items():
            alone = found.get(classes[:1], ())
            if len(classes) == 2 and min(len(samples), len(alone)) >= MIN_SAMPLES:
                ratio = statistics.fmean(samples) / statistics.fmean(alone)
                ratios.setdefault((classes[0], classes[1]), []).append(ratio)
    return {pair: _factor(each) for pair, each in ratios.items() if len(each) >= MIN_ROUNDS}


def _factor(ratios: Sequence[float]) -> Factor:
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Factor(middle, low, high, len(ratios))


def taken_s(mine: Sequence[Stretch], other: Sequence[Stretch] | None = None) -> list[float]:
    """Seconds of a loop's turns; with an ``other`` beside it, of those in which that ran all the time."""
    return [
        turn.end_s - turn.start_s
        for turn in mine
        if other is None or (other and other[0].start_s <= turn.start_s and turn.end_s <= other[-1].end_s)
    ]


# -- the layers ---------------------------------------------------------------------------------------------


def make_bundles(cache: Path) -> tuple[Bundle, Bundle]:
    """Bundles of the layer that computes and of the one that reads memory, kept in ``cache``."""
    with tempfile.TemporaryDirectory(dir=cache, prefix="models-") as scratch:
        compute, memory = Path(scratch) / "compute.onnx", Path(scratch) / "memory.onnx"
        image = (1, CHANNELS, SIDE, SIDE)
        _write(compute, "Conv", (CHANNELS, CHANNELS, 3, 3), image, image, pads=[1] * 4)
        _write(memory, "Gemm", (FEATURES, FEATURES), (1, FEATURES), (1, FEATURES), transB=1)
        return bundle_of(compute, cache=cache), bundle_of(memory, cache=cache)


def _write(
    path: Path,
    op: str,
    weights: tuple[int, ...],
    image: tuple[int, ...],
    output: tuple[int, ...],
    **attributes: Any,
) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    values = np.random.default_rng(0).standard_normal(weights, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"], **attributes)],
        path.stem,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(values, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


# -- in the measuring process -------------------------------------------------------------------------------


class Loop(Protocol):
    """Something that can be done again and again."""

    def step(self) -> None:
        """Do it once."""

    def tidy(self) -> None:
        """What the next time needs, and what is not timed."""


class _Execution:
    """The heaviest layer of a program, its weights in memory."""

    def __init__(self, program: Program) -> None:
        self.job = program.begin()
        self.job.init()
        for layer in range(len(program.layers)):
            self.job.load(layer)
            self.job.execute(layer)
        macs = [layer.macs for layer in program.layers]
        self.layer = macs.index(max(macs))

    def step(self) -> None:
        self.job.execute(self.layer)

    def tidy(self) -> None:
        """Nothing."""


class _Load:
    """Direct reads of one piece after the other into memory that appears with each."""

    def __init__(self, file: WeightsFile, piece: int) -> None:
        self.file = file
        self.count = file.size_bytes // PIECE_BYTES
        self.piece = piece
        self.region = Region(PIECE_BYTES)

    def step(self) -> None:
        offset = self.piece % self.count * PIECE_BYTES
        self.file.read_into(self.region.view(0, PIECE_BYTES), offset)

    def tidy(self) -> None:
        self.region.release(0, PIECE_BYTES)
        self.piece += 1


def loops(compute: Bundle, memory: Bundle) -> dict[str, list[Loop]]:
    """Two loops of each class, for two threads; the weights that loading reads are the second bundle's."""
    programs = Program(compute), Program(memory)
    file = WeightsFile(memory.weights_path)
    half = file.size_bytes // PIECE_BYTES // 2
    return {
        "compute": [_Execution(programs[0]) for _ in range(2)],
        "memory": [_Execution(programs[1]) for _ in range(2)],
        "load": [_Load(file, number * half) for number in range(2)],
    }


def repeat(loop: Loop, start: threading.Barrier, seconds: float) -> list[Stretch]:
    """Go round for so long, and ``MIN_SAMPLES`` times at least."""
    found: list[Stretch] = []
    loop.tidy()
    start.wait()
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s or len(found) < MIN_SAMPLES:
        start_s = time.monotonic()
        loop.step()
        found.append(Stretch(start_s, time.monotonic()))
        loop.tidy()
    return found
