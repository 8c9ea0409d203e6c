"""A board file of this machine: measured where it can be, and otherwise saying what is assumed."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from ...devices.model import Device
from ...traces.primitives import read_primitives
from ...traces.profile import read_profile
from ...traces.table import write_atomically
from ..bundles.cache import cache_folder
from ..machine import host
from ..machine.storage import measure_read_rate
from ..prepare import Tell
from . import base, beside, here
from .bench import Bench
from .ownrates import own_rates
from .quiet import unrest

COMMAND = "edgesched profile device"
NOISE_FACTOR = 1.02
"""A slow-down of less is taken for noise."""
DISPATCH_REQUESTS = 60


class BoardFileError(ValueError):
    """A board or its profile has a name under which it would not be found."""


@dataclass
class _Board:
    """A board's data, and by dotted path how a number was measured or why it was assumed."""

    data: dict[str, Any]
    measured: dict[str, str] = field(default_factory=dict)
    assumed: dict[str, str] = field(default_factory=dict)
    fitted: list[dict[str, Any]] = field(default_factory=list)


def profile_device(
    out: Path,
    *,
    profile: Path | None = None,
    primitives: Path | None = None,
    name: str | None = None,
    storage: Path | None = None,
    threads: int = 1,
    tell: Tell | None = None,
) -> Path:
    """Measure this machine, less than 90 s, and write it as a board to ``out``; returns it.

    ``profile`` is what ``profile_networks`` wrote: the board names it, and gets rates for networks that it
    lacks. ``primitives`` is what ``profile_primitives`` wrote, for policies that plan primitives. ``name`` is
    the board's (``out`` without its suffix). ``storage`` is a folder on the disk to measure (where layer
    bundles are kept). ``threads`` compute one task.

    Raises ValueError: BoardFileError, what a part that measures raised, or ProfileError where ``out`` cannot
    be written.
    """
    if out.suffix.lower() not in (".yaml", ".yml"):
        raise BoardFileError(f"{out}: is to be a board, whose name ends in .yaml")
    for given in (profile, primitives):
        if given is not None and given.suffix.lower() != ".csv":
            raise BoardFileError(f"{given}: is no profile; the name of one ends in .csv")
    if primitives is not None:
        read_primitives(primitives)  # wrong files are found out before anything is measured
    say = tell or (lambda text: None)
    if (warning := unrest()) is not None:
        say(f"warning: {warning}")
    pins = here.worker_cpus(threads)
    board = _described(name or out.stem, threads)
    if profile is not None:
        _put_costs(board, read_profile(str(profile.absolute())), Path(os.path.relpath(profile, out.parent)))
    elif primitives is None:
        board.assumed["cost"] = "nothing: without a profile it is not known what layers cost"
    if primitives is not None:
        path = Path(os.path.relpath(primitives, out.parent)).as_posix()
        board.data["cost"] = {**board.data.get("cost", {}), "primitives": path}
    disk = storage or cache_folder()
    disk.mkdir(parents=True, exist_ok=True)
    say(f"reading from the disk of {disk}")
    _put_storage(board, disk)
    if primitives is not None and profile is None:
        _put_loads(board)
    with tempfile.TemporaryDirectory(dir=disk, prefix="measuring-") as scratch, Bench() as bench:
        compute, memory = beside.make_bundles(Path(scratch))
        say("handing tasks to workers")
        _put_dispatch(board, bench, pins[0])
        say("preparing a replay")
        _put_base(board, base.measure(compute))
        pair = here.worker_cpus(1, workers=2)
        if pair[0] == pair[1]:
            board.assumed["runtime.slowdown"] = "none: with one core, no two tasks run at once"
        else:
            say("running tasks beside each other")
            _put_slowdown(board, beside.measure(bench, compute.folder, memory.folder, pair))
    write_atomically(_text(board, out).encode(), out)
    return out


def _described(name: str, threads: int) -> _Board:
    facts = host.facts()
    found = here.device(name, threads)
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    what = facts["board"] or facts["cpu"] or facts["architecture"]
    board = _Board(
        {
            "name": name,
            "description": f"{what}, {facts['os'] or 'Linux'}, kernel {facts['kernel']}",
            "source": f"measured by {COMMAND} on {now}",
            **found.model_dump(mode="json", exclude_defaults=True, include={"processors", "memory"}),
            "storage": {"reads": "direct"},
            "runtime": {
                "version": "B",
                "threads": threads,
                "weights_lifetime": "layer",
                "outputs_lifetime": "arena",
                "load_copies": False,
            },
        }
    )
    board.measured["memory.reserved_by_system_bytes"] = "what was not available when this was measured"
    if facts["memory"]["swap_bytes"]:
        board.assumed["memory.swap"] = "none, though there is some: a replay does not let the kernel swap"
    return board


