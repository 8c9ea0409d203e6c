"""Packages with something wrong in them: what bad intent, or a bad disk, could have made of a good one."""

from __future__ import annotations

import json
import stat
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgesched.bridge.remote.archive import sha256_of

ABSOLUTE = str(Path(tempfile.gettempdir()) / "edgesched-was-here")

Members = list[tuple[zipfile.ZipInfo, bytes]]


def members_of(path: Path) -> Members:
    with zipfile.ZipFile(path) as file:
        return [(info, file.read(info)) for info in file.infolist()]


def written(path: Path, members: Members, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        for old, content in members:
            info = zipfile.ZipInfo(old.filename, (1980, 1, 1, 0, 0, 0))
            info.external_attr = old.external_attr
            info.compress_type = compression
            file.writestr(info, content)


def described(change: Callable[[dict[str, Any]], Any]) -> Callable[[Members], Members]:
    """The package with another description."""

    def edit(members: Members) -> Members:
        data = json.loads(members[0][1])
        result = change(data)
        data = data if result is None else result
        text = data if isinstance(data, bytes) else json.dumps(data).encode()
        return [(members[0][0], text), *members[1:]]

    return edit


def renamed(old: str, new: str) -> Callable[[Members], Members]:
    """A member under another name, described so."""

    def edit(members: Members) -> Members:
        def change(data: dict[str, Any]) -> None:
            data["members"][new] = data["members"].pop(old)

        members = described(change)(members)
        for info, _ in members:
            if info.filename == old:
                info.filename = new
        return members

    return edit


def added(name: str, content: bytes = b"x", mode: int = stat.S_IFREG | 0o644) -> Callable[[Members], Members]:
    """One more member, described."""

    def edit(members: Members) -> Members:
        def change(data: dict[str, Any]) -> None:
            data["members"][name] = {"sha256": sha256_of(content)}

        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        return [*described(change)(members), (info, content)]

    return edit


def undescribed(members: Members) -> Members:
    return [*members, (zipfile.ZipInfo("more.csv"), b"x")]


def replaced(name: str, content: bytes) -> Callable[[Members], Members]:
    """Another content, described rightly."""

    def edit(members: Members) -> Members:
        def change(data: dict[str, Any]) -> None:
            data["members"][name] = {"sha256": sha256_of(content)}

        members = described(change)(members)
        return [(info, content if info.filename == name else old) for info, old in members]

    return edit


def swapped(name: str, content: bytes) -> Callable[[Members], Members]:
    """Another content, its hash left as it was."""
    return lambda members: [(info, content if info.filename == name else old) for info, old in members]


def link(name: str, target: bytes) -> Callable[[Members], Members]:
    def edit(members: Members) -> Members:
        members = replaced(name, target)(members)
        for info, _ in members:
            if info.filename == name:
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
        return members

    return edit


def set_key(*path: str, value: Any) -> Callable[[Members], Members]:
    def change(data: dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return described(change)


def profile_of_mine(members: Members) -> Members:
    board = json.loads(next(content for info, content in members if info.filename == "board.yaml"))
    board["cost"]["profile"] = "/etc/passwd"
    return replaced("board.yaml", json.dumps(board).encode())(members)


HOSTILE: dict[str, Callable[[Members], Members]] = {
    "parent folder": renamed("profile.csv", "../profile.csv"),
    "parent folder inside": renamed("profile.csv", "arrivals/../../profile.csv"),
    "absolute": renamed("profile.csv", ABSOLUTE),
    "backslashes": renamed("profile.csv", "..\\profile.csv"),
    "drive": renamed("profile.csv", "C:profile.csv"),
    "hidden": renamed("profile.csv", ".profile"),
    "empty part": renamed("profile.csv", "a//b"),
    "folder": added("folder/", b"", stat.S_IFDIR | 0o755),
    "control character": renamed("profile.csv", "pro\nfile.csv"),
    "long name": renamed("profile.csv", "a" * 300),
    "deep name": renamed("profile.csv", "/".join("a" * 20)),
    "symlink": link("profile.csv", b"/etc/passwd"),
    "device file": added("null", b"", stat.S_IFCHR | 0o666),
    "undescribed": undescribed,
    "unknown but described": added("setup.py", b"import os"),
    "member twice": lambda members: [*members, members[-1]],
    "missing member": lambda members: members[:-1],
    "wrong hash": swapped("policy.py", b"import os"),
    "other first member": lambda members: [*members[1:], members[0]],
    "no members at all": lambda members: [],
    "description not JSON": described(lambda data: b"\x80\x04K\x01."),
    "description a list": described(lambda data: b"[]"),
    "description nested": described(lambda data: b"[" * 100_000 + b"]" * 100_000),
    "other format": set_key("format", value="another package"),
    "newer format": set_key("format_version", value=2),
    "unknown key": set_key("run_this", value="rm -rf /"),
    "no replications": set_key("replications", value=[]),
    "negative replication": set_key("replications", value=[-1]),
    "nice out of range": set_key("nice", value=-100),
    "wrong scenario": set_key("scenario", "run", value={"requests": -1}),
    "scenario not a mapping": set_key("scenario", value="x"),
    "other arrival file": set_key("arrivals", value={"/etc/passwd": "arrivals/0.csv"}),
    "arrival member elsewhere": set_key("arrivals", value={"lists/own times.csv": "board.yaml"}),
    "policy not brought": set_key("policy", value=None),
    "policy brought but not named": set_key("scenario", "policy", value={"name": "fifo"}),
    "model with a path for a hash": set_key("models", value={"a.onnx": "../../etc"}),
    "model that is none": set_key("models", value={"passwd": "0" * 64}),
    "network without model": set_key(
        "scenario", "workload", "streams", value=[
            {"arrivals": {"process": "replay", "file": "lists/own times.csv"}, "networks": ["/x/secret.onnx"]}
        ],
    ),
    "members without hashes": set_key("members", value={"board.yaml": {}}),
    "hash not text": set_key("members", "board.yaml", value={"sha256": 5}),
    "board like a file": replaced("board.yaml", b"like: /etc/passwd.yaml\n"),
    "board like the catalogue": replaced("board.yaml", b"like: ideal\n"),
    "board no mapping": replaced("board.yaml", b"- 1\n"),
    "board with an object": replaced("board.yaml", b"!!python/object/apply:os.system ['true']\n"),
    "board's profile elsewhere": profile_of_mine,
}  # fmt: skip
