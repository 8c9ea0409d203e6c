"""YAML as a scenario needs it: plain data, and the line on which every key stands.

Scalars are read by the core schema of YAML 1.2 (``1e-3`` is a number, ``yes`` and ``1:30`` are texts). What
plain data cannot be - tags, sets, dates - and what only does harm - duplicate keys, alias bombs, endless
nesting - is refused with its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 2_000_000
"""A larger file is refused."""
MAX_DEPTH = 40
MAX_NODES = 200_000
"""Keys and values of one file, aliases written out."""

Location = tuple[str | int, ...]

_PLAIN: list[tuple[re.Pattern[str], Any]] = [
    (re.compile(r"~|null|Null|NULL|"), lambda text: None),
    (re.compile(r"true|True|TRUE"), lambda text: True),
    (re.compile(r"false|False|FALSE"), lambda text: False),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+"), lambda text: int(text[2:], 8)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda text: int(text[2:], 16)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)"), lambda text: float("-inf") if text[0] == "-" else float("inf")),
    (re.compile(r"\.(nan|NaN|NAN)"), lambda text: float("nan")),
]
_TEXT = "tag:yaml.org,2002:str"
_MERGE = "<<"


class InputError(ValueError):
    """What a user gave cannot be used; the message says where, what was seen and what is allowed."""


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data with the lines of its keys: ``lines[path]``, the path as keys and list indices."""

    data: Any
    lines: dict[Location, int] = field(default_factory=dict)

    def line(self, location: Location) -> int | None:
        """The line of the deepest part of ``location`` that the file holds."""
        while location:
            if location in self.lines:
                return self.lines[location]
            location = location[:-1]
        return self.lines.get(())


def read_text(path: Path, what: str = "scenario") -> str:
    """The text of a small UTF-8 file. Raises ``InputError``."""
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder, must be a {what} file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: cannot be read: {reason}") from error
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_BYTES} bytes; a {what} file may have at most as many")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise InputError(
            f"{path}:{line}: byte 0x{byte:02x} is not UTF-8; a {what} is a text in UTF-8"
        ) from error


def read_mapping(path: Path, what: str = "scenario") -> Document:
    """The file's mapping. Raises ``InputError``."""
    document = parse(read_text(path, what), str(path))
    if not isinstance(document.data, dict):
        seen = "nothing" if document.data is None else shown(document.data)
        raise InputError(f"{path}: must be a mapping (key: value lines), seen {seen}")
    return document


def parse(text: str, where: str) -> Document:
    """YAML text as a document; ``where`` names it in messages. Raises ``InputError``."""
    try:
        return _Reader(where).read(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        problem = error.problem or error.context or "cannot be parsed"
        hint = "; indent with blanks, not tabs" if r"'\t'" in problem or "tab" in problem else ""
        raise InputError(f"{where}{line}: not YAML: {problem}{hint}") from error
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise InputError(
            f"{where}:{number}: not YAML: character {error.character!r:.20} is not allowed"
        ) from error
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not YAML: {error}") from error


def shown(value: Any, length: int = 60) -> str:
    """What was seen, short enough for a message."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a very large number"
    return text if len(text) <= length else f"{text[: length - 3]}..."


class _Reader:
    def __init__(self, where: str) -> None:
        self.where = where
        self.lines: dict[Location, int] = {}
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.nodes = 0

    def read(self, text: str) -> Document:
        events = yaml.parse(text, Loader=yaml.SafeLoader)
        data: Any = None
        documents = 0
        event: Any  # the stubs leave out what the kinds of events have in common
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self.error(event, "a second document begins; one file holds one")
                self.lines[()] = self.line(event)
                data = self.node(next(events), events, ())
        return Document(data, self.lines)

    @staticmethod
    def line(event: Any) -> int:
        """The line on which the event begins."""
        return int(event.start_mark.line) + 1

    def error(self, event: Any, message: str) -> InputError:
        return InputError(f"{self.where}:{self.line(event)}: {message}")

    def count(self, event: Any, number: int) -> None:
        self.nodes += number
        if self.nodes > MAX_NODES:
            raise self.error(
                event, f"more than {MAX_NODES} values, aliases written out; at most as many are allowed"
            )

    def node(self, event: Any, events: Any, path: Location) -> Any:
        if len(path) > MAX_DEPTH:
            raise self.error(event, f"nested deeper than {MAX_DEPTH} levels; at most as many are allowed")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self.error(event, f"alias *{event.anchor} has no anchor &{event.anchor} before it")
            value, size = self.anchors[event.anchor]
            self.count(event, size)
            return value
        before = self.nodes
        self.count(event, 1)
        if isinstance(event, yaml.ScalarEvent):
            value = self.scalar(event)
        elif event.tag is not None:
            raise self.error(event, f"tag {event.tag!r} is not allowed; a scenario is plain data")
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self.items(events, path)
        else:
            value = self.pairs(events, path)
        if event.anchor is not None:
            self.anchors[event.anchor] = value, self.nodes - before
        return value

    def items(self, events: Any, path: Location) -> list[Any]:
        result: list[Any] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            place = (*path, len(result))
            self.lines[place] = self.line(event)
            result.append(self.node(event, events, place))
        return result

    def pairs(self, events: Any, path: Location) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: list[dict[str, Any]] = []
        own: dict[str, int] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            if not isinstance(event, yaml.ScalarEvent):
                raise self.error(event, "a key must be a text, not a list, a mapping or an alias")
            key = event.value
            line = self.line(event)
            if key in own:
                raise self.error(
                    event, f"{shown(key)} is there twice in one mapping (first on line {own[key]})"
                )
            own[key] = line
            self.count(event, 1)
            place = (*path, key)
            self.lines[place] = line
            value = self.node(next(events), events, place)
            if key == _MERGE and event.implicit[0]:
                sources = value if isinstance(value, list) else [value]
                if not all(isinstance(source, dict) for source in sources):
                    raise self.error(event, "<< takes a mapping, or a list of mappings")
                merged += sources
            else:
                result[key] = value
        for source in merged:
            result = {**source, **result}
        return result

    def scalar(self, event: yaml.ScalarEvent) -> Any:
        text: str = event.value
        if event.tag is not None and event.tag not in (_TEXT, "!"):
            raise self.error(event, f"tag {event.tag!r} is not allowed; a scenario is plain data")
        if event.tag is not None or not event.implicit[0]:
            return text
        for pattern, convert in _PLAIN:
            if pattern.fullmatch(text):
                try:
                    return convert(text)
                except ValueError:  # more digits than Python reads
                    raise self.error(event, f"a number of {len(text)} digits is too large") from None
        return text
