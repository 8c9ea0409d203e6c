"""Whether the boards of a sweep tell what they draw, asked before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ...runs.load import Source
from ...runs.power import missing_power
from ...runs.resolve import device_of
from ...runs.scenario import Scenario


def check_power(source: Source, scenarios: Iterable[Mapping[str, Any]]) -> None:
    """Raise ``InputError`` for the first board whose power is not known, with the keys to add."""
    seen: set[str] = set()
    for data in scenarios:
        key = json.dumps(data["device"], sort_keys=True)
        if key in seen:
            continue
        seen.add(key)
        device = device_of(Scenario.model_validate(data), source.folder)
        if missing := missing_power(device):
            raise source.error(
                ("device",),
                f"device {data['device']['board']}: its power is not known, which energy needs; "
                f"give {', '.join(missing)} in the board's file",
            )
