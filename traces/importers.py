"""Make the embedded tables from measurement data in its tidy form.

``import_edgecaffe`` reads the folder ``edgecaffe`` of the project's data (layers.csv and others; its README
tells columns and conditions) and writes three tables. The embedded files are exactly what it writes.
"""

from __future__ import annotations

import csv
import os
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .columns import Column
from .profile import Profile, ProfileRow, profile_bytes
from .published import (
    KEYS_COLUMNS,
    KEYS_FILE,
    KEYS_KIND,
    TOTALS_COLUMNS,
    TOTALS_FILE,
    TOTALS_KIND,
    PublishedTotal,
    parse_totals,
)
from .table import ProfileError, format_table, write_atomically

LAPTOP_FILE = "edgecaffe-laptop.csv"
FITTED_TOTALS = frozenset(
    {
        *(f"run-{policy}-4G" for policy in ("partial", "bulk", "deepeye", "linear")),
        *(f"run-linear-{limit}" for limit in ("1G", "512M", "256M")),
        *(f"run-{policy}-512M" for policy in ("partial", "bulk")),
        *(f"batch-laptop-debug-{two}-2G" for two in ("AgeNet+AgeNet", "FaceNet+FaceNet", "AgeNet+FaceNet")),
        "batch-laptop-debug-SoS+SoS-2G",
        "batch-laptop-release-AgeNet+AgeNet+AgeNet-2G",
        "batch-laptop-release-AgeNet+GenderNet+FaceNet-2G-4w",
        "batch-laptop-release-FaceNet+FaceNet+FaceNet-2G",
        "batch-rpi-4-release-FaceNet+FaceNet-4G",
        *(f"solo-rpi-4-2G-{count}" for count in (5, 9, 10)),
        "solo-rpi-4-512M-9",
    }
)
"""Totals that boards of the catalogue were fitted to (``edgesched calibrate``); all others are held out."""

_ORIGIN = {
    "source": "github.com/bacox/edgecaffe, commit a450b96 and older ones",
    "licence": "BSD 2-Clause, (c) 2020 Bart Cox; see NOTICE",
}
_OPS = {
    "Concat": "concat",
    "Convolution": "convolution",
    "Dropout": "dropout",
    "InnerProduct": "fully-connected",
    "Input": "input",
    "LRN": "lrn",
    "Pooling": "pooling",
    "ReLU": "relu",
    "Softmax": "softmax",
    "Split": "split",
}
_IMAGE_SIZES = {"test_1": 1340, "test_2": 1275, "test_3": 2520}
"""FaceNet's input in pixels for each test image: five times the image (EdgeCaffe's use-scales)."""
_BUILDS = {"debug": "Debug", "release": "Release", "cpack .deb": "Release"}


def import_edgecaffe(data_dir: str | os.PathLike[str], out_dir: str | os.PathLike[str]) -> list[Path]:
    """Write the tables ``edgecaffe-laptop``, ``-networks`` and ``-totals`` to ``out_dir``; return their
    paths.

    Raises ProfileError where a file of ``data_dir`` is missing or is not what its README says.
    """
    data, out = Path(data_dir), Path(out_dir)
    with _as_described(data):
        content = {
            LAPTOP_FILE: profile_bytes(_laptop(data), LAPTOP_FILE),
            KEYS_FILE: _keys(data),
            TOTALS_FILE: _totals(data),
        }
    for name, table in content.items():
        write_atomically(table, out / name)
    return [out / name for name in content]


def laptop_profile(data_dir: str | os.PathLike[str]) -> Profile:
    """The per-layer profile of EdgeCaffe's laptop: medians over 17 runs.

    Where three images were run at one input shape, over runs and images (51 values). Load times are rounded
    to 1 us, execution times to 100 ns. Raises ProfileError as ``import_edgecaffe`` does.
    """
    with _as_described(Path(data_dir)):
        return _laptop(Path(data_dir))


