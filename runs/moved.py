"""A scenario in another folder: its relative files are named as seen from there.

Files are what ``runs/resolve.py`` and the workload look up in the scenario's folder: a board, a policy of
one's own, ONNX models and recorded arrivals.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..policies import registry


def moved(data: Mapping[str, Any], source: Path, target: Path) -> dict[str, Any]:
    """The scenario's data (in the normal form, no sweep) for the folder ``target`` instead of ``source``."""
    here, there = source.resolve(), target.resolve()

    def move(name: str) -> str:
        return name if os.path.isabs(name) else os.path.relpath(here / name, there)

    result = dict(data)
    board = data["device"]["board"]
    if board.endswith((".yaml", ".yml")):
        result["device"] = {**data["device"], "board": move(board)}
    policy = data["policy"]["name"]
    if registry.is_file(policy):
        result["policy"] = {**data["policy"], "name": move(policy)}
    inline = {network["name"] for network in data.get("networks") or ()}
    result["workload"] = _models(data["workload"], inline, move)
    result["workload"] = _recordings(result["workload"], move)
    return result


def _models(node: Any, inline: set[str], move: Callable[[str], str]) -> Any:
    """Every ONNX file that the workload names, as a value or as a key (weights, deadlines).

    A stream's own name stays whatever it is: random numbers are drawn by it.
    """
    if isinstance(node, Mapping):
        return {
            _models(key, inline, move): value if key == "name" else _models(value, inline, move)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_models(item, inline, move) for item in node]
    is_model = isinstance(node, str) and node.lower().endswith(".onnx") and node not in inline
    return move(node) if is_model else node


def _recordings(workload: Mapping[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    """The recorded arrivals of the workload or of its streams."""
    result = dict(workload)
    arrivals = workload.get("arrivals")
    if isinstance(arrivals, Mapping) and "file" in arrivals:
        result["arrivals"] = {**arrivals, "file": move(arrivals["file"])}
    if "streams" in workload:
        result["streams"] = [_recordings(stream, move) for stream in workload["streams"]]
    return result
