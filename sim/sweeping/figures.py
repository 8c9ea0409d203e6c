"""Curves of a sweep, whatever it sweeps: which axis goes where, and one figure for the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ...devices.units import parse_bytes
from ...runs.grid import ZIP
from ..objectives import Objective
from ..plots.style import bytes_label, bytes_unit
from .recommend import NO_VALUE, UNUSABLE, policy_label

if TYPE_CHECKING:
    import pandas as pd

RATES = ("rate_per_s",)
TIMES = ("period_s", "mean_gap_s")
LIMIT = "memory_limit"


def draw_curves(
    means: pd.DataFrame, axes: Sequence[str], folder: Path, objective: Objective = Objective.mean
) -> list[Path]:
    """Draw the objective over the arrival rate (else over the last axis of numbers or sizes) into ``folder``.

    One line per policy (else per value of the last axis left), panels by the next two axes, a figure for
    each combination of the others. A point without a result is marked with the reason. Returns the files
    written, none where no axis holds numbers or no point has a result.
    """
    from ..plots import response_curves, save

    column = objective.column
    x = _x_axis(means, axes)
    if x is None or column not in means or means[column].isna().all():
        return []
    table = means.copy()
    table["unusable"] = [
        None if value == value else UNUSABLE.get(status, NO_VALUE)
        for value, status in zip(table[column], table["status"], strict=True)
    ]
    title = x_label(x)
    if is_size(x):
        sizes = [_bytes(value) for value in table[x]]
        unit, unit_name = bytes_unit(max(size for size in sizes if size is not None))
        table[x] = [None if size is None else size / unit for size in sizes]
        title = f"{title} ({unit_name})"
    of_policy = [axis for axis in axes if axis.partition(".")[0] == "policy"]
    rest = [axis for axis in axes if axis != x and axis not in of_policy and table[axis].nunique() > 1]
    if of_policy:
        table["series"] = [policy_label(list(row)) for row in table[of_policy].to_numpy()]
    elif rest:
        last = rest.pop()
        table["series"] = [value_label(last, value) for value in table[last]]
    else:
        table["series"] = "all"
    rows, columns, apart = _panels(rest)
    for axis in (rows, columns):
        if axis is not None:
            table[axis] = [panel_label(axis, value) for value in table[axis]]
    groups: Any = table.groupby(apart, sort=False) if apart else [((), table)]
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for values, part in groups:
        if part[column].isna().all():
            continue
        figure = response_curves(
            part,
            x=x,
            y=column,
            lo=f"{column}_lo",
            hi=f"{column}_hi",
            series="series",
            panel_row=rows,
            panel_col=columns,
            saturated="saturated",
            unusable="unusable",
            x_label=title,
            y_label=objective.label if objective.unit == "s" else f"{objective.label} ({objective.unit})",
            log_y=bool((table[column].dropna() > 0).all()),
            order=list(dict.fromkeys(table["series"])),
        )
        name = "-".join([objective.figure_stem, *(slug(value) for value in values)])
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


def is_size(path: str) -> bool:
    """Whether the values of a swept path are sizes."""
    return short(path) == LIMIT or short(path).endswith("_bytes")


def value_label(path: str, value: Any) -> str:
    """A swept value as it stands in titles and legends: sizes with their unit apart, 512 MiB."""
    size = _bytes(value) if is_size(path) else None
    if size is not None:
        return bytes_label(size)
    return "no limit" if short(path) == LIMIT and value == "none" else str(value)


def panel_label(path: str, value: Any) -> str:
    """The same, with the path's name where the value does not say what it is."""
    label = value_label(path, value)
    named = short(path) != LIMIT and (is_size(path) or _bare(value))
    return f"{short(path)} {label}" if named else label


def _bytes(value: Any) -> int | None:
    try:
        return parse_bytes(value.item() if hasattr(value, "item") else value)
    except ValueError:
        return None


def slug(value: Any) -> str:
    """A value as part of a file name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", str(value)).strip("-.") or "none"


def _x_axis(table: pd.DataFrame, axes: Sequence[str]) -> str | None:
    """A rate or a time between requests, else the last axis of numbers, else the last one of sizes."""
    several = [axis for axis in axes if axis in table and table[axis].nunique() > 1]
    numeric = [axis for axis in several if table[axis].dtype.kind in "iuf"]
    rates = [axis for axis in numeric if short(axis) in (*RATES, *TIMES)]
    if rates:
        return rates[0]
    sizes = [axis for axis in several if is_size(axis) and table[axis].map(_bytes).notna().all()]
    return next(reversed(numeric or sizes), None)


def _panels(rest: Sequence[str]) -> tuple[str | None, str | None, list[str]]:
    """Rows by the device's axis, columns by the next, figures by what is left."""
    rows = next((axis for axis in rest if axis.startswith("device")), rest[0] if len(rest) > 1 else None)
    columns = next((axis for axis in rest if axis != rows), None)
    return rows, columns, [axis for axis in rest if axis not in (rows, columns)]


def _bare(value: Any) -> bool:
    """A number alone does not say what it is."""
    return isinstance(value, int | float) or str(value).replace(".", "", 1).isdigit()