def _laptop(data: Path) -> Profile:
    derived = {
        (_sized(row["network"], row["variant"].removeprefix("scaled_")), row["layer_id"]): row
        for row in _read(data / "network_layers.csv")
    }
    loads: dict[tuple[str, str], list[int]] = {}
    executions: dict[tuple[str, str], list[int]] = {}
    kinds: dict[tuple[str, str], tuple[str, str]] = {}
    for row in _read(data / "layers.csv"):
        key = _sized(row["network"], row["image"]), row["layer_id"]
        loads.setdefault(key, []).append(int(row["load_ns"]))
        executions.setdefault(key, []).append(int(row["exec_ns"]))
        kinds[key] = row["layer_name"], row["layer_type"]
    rows = (
        ProfileRow(
            network=key[0],
            layer=int(key[1]),
            name=kinds[key][0],
            op=_OPS[kinds[key][1]],
            processor="cpu",
            load_s=round(statistics.median(loads[key]) / 1e3) / 1e6,
            execute_s=round(statistics.median(executions[key]) / 1e2) / 1e7,
            weight_bytes=int(derived[key]["weight_bytes_derived"]),
            workspace_bytes=int(derived[key]["im2col_bytes_derived"]),
            samples=len(loads[key]),
            load_sd_s=round(statistics.stdev(loads[key]) / 1e3) / 1e6,
            execute_sd_s=round(statistics.stdev(executions[key]) / 1e2) / 1e7,
        )
        for key in sorted(kinds, key=lambda k: (_ORDER.index(k[0]), int(k[1])))
    )
    return Profile(tuple(rows), _LAPTOP_HEADER, LAPTOP_FILE)


_ORDER = ("AgeNet", "GenderNet", "FaceNet@1275", "FaceNet@1340", "FaceNet@2520", "SoS", "SoS_GoogleNet")
_LAPTOP_HEADER = {
    **_ORIGIN,
    "data": "analysis/profile-networks.zip, linear/linear-{1..17}.csv and SoS-linear-{1..17}.csv, April 2020",
    "device": "x86-64 laptop (model not stated)",
    "conditions": "Debug build, mode linear, one worker, files in page cache; BLAS and threads not stated",
    "statistic": "median and standard deviation over runs (and images, where their shape is the same)",
    "derived": "weight_bytes and workspace_bytes (im2col of one image) follow from the network",
    "role": "measured",
}


def _keys(data: Path) -> bytes:
    rows = []
    for row in _read(data / "networks.csv"):
        if row["variant"] == "default":
            expected = row["snf_mean_execution_time_ms"]
            rss, valgrind = row["mem_rss_MB"], row["mem_valgrind_MB"]
            scaled = [row[f"mem_valgrind_{part}_MB"] for part in ("050", "075", "125", "150")]
            rows.append(
                (
                    row["network"],
                    int(expected) / 1000 if expected else None,
                    int(row["num_conv_layers_key"]),
                    *(float(mb) if mb else None for mb in (valgrind, rss, *scaled)),
                )
            )
    header = {
        **_ORIGIN,
        "data": "networks/*/description.yaml at a450b96",
        "conditions": "expected_s on the laptop, Release, bulk, 2G, FaceNet 227 px (inferred from history)",
        "doubts": "GenderNet's valgrind equals AgeNet's (copied?); AgeNet's rss, above GenderNet's, is odd",
        "blank": "not published: Masa then takes an infinite time and 0 MB",
    }
    return _table(KEYS_FILE, KEYS_KIND, header, KEYS_COLUMNS, rows)


def _total_rows(data: Path) -> list[_Row]:
    rows: list[_Row] = []
    seen: dict[str, int] = {}
    for name, *cells in [*_runs(data), *_batches(data), *_solo_means(data)]:
        seen[str(name)] = count = seen.get(str(name), 0) + 1
        unique = str(name) if count == 1 else f"{name}-{count}"
        role = "fitted" if unique in FITTED_TOTALS else "held-out"
        rows.append((unique, *cells[:11], role, cells[11]))
    return rows


def _totals(data: Path) -> bytes:
    header = {
        **_ORIGIN,
        "data": "profile-networks.zip (memory.csv), constants in config/**.yaml, means of arrival lists",
        "visible": "a part of the measured cells; the rest is kept aside for validation",
        "run": "laptop, version A (58c94af), Debug, OpenBLAS, 2 threads, memsw 8G, one run a cell",
        "batch": "version B before Masa, mean over 10 runs in mode deepeye, FaceNet at 227 px",
        "solo-mean": "version B, mode bulk; from lists of inter-arrival times, each good to 0.5 %",
        "inferred": "FaceNet at 227 px in the solo means; docs/validation.md says why not 1340",
        "role": "per row: fitted (a board of the catalogue was calibrated to it) or held-out",
    }
    return _table(TOTALS_FILE, TOTALS_KIND, header, TOTALS_COLUMNS, _total_rows(data))


