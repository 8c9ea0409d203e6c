"""Layer bundles are made once and kept: one folder per content in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .bundle import Bundle, BundleError, open_bundle
from .description import content_key, machine, runtime
from .libraries import import_onnx

CHUNK_BYTES = 1 << 20
DRAFT = ".making"
"""Suffix of a folder in which a bundle is being made; its maker holds a lock on the file ``lock`` in it."""


def cache_folder() -> Path:
    """``$EDGESCHED_CACHE``, else ``$XDG_CACHE_HOME/edgesched``, else ``~/.cache/edgesched``."""
    if own := os.environ.get("EDGESCHED_CACHE"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "edgesched"


def bundle_of(
    model: Path,
    *,
    name: str | None = None,
    dims: Mapping[str, int] | None = None,
    cache: Path | None = None,
    progress: Callable[[str], object] | None = None,
) -> Bundle:
    """The layer bundle of an ONNX file for this machine: from the cache, or made now.

    ``name`` is the network's name (the file's without its suffix). ``dims`` gives numbers to symbolic sides
    of the inputs; a symbolic batch is 1 unless named there. ``cache`` is the folder to keep bundles in
    (``cache_folder()``). ``progress`` is called with a short text at every step of making. Processes may ask
    for the same bundle at the same time. Raises ``BundleError``, ImportError without onnx and onnxruntime.
    """
    numbers = dict(dims or {})
    source_sha256 = _source_sha256(model)
    key = content_key(source_sha256, numbers, runtime(), machine())
    folder = (cache or cache_folder()) / "bundles" / key[:32]
    if not folder.exists():
        from .making import Source, make  # needs onnx and onnxruntime; opening does not

        with _draft(folder.parent) as draft:
            made = draft / "bundle"
            made.mkdir()
            source = Source(model, source_sha256, name or model.stem, numbers)
            try:
                make(source, made, draft, progress or (lambda text: None))
                made.rename(folder)
            except OSError as error:
                if not folder.exists():  # else another process was first: its bundle is the same
                    raise BundleError(f"{folder}: cannot be written ({error.strerror})") from None
    return open_bundle(folder, name=name or model.stem)


def kept(source_sha256: str, *, name: str, cache: Path | None = None) -> Bundle | None:
    """The bundle of a model that is known by its SHA-256 only, if this machine has made it before."""
    key = content_key(source_sha256, {}, runtime(), machine())
    folder = (cache or cache_folder()) / "bundles" / key[:32]
    return open_bundle(folder, name=name) if folder.exists() else None


def _source_sha256(model: Path) -> str:
    """SHA-256 of the model file, and behind it of its external weight files in order of their names."""
    digest = hashlib.sha256()
    try:
        with model.open("rb") as file:
            external = _digest(file, digest)
        if external:
            for path in external_files(model):
                with path.open("rb") as file:
                    _digest(file, digest)
    except OSError as error:
        raise BundleError(f"{error.filename or model}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def _digest(file: BinaryIO, digest: Any) -> bool:
    """Feed a file to ``digest``; whether it may refer to external weights, which have a ``location``."""
    found, tail = False, b""
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
        found = found or b"location" in tail + chunk
        tail = chunk[-7:]
    return found


def external_files(model: Path) -> list[Path]:
    """The files beside a model in which it keeps weights, in order of their names. Raises ``BundleError``."""
    onnx = import_onnx()
    try:
        proto = onnx.load(model, load_external_data=False)
    except Exception:  # protobuf's DecodeError is no part of its public interface
        raise BundleError(f"{model}: is not an ONNX file, or is damaged or cut short") from None
    names = {
        entry.value
        for tensor in proto.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [model.parent / name for name in sorted(names)]


@contextmanager
def _draft(bundles: Path) -> Iterator[Path]:
    """A folder to make a bundle in; it is gone afterwards, and so are those of makers that were killed."""
    try:
        bundles.mkdir(parents=True, exist_ok=True)
        with (bundles / ".lock").open("wb") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)  # nobody sweeps between making a folder and locking it
            _sweep(bundles)
            draft = Path(tempfile.mkdtemp(prefix=".", suffix=DRAFT, dir=bundles))
            held = (draft / "lock").open("wb")
            fcntl.flock(held, fcntl.LOCK_EX)
    except OSError as error:
        raise BundleError(f"{bundles}: bundles cannot be kept here ({error.strerror})") from None
    with held:
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _sweep(bundles: Path) -> None:
    """Remove the drafts whose makers are dead: their locks are free."""
    for draft in bundles.glob(f".*{DRAFT}"):
        try:
            with (draft / "lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(draft, ignore_errors=True)
        except BlockingIOError:
            continue
