"""Files that commands write: refused before any work if they cannot be written, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def check_target(option: str, path: Path | None) -> None:
    """Raise ``InputError`` where the file cannot be written."""
    from ..devices.reading import InputError

    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder, must be a file")
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"{option} {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{option} {path}: the folder {folder} cannot be written to")


def check_folder(option: str, path: Path | None) -> None:
    """Raise ``InputError`` where the path exists and is no folder, or cannot be made."""
    from ..devices.reading import InputError

    if path is None:
        return
    if path.exists() and not path.is_dir():
        raise InputError(f"{option} {path}: is a file, must be a folder")
    above = next((p for p in (path, *path.absolute().parents) if p.exists()), path)
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{option} {path}: {above} cannot be written to")


def write_json(path: Path, data: Any) -> None:
    """Write data as JSON, whole or not at all."""
    import json

    from ..traces.atomic import write_whole

    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))
