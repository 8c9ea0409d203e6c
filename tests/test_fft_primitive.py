"""The Fourier primitives: cyclic sums do not leak into the output, and nothing is allocated unseen."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from conv_reference import convolve

from edgesched.primitives.arena import Arena
from edgesched.primitives.convolutions import fft
from edgesched.primitives.fourier import backward_matrix, forward_matrix
from edgesched.primitives.primitive import Array
from edgesched.primitives.shape import ConvShape

PRIMITIVES = {p.name: p for p in fft.PRIMITIVES}

# C, H, W, M, K, P; with periods odd and even, a kernel as large as the image and larger, and much padding.
SHAPES = [
    ConvShape(c, h, w, m, k, 1, p)
    for c, h, w, m, k, p in [
        (3, 7, 9, 5, 3, 0),
        (9, 8, 11, 17, 3, 1),
        (6, 13, 10, 4, 5, 2),
        (2, 3, 3, 2, 3, 2),
        (3, 10, 9, 4, 5, 0),
        (3, 1, 3, 3, 3, 1),
        (4, 2, 1, 3, 5, 3),
        (1, 6, 5, 1, 2, 5),
        (2, 18, 21, 3, 7, 3),
        (2, 12, 11, 3, 11, 2),
        (5, 11, 6, 3, 11, 5),
    ]
]


def numbers(*sides: int) -> Array:
    return np.random.default_rng(sum(sides)).standard_normal(sides, np.float32)


@pytest.mark.parametrize("name", PRIMITIVES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.key.replace(" ", "-"))
def test_computes_the_convolution(name: str, shape: ConvShape) -> None:
    chosen = PRIMITIVES[name]
    image = numbers(shape.channels, shape.height, shape.width)
    kernels = numbers(shape.kernels, shape.channels, shape.kernel, shape.kernel)
    bias = numbers(shape.kernels)
    size_bytes = chosen.workspace_bytes(shape)
    arena = Arena(size_bytes, np.full(size_bytes, 0xFF, np.uint8))
    out = np.full((shape.kernels, shape.out_height, shape.out_width), np.nan, np.float32)
    weights = chosen.prepare(kernels, shape)
    chosen.run(image, weights, bias, out, shape, arena)
    expected = convolve(image, kernels, bias, shape)
    assert np.abs(out - expected).max() < 5e-6 * np.abs(expected).max()
    assert arena.high_water_bytes == size_bytes
    assert weights.shape == (chosen.weight_elements(shape),)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_makes_no_array(name: str) -> None:
    chosen, shape = PRIMITIVES[name], ConvShape(32, 40, 41, 48, 5, 1, 2)
    image, kernels = numbers(32, 40, 41), numbers(48, 32, 5, 5)
    weights, bias = chosen.prepare(kernels, shape), numbers(48)
    out, arena = np.empty((48, 40, 41), np.float32), Arena(chosen.workspace_bytes(shape))
    chosen.run(image, weights, bias, out, shape, arena)
    tracemalloc.start()
    try:
        chosen.run(image, weights, bias, out, shape, arena)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 1024
    expected = convolve(image, kernels, bias, shape)
    assert np.abs(out - expected).max() < 5e-6 * np.abs(expected).max()


@pytest.mark.parametrize("period", [1, 2, 5, 8])
def test_the_matrices_are_the_discrete_fourier_transform(period: int) -> None:
    signal = np.random.default_rng(period).standard_normal(period)
    spectrum = np.fft.rfft(signal)
    forward = forward_matrix(period, period) @ signal
    np.testing.assert_allclose(forward, np.concatenate([spectrum.real, spectrum.imag]), atol=1e-12)
    back = forward @ backward_matrix(period, -1, period)
    np.testing.assert_allclose(back, np.roll(signal, 1), atol=1e-12)


def test_formulas_by_hand() -> None:
    shape = ConvShape(3, 10, 11, 5, 3, 1, 1)  # outputs 10 x 11; periods 11 and 12, 7 frequencies of a row
    whole, rows, some = (PRIMITIVES[name] for name in ("fft-2d", "fft-rows", "fft-rows-8"))
    assert whole.workspace_elements(shape) == 2 * 7 * (5 * 10 + 5 * 11)
    matrices = 14 * 11 + 22 * 20 + 20 * 22 + 14 * 11
    assert whole.weight_elements(shape) == 2 * 5 * 3 * 11 * 7 + matrices
    assert whole.multiplies(shape) == 4 * 3 * 5 * 11 * 7
    assert rows.workspace_elements(shape) == 14 * (3 * 10 + 5 * 10) + 4 * 5 * 10 * 7
    assert some.workspace_elements(shape) == 14 * (3 * 10 + 5 * 8) + 4 * 5 * 8 * 7
    assert rows.weight_elements(shape) == 2 * 5 * 3 * 3 * 7 + 14 * 11 + 14 * 11
    assert rows.multiplies(shape) == 4 * 3 * 5 * 3 * 7 * 10


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        (ConvShape(4, 9, 9, 4, 3, 2, 1), "stride"),
        (ConvShape(4, 9, 9, 4, 3, 1, 1, 2), "one group"),
        (ConvShape(4, 9, 9, 4, 1), "1x1"),
    ],
)
def test_refuses_with_a_reason(shape: ConvShape, why: str) -> None:
    for chosen in PRIMITIVES.values():
        assert why in str(chosen.refuses(shape))


def test_refuses_spectra_that_no_device_would_hold() -> None:
    shape = ConvShape(512, 28, 28, 512, 3, 1, 1)
    assert "256 MiB" in str(PRIMITIVES["fft-2d"].refuses(shape))
    assert PRIMITIVES["fft-rows"].refuses(shape) is None
