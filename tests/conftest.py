"""Fixtures that several files of tests use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from edgesched.bridge.bundles.bundle import Bundle


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any], Path]:
    """Write an ONNX model, or bytes that pretend to be one, into a file."""

    def save(proto: Any) -> Path:
        path = tmp_path / "small.onnx"
        path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
        return path

    return save


@pytest.fixture
def made(saved: Callable[[Any], Path], tmp_path: Path) -> Callable[..., Bundle]:
    """The layer bundle of an ONNX model, in a cache of the test's own."""
    from edgesched.bridge.bundles.cache import bundle_of

    def make(proto: Any, **more: Any) -> Bundle:
        return bundle_of(saved(proto), cache=tmp_path / "cache", **more)

    return make
