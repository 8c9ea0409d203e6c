"""``edgesched profile``: measure networks, or the device itself, on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from .files import check_target
from .terminal import message

if TYPE_CHECKING:
    from ..bridge.measuring.profiling import Progress

NETWORKS = "networks"


class Statistic(StrEnum):
    """What the undisturbed samples of a layer come to."""

    median = "median"
    mean = "mean"


class NetworksFirst(TyperGroup):
    """``networks`` need not be said: what is no command is the first of its arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command before arguments that begin without one."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [NETWORKS, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=NetworksFirst,
    no_args_is_help=True,
    add_completion=False,
    subcommand_metavar="NETWORK... --out PROFILE.csv | primitives NETWORK... --out FILE.csv | "
    "plan SCENARIO.yaml --out PROFILE.csv | device --out BOARD.yaml",
)


@app.callback()
def _group() -> None:
    """Measure the layers of networks, their primitives, or the device itself, on this machine.

    edgesched profile ResNet-18 model.onnx --out PROFILE.csv

    edgesched profile primitives ResNet-18 --out PRIMITIVES.csv

    edgesched profile device --out BOARD.yaml --profile PROFILE.csv
    """


@app.command(NETWORKS)
def networks(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NETWORK", help="Names of the catalogue, or files that end in .onnx.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="The profile, a CSV file.", show_default=False)],
    threads: Annotated[str, typer.Option(help="Numbers of threads to execute with, e.g. 1,2,4.")] = "1",
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Times that everything is measured.")] = 11,
    seed: Annotated[int, typer.Option(min=0, help="Of the order within a round.")] = 0,
    pace: Annotated[
        float | None,
        typer.Option(
            metavar="BYTES/S", min=1, help="Read past the page cache at most so fast.", show_default=False
        ),
    ] = None,
    statistic: Annotated[
        Statistic, typer.Option(help="What counts: the median on a quiet machine, the mean on a shared one.")
    ] = Statistic.median,
) -> None:
    """Measure what every layer takes and holds, executed as a replay executes it.

    Interrupted, the same command goes on where it stopped.
    """
    from ..bridge.measuring.profiling import profile_networks

    check_target("--out", out)
    try:
        with _one_message(), _progress() as progress:
            profile_networks(
                names,
                None,
                out,
                threads=_numbers(threads),
                rounds=rounds,
                seed=seed,
                statistic=statistic.value,
                pace_bytes_per_s=pace,
                tell=message,
                progress=progress,
            )
    except KeyboardInterrupt:
        message("what was measured is kept: the same command goes on from there")
        raise
    message(f"wrote {out}")


@app.command("primitives")
def primitives(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NETWORK", help="Names of the catalogue, or files that end in .onnx.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="The primitive profile, a CSV file.", show_default=False)],
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Times that everything is measured.")] = 11,
    seed: Annotated[int, typer.Option(min=0, help="Of the order, and of the weights.")] = 0,
    threads: Annotated[int, typer.Option(min=1, max=1, help="Threads that compute a primitive.")] = 1,
) -> None:
    """Measure every primitive of every layer, and the transforms between layouts.

    Layers that networks have in common are measured once. Interrupted, the same command goes on where it
    stopped.
    """
    from ..bridge.measuring.primitives import profile_primitives

    check_target("--out", out)
    try:
        with _one_message(), _progress() as progress:
            profile_primitives(
                names,
                None,
                out,
                rounds=rounds,
                seed=seed,
                threads=threads,
                tell=message,
                progress=progress,
            )
    except KeyboardInterrupt:
        message("what was measured is kept: the same command goes on from there")
        raise
    message(f"wrote {out}")


@app.command("plan")
def plan(
    scenario: Annotated[Path, typer.Argument(help="A scenario whose policy plans primitives.")],
    out: Annotated[Path, typer.Option(help="The profile, a CSV file.", show_default=False)],
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Times that everything is measured.")] = 11,
    seed: Annotated[int, typer.Option(min=0, help="Of the order within a round.")] = 0,
    statistic: Annotated[
        Statistic, typer.Option(help="What counts: the median on a quiet machine, the mean on a shared one.")
    ] = Statistic.mean,
) -> None:
    """Measure a plan's layers as a replay loads and executes them, at the scenario's pace.

    A board that names the profile (cost.profile) simulates the plan with it.
    """
    from ..bridge.measuring.plans import profile_plan
    from ..runs.load import load_scenario

    check_target("--out", out)
    checked, folder = load_scenario(scenario)
    with _one_message(), _progress() as progress:
        profile_plan(
            checked,
            folder,
            out,
            rounds=rounds,
            seed=seed,
            statistic=statistic.value,
            tell=message,
            progress=progress,
        )
    message(f"wrote {out}")


@app.command("device")
def device(
    out: Annotated[Path, typer.Option(help="The board, a YAML file.", show_default=False)],
    profile: Annotated[
        Path | None, typer.Option(help="A profile made here, which the board will name.", show_default=False)
    ] = None,
    primitives_profile: Annotated[
        Path | None,
        typer.Option("--primitives", help="A primitive profile made here, likewise.", show_default=False),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The board's name; default: the file's.")] = None,
    storage: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="A folder on the disk to measure; default: where layer bundles are kept."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads that compute one task.")] = 1,
) -> None:
    """Measure what a device is (processors, memory, storage, overheads, slow-down), in a minute or so."""
    from ..bridge.measuring.board import profile_device

    check_target("--out", out)
    with _one_message():
        profile_device(
            out,
            profile=profile,
            primitives=primitives_profile,
            name=name,
            storage=storage,
            threads=threads,
            tell=message,
        )
    message(f"wrote {out}")


def _numbers(text: str) -> list[int]:
    from ..devices.reading import InputError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--threads: seen {text!r}, needs whole numbers with commas, e.g. 1,2,4") from None


@contextmanager
def _one_message() -> Iterator[None]:
    """What measuring raises for the user to put right is an ``InputError``; SIGTERM is an interrupt."""
    from ..bridge.interrupts import Interrupts
    from ..bridge.measuring.base import BaseError
    from ..bridge.measuring.bench import BenchError
    from ..bridge.measuring.board import BoardFileError
    from ..bridge.measuring.here import HereError
    from ..bridge.measuring.ownrates import OwnRatesError
    from ..bridge.measuring.plans import PlanProfilingError
    from ..bridge.measuring.primitives import PrimitiveProfilingError
    from ..bridge.measuring.profiling import ProfilingError
    from ..bridge.measuring.samplefile import SampleFileError
    from ..devices.rates import RateError
    from ..devices.reading import InputError

    own = BaseError, BenchError, BoardFileError, HereError, OwnRatesError, ProfilingError, SampleFileError
    try:
        with Interrupts():
            yield
    except (*own, PlanProfilingError, PrimitiveProfilingError, RateError, ImportError) as error:
        raise InputError(str(error)) from error


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """A bar on a terminal, nothing elsewhere. It is drawn between passes only, so that it disturbs none."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield None
        return
    columns = TextColumn("measuring"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=screen, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total, refresh=True)
