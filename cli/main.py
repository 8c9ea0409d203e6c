"""``edgesched``: the commands, and what becomes of their errors.

This module imports nothing heavy, nor do the modules of the commands before one of them runs: ``--help`` is
there at once.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from . import plot, run, schema, show, sweep
from .terminal import message

if TYPE_CHECKING:
    from collections.abc import Sequence

LATER = {
    "recommend": "Choose a policy from a finished sweep and write its scenario.",
    "validate": "Check the simulator against theory and measurements.",
    "calibrate": "Fit the numbers of a board from measurements.",
    "profile": "Measure the layers of a network on this device.",
    "replay": "Run a policy on this device.",
    "compare": "Hold a simulation against its replay.",
    "verify": "Measure this machine, simulate, replay and compare.",
    "primitives": "Primitives: implementations of a convolution.",
    "frontier": "Time against memory: every plan of a network worth having.",
    "plan": "Choose a primitive for every layer, within a memory budget.",
}
"""Commands in modules of their own (``cli/NAME.py`` with a Typer ``app``), which are loaded when they run.

Only those are offered whose module is there.
"""

COMPLETION = ("install_completion", "show_completion")

USER_ERRORS = (
    ("devices.reading", "InputError"),
    ("runs.resolve", "ScenarioError"),
    ("runs.folder", "FolderError"),
    ("runs.grid", "GridError"),
    ("sim.sweeping.runner", "RunnerError"),
    ("sim.sweeping.rowfile", "RowFileError"),
    ("sim.comparing.pairing", "ComparisonError"),
    ("devices.boards", "BoardError"),
    ("devices.costing", "CostError"),
    ("policies.registry", "PolicyError"),
    ("traces.table", "ProfileError"),
    ("workloads.catalogue", "UnknownNetworkError"),
    ("primitives.shape", "ShapeError"),
    ("primitives.catalogue", "UnknownPrimitiveError"),
    ("devices.implementing", "ImplementingError"),
    ("policies.planning.transforms", "PlanningError"),
    ("policies.planning.search", "TooWideError"),
    ("policies.planning.labels", "TooManyError"),
    ("policies.planning.partition", "PartitionError"),
    ("workloads.onnx_graph", "OnnxImportError"),
    ("bridge.bundles.description", "BundleError"),
    ("bridge.bundles.generate", "GenerateError"),
    ("bridge.watch", "ReplayError"),
    ("bridge.planned.steps", "PlannedError"),
    ("bridge.machine.storage", "StorageError"),
    ("bridge.machine.host", "HostError"),
    ("bridge.remote.archive", "PackageError"),
    ("bridge.remote.store", "StoreError"),
    ("bridge.remote.ssh", "SshError"),
    ("bridge.remote.remote", "RemoteError"),
)
"""What a user can put right: shown as a message, without a traceback."""


class Deferred(TyperGroup):
    """Stands in the list of commands for a module that is not loaded until its command runs."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the command itself."""
        command = typer.main.get_command(import_module(f"{__package__}.{self.name}").app)
        # Typer gives every app of its own the options of an installer for completion.
        command.params = [parameter for parameter in command.params if parameter.name not in COMPLETION]
        return command.make_context(info_name, args, parent=parent, **extra)


class Commands(TyperGroup):
    """The commands; errors that a user can put right become one message and exit code 2."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All commands, those of other modules last."""
        later = [name for name in LATER if find_spec(f"{__package__}.{name}") is not None]
        return [*super().list_commands(ctx), *later]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name."""
        if cmd_name in LATER and find_spec(f"{__package__}.{cmd_name}") is not None:
            return Deferred(name=cmd_name, help=LATER[cmd_name])
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            message("interrupted")
            raise typer.Exit(130) from None
        except BrokenPipeError:  # the reader of the output has gone: head, less
            raise typer.Exit(0) from None
        except Exception as error:
            if not _is_users(error):
                raise
            message(f"edgesched: {' '.join(str(error).split())}")
            raise typer.Exit(2) from None


def _is_users(error: Exception) -> bool:
    root = __package__.rpartition(".")[0]
    for module, name in USER_ERRORS:
        # A module that was never imported has raised nothing.
        kind = getattr(sys.modules.get(f"{root}.{module}"), name, None)
        if kind is not None and isinstance(error, kind):
            return True
    return False


app = typer.Typer(
    name="edgesched",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Decide how several neural networks share one small device: simulate the policies, compare them.",
)
app.command("run")(run.run)
app.command("sweep")(sweep.sweep)
app.command("plot")(plot.plot)
app.add_typer(show.networks, name="networks")
app.add_typer(show.devices, name="devices")
app.add_typer(show.policies, name="policies")
app.command("schema")(schema.schema)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"edgesched {version('edgesched')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """What stands before a command."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script: exit code 0, 1 (something failed), 2 (wrong input), 130 (interrupted)."""
    app(args=None if arguments is None else list(arguments), prog_name="edgesched")
