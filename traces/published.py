"""Numbers that EdgeCaffe and Masa published beside their layer profile: keys per network, end-to-end times.

Source: github.com/bacox/edgecaffe, BSD 2-Clause, (c) 2020 Bart Cox (see NOTICE). The tables are
``edgecaffe-networks.csv`` and ``edgecaffe-totals.csv`` in this folder; ``importers.py`` makes them. All
seconds and bytes; Masa's "MB" are 2^20 bytes, as its scheduler subtracts them from 512 for a limit of 512M.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from .columns import Column, real, text, whole
from .table import ProfileError, Table, parse_table

MIB = 1 << 20
KEYS_KIND = "network-keys"
TOTALS_KIND = "totals"
KEYS_FILE = "edgecaffe-networks.csv"
TOTALS_FILE = "edgecaffe-totals.csv"
ROLES = ("fitted", "held-out")
"""What a total is used for: to fit a device, or to test one."""
KINDS = ("run", "batch", "solo-mean")
"""run: wall time of one program run; batch: mean service time of a batch; solo-mean: mean of solo
durations."""
RESERVATIONS = ("valgrind", "rss", "valgrind-050", "valgrind-075", "valgrind-125", "valgrind-150")
"""Masa's memory keys (``max-memory-<key>``); every published experiment uses ``valgrind``."""

_MB = (real(1e6), "MB of 2^20 bytes: a number from 0 to 1e6, or blank")
_SECONDS = (real(1e9), "seconds: a number from 0 to 1e9, or blank")
_TEXT = (text, "one line of at most 500 characters")
_LIST = "joined by '+'"


def _one_of(*allowed: str) -> tuple[Any, str]:
    def parse(cell: str) -> str:
        if cell not in allowed:
            raise ValueError
        return cell

    return parse, f"one of {', '.join(allowed)}"


def _schema(*columns: Column) -> Mapping[str, Column]:
    return MappingProxyType({column.name: column for column in columns})


KEYS_COLUMNS = _schema(
    Column("network", *_TEXT, "name in edgesched's catalogue", required=True, filled=True),
    Column(
        "expected_s", *_SECONDS, "mean-execution-time, what shortest-network-first compares", required=True
    ),
    Column(
        "conv_layers", whole(0, 10**6), "a whole number", "leading layers of DeepEye's convolutional part"
    ),
    *(Column(f"{key}_mb".replace("-", "_"), *_MB, f"max-memory-{key}, as published") for key in RESERVATIONS),
)

TOTALS_COLUMNS = _schema(
    Column("id", *_TEXT, "name of the row", required=True, filled=True),
    Column("kind", *_one_of(*KINDS), "what value_s is", required=True, filled=True),
    Column("device", *_TEXT, "laptop, rpi-2 or rpi-4", required=True, filled=True),
    Column("build", *_TEXT, "how the program was built, where stated"),
    Column("memory_limit_bytes", whole(1, 1 << 50), "a whole number of bytes", "cgroup limit", required=True),
    Column("policy", *_TEXT, "EdgeCaffe's mode", required=True, filled=True),
    Column("workers", whole(1, 4096), "a whole number from 1 to 4096, or blank", "workers, where stated"),
    Column("networks", *_TEXT, f"networks in submission order, {_LIST}", required=True, filled=True),
    Column("weights", *_TEXT, f"solo-mean: value_s is the sum of weight * duration, {_LIST}"),
    Column("value_s", *_SECONDS, "the measured value", required=True, filled=True),
    Column("se_s", *_SECONDS, "standard error of value_s, where known"),
    Column(
        "samples", whole(1, 10**9), "a whole number of at least 1, or blank", "independent values behind it"
    ),
    Column("role", *_one_of(*ROLES), "whether a device was fitted to it", required=True, filled=True),
    Column("note", *_TEXT, "conditions, and what is inferred"),
)


@dataclass(frozen=True)
class NetworkKeys:
    """What Masa knows about a network.

    ``expected_s`` is infinite and ``reservation_bytes`` 0 where EdgeCaffe publishes no key (SoS_GoogleNet):
    such a network sorts last and is always admitted, as in Masa. ``conv_layers`` counts the layers of the
    convolutional part. ``memory_bytes`` has one entry per published memory key, see ``RESERVATIONS``.
    """

    network: str
    expected_s: float
    conv_layers: int
    memory_bytes: Mapping[str, int]

    @property
    def reservation_bytes(self) -> int:
        """What Masa books in every published experiment: the key ``valgrind``; 0 where there is none."""
        return self.memory_bytes.get("valgrind", 0)


@dataclass(frozen=True)
class PublishedTotal:
    """One end-to-end time that EdgeCaffe's authors measured.

    ``kind`` says what ``value_s`` is (see ``KINDS``). For a solo-mean it is the sum of ``weights`` times the
    solo durations of ``networks``; ``weights`` is empty for the other kinds. ``workers`` is None where not
    stated.
    """

    id: str
    kind: str
    device: str
    build: str
    memory_limit_bytes: int
    policy: str
    workers: int | None
    networks: tuple[str, ...]
    weights: tuple[float, ...]
    value_s: float
    se_s: float | None
    samples: int | None
    role: str
    note: str


def network_keys(name: str) -> NetworkKeys | None:
    """Masa's keys for a network of that name, or None for a network it does not know.

    The size of the input does not matter (``FaceNet@1340`` has FaceNet's keys, which Masa books at any size);
    a batch other than the default (``GenderNet#1``) is another network.
    """
    return _keys().get(name.partition("@")[0]) if "#" not in name else None


def published_totals() -> list[PublishedTotal]:
    """The end-to-end times, in the order of the table: program runs, batches, solo means."""
    return list(_totals())


@lru_cache(maxsize=1)
def _keys() -> dict[str, NetworkKeys]:
    table = _table(KEYS_FILE, KEYS_KIND, KEYS_COLUMNS)
    found = {}
    for _, cells in table.rows:
        row = dict(zip(table.columns, cells, strict=True))
        memory = {key: row[f"{key}_mb".replace("-", "_")] for key in RESERVATIONS}
        found[row["network"]] = NetworkKeys(
            network=row["network"],
            expected_s=math.inf if row["expected_s"] is None else row["expected_s"],
            conv_layers=row["conv_layers"],
            memory_bytes=MappingProxyType({k: round(mb * MIB) for k, mb in memory.items() if mb is not None}),
        )
    return found


@lru_cache(maxsize=1)
def _totals() -> tuple[PublishedTotal, ...]:
    return tuple(parse_totals((resources.files(__package__) / TOTALS_FILE).read_bytes(), TOTALS_FILE))


def parse_totals(content: bytes, source: str) -> list[PublishedTotal]:
    """The rows of a table of totals. Raises ``ProfileError``, which names ``source``."""
    table = parse_table(content, source, TOTALS_KIND, TOTALS_COLUMNS)
    found: dict[str, PublishedTotal] = {}
    for line, cells in table.rows:
        row = dict(zip(table.columns, cells, strict=True))
        if row["id"] in found:
            raise ProfileError(source, f"id {row['id']!r} stands there twice", line=line)
        row["networks"] = tuple(row["networks"].split("+"))
        row["weights"] = tuple(float(w) for w in (row["weights"] or "").split("+") if w)
        row["build"] = row["build"] or ""
        row["note"] = row["note"] or ""
        found[row["id"]] = PublishedTotal(**row)
    return list(found.values())


def _table(file: str, kind: str, schema: Mapping[str, Column]) -> Table:
    return parse_table((resources.files(__package__) / file).read_bytes(), file, kind, schema)
