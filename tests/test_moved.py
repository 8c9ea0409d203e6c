"""A scenario in another folder still names the same files."""

from __future__ import annotations

from pathlib import Path

from edgesched.runs.moved import moved

DATA = {
    "device": {"board": "boards/mine.yaml", "memory_limit": 5},
    "networks": [{"name": "inline.onnx", "layers": [{}]}],
    "policy": {"name": "own.py:Own", "workers": 2},
    "workload": {
        "streams": [
            {
                "name": "stream.onnx",
                "arrivals": {"process": "replay", "file": "a.csv"},
                "networks": {"mix": "random", "pool": ["m.ONNX", "AgeNet"], "weights": {"m.ONNX": 2}},
            },
            {"name": "other", "arrivals": {"process": "batch"}, "networks": ["inline.onnx", "/abs/m.onnx"]},
        ]
    },
}


def test_what_is_a_file_is_named_from_the_new_folder(tmp_path: Path) -> None:
    found = moved(DATA, tmp_path / "here", tmp_path / "out" / "there")
    assert found["device"] == {"board": "../../here/boards/mine.yaml", "memory_limit": 5}
    assert found["policy"] == {"name": "../../here/own.py:Own", "workers": 2}
    first, second = found["workload"]["streams"]
    model = "../../here/m.ONNX"
    assert first["networks"] == {"mix": "random", "pool": [model, "AgeNet"], "weights": {model: 2}}
    assert first["arrivals"]["file"] == "../../here/a.csv"
    assert first["name"] == "stream.onnx"
    assert second["networks"] == ["inline.onnx", "/abs/m.onnx"]
    assert found["networks"] == DATA["networks"]


def test_names_stay(tmp_path: Path) -> None:
    data = {
        "device": {"board": "ideal"},
        "policy": {"name": "masa"},
        "workload": {"arrivals": {"process": "batch"}, "networks": ["AgeNet"]},
    }
    assert moved(data, tmp_path / "here", tmp_path) == data


def test_within_one_folder_nothing_moves(tmp_path: Path) -> None:
    assert moved(DATA, tmp_path, tmp_path) == DATA
