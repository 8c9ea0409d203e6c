"""Sizes as people write them, in bytes."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

_FACTORS = {
    "": 1,
    "b": 1,
    "k": 1 << 10,
    "m": 1 << 20,
    "g": 1 << 30,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
}
_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*([A-Za-z]{0,3})\s*")


def parse_bytes(value: Any) -> int:
    """Bytes of 536870912, "512MiB", "512M" (binary, as cgroups write it) or "536.9 MB" (decimal).

    Raises ``ValueError`` for anything else.
    """
    if isinstance(value, bool):
        raise ValueError(f"a size is a number of bytes or a text such as 512MiB, not {value!r}")
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match and match[2].lower() in _FACTORS:
            return round(float(match[1]) * _FACTORS[match[2].lower()])
    raise ValueError(
        f"a size is a number of bytes or a text such as 64KiB, 512MiB, 512M, 1GiB, 1GB, not {value!r}"
    )


_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}
Size = Annotated[int, BeforeValidator(parse_bytes), Field(ge=0, le=1 << 50), WithJsonSchema(_SCHEMA)]
"""A size in bytes that may be written with a unit."""