def _put_storage(board: _Board, folder: Path) -> None:
    rate = measure_read_rate(folder)
    board.data["storage"] |= {
        "read_bytes_per_s": _rounded(rate.bytes_per_s),
        "request_s": _rounded(rate.request_s),
    }
    board.measured["storage.read_bytes_per_s"] = (
        f"direct reads of 64 MiB into new memory, median of 5 rounds; from slowest to fastest "
        f"{rate.spread:.0%} of it"
    )
    board.measured["storage.request_s"] = "direct reads of 4 KiB at random places, median of 200"


def _put_loads(board: _Board) -> None:
    """Loading at the storage's rate, where no profile has measured it."""
    storage = board.data["storage"]
    board.data["cost"] |= {
        "load_call_s": storage["request_s"],
        "load_byte_s": _rounded(1 / storage["read_bytes_per_s"]),
    }
    board.assumed["cost.load_byte_s"] = "as storage.read_bytes_per_s, which is of large direct reads"


def _put_dispatch(board: _Board, bench: Bench, cpus: Sequence[int]) -> None:
    continued, handed_over = bench.ask("dispatch", cpus=cpus, requests=DISPATCH_REQUESTS)
    straight_s, woken_s = statistics.median(continued), statistics.median(handed_over)
    board.data["runtime"]["dispatch_s"] = _rounded(straight_s)
    board.data["runtime"]["wake_s"] = _rounded(max(0.0, woken_s - straight_s))
    board.measured["runtime.dispatch_s"] = (
        f"what tasks under linear take beyond their work, {_spread(continued)}"
    )
    board.measured["runtime.wake_s"] = f"beyond that where a waiting worker was woken: {_spread(handed_over)}"


def _put_base(board: _Board, found: base.Base) -> None:
    board.data["memory"]["base_bytes"] = found.size_bytes
    board.measured["memory.base_bytes"] = (
        f"a replaying process with one small network prepared, by {found.counted_by}"
    )


def _put_slowdown(board: _Board, factors: Mapping[tuple[str, str], beside.Factor]) -> None:
    table: dict[str, dict[str, float]] = {}
    for (a, b), found in sorted(factors.items()):
        if found.factor >= NOISE_FACTOR:
            table.setdefault(a, {})[b] = round(found.factor, 3)
        board.measured[f"runtime.slowdown.{a}.{b}"] = (
            f"{found.factor:.3f}, quartiles {found.low:.3f} to {found.high:.3f} of {found.rounds} rounds"
        )
    if table:
        board.data["runtime"]["slowdown"] = table
    board.assumed["runtime.slowdown"] = f"factors below {NOISE_FACTOR} are noise, and left out"
    missing = [f"{a} beside {b}" for a in beside.CLASSES for b in beside.CLASSES if (a, b) not in factors]
    if missing:
        board.assumed["runtime.slowdown"] += f"; too few samples of {', '.join(missing)}"


def _put_costs(board: _Board, profile: Any, path: Path) -> None:
    rates = own_rates(profile, Device.model_validate(board.data))
    board.data["cost"] = {"profile": path.as_posix(), **rates.cost}
    board.fitted += rates.fitted
    board.assumed["cost"] = (
        "rates are fitted to the profile (devices/rates.py), for networks that it lacks; loading to its cold "
        "times, INIT is the median of its networks"
    )


def _spread(values: Sequence[float]) -> str:
    low, middle, high = (1e6 * value for value in statistics.quantiles(values, n=4))
    return f"{middle:.1f} us (quartiles {low:.1f} to {high:.1f})"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _text(board: _Board, out: Path) -> str:
    """The board as YAML."""
    command = f"{COMMAND} --out {out.name}"
    for key in ("profile", "primitives"):
        if path := board.data.get("cost", {}).get(key):
            command += f" --{key} {path}"
    data = {
        **board.data,
        "calibration": {
            "command": command,
            "measured": board.measured,
            "assumed": board.assumed,
            "fitted": board.fitted,
        },
    }
    Device.model_validate(data)
    return yaml.safe_dump(data, sort_keys=False, width=110, allow_unicode=True)
