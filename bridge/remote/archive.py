"""A zip that can be unpacked without trusting whoever made it.

Plain files only, stored and not compressed, so that nothing can swell. The first member is a JSON mapping: it
says what the zip is and, under ``members``, names every other member with its SHA-256. The same content gives
the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ...traces.atomic import write_whole

MAX_BYTES = 2_000_000_000
"""Of the whole zip; below the size at which zip files need 64-bit fields, which are refused."""
MAX_MEMBERS = 2000
MAX_MANIFEST_BYTES = 16 << 20
MAX_NAME = 200
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,7}")
_END = struct.Struct("<4s4H2LH")
"""The last record of a zip file: signature, disks (2), members (2), bytes and place of the list, comment."""
_CHUNK_BYTES = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)


class PackageError(ValueError):
    """A package cannot be made or is not to be trusted; the message names the file and says why."""


def pack(
    path: Path, manifest_name: str, manifest: Mapping[str, Any], members: Mapping[str, bytes | Path]
) -> str:
    """Write a zip of ``members`` (name to content or file) whole or not at all; returns its SHA-256.

    ``members`` is added to the manifest. Raises PackageError where the content would not be unpacked.
    """
    names = sorted(members)
    if len(names) >= MAX_MEMBERS:
        raise PackageError(f"{path}: {len(names)} files, at most {MAX_MEMBERS - 1} go into a package")
    for name in names:
        _check_name(path, name)
    try:
        digests = {name: {"sha256": sha256_of(members[name])} for name in names}
        text = json.dumps({**manifest, "members": digests}, indent=1, allow_nan=False)
        first = text.encode() + b"\n"
        total = len(first) + sum(_size(members[name]) for name in names)
        if len(first) > MAX_MANIFEST_BYTES or total > MAX_BYTES:
            raise PackageError(
                f"{path}: {total} bytes, {len(first)} of them description; at most {MAX_BYTES} and "
                f"{MAX_MANIFEST_BYTES} go into a package"
            )

        def write(draft: Path) -> None:
            with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED, allowZip64=False) as file:
                for name, content in ((manifest_name, first), *((name, members[name]) for name in names)):
                    _add(file, name, content)

        write_whole(path, write)
        return sha256_of(path)
    except OSError as error:
        raise PackageError(f"{error.filename or path}: {error.strerror}") from error


def read_manifest(path: Path, manifest_name: str) -> bytes:
    """The first member of a zip, as JSON text. Raises PackageError for a zip that ``pack`` would not make."""
    with _opened(path) as file:
        return _manifest(path, file, manifest_name)


def unpack(path: Path, manifest_name: str, folder: Path, allowed: Callable[[str], bool]) -> dict[str, Any]:
    """Check every member and write them into the new folder ``folder``; returns the manifest.

    ``allowed`` says which members may be there. Raises PackageError, and then leaves nothing behind.
    """
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.unpacking")
    with _opened(path) as file:
        manifest = _parsed(path, _manifest(path, file, manifest_name))
        wanted = _members(path, manifest)
        infos = {info.filename: info for info in file.infolist()[1:]}
        for name in [*infos, *wanted]:
            if name not in infos or name not in wanted or not allowed(name):
                raise PackageError(f"{path}: {name!r} does not belong there, is not described, or is missing")
        try:
            draft.mkdir(parents=True)
            for name, sha256 in wanted.items():
                if _extract(file, infos[name], draft / name) != sha256:
                    raise PackageError(f"{path}: {name!r} is damaged: its SHA-256 is not the one described")
            if folder.exists():
                raise PackageError(f"{folder}: is there already")
            os.rename(draft, folder)
        except OSError as error:
            raise PackageError(f"{error.filename or folder}: {error.strerror}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return manifest


def _check_name(path: Path, name: str) -> None:
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise PackageError(
            f"{path}: {name[:MAX_NAME]!r} is no name for a member: letters, digits, _ . - and /"
        )


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def sha256_of(content: bytes | Path) -> str:
    """SHA-256 of bytes or of a file, in hexadecimal digits."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add(file: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3  # the same bytes wherever it is made
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.file_size = _size(content)
    with file.open(info, "w") as member:
        if isinstance(content, bytes):
            member.write(content)
        else:
            with content.open("rb") as source:
                shutil.copyfileobj(source, member, _CHUNK_BYTES)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The zip, all that its list of members says checked."""
    try:
        with path.open("rb") as raw:
            _check_end(path, raw)
            with zipfile.ZipFile(raw) as file:
                _check_list(path, file)
                yield file
    except OSError as error:
        raise PackageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except PackageError:
        raise
    except (
        zipfile.BadZipFile,
        ValueError,
        EOFError,
        struct.error,
        NotImplementedError,
        RuntimeError,
    ) as error:
        # zipfile tells damage by all of these
        raise PackageError(f"{path}: not a package, or damaged: {error}") from error


def _check_end(path: Path, raw: BinaryIO) -> None:
    """The list of members must be small and lie where it says, before anything reads it."""
    found = os.fstat(raw.fileno())
    if not stat.S_ISREG(found.st_mode) or not _END.size <= found.st_size <= MAX_BYTES:
        raise PackageError(f"{path}: not a file of {_END.size} to {MAX_BYTES} bytes, so no package")
    raw.seek(-_END.size, os.SEEK_END)
    mark, disk, other, here, members, size, place, comment = _END.unpack(raw.read())
    if mark != b"PK\5\6" or disk or other or here != members or comment:
        raise PackageError(f"{path}: not a package, or cut short")
    if not 1 <= members <= MAX_MEMBERS:
        raise PackageError(f"{path}: {members} members, 1 to {MAX_MEMBERS} are allowed")
    if place + size + _END.size != found.st_size or size > members * (46 + MAX_NAME):
        raise PackageError(f"{path}: its list of members is not where or what it should be")


def _check_list(path: Path, file: zipfile.ZipFile) -> None:
    assert file.fp is not None
    file.fp.seek(0, os.SEEK_END)
    left = file.fp.tell()
    seen: set[str] = set()
    for info in file.infolist():
        _check_name(path, info.orig_filename)
        what = f"{path}: {info.filename!r}"
        if info.filename in seen:
            raise PackageError(f"{what} is there twice")
        seen.add(info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) or info.external_attr & 0x10:
            raise PackageError(f"{what} is no plain file")
        if info.flag_bits & ~0x800 or info.compress_type != zipfile.ZIP_STORED or info.extra or info.comment:
            raise PackageError(f"{what} is compressed, encrypted or otherwise more than stored")
        left -= info.file_size
        if info.file_size != info.compress_size or left < 0:
            raise PackageError(f"{what} does not have the size that it says")


def _manifest(path: Path, file: zipfile.ZipFile, name: str) -> bytes:
    first = file.infolist()[0]
    if first.filename != name:
        raise PackageError(f"{path}: begins with {first.filename!r}, must begin with {name!r}")
    if first.file_size > MAX_MANIFEST_BYTES:
        raise PackageError(
            f"{path}: {name} has {first.file_size} bytes, at most {MAX_MANIFEST_BYTES} are read"
        )
    return file.read(first)


def _parsed(path: Path, text: bytes) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{path}: its description is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise PackageError(f"{path}: its description is not a JSON mapping")
    return data


def _members(path: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Name to SHA-256, as described."""
    members = manifest.get("members")
    if not isinstance(members, dict) or not all(
        isinstance(entry, dict) and isinstance(entry.get("sha256"), str) for entry in members.values()
    ):
        raise PackageError(f"{path}: its description does not give every member's SHA-256")
    return {name: entry["sha256"] for name, entry in members.items()}


def _extract(file: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> str:
    """Write one member to a new file; returns its SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with file.open(info) as source, target.open("xb") as copy:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            copy.write(chunk)
    return digest.hexdigest()
