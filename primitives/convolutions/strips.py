"""im2row and im2col a few output rows at a time: smaller products, and a fraction of the workspace."""

from __future__ import annotations

from typing import ClassVar

from ..primitive import Primitive
from .im2col import ColumnScan
from .im2row import RowCopyShort, RowScan

ROWS = (1, 2, 4, 8)
"""Output rows that are lowered at once."""


class RowStrip(RowCopyShort):
    """im2row from hwc, strip by strip."""

    family: ClassVar[str] = "strip"


class RowScanStrip(RowScan):
    """im2row from chw, strip by strip."""

    family: ClassVar[str] = "strip"


class ColumnStrip(ColumnScan):
    """im2col from chw, strip by strip; the products write [M x rows Wo] parts of the output."""

    family: ClassVar[str] = "strip"


PRIMITIVES: tuple[Primitive, ...] = (
    *(RowStrip(f"im2row-strip-{rows}-ab-ik", "hwc", "hwc", True, rows) for rows in ROWS),
    *(RowScanStrip(f"im2row-strip-{rows}-scan-ab-ik", "chw", "hwc", True, rows) for rows in ROWS),
    *(ColumnStrip(f"im2col-strip-{rows}-ab-ki", "chw", "chw", False, rows) for rows in ROWS),
)
