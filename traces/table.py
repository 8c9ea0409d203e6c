"""A CSV table that says where it comes from: '# key: value' lines, then the column names, then the rows.

The first line of a file that edgesched wrote is ``# edgesched: <kind> <version>``. It may be missing from a
file written by hand; where it stands, it must name the kind that the reader expects.
"""

from __future__ import annotations

import csv
import io
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from .columns import CONTROL, Column, near

MAX_ROWS = 1_000_000
"""A longer table is refused."""
MAX_FILE_BYTES = 256 << 20
"""A larger file is refused before it is read."""
VERSION = "1"
MARK = "edgesched"
"""The metadata key of the line that names kind and version; it is not part of ``Table.metadata``."""
_KEY = re.compile(r"[a-z][a-z0-9 _-]{0,63}")


class ProfileError(ValueError):
    """A trace file that cannot be read or written: where, what was seen, what is allowed.

    ``path``, ``line`` (from 1; None for the file as a whole) and ``column`` say where.
    """

    def __init__(
        self, path: str, problem: str, *, line: int | None = None, column: str | None = None
    ) -> None:
        where = path if line is None else f"{path}: line {line}"
        super().__init__(f"{where}{'' if column is None else f', column {column!r}'}: {problem}")
        self.path = path
        self.line = line
        self.column = column


@dataclass(frozen=True)
class Table:
    """What a file holds: provenance, the names of its columns, and per row the line and the parsed cells.

    A row's cells are in the order of ``columns``; a blank cell is None.
    """

    path: str
    metadata: dict[str, str]
    columns: tuple[str, ...]
    rows: list[tuple[int, list[Any]]]


def embedded_names(kind: str) -> list[str]:
    """Names of the tables of that kind that come with edgesched, in alphabetical order."""
    mark = f"# {MARK}: {kind} {VERSION}\n".encode()
    found = []
    for item in resources.files(__package__).iterdir():
        if item.name.endswith(".csv"):
            with item.open("rb") as file:
                if file.read(len(mark)) == mark:
                    found.append(item.name.removesuffix(".csv"))
    return sorted(found)


def read_bytes(path: Path) -> bytes:
    """The content of a regular file of at most ``MAX_FILE_BYTES``. Raises ProfileError."""
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ProfileError(str(path), "is a folder; a profile is a CSV file")
        if not stat.S_ISREG(found.st_mode):
            raise ProfileError(str(path), "is not a regular file")
        if found.st_size > MAX_FILE_BYTES:
            raise ProfileError(
                str(path), f"is {found.st_size} bytes long; at most {MAX_FILE_BYTES} bytes are read"
            )
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except FileNotFoundError:
        raise ProfileError(str(path), "there is no such file") from None
    except (OSError, ValueError) as error:
        if isinstance(error, ProfileError):
            raise
        raise ProfileError(str(path), f"cannot be read: {error}") from error


def parse_table(content: bytes, path: str, kind: str, schema: Mapping[str, Column]) -> Table:
    """Read a table of ``kind`` whose columns are among ``schema``; ``path`` is for messages.

    Raises ProfileError for anything that is not such a table: wrong encoding, unknown, missing or repeated
    columns, rows of the wrong length, cells outside their rule, more than ``MAX_ROWS`` rows.
    """
    lines = io.StringIO(_decoded(content, path), newline="")
    metadata, count = _metadata(lines, path, kind)
    reader = csv.reader(lines, strict=True)
    try:
        header = next((row for row in reader if row), None)
        if header is None:
            raise ProfileError(path, f"has no line of column names; {_wanted(schema)}")
        line = count + reader.line_num
        columns = _columns(header, path, line, schema)
        rows = list(_rows(reader, path, count, [schema[name] for name in columns]))
    except csv.Error as error:
        raise ProfileError(path, f"is not CSV: {error}", line=count + reader.line_num) from error
    return Table(path, metadata, columns, rows)


def _wanted(schema: Mapping[str, Column]) -> str:
    return f"it needs {', '.join(c.name for c in schema.values() if c.required)}"


