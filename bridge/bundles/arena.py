"""Where the tensors of one job lie in its arena: a static plan, made once.

A tensor keeps its bytes from the layer that writes it to the last one that reads it; tensors that never live
at the same time may share them. Greedy by size, as in Pisarchyk and Lee, "Efficient Memory Management for
Deep Neural Net Inference" (2020): the largest tensor first, each into the smallest gap that holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT_BYTES = 64
"""A cache line, and the width of the widest vector register."""


@dataclass(frozen=True, slots=True)
class Span:
    """``size_bytes`` that are needed from layer ``first`` to layer ``last``, both included."""

    size_bytes: int
    first: int
    last: int

    def meets(self, other: Span) -> bool:
        """Whether both are needed while some layer executes."""
        return self.first <= other.last and other.first <= self.last


def aligned(size_bytes: int, alignment_bytes: int = ALIGNMENT_BYTES) -> int:
    """The next multiple of ``alignment_bytes``."""
    return -(-size_bytes // alignment_bytes) * alignment_bytes


def place(spans: Sequence[Span]) -> tuple[tuple[int, ...], int]:
    """Offsets of all spans, multiples of 64, and the bytes from 0 to the end of the last one."""
    offsets = [0] * len(spans)
    placed: list[int] = []
    for index in sorted(range(len(spans)), key=lambda i: (-spans[i].size_bytes, spans[i].first, i)):
        span = spans[index]
        busy = sorted(
            (offsets[other], offsets[other] + spans[other].size_bytes)
            for other in placed
            if span.meets(spans[other])
        )
        offsets[index] = _smallest_gap(busy, span.size_bytes)
        placed.append(index)
    ends = (offset + span.size_bytes for offset, span in zip(offsets, spans, strict=True))
    return tuple(offsets), aligned(max(ends, default=0))


def _smallest_gap(busy: Sequence[tuple[int, int]], size_bytes: int) -> int:
    """Offset of the smallest gap between ``busy`` parts that holds ``size_bytes``; else behind all."""
    best: tuple[int, int] | None = None
    end = 0
    for start, stop in busy:
        gap = start - end
        if gap >= size_bytes and (best is None or gap < best[0]):
            best = (gap, end)
        end = max(end, aligned(stop))
    return best[1] if best else end


def live_bytes(spans: Sequence[Span]) -> int:
    """Most bytes that are needed at one time, each span rounded up to 64: no plan can do with fewer."""
    return max(
        (
            sum(aligned(span.size_bytes) for span in spans if span.first <= moment <= span.last)
            for moment in {span.first for span in spans}
        ),
        default=0,
    )
