"""Loops over spectra, whose real and imaginary parts lie apart."""

from __future__ import annotations

from ..primitive import Array
from .compiled import kernel
from .direct import add_eight, add_one
from .lowering import clear


@kernel
def sum_products(spectra: Array, inputs: Array, outputs: Array) -> None:
    """Sum over channels the products of complex (Fh, Fw, C, 2, M) and (Fh, 2, Fw, C), to (Fh, 2, Fw, M)."""
    high, wide, channels, _, _ = spectra.shape
    done = channels // 4 * 4
    for a in range(high):
        for b in range(wide):
            real, imaginary = outputs[a, 0, b], outputs[a, 1, b]
            x, y = inputs[a, 0, b], inputs[a, 1, b]
            clear(real)
            clear(imaginary)
            for c in range(0, done, 4):
                # Four channels are eight rows: their real and imaginary parts in turn.
                r, i = x[c : c + 4], y[c : c + 4]
                s, t, u, v = (
                    spectra[a, b, c],
                    spectra[a, b, c + 1],
                    spectra[a, b, c + 2],
                    spectra[a, b, c + 3],
                )
                weights = (r[0], -i[0], r[1], -i[1], r[2], -i[2], r[3], -i[3])
                add_eight(real, weights, s[0], s[1], t[0], t[1], u[0], u[1], v[0], v[1])
                weights = (i[0], r[0], i[1], r[1], i[2], r[2], i[3], r[3])
                add_eight(imaginary, weights, s[0], s[1], t[0], t[1], u[0], u[1], v[0], v[1])
            for c in range(done, channels):
                s = spectra[a, b, c]
                add_one(real, x[c], s[0])
                add_one(real, -y[c], s[1])
                add_one(imaginary, y[c], s[0])
                add_one(imaginary, x[c], s[1])


@kernel
def clear_all(target: Array) -> None:
    """Fill a dense array with zeros."""
    clear(target.reshape(-1))


@kernel
def add_complex(products: Array, target: Array, first: int) -> None:
    """Add complex products to rows ``first`` and after of (F, 2, M, rows).

    ``products`` (F, 2, 2 M, count): the real parts of one factor, then the imaginary ones, times the real
    parts of the other, M of them, and below these the imaginary ones.
    """
    frequencies, _, kernels, _ = target.shape
    last = first + products.shape[3]
    for f in range(frequencies):
        a, b = products[f, 0], products[f, 1]
        for m in range(kernels):
            real, imaginary = target[f, 0, m, first:last], target[f, 1, m, first:last]
            add_parts(real, imaginary, a[m], a[kernels + m], b[m], b[kernels + m])


@kernel
def add_parts(real: Array, imaginary: Array, rr: Array, ri: Array, ir: Array, ii: Array) -> None:
    """Add the real and the imaginary part of products, element by element."""
    for at in range(real.shape[0]):
        real[at] += rr[at] - ii[at]
    for at in range(real.shape[0]):
        imaginary[at] += ri[at] + ir[at]
