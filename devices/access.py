"""What a task touches: programs of byte ranges swept together, for loading, filling and executing layers.

A GEMM sweeps over its whole output once per ``GEMM_DEPTH`` rows of K, reading one slice of weights and of the
im2col buffer: that is what makes a convolution under a memory limit so much slower than its bytes suggest.
``paging.py`` says what touching costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

GEMM_DEPTH = 384
"""Rows of K per GEMM sweep (OpenBLAS ``GEMM_Q`` of single precision on current x86 and Arm cores)."""
IM2COL_SHARE = 0.1
"""Share of a convolution's time that goes into filling the im2col buffer."""

INPUT, WEIGHTS, IM2COL, OTHER, OUTPUT = range(5)
"""Positions of a layer's blobs in ``layer_program``."""

Access = tuple[int, float, float, bool]
"""(position of the blob, start, end as fractions of it, writes?)."""
Phase = tuple[float, tuple[Access, ...]]
"""(share of the task's work, ranges swept together from start to end)."""


@dataclass(frozen=True, slots=True)
class Program:
    """The memory accesses of one task, independent of blob sizes.

    ``phases`` run one after another; ``uses`` names every blob position once, with its range and whether
    it is written, for the test whether the whole task fits without any fault.
    """

    phases: tuple[Phase, ...]
    uses: tuple[Access, ...] = field(init=False)

    def __post_init__(self) -> None:
        seen: dict[int, Access] = {}
        for share, accesses in self.phases:
            if share < 0:
                raise ValueError("a phase's share of the work must not be negative")
            for pos, lo, hi, write in accesses:
                if pos < 0 or not 0.0 <= lo <= hi <= 1.0:
                    raise ValueError(f"bad access {(pos, lo, hi, write)}")
                old = seen.get(pos)
                if old is not None:
                    lo, hi, write = min(lo, old[1]), max(hi, old[2]), write or old[3]
                seen[pos] = (pos, lo, hi, write)
        object.__setattr__(self, "uses", tuple(seen.values()))


@lru_cache(maxsize=8192)
def layer_program(
    op: str,
    *,
    has_weights: bool = True,
    has_im2col: bool = False,
    has_other: bool = False,
    in_place: bool = False,
    depth: int = 1,
    groups: int = 1,
    batch: int = 1,
) -> Program:
    """Access program of one layer's forward pass (blob order INPUT, WEIGHTS, IM2COL, OTHER, OUTPUT).

    Args:
        op: ``"conv"``, ``"fc"`` or anything else for an element-wise, pooling or normalising layer.
        has_weights, has_im2col, has_other: which of these blobs the layer owns.
        in_place: the output is the input blob.
        depth: K of the GEMM of one group, i.e. multiply-accumulates / output elements.
        groups: convolution groups (= im2col rows / ``depth``).
        batch: images; a convolution runs them one by one through one im2col buffer.

    A convolution of one image fills im2col (``IM2COL_SHARE`` of the work), then makes
    ``groups * ceil(depth / GEMM_DEPTH)`` sweeps, each over one slice of weights and im2col and over the
    group's whole output.  With several images, each image is one phase over all weights and the buffer.

    Raises:
        ValueError: depth, groups or batch below 1.
    """
    if depth < 1 or groups < 1 or batch < 1:
        raise ValueError("depth, groups and batch must be at least 1")
    if op == "conv" and batch > 1:
        phases: list[Phase] = []
        for b in range(batch):
            acc: list[Access] = [(INPUT, b / batch, (b + 1) / batch, False)]
            if has_im2col:
                acc.append((IM2COL, 0.0, 1.0, True))
            acc.append((WEIGHTS, 0.0, 1.0, False))
            acc.append((OUTPUT, b / batch, (b + 1) / batch, True))
            phases.append((1.0 / batch, tuple(acc)))
        return Program(tuple(phases))
    if op == "conv":
        phases = []
        share = 1.0
        source = INPUT
        if has_im2col:
            share -= IM2COL_SHARE
            source = IM2COL
            phases.append((IM2COL_SHARE, ((INPUT, 0.0, 1.0, False), (IM2COL, 0.0, 1.0, True))))
        sweeps = math.ceil(depth / GEMM_DEPTH)
        total = groups * sweeps
        for i in range(total):
            g = i // sweeps
            lo, hi = i / total, (i + 1) / total
            phases.append(
                (
                    share / total,
                    (
                        (WEIGHTS, lo, hi, False),
                        (source, lo, hi, False),
                        (OUTPUT, g / groups, (g + 1) / groups, True),
                    ),
                )
            )
        return Program(tuple(phases))
    acc = [(INPUT, 0.0, 1.0, in_place)]
    if has_weights:
        acc.append((WEIGHTS, 0.0, 1.0, False))
    if not in_place:
        acc.append((OUTPUT, 0.0, 1.0, True))
    if has_other:
        acc.append((OTHER, 0.0, 1.0, True))
    return Program(((1.0, tuple(acc)),))


