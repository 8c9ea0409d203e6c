"""Response-time curves of a sweep, whatever it sweeps: which axis goes where, and one figure for the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..devices.reading import InputError
from .grid import ZIP
from .recommend import policy_label

if TYPE_CHECKING:
    import pandas as pd

METRICS = {
    "mean": ("response_mean_s", "mean response time"),
    "median": ("response_median_s", "median response time"),
    "p95": ("response_p95_s", "95th percentile of response time"),
    "p99": ("response_p99_s", "99th percentile of response time"),
}
RATES = ("rate_per_s",)
TIMES = ("period_s", "mean_gap_s")


def draw_curves(
    means: pd.DataFrame, axes: Sequence[str], folder: Path, *, metric: str = "mean"
) -> list[Path]:
    """Draw ``metric`` over the arrival rate (else over the last axis of numbers) into ``folder``.

    One line per policy (else per value of the last axis left), panels by the next two axes, a figure for
    each combination of the others. Returns the files written, none where no axis holds numbers. Raises
    ``InputError`` for an unknown metric.
    """
    from .plots import response_curves, save

    if metric not in METRICS:
        raise InputError(f"--metric {metric}: must be one of {', '.join(METRICS)}")
    column, title = METRICS[metric]
    table = means[means[column].notna()] if column in means else means[:0]
    x = _x_axis(table, axes)
    if x is None or not len(table):
        return []
    of_policy = [axis for axis in axes if axis.partition(".")[0] == "policy"]
    rest = [axis for axis in axes if axis != x and axis not in of_policy and table[axis].nunique() > 1]
    table = table.copy()
    if of_policy:
        table["series"] = [policy_label(list(row)) for row in table[of_policy].to_numpy()]
    elif rest:
        table["series"] = table[rest.pop()].astype(str)
    else:
        table["series"] = "all"
    rows, columns, apart = _panels(rest)
    for axis in (rows, columns):
        if axis is not None:
            table[axis] = [f"{short(axis)} {value}" if _bare(value) else str(value) for value in table[axis]]
    logarithmic = bool((table[column] > 0).all())
    written: list[Path] = []
    groups: Any = table.groupby(apart, sort=False) if apart else [((), table)]
    folder.mkdir(parents=True, exist_ok=True)
    for values, part in groups:
        figure = response_curves(
            part,
            x=x,
            y=column,
            lo=f"{column.removesuffix('_s')}_s_lo",
            hi=f"{column.removesuffix('_s')}_s_hi",
            series="series",
            panel_row=rows,
            panel_col=columns,
            saturated="saturated",
            x_label=x_label(x),
            y_label=title,
            log_y=logarithmic,
        )
        name = "-".join([f"response-{metric}", *(slug(value) for value in values)])
        written += save(figure, folder / name)
    return written


def axes_of(folder: Path) -> list[str]:
    """The swept paths of a sweep's folder, in the order of the grid."""
    data = yaml.safe_load((folder / "scenario.yaml").read_text(encoding="utf-8"))
    sweep: Mapping[str, Any] = data.get("sweep") or {}
    return [
        path for name, values in sweep.items() for path in (values[0] if name.startswith(ZIP) else [name])
    ]


def short(path: str) -> str:
    """The last part of a dotted path that says what it is."""
    parts = [part for part in path.split(".") if not part.isdecimal()]
    return parts[-1] if parts else path


def x_label(path: str) -> str:
    """The axis label of a swept path."""
    name = short(path)
    if name in RATES:
        return "arrival rate (requests/s)"
    if name in TIMES:
        return "time between requests (s)"
    return name.replace("_", " ")


def slug(value: Any) -> str:
    """A value as part of a file name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", str(value)).strip("-.") or "none"


def _x_axis(table: pd.DataFrame, axes: Sequence[str]) -> str | None:
    numeric = [a for a in axes if a in table and table[a].dtype.kind in "iuf" and table[a].nunique() > 1]
    rates = [axis for axis in numeric if short(axis) in (*RATES, *TIMES)]
    return rates[0] if rates else (numeric[-1] if numeric else None)


def _panels(rest: Sequence[str]) -> tuple[str | None, str | None, list[str]]:
    """Rows by the device's axis, columns by the next, figures by what is left."""
    rows = next((axis for axis in rest if axis.startswith("device")), rest[0] if len(rest) > 1 else None)
    columns = next((axis for axis in rest if axis != rows), None)
    return rows, columns, [axis for axis in rest if axis not in (rows, columns)]


def _bare(value: Any) -> bool:
    """A number alone does not say what it is."""
    return isinstance(value, int | float) or str(value).replace(".", "", 1).isdigit()
