"""A replay's folder: the simulation's tables, and beside them what only a real run has."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..runs.folder import COUNTERS, REPLAY, write_run
from .outcome import Replayed


def write_replay(path: Path, replays: Sequence[Replayed], summaries: Sequence[dict[str, Any]]) -> Path:
    """Write the replications of one scenario into the folder ``path``, as ``runs.folder.write_run`` does."""

    def beside(folder: Path) -> None:
        facts = {"replications": [replayed.facts for replayed in replays]}
        text = json.dumps(facts, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        (folder / REPLAY).write_text(text, encoding="utf-8")
        with open(folder / COUNTERS, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["cpu_s", "switches", "faults", "replication"])
            for replayed in replays:
                for row in replayed.counters:
                    writer.writerow([*row.values(), replayed.result.replication])

    return write_run(path, [replayed.result for replayed in replays], summaries=summaries, beside=beside)