def _decoded(content: bytes, path: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProfileError(
            path,
            f"byte {content[error.start]:#04x} at position {error.start} is not UTF-8; save it as UTF-8",
            line=content.count(b"\n", 0, error.start) + 1,
        ) from error


def _metadata(lines: io.StringIO, path: str, kind: str) -> tuple[dict[str, str], int]:
    """The '# key: value' lines at the top; leaves ``lines`` at the first other line. Returns their number."""
    metadata: dict[str, str] = {}
    count = 0
    while True:
        start = lines.tell()
        line = lines.readline()
        if not line.startswith("#"):
            lines.seek(start)
            break
        count += 1
        key, colon, value = (part.strip() for part in line[1:].partition(":"))
        if not colon or not _KEY.fullmatch(key) or CONTROL.search(value):
            raise ProfileError(
                path, f"seen {line.strip()[:80]!r}; a line of the header reads '# key: value'", line=count
            )
        if key in metadata:
            raise ProfileError(path, f"the header says {key!r} twice", line=count)
        metadata[key] = value
    mark = metadata.pop(MARK, f"{kind} {VERSION}")
    if mark != f"{kind} {VERSION}":
        raise ProfileError(path, f"is a table of {mark[:80]!r}; expected '{kind} {VERSION}'", line=1)
    return metadata, count


def _columns(header: list[str], path: str, line: int, schema: Mapping[str, Column]) -> tuple[str, ...]:
    columns = [name.strip() for name in header]
    for name in columns:
        if name not in schema:
            raise ProfileError(path, f"unknown column {name[:80]!r}; {near(name, schema)}", line=line)
        if columns.count(name) > 1:
            raise ProfileError(path, f"column {name!r} stands there {columns.count(name)} times", line=line)
    for column in schema.values():
        if column.required and column.name not in columns:
            raise ProfileError(path, f"column {column.name!r} is missing; {_wanted(schema)}", line=line)
    return tuple(columns)


def _rows(reader: Any, path: str, offset: int, columns: Sequence[Column]) -> Iterator[tuple[int, list[Any]]]:
    parsers = [column.parse for column in columns]
    width = len(columns)
    filled = [index for index, column in enumerate(columns) if column.filled]
    count = 0
    for row in reader:
        if not row:
            continue
        line = offset + reader.line_num
        count += 1
        if count > MAX_ROWS:
            raise ProfileError(path, f"has more than {MAX_ROWS} rows", line=line)
        if len(row) != width:
            raise ProfileError(path, f"has {len(row)} cells; the line of column names has {width}", line=line)
        for index in filled:
            if not row[index].strip():
                raise _bad(path, line, columns[index], row[index])
        cells: list[Any] = [cell.strip() or None for cell in row]
        for index, cell in enumerate(cells):
            if cell is not None:
                try:
                    cells[index] = parsers[index](cell)
                except ValueError:
                    raise _bad(path, line, columns[index], row[index]) from None
        yield line, cells


def _bad(path: str, line: int, column: Column, seen: str) -> ProfileError:
    shown = repr(seen if len(seen) <= 80 else seen[:80] + "...")
    return ProfileError(path, f"seen {shown}; allowed: {column.allowed}", line=line, column=column.name)


def format_table(
    path: str,
    kind: str,
    metadata: Mapping[str, str],
    columns: Sequence[Column],
    rows: Iterable[Sequence[Any]],
) -> bytes:
    """The bytes of a table; reading them gives the same values back.

    ``rows`` hold one value per column, None for a blank cell. Raises ProfileError (``path`` is for messages)
    for a value that reading would refuse or change.
    """
    file = io.StringIO(newline="")
    file.write(f"# {MARK}: {kind} {VERSION}\n")
    for key, value in metadata.items():
        if not _KEY.fullmatch(key) or key == MARK or CONTROL.search(value) or value != value.strip():
            raise ProfileError(path, f"metadata {key!r}: {value[:80]!r} does not fit '# key: value'")
        file.write(f"# {key}: {value}\n")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    for number, row in enumerate(rows, start=1):
        if number > MAX_ROWS:
            raise ProfileError(path, f"more than {MAX_ROWS} rows are not written")
        cells = []
        for column, value in zip(columns, row, strict=True):
            cell = _cell(value)
            try:
                fits = not column.filled if cell == "" else column.parse(cell.strip()) == value
            except ValueError:
                fits = False
            if not fits:
                seen = f"row {number}: {value!r:.80} cannot be written"
                raise ProfileError(path, f"{seen}; allowed: {column.allowed}", column=column.name)
            cells.append(cell)
        writer.writerow(cells)
    return file.getvalue().encode("utf-8")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "-"
    return float.__repr__(value) if isinstance(value, float) else str(value)


def write_atomically(content: bytes, path: Path) -> None:
    """Put ``content`` at ``path`` whole or not at all: a temporary file beside it, then a rename.

    Raises ProfileError where the system refuses.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        mode = target.stat().st_mode if target.exists() else None
        if mode is not None and not stat.S_ISREG(mode):
            raise ProfileError(str(path), "is not a regular file; it is not replaced")
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if mode is not None:
                os.chmod(temporary, stat.S_IMODE(mode))
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ProfileError(str(path), f"cannot be written: {error}") from error
