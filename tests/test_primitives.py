"""Every primitive of the library computes the convolution, in the workspace that its formula states."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from conv_reference import convolve

from edgesched.primitives.arena import Arena, ArenaError
from edgesched.primitives.blas import multiply_add
from edgesched.primitives.catalogue import LIBRARY, UnknownPrimitiveError, candidates, primitive
from edgesched.primitives.layouts import LAYOUTS, Layout, as_chw, in_layout, transform
from edgesched.primitives.primitive import Array, NotApplicable, Primitive
from edgesched.primitives.shape import CONVOLUTIONS, ConvShape, conv_shape
from edgesched.workloads.catalogue import build, names

TOLERANCE = 1e-4
"""Largest error of float32 against float64, relative to the largest output."""
SMALL_OBJECTS_BYTES = 8 * 1024

# C, H, W, M, K, S, P, G
GRID = [
    ConvShape(*sides)
    for sides in [
        (1, 5, 5, 1, 1, 1, 0),
        (5, 7, 9, 6, 1, 1, 0),
        (8, 6, 5, 4, 1, 1, 0, 2),
        (3, 6, 7, 5, 1, 2, 0),
        (4, 5, 6, 3, 1, 1, 1),
        (3, 9, 7, 5, 3, 1, 1),
        (9, 8, 11, 17, 3, 1, 1),
        (4, 7, 8, 3, 3, 1, 0),
        (2, 5, 6, 3, 3, 1, 2),
        (11, 9, 12, 7, 3, 2, 1),
        (3, 13, 10, 4, 3, 3, 0),
        (2, 11, 12, 3, 3, 4, 2),
        (6, 8, 7, 9, 3, 1, 1, 3),
        (18, 7, 9, 20, 3, 2, 1, 2),
        (1, 3, 3, 2, 3, 1, 0),
        (2, 1, 4, 3, 3, 1, 1),
        (3, 2, 2, 2, 3, 1, 1),
        (3, 9, 11, 4, 5, 1, 2),
        (10, 8, 7, 6, 5, 1, 2),
        (4, 12, 9, 6, 5, 1, 0, 2),
        (3, 10, 13, 5, 5, 2, 1),
        (3, 15, 14, 4, 7, 2, 2),
        (2, 9, 8, 3, 7, 1, 3),
        (3, 23, 27, 5, 11, 4, 2),
        (2, 12, 11, 3, 11, 1, 2),
        (2, 12, 13, 3, 11, 3, 0),
        (7, 9, 8, 7, 3, 1, 1, 7),
        (9, 10, 11, 9, 3, 2, 1, 9),
        (3, 11, 9, 6, 5, 1, 2, 3),
        (4, 9, 9, 4, 5, 3, 0, 4),
        (5, 4, 6, 5, 1, 1, 0, 5),
        (3, 14, 12, 3, 7, 4, 1, 3),
    ]
]
SAME = ConvShape(64, 56, 56, 64, 3, 1, 1)

LARGE = [
    SAME,
    ConvShape(24, 96, 96, 48, 1),
    ConvShape(24, 80, 80, 32, 5, 1, 2),
    ConvShape(16, 112, 112, 24, 3, 2, 1, 2),
    ConvShape(32, 96, 96, 32, 3, 1, 1, 32),
]
"""Any tensor of these is larger than what a few Python objects take."""


def numbers(*sides: int) -> Array:
    return np.random.default_rng(sum(sides)).standard_normal(sides, np.float32)


class Case:
    """A primitive with everything that it needs for one image of a shape."""

    def __init__(self, chosen: Primitive, shape: ConvShape, *, bias: bool = True) -> None:
        self.primitive = chosen
        self.shape = shape
        self.chw = numbers(shape.channels, shape.height, shape.width)
        self.kernels = numbers(shape.kernels, shape.channels // shape.groups, shape.kernel, shape.kernel)
        self.bias = numbers(shape.kernels) if bias else None
        self.image = stored(self.chw, chosen.in_layout)
        self.weights = chosen.prepare(self.kernels, shape)
        sides = in_layout((shape.kernels, shape.out_height, shape.out_width), chosen.out_layout)
        self.out = np.full(sides, np.nan, np.float32)

    def run(self, arena: Arena) -> None:
        self.primitive.run(self.image, self.weights, self.bias, self.out, self.shape, arena)

    @property
    def result(self) -> Array:
        return as_chw(self.out, self.primitive.out_layout)


def stored(chw: Array, layout: Layout) -> Array:
    out = np.empty(in_layout(chw.shape, layout), np.float32)
    transform(chw, "chw", layout, out)
    return out


def dirty_arena(size_bytes: int) -> Arena:
    """What a primitive does not write itself must not be taken for zero."""
    return Arena(size_bytes, np.full(size_bytes, 0xFF, np.uint8)) if size_bytes else Arena(0)


@pytest.fixture(scope="module")
def references() -> dict[str, Array]:
    """The convolution of each shape of the grid, with a bias."""
    results = {}
    for shape in GRID:
        case = Case(LIBRARY["direct-sum2d"], shape)
        results[shape.key] = convolve(case.chw, case.kernels, case.bias, shape)
    return results


@pytest.mark.parametrize("name", LIBRARY)
def test_computes_the_convolution_in_the_stated_workspace(name: str, references: dict[str, Array]) -> None:
    chosen = LIBRARY[name]
    shapes = [shape for shape in GRID if chosen.refuses(shape) is None]
    assert shapes, "the grid has no shape for it"
    for shape in shapes:
        case = Case(chosen, shape)
        image, weights = case.image.copy(), case.weights.copy()
        arena = dirty_arena(chosen.workspace_bytes(shape))
        case.run(arena)
        expected = references[shape.key]
        error = np.abs(case.result - expected).max() / np.abs(expected).max()
        assert error < TOLERANCE, f"{shape.key}: {error}"
        assert arena.used_bytes == 0
        assert arena.high_water_bytes == chosen.workspace_bytes(shape), shape.key
        assert case.weights.shape == (chosen.weight_elements(shape),), shape.key
        assert case.weights.dtype == np.float32
        np.testing.assert_array_equal(case.image, image)
        np.testing.assert_array_equal(case.weights, weights)


@pytest.mark.parametrize("name", LIBRARY)
def test_one_byte_less_of_workspace_is_an_error(name: str) -> None:
    chosen = LIBRARY[name]
    shape = next(shape for shape in GRID[::-1] if chosen.refuses(shape) is None)
    needed = chosen.workspace_bytes(shape)
    if needed == 0:
        Case(chosen, shape).run(Arena(0))
        return
    with pytest.raises(ArenaError) as caught:
        Case(chosen, shape).run(Arena(needed - 1))
    assert caught.value.demand_bytes == needed


@pytest.mark.parametrize("name", LIBRARY)
def test_no_array_is_made_beside_the_workspace(name: str) -> None:
    chosen = LIBRARY[name]
    shapes = [shape for shape in LARGE if chosen.refuses(shape) is None]
    assert shapes, "no large shape for it"
    for shape in shapes:
        case = Case(chosen, shape)
        arena = Arena(chosen.workspace_bytes(shape))
        case.run(arena)  # compiles; what that takes is not of interest
        tracemalloc.start()
        try:
            case.run(arena)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < SMALL_OBJECTS_BYTES, shape.key


@pytest.mark.parametrize("name", LIBRARY)
def test_without_a_bias(name: str) -> None:
    chosen = LIBRARY[name]
    shape = next(shape for shape in GRID if chosen.refuses(shape) is None)
    case = Case(chosen, shape, bias=False)
    case.run(Arena(chosen.workspace_bytes(shape)))
    expected = convolve(case.chw, case.kernels, None, shape)
    assert np.abs(case.result - expected).max() < TOLERANCE * np.abs(expected).max()


def test_image_and_weights_may_be_read_only() -> None:
    for chosen in map(primitive, ("im2col-scan-ab-ki", "im2row-copy-short-abt-ki", "kn2row-aa-atbt")):
        case = Case(chosen, GRID[6])
        case.image.flags.writeable = False
        case.weights.flags.writeable = False
        case.run(Arena(chosen.workspace_bytes(GRID[6])))
        expected = convolve(case.chw, case.kernels, case.bias, GRID[6])
        assert np.abs(case.result - expected).max() < TOLERANCE * np.abs(expected).max(), chosen.name


REFUSED = [
    ("im2col-copy-short-ab-ki", ConvShape(3, 9, 9, 4, 3, 2, 1), "stride"),
    ("im2col-copy-long-ab-ki", ConvShape(3, 9, 9, 4, 3, 1, 0), "2 P = K - 1"),
    ("im2col-copy-long-ab-ki", ConvShape(3, 9, 9, 4, 3, 2, 1), "stride 1"),
    ("im2col-scan-ab-ki", ConvShape(3, 9, 9, 3, 3, 1, 1, 3), "channel"),
    ("im2row-strip-2-ab-ik", ConvShape(3, 9, 9, 3, 3, 1, 1, 3), "channel"),
    ("kn2row", ConvShape(3, 9, 9, 4, 3, 2, 1), "stride"),
    ("kn2row-as", ConvShape(4, 9, 9, 4, 3, 1, 1, 2), "group"),
    ("kn2row-aa-ab", ConvShape(3, 9, 9, 4, 3, 1, 0), "2 P = K - 1"),
    ("kn2row-aa-ab", ConvShape(3, 9, 3, 4, 7, 1, 3), "wide"),
    ("conv-1x1-gemm-ab-ki", ConvShape(3, 9, 9, 4, 3, 1, 1), "1x1"),
    ("conv-1x1-gemm-ab-ki", ConvShape(3, 9, 9, 4, 1, 2), "stride 1"),
    ("conv-1x1-gemm-ab-ki", ConvShape(3, 9, 9, 3, 1, 1, 0, 3), "channel"),
    ("mec-col", ConvShape(3, 9, 9, 3, 3, 1, 1, 3), "channel"),
    ("depthwise-direct-chw", ConvShape(3, 9, 9, 3, 3, 1, 1), "depthwise"),
    ("depthwise-direct-hwc", ConvShape(3, 9, 9, 6, 3, 1, 1, 3), "one kernel"),
]


@pytest.mark.parametrize(("name", "shape", "why"), REFUSED)
def test_what_a_primitive_does_not_compute_is_refused_with_the_reason(
    name: str, shape: ConvShape, why: str
) -> None:
    with pytest.raises(NotApplicable, match=why) as caught:
        LIBRARY[name].check(shape)
    assert name in str(caught.value)
    assert shape.key in str(caught.value)
    assert LIBRARY[name] not in candidates(shape)


def test_formulas_by_hand() -> None:
    """Workspace in elements of 64 x 56 x 56, 64 kernels of 3 x 3, stride 1, padding 1."""
    expected = {
        "direct-sum2d": 0,
        "im2col-scan-ab-ki": 9 * 64 * 56 * 56,
        "im2row-copy-short-ab-ik": 9 * 64 * 56 * 56,
        "im2row-strip-1-ab-ik": 9 * 64 * 56,
        "im2col-strip-8-ab-ki": 9 * 64 * 8 * 56,
        "kn2row": 9 * 64 * 56 * 56,
        "kn2row-as": 64 * 56 * 56,
        "kn2row-aa-ab": (64 + 64) * 56,
        "mec-col": 3 * 64 * 56 * 58,
    }
    assert {name: LIBRARY[name].workspace_elements(SAME) for name in expected} == expected
    grouped = ConvShape(96, 27, 27, 256, 5, 1, 2, 2)
    assert LIBRARY["im2col-scan-ab-ki"].workspace_elements(grouped) == 25 * 48 * 27 * 27
    assert LIBRARY["im2row-strip-4-ab-ik"].workspace_elements(ConvShape(8, 3, 9, 4, 3, 1, 1)) == 9 * 8 * 3 * 9


def catalogue_shapes() -> set[ConvShape]:
    return {
        conv_shape(network, index)
        for network in map(build, names())
        for index, layer in enumerate(network.layers)
        if layer.op in CONVOLUTIONS and layer.attributes["kernel_h"] == layer.attributes["kernel_w"]
    }


def test_the_catalogue_s_networks_have_many_candidates() -> None:
    shapes = catalogue_shapes()
    used = {chosen.name for shape in shapes for chosen in candidates(shape)}
    assert len(used) >= 70
    assert used == set(LIBRARY), "each primitive is of use to some network"
    plain = [s for s in shapes if (s.kernel, s.stride, s.pad, s.groups) == (3, 1, 1, 1)]
    assert plain
    assert min(len(candidates(shape)) for shape in plain) >= 40
    assert min(len(candidates(shape)) for shape in shapes) >= 5


def test_names_say_what_primitives_read_and_write() -> None:
    for name, chosen in LIBRARY.items():
        assert name == chosen.name
        assert {chosen.in_layout, chosen.out_layout} <= set(LAYOUTS)
        if name.endswith("-ik"):
            assert chosen.out_layout == "hwc"
        if name.endswith("-ki"):
            assert chosen.out_layout == "chw"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    assert primitive("kn2row-as") is LIBRARY["kn2row-as"]
    with pytest.raises(UnknownPrimitiveError, match="im2col-scan-ab-ki"):
        primitive("im2col-scan-ab-ik")
    with pytest.raises(UnknownPrimitiveError, match=str(len(LIBRARY))):
        primitive("zzz")


@pytest.mark.parametrize("before", LAYOUTS)
@pytest.mark.parametrize("after", LAYOUTS)
@pytest.mark.parametrize("sides", [(3, 5, 7), (1, 1, 9), (70, 33, 41), (64, 7, 7)])
def test_transforms_move_every_element(before: Layout, after: Layout, sides: tuple[int, int, int]) -> None:
    chw = numbers(*sides)
    out = np.full(in_layout(sides, after), np.nan, np.float32)
    transform(stored(chw, before), before, after, out)
    np.testing.assert_array_equal(as_chw(out, after), chw)


@pytest.mark.parametrize("sides", [(3, 5, 4), (1, 7, 1), (6, 1, 5), (1, 1, 1), (8, 3, 1), (2, 0, 3)])
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
def test_products_are_added_to_parts_of_a_matrix(
    sides: tuple[int, int, int], transposed: tuple[bool, bool]
) -> None:
    rows, inner, columns = sides
    a = numbers(inner, rows + 2)[:, :rows].T if transposed[0] else numbers(rows, inner + 2)[:, 1 : inner + 1]
    b = numbers(columns, inner + 3)[:, :inner].T if transposed[1] else numbers(inner, columns + 1)[:, 1:]
    whole = numbers(rows, columns + 4)
    expected = whole.copy()
    expected[:, 2 : 2 + columns] += a @ b
    multiply_add(a, b, whole[:, 2 : 2 + columns])
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-6)


def test_products_are_not_added_where_a_copy_would_be_needed() -> None:
    square = numbers(6, 6)
    with pytest.raises(ValueError, match="unit stride"):
        multiply_add(square[::2, ::2], square[:3, :3], square[3:, 3:])
    with pytest.raises(ValueError, match="second axis"):
        multiply_add(square[:3, :3], square[:3, :3], square[3:, 3:].T)
