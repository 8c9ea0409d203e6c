"""Which rows of a primitive profile count on a device: those of one processor, at one number of threads."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ..traces.primitives import PrimitiveProfile

if TYPE_CHECKING:
    from ..traces.primitives import PrimitiveRow


@lru_cache(maxsize=64)
def names_processor(profile: PrimitiveProfile, processor: str) -> bool:
    """Whether rows of the profile were measured on a processor of this name."""
    return any(row.processor == processor for row in profile.rows)


@lru_cache(maxsize=8)
def measured_on(profile: PrimitiveProfile, processor: str, threads: int) -> PrimitiveProfile:
    """The profile with one row for each primitive of a layer: the one that counts.

    Rows that name the processor; where none does, those of the processor that the profile names first. Of
    these the rows at ``threads``, or where nothing was measured so, at the fewest. Rows that name no
    processor, or state no number of threads, count everywhere, behind those that do.
    """
    named = list(dict.fromkeys(row.processor for row in profile.rows if row.processor))
    place = processor if processor in named else next(iter(named), "")
    here = [row for row in profile.rows if row.processor in ("", place)]
    stated = {row.threads for row in here if row.threads is not None}
    count = threads if threads in stated else min(stated, default=None)
    found: dict[tuple[str, str], PrimitiveRow] = {}
    for row in here:
        if row.threads not in (None, count):
            continue
        key = row.layer, row.primitive
        if key not in found or _stated(row) > _stated(found[key]):
            found[key] = row
    if len(found) == len(profile.rows):
        return profile
    return PrimitiveProfile(tuple(found.values()), profile.metadata, profile.source)


def _stated(row: PrimitiveRow) -> int:
    """How much a row says of where it was measured."""
    return bool(row.processor) + (row.threads is not None)
