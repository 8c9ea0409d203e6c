"""Winograd's primitives: the algebra is exact, and what is cut by edges or shared between rows is right."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from conv_reference import convolve
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesched.primitives.arena import Arena
from edgesched.primitives.convolutions import winograd1d, winograd2d
from edgesched.primitives.cook_toom import Matrix, cook_toom
from edgesched.primitives.layouts import as_chw, in_layout, transform
from edgesched.primitives.primitive import Array, Primitive
from edgesched.primitives.shape import ConvShape

PRIMITIVES = {p.name: p for p in (*winograd1d.PRIMITIVES, *winograd2d.PRIMITIVES)}
SIZES = [(m, r) for m in (2, 3, 4) for r in (3, 5)]
TOLERANCE = 1e-4

# C, H, W, M, padding: fewer channels than lanes, no multiple of them, one row, one column, all edges.
CASES = [
    (3, 7, 9, 5, 0),
    (9, 8, 11, 17, 1),
    (8, 5, 5, 8, 2),
    (16, 6, 13, 7, 2),
    (5, 1, 6, 8, 2),
    (8, 9, 1, 3, 2),
    (24, 17, 16, 16, 1),
    (2, 5, 5, 1, 4),
]


def numbers(*sides: int) -> Array:
    return np.random.default_rng(sum(sides)).standard_normal(sides, np.float32)


@cache
def problem(shape: ConvShape) -> tuple[Array, Array, Array]:
    """Image (C, H, W), kernels, and their convolution without a bias."""
    chw = numbers(shape.channels, shape.height, shape.width)
    kernels = numbers(shape.kernels, shape.channels, shape.kernel, shape.kernel)
    return chw, kernels, convolve(chw, kernels, None, shape)


class Case:
    """A primitive with all that it needs for one image of a shape."""

    def __init__(self, chosen: Primitive, shape: ConvShape, bias: Array | None) -> None:
        chw, kernels, expected = problem(shape)
        self.primitive, self.shape, self.bias = chosen, shape, bias
        self.expected = expected if bias is None else expected + bias[:, None, None]
        self.image = np.empty(in_layout(chw.shape, chosen.in_layout), np.float32)
        transform(chw, "chw", chosen.in_layout, self.image)
        self.weights = chosen.prepare(kernels, shape)
        self.out = np.full(in_layout(expected.shape, chosen.out_layout), np.nan, np.float32)

    def run(self, arena: Arena) -> None:
        self.primitive.run(self.image, self.weights, self.bias, self.out, self.shape, arena)

    @property
    def error(self) -> float:
        """Largest error, relative to the largest output."""
        difference = np.abs(as_chw(self.out, self.primitive.out_layout) - self.expected)
        return float(difference.max() / np.abs(self.expected).max())


def dirty_arena(size_bytes: int) -> Arena:
    return Arena(size_bytes, np.full(size_bytes, 0xFF, np.uint8))


def multiply(matrix: Matrix, vector: list[Fraction]) -> list[Fraction]:
    return [sum((a * b for a, b in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


fractions = st.fractions(-100, 100, max_denominator=20)


@pytest.mark.parametrize(("m", "r"), SIZES)
@settings(max_examples=20)
@given(data=st.data())
def test_minimal_filtering_is_exact(m: int, r: int, data: st.DataObject) -> None:
    t = m + r - 1
    signal = data.draw(st.lists(fractions, min_size=t, max_size=t))
    taps = data.draw(st.lists(fractions, min_size=r, max_size=r))
    f = cook_toom(m, r)
    products = [a * b for a, b in zip(multiply(f.taps, taps), multiply(f.inputs, signal), strict=True)]
    expected = [sum(signal[k + i] * taps[i] for i in range(r)) for k in range(m)]
    assert len(products) == t
    assert multiply(f.outputs, products) == expected


def test_the_known_matrices_of_f_2_3() -> None:
    """Up to the signs and the order in which Lavin and Gray have them."""
    half = Fraction(1, 2)
    f = cook_toom(2, 3)
    assert f.taps == ((-1, 0, 0), (half, half, half), (half, -half, half), (0, 0, 1))
    assert f.inputs == ((-1, 0, 1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1))
    assert f.outputs == ((1, 1, 1, 0), (0, 1, -1, 1))


@pytest.mark.parametrize(("m", "r"), [(0, 3), (3, 0), (1, 1), (5, 5)])
def test_sizes_without_enough_points_are_an_error(m: int, r: int) -> None:
    with pytest.raises(ValueError, match=rf"F\({m}, {r}\)"):
        cook_toom(m, r)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_computes_the_convolution_whatever_the_edges(name: str) -> None:
    chosen = PRIMITIVES[name]
    side = next(k for k in (3, 5) if chosen.refuses(ConvShape(1, 9, 9, 1, k)) is None)
    tried = 0
    for channels, height, width, kernels, pad in CASES:
        if min(height, width) + 2 * pad < side:
            continue
        shape = ConvShape(channels, height, width, kernels, side, 1, pad)
        arena = dirty_arena(chosen.workspace_bytes(shape))
        case = Case(chosen, shape, numbers(kernels) if tried % 2 else None)
        case.run(arena)
        assert case.error < TOLERANCE, shape.key
        assert arena.high_water_bytes == chosen.workspace_bytes(shape), shape.key
        tried += 1
    assert tried >= 6


@pytest.mark.parametrize("name", PRIMITIVES)
def test_makes_no_array_and_stays_exact_with_many_channels(name: str) -> None:
    chosen = PRIMITIVES[name]
    shape = ConvShape(64, 30, 29, 64, 5 if "-5" in name else 3, 1, 1)
    case, arena = Case(chosen, shape, None), Arena(chosen.workspace_bytes(shape))
    case.run(arena)
    tracemalloc.start()
    try:
        case.run(arena)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 1024
    assert case.error < 2e-5


def test_formulas_by_hand() -> None:
    shape = ConvShape(5, 11, 13, 7, 3, 1, 1)  # 11 x 13 outputs
    two = PRIMITIVES["winograd-4x4-3x3"]
    assert two.workspace_elements(shape) == 36 * (5 + 7) * 3 * 4
    assert two.weight_elements(shape) == 36 * 5 * 7
    assert two.multiplies(shape) == 36 * 5 * 7 * 3 * 4
    assert PRIMITIVES["winograd-4x4-3x3-rows-2"].workspace_elements(shape) == 36 * (5 + 7) * 2 * 4
    assert PRIMITIVES["winograd-chw-4x4-3x3-rows-4"].workspace_elements(shape) == 36 * (5 + 7) * 3 * 4
    one = PRIMITIVES["winograd-3-3"]
    assert one.workspace_elements(shape) == 5 * (5 + 7) * 11 * 5
    assert one.weight_elements(shape) == 5 * 3 * 5 * 7
    assert one.multiplies(shape) == 5 * 3 * 5 * 7 * 11 * 5
    assert PRIMITIVES["winograd-3-3-rows-4"].workspace_elements(shape) == 5 * (5 + 7) * 4 * 5


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("r", [3, 5])
def test_whole_tiles_save_what_the_theory_says(m: int, r: int) -> None:
    shape = ConvShape(4, 11 + r, 11 + r, 4, r)  # 12 x 12 outputs
    saved = Fraction(m + r - 1, m * r)
    assert PRIMITIVES[f"winograd-{m}-{r}"].multiplies(shape) == saved * shape.macs
    assert PRIMITIVES[f"winograd-{m}x{m}-{r}x{r}"].multiplies(shape) == saved**2 * shape.macs


def test_there_are_24_on_tiles_and_12_along_rows_in_hwc() -> None:
    layouts = [p.in_layout for p in winograd2d.PRIMITIVES]
    assert (layouts.count("hwc"), layouts.count("chw")) == (24, 12)
    assert len(winograd1d.PRIMITIVES) == 12
    assert len(PRIMITIVES) == 48


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        (ConvShape(4, 9, 9, 4, 3, 2, 1), "stride"),
        (ConvShape(4, 9, 9, 4, 3, 1, 1, 2), "one group"),
        (ConvShape(4, 9, 9, 4, 5, 1, 1), "3 x 3"),
    ],
)
def test_refuses_with_a_reason(shape: ConvShape, why: str) -> None:
    for name in ("winograd-2-3", "winograd-4x4-3x3", "winograd-chw-2x2-3x3-rows-1"):
        assert why in str(PRIMITIVES[name].refuses(shape))
