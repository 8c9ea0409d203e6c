"""How tasks that run at once delay each other: slow-down by what bounds them, and waiting for storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args

from ..devices.model import SlowdownClass
from ..policies.graph import WHOLE_NETWORK

if TYPE_CHECKING:
    from ..devices.model import Device
    from ..policies.graph import Task

PACED_PIECE_BYTES = 256 * 1024
"""A load at the storage's pace takes turns with others after so many bytes, as in a replay."""
WHOLE_PIECE_BYTES = 1024 * 1024
"""At the storage's own speed: what the kernel asks for at once (``BIO_MAX_VECS``, 256 pages of 4 KiB)."""


class Read(NamedTuple):
    """One read of a load: how long the storage is busy with it alone, and what follows.

    ``rest`` is the share that follows of all time in which the load does not keep the storage busy.
    """

    busy_s: float
    rest: float


class Queue(NamedTuple):
    """Storage that serves one read at a time, first come first served.

    At a pace (``pace_bytes_per_s``) a load is never faster than that, and asks for a piece when it has the
    one before. Else the storage is busy with it for the share ``busy`` of what it takes alone, and it asks
    for a piece while the one before is being read.
    """

    pace_bytes_per_s: float | None
    busy: float

    @property
    def outstanding(self) -> int:
        """For how many pieces of a layer a load waits at once."""
        return 2 if self.pace_bytes_per_s is None else 1

    def reads(self, task: Task) -> tuple[Read, ...]:
        """The reads of a LOAD, last one first; each layer's last one is followed by its share of the rest.

        Layers without weights read nothing; in a network whose bytes are not known, every layer does.
        """
        layers = task.network.network.layers
        chosen = layers if task.layer == WHOLE_NETWORK else layers[task.layer : task.layer + 1]
        known = any(layer.weight_bytes for layer in layers)
        sizes = [layer.weight_bytes for layer in chosen if layer.weight_bytes] if known else [1] * len(chosen)
        if not sizes:
            return ()
        if self.pace_bytes_per_s is None:
            byte_s, piece = self.busy * task.duration_s / sum(sizes), WHOLE_PIECE_BYTES
        else:
            byte_s, piece = 1 / self.pace_bytes_per_s if known else 0.0, PACED_PIECE_BYTES
        reads = []
        for size in sizes:
            whole, last = divmod(size - 1, piece)
            reads += [Read(piece * byte_s, 0.0)] * whole
            reads.append(Read((last + 1) * byte_s, 1 / len(sizes)))
        return tuple(reads[::-1])


def queue_of(device: Device) -> Queue | None:
    """How loads wait for each other at the device's storage; None where they do not, or as the pager says.

    At the storage's pace they take turns, as in a replay. At its own speed, two workers that load without end
    take ``slowdown.load.load`` times as long as one. That is so if the storage is busy for half as much of
    the time that one takes, and with one piece at a time. So small loads wait for the pieces of large ones
    that are under way, and hardly keep those waiting.
    """
    storage = device.storage
    if storage.reads == "mapped" or device.memory.swap is not None:
        return None
    if storage.pace_bytes_per_s is not None:
        return Queue(storage.pace_bytes_per_s, 1.0)
    slowed = device.runtime.slowdown.get("load", {}).get("load")
    return None if slowed is None else Queue(None, min(1.0, slowed / 2))


def excesses(device: Device) -> dict[SlowdownClass, dict[SlowdownClass, float]]:
    """For a task of one class, by how much of its time one of another class beside it delays it.

    ``Runtime.slowdown``, where the class itself goes before the kind "execute". Loads that wait for each
    other (``queue_of``) do not delay each other besides; at the storage's pace nothing delays them, and they
    disturb executions less the more they wait for it.
    """
    classes = get_args(SlowdownClass)
    kinds = {"compute": ("compute", "execute"), "memory": ("memory", "execute")}
    found: dict[SlowdownClass, dict[SlowdownClass, float]] = {}
    for a in classes:
        found[a] = {}
        for b in classes:
            pairs = [(x, y) for x in kinds.get(a, (a,)) for y in kinds.get(b, (b,))]
            table = device.runtime.slowdown
            found[a][b] = next((table[x][y] for x, y in pairs if x in table and y in table[x]), 1.0) - 1.0
    storage = device.storage
    if queue_of(device) is not None:
        found["load"]["load"] = 0.0
    if storage.pace_bytes_per_s is not None:
        found["load"] = dict.fromkeys(classes, 0.0)
        if storage.read_bytes_per_s is not None:
            share = min(1.0, storage.pace_bytes_per_s / storage.read_bytes_per_s)
            for a in classes:
                found[a]["load"] *= share
    return found
