"""onnx and onnxruntime, imported when first needed, and never with an interrupt in the middle."""

from __future__ import annotations

from typing import Any

from ...workloads import onnx_graph
from ..interrupts import held


def import_onnx() -> Any:
    """The onnx package. Raises ImportError that says how to install it."""
    with held():
        return onnx_graph.import_onnx()


def import_runtime() -> Any:
    """The onnxruntime package."""
    with held():
        import onnxruntime

        return onnxruntime
