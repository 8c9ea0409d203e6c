"""Matrices of the discrete Fourier transform of real numbers, as real matrices, in double precision."""

from __future__ import annotations

import numpy as np

from .primitive import Array


def frequencies(period: int) -> int:
    """Frequencies of real numbers with this period that determine the others."""
    return period // 2 + 1


def turns(rows: int, columns: int, period: int) -> Array:
    """exp(-2 pi i row column / period) in complex double precision, exact at whole turns."""
    steps = np.outer(np.arange(rows), np.arange(columns)) % period
    return np.exp(-2j * np.pi * steps / period)


def forward_matrix(size: int, period: int) -> Array:
    """[2 F x size]: the real parts of all frequencies, then the imaginary ones, of ``size`` real numbers."""
    spectrum = turns(frequencies(period), size, period)
    return np.concatenate([spectrum.real, spectrum.imag])


def backward_matrix(count: int, first: int, period: int) -> Array:
    """[2 F x count]: real and imaginary parts of all frequencies to the numbers from place ``first`` on."""
    places = np.arange(first, first + count) % period
    waves = turns(frequencies(period), period, period).conj()[:, places] / period
    # All but the constant and (of an even period) the fastest wave stand for two frequencies.
    waves[1 : (period + 1) // 2] *= 2
    return np.concatenate([waves.real, -waves.imag])


def as_real(matrix: Array) -> Array:
    """A complex matrix [a x b] as a real one [2 a x 2 b]: of real parts above imaginary ones, to such."""
    return np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])


def interleaved(matrix: Array, axis: int) -> Array:
    """Real parts, then imaginary ones, along the axis: put side by side instead."""
    halves = np.split(matrix, 2, axis)
    return np.stack(halves, axis + 1).reshape(matrix.shape)
