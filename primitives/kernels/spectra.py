"""Loops over spectra, whose real and imaginary parts lie apart."""

from __future__ import annotations

from ..primitive import Array
from .compiled import kernel


@kernel
def sum_products(spectra: Array, inputs: Array, outputs: Array) -> None:
    """Sum over channels the products of (M, C, 2, F) and (C, 2, F): complex numbers, place by place."""
    kernels, channels, _, count = spectra.shape
    for m in range(kernels):
        for part in range(2):
            clear(outputs[m, part])
        for c in range(channels):
            a, b = inputs[c], spectra[m, c]
            add_difference(outputs[m, 0], a[0], b[0], a[1], b[1])
            add_sum(outputs[m, 1], a[0], b[1], a[1], b[0])


@kernel
def clear(target: Array) -> None:
    """Fill with zeros."""
    for at in range(target.shape[0]):
        target[at] = 0


@kernel
def clear_all(target: Array) -> None:
    """Fill a dense array with zeros."""
    clear(target.reshape(-1))


@kernel
def add_difference(target: Array, a: Array, b: Array, c: Array, d: Array) -> None:
    """Add a b - c d, element by element."""
    for at in range(target.shape[0]):
        target[at] += a[at] * b[at] - c[at] * d[at]


@kernel
def add_sum(target: Array, a: Array, b: Array, c: Array, d: Array) -> None:
    """Add a b + c d, element by element."""
    for at in range(target.shape[0]):
        target[at] += a[at] * b[at] + c[at] * d[at]


@kernel
def add_complex(products: Array, target: Array, first: int) -> None:
    """Add complex products to rows ``first`` and after of (2, M, rows).

    ``products`` (2, 2 M, count): the real parts of one factor, then the imaginary ones, times the real parts
    of the other, M of them, and below these the imaginary ones.
    """
    kernels, rows = target.shape[1:]
    count = products.shape[2]
    for m in range(kernels):
        real, imaginary = target[0, m, first : first + count], target[1, m, first : first + count]
        add_parts(real, imaginary, products[0, m], products[0, kernels + m], products[1, m], products[1, kernels + m])


@kernel
def add_parts(real: Array, imaginary: Array, rr: Array, ri: Array, ir: Array, ii: Array) -> None:
    """Add the real and the imaginary part of products, element by element."""
    for at in range(real.shape[0]):
        real[at] += rr[at] - ii[at]
    for at in range(real.shape[0]):
        imaginary[at] += ri[at] + ir[at]