def read_totals(data_dir: str | os.PathLike[str]) -> list[PublishedTotal]:
    """The rows of all three end-to-end files that the data folder ``data_dir`` holds; any may be absent.

    Raises ``ProfileError`` for a row that cannot be read.
    """
    data = Path(data_dir) / "edgecaffe"
    with _as_described(data):
        content = _totals(data)
    return parse_totals(content, str(data_dir))


_LIMIT = re.compile(r"(\d+)([MG])")


def _limit_bytes(text: str) -> int:
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise ValueError(f"memory limit {text!r}: a number with M or G, as 512M")
    return int(match[1]) << (20 if match[2] == "M" else 30)


def _batch_device(text: str) -> tuple[str, str]:
    """The device's tag and a note; which unit a Raspberry Pi was is presumed in the source."""
    if "laptop" in text:
        return "laptop", ""
    match = re.search(r"Raspberry Pi.*?(\d)\s*GB", text)
    if match is None:
        raise ValueError(f"device {text!r}: a laptop or a Raspberry Pi of so many GB")
    return f"rpi-{match[1]}", f"the {match[1]} GB unit is presumed; "


_Row = tuple[object, ...]


def _runs(data: Path) -> Iterable[_Row]:
    order = "+".join(f"AgeNet+GenderNet+FaceNet@{size}" for size in _IMAGE_SIZES.values())
    for row in _read_if_there(data / "memory_limit_totals.csv"):
        limit, policy = row["mem_limit"], row["policy"]
        note = "wall time of nine inferences, submission included"
        yield (
            f"run-{policy}-{limit}",
            *("run", "laptop", "Debug", _limit_bytes(limit), policy, int(row["workers"]), order, None),
            *(int(row["total_ms"]) / 1000, None, 1, note),
        )


def _batches(data: Path) -> Iterable[_Row]:
    for row in _read_if_there(data / "batch_service_times.csv"):
        if not row["batch"]:
            continue
        device, presumed = _batch_device(row["device"])
        four = "-4w-" in row["path"]
        limit, build = row["mem_limit"], _BUILDS[row["build"]]
        name = f"batch-{device}-{build.lower()}-{row['batch']}-{limit}{'-4w' if four else ''}"
        note = f"{presumed}labels: {row['confidence_in_labels']} confidence; {row['path']} at {row['commit']}"
        workers = 4 if four else None
        yield (
            *(name, "batch", device, build, _limit_bytes(limit), "deepeye", workers, row["batch"], None),
            *(_seconds(row["mean_service_time_ms"]), None, None, note),
        )


def _solo_means(data: Path) -> Iterable[_Row]:
    for row in _read_if_there(data / "solo_mean_durations.csv"):
        names = row["networks"].split(",")
        if row["quantity"] == "mean over networks":
            weights = [str(1 / len(names))] * len(names)
        elif row["quantity"] == f"0.75*TinyYolo + 0.25*sum({row['networks']})":
            weights = [str(0.75 + 0.25 if name == "TinyYolo" else 0.25) for name in names]
        else:
            raise ValueError(f"solo_mean_durations.csv: quantity {row['quantity']!r}")
        limit = row["mem_limit"]
        measured = "+".join(names)
        error = _seconds(row["se_ms"]) if row["se_ms"] else None
        yield (
            f"solo-{row['device_tag']}-{limit}-{len(names)}",
            *(
                "solo-mean",
                row["device_tag"],
                "Release",
                _limit_bytes(limit),
                "bulk",
                1,
                measured,
                "+".join(weights),
            ),
            *(_seconds(row["value_ms"]), error, int(row["n_independent_lists"]), f"lists of {row['period']}"),
        )


def _seconds(milliseconds: str) -> float:
    return round(float(milliseconds) * 1000) / 1e6


def _sized(network: str, image: str) -> str:
    return f"{network}@{_IMAGE_SIZES[image]}" if network == "FaceNet" and image in _IMAGE_SIZES else network


def _table(
    file: str, kind: str, header: Mapping[str, str], schema: Mapping[str, Column], rows: Iterable[_Row]
) -> bytes:
    return format_table(file, kind, header, list(schema.values()), rows)


@contextmanager
def _as_described(data: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, statistics.StatisticsError) as error:
        if isinstance(error, ProfileError):
            raise
        raise ProfileError(str(data), f"is not the data that its README describes: {error!r}") from error


def _read_if_there(path: Path) -> list[dict[str, str]]:
    return _read(path) if path.exists() else []


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ProfileError(str(path), f"cannot be read: {error}") from error
