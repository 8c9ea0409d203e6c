"""``edgesched calibrate``: fit a catalogue board's constants to measurements and write the boards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Fit boards to measurements.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Fit boards to measurements."""


@app.command()
def edgecaffe(
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="Folder for the fitted boards.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Measurements, laid out as DIR/edgecaffe/*.csv; default: the project's own."
        ),
    ] = None,
) -> None:
    """Fit the EdgeCaffe laptop and Raspberry Pi boards to EdgeCaffe's end-to-end times (some minutes)."""
    from ..devices import boards
    from ..sim import calibration
    from ..traces.importers import read_totals
    from ..traces.published import published_totals
    from .terminal import console

    totals = published_totals() if data is None else read_totals(data)
    names = list(dict.fromkeys(fit.board for fit in calibration.EDGECAFFE_FITS))
    fitted, outcomes = calibration.run_fits(
        calibration.EDGECAFFE_FITS,
        {name: boards.raw(name) for name in boards.names()},
        totals,
        progress=lambda fit: console().print(f"fitting {', '.join(fit.parameters)} of {fit.board}"),
    )
    for outcome in outcomes:
        constants = ", ".join(f"{path} = {value:.4g}" for path, value in outcome.values.items())
        console().print(f"{outcome.fit.board}: {constants}")
        for row, error in outcome.errors.items():
            left_out = outcome.left_out.get(row)
            held = "" if left_out is None else f"   left out {left_out:+.1%}"
            console().print(f"  {row:52s} {error:+.1%}{held}")
    for name in names:
        path = calibration.write_board(name, fitted[name], outcomes, out)
        console().print(f"wrote {path}")
