"""Winograd's primitives: the algebra is exact, and what is cut by edges or shared between rows is right."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

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

# C, H, W, M, padding: fewer channels than lanes, not a multiple of them, one row, one column, edges of all kinds.
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


def run(chosen: Primitive, shape: ConvShape, bias: Array | None, arena: Arena) -> tuple[Array, Array]:
    """The result (M, Ho, Wo) and what it should be."""
    chw = numbers(shape.channels, shape.height, shape.width)
    kernels = numbers(shape.kernels, shape.channels, shape.kernel, shape.kernel)
    image = np.empty(in_layout(chw.shape, chosen.in_layout), np.float32)
    transform(chw, "chw", chosen.in_layout, image)
    sides = (shape.kernels, shape.out_height, shape.out_width)
    out = np.full(in_layout(sides, chosen.out_layout), np.nan, np.float32)
    chosen.run(image, chosen.prepare(kernels, shape), bias, out, shape, arena)
    return as_chw(out, chosen.out_layout), convolve(chw, kernels, bias, shape)


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
    side = int(name.removesuffix("-rows-1").removesuffix("-rows-2").removesuffix("-rows-4")[-1])
    tried = 0
    for channels, height, width, kernels, pad in CASES:
        if min(height, width) + 2 * pad < side:
            continue
        shape = ConvShape(channels, height, width, kernels, side, 1, pad)
        arena = dirty_arena(chosen.workspace_bytes(shape))
        result, expected = run(chosen, shape, numbers(kernels) if tried % 2 else None, arena)
        assert np.abs(result - expected).max() < TOLERANCE * np.abs(expected).max(), shape.key
        assert arena.high_water_bytes == chosen.workspace_bytes(shape), shape.key
        tried += 1
    assert tried >= 6


@pytest.mark.parametrize("name", PRIMITIVES)
def test_makes_no_array_and_stays_exact_with_many_channels(name: str) -> None:
    chosen = PRIMITIVES[name]
    shape = ConvShape(64, 30, 29, 64, 5 if "-5" in name else 3, 1, 1)
    kernels = numbers(64, 64, shape.kernel, shape.kernel)
    weights, arena = chosen.prepare(kernels, shape), Arena(chosen.workspace_bytes(shape))
    chw = numbers(64, 30, 29)
    image = np.ascontiguousarray(chw if chosen.in_layout == "chw" else chw.transpose(1, 2, 0))
    out = np.empty(in_layout((64, shape.out_height, shape.out_width), chosen.out_layout), np.float32)
    chosen.run(image, weights, None, out, shape, arena)
    tracemalloc.start()
    try:
        chosen.run(image, weights, None, out, shape, arena)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 1024
    expected = convolve(chw, kernels, None, shape)
    assert np.abs(as_chw(out, chosen.out_layout) - expected).max() < 2e-5 * np.abs(expected).max()


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