@lru_cache(maxsize=1024)
def bulk_load_program(copies: int, weight_bytes: tuple[int, ...]) -> Program:
    """Loading a whole model at once (or one layer: a single entry).

    The file is parsed into copy 0, each further copy is made from the one before, the last one is copied
    into the weights (Caffe: 1 copy for new, 3 for old model files). With 0 copies the weights are written
    directly.

    Blob order: the ``copies`` transient blobs, each of sum(weight_bytes), then one weight blob for every
    entry of ``weight_bytes`` (bytes; entries of 0 are allowed and skipped, but keep their position).

    Raises:
        ValueError: negative ``copies`` or sizes.
    """
    if copies < 0 or any(w < 0 for w in weight_bytes):
        raise ValueError("copies and weight_bytes must not be negative")
    total = sum(weight_bytes)
    if not total:
        return Program(((1.0, ()),))
    phases: list[Phase] = []
    share = 1.0 / (copies + 1)
    for q in range(copies):
        acc: list[Access] = [(q - 1, 0.0, 1.0, False)] if q else []
        acc.append((q, 0.0, 1.0, True))
        phases.append((share, tuple(acc)))
    start = 0
    for i, w in enumerate(weight_bytes):
        if not w:
            continue
        acc = [(copies - 1, start / total, min(1.0, (start + w) / total), False)] if copies else []
        acc.append((copies + i, 0.0, 1.0, True))
        phases.append((share * w / total, tuple(acc)))
        start += w
    return Program(tuple(phases))


@lru_cache(maxsize=256)
def fill_program(n_blobs: int) -> Program:
    """Writing ``n_blobs`` blobs once, one after another (building a network fills all its weights)."""
    if n_blobs < 1:
        return Program(((1.0, ()),))
    return Program(tuple((1.0 / n_blobs, ((i, 0.0, 1.0, True),)) for i in range(n_blobs)))


def join_programs(parts: Iterable[tuple[Program, float, Sequence[int]]]) -> Program:
    """Several programs run in one task (bulk execution: all layers, nothing dropped between them).

    Args:
        parts: (program, share of the whole work, position in the joint blob list of each of its blobs;
            a negative position leaves the access out).  Shares are scaled to a sum of 1.

    Raises:
        ValueError: a negative share.
    """
    parts = list(parts)
    if any(share < 0 for _, share, _ in parts):
        raise ValueError("shares must not be negative")
    total = sum(share for _, share, _ in parts)
    phases: list[Phase] = []
    for program, share, where in parts:
        part = share / total if total else 1.0 / len(parts)
        for frac, accesses in program.phases:
            acc = tuple((where[p], lo, hi, w) for p, lo, hi, w in accesses if where[p] >= 0)
            phases.append((part * frac, acc))
    return Program(tuple(phases))
