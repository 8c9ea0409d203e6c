"""Convolution by discrete Fourier transforms, written as matrix products.

What a library of Fourier transforms allocates for itself cannot be counted; for sides of a few dozen pixels a
product with the matrix of the transform is about as fast and needs nothing. The sides need not be powers of
two: N = side + P is enough, because the P zeros beyond one edge serve, cyclically, as those before the other.
The matrices are stored with the weights and counted there.

``fft-2d`` multiplies the spectra of whole images, ``fft-rows`` those of rows, for each row of the kernel.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from ..arena import Arena
from ..fourier import as_real, backward_matrix, forward_matrix, frequencies, interleaved, turns
from ..primitive import ELEMENT_BYTES, FLOAT, Array, Primitive, add_bias
from ..shape import ConvShape

MAX_SPECTRA_BYTES = 1 << 28
"""Kernels whose spectra would be larger than this are refused; no selection would take them."""


FREQUENCIES = 8
"""``fft-rows`` multiplies so many frequencies in one call."""


class Fourier(Primitive):
    """What both forms have in common: stride 1, one group, chw to chw."""

    family: ClassVar[str] = "fft"
    packages: ClassVar[tuple[str, ...]] = ("numba",)

    def refuses(self, shape: ConvShape) -> str | None:
        """Strides, groups, 1x1 kernels and very large spectra."""
        if shape.stride != 1:
            return "a cyclic convolution yields every output, so the stride is 1"
        if shape.groups != 1:
            return "it computes one group"
        if shape.kernel == 1:
            return "a 1x1 kernel has nothing to transform"
        if self.spectra_elements(shape) * ELEMENT_BYTES > MAX_SPECTRA_BYTES:
            return f"the kernels' spectra would take more than {MAX_SPECTRA_BYTES >> 20} MiB"
        return None

    @abstractmethod
    def spectra_elements(self, shape: ConvShape) -> int:
        """Elements of the kernels' spectra; a complex number has two."""

    @abstractmethod
    def matrices(self, shape: ConvShape) -> tuple[tuple[int, int], ...]:
        """Sides of the matrices that are stored before the spectra."""

    def weight_elements(self, shape: ConvShape) -> int:
        """The matrices of the transforms and the kernels' spectra."""
        return sum(map(math.prod, self.matrices(shape))) + self.spectra_elements(shape)

    def stored(self, weights: Array, shape: ConvShape) -> tuple[Array, ...]:
        """Views of the matrices and, last and flat, of the spectra."""
        return tuple(_split(weights, self.matrices(shape)))


def _split(flat: Array, shapes: tuple[tuple[int, int], ...]) -> Iterator[Array]:
    start = 0
    for sides in shapes:
        end = start + math.prod(sides)
        yield flat[start:end].reshape(sides)
        start = end
    yield flat[start:]


class Fourier2D(Fourier):
    """Spectra of whole images (2 Fh Fw elements each, Fh = H + P, Fw = (W + P) / 2 + 1)."""

    def sides(self, shape: ConvShape) -> tuple[int, int, int]:
        """Fh, the period of the rows, and Fw."""
        period = shape.width + shape.pad
        return shape.height + shape.pad, period, frequencies(period)

    def multiplies(self, shape: ConvShape) -> int:
        """4 C M Fh Fw."""
        high, _, wide = self.sides(shape)
        return 4 * shape.channels * shape.kernels * high * wide

    def workspace_elements(self, shape: ConvShape) -> int:
        """2 Fw (max(C Fh, M Ho) + max(C H, M Fh)).

        Two pieces, each used twice: for the transforms of all rows and for spectra, of inputs and of outputs.
        """
        return sum(self.pieces(shape))

    def pieces(self, shape: ConvShape) -> tuple[int, int]:
        """Elements of the piece of the inputs' spectra and of that of the outputs'."""
        high, _, wide = self.sides(shape)
        inputs = max(shape.channels * high, shape.kernels * shape.out_height)
        outputs = max(shape.channels * shape.height, shape.kernels * high)
        return 2 * wide * inputs, 2 * wide * outputs

    def spectra_elements(self, shape: ConvShape) -> int:
        """2 M C Fh Fw."""
        high, _, wide = self.sides(shape)
        return 2 * shape.kernels * shape.channels * high * wide

    def matrices(self, shape: ConvShape) -> tuple[tuple[int, int], ...]:
        """Of rows and columns to frequencies, and back."""
        high, _, wide = self.sides(shape)
        return (
            (2 * wide, shape.width),
            (2 * high, 2 * shape.height),
            (2 * shape.out_height, 2 * high),
            (2 * wide, shape.out_width),
        )

    def prepare(self, weights: Array, shape: ConvShape) -> Array:
        """The matrices, then for each frequency and channel all kernels' real parts and imaginary ones."""
        high, period, wide = self.sides(shape)
        stored = np.empty(self.weight_elements(shape), FLOAT)
        rows, columns, back_columns, back_rows, spectra = self.stored(stored, shape)
        rows[:] = forward_matrix(shape.width, period)
        columns[:] = interleaved(interleaved(as_real(turns(high, shape.height, high)), 0), 1)
        places = np.arange(-shape.pad, shape.out_height - shape.pad) % high
        backward = as_real(turns(high, high, high).conj()[places] / high)
        back_columns[:] = interleaved(interleaved(backward, 0), 1)
        back_rows[:] = backward_matrix(shape.out_width, -shape.pad, period)
        # Conjugate, because a convolution of networks does not mirror its kernel.
        down, along = turns(high, shape.kernel, high).conj(), turns(wide, shape.kernel, period).conj()
        parts = spectra.reshape(high, wide, shape.channels, 2, shape.kernels)
        for c in range(shape.channels):
            spectrum = np.einsum("ai,mij,bj->abm", down, weights[:, c], along, optimize=True)
            parts[:, :, c, 0], parts[:, :, c, 1] = spectrum.real, spectrum.imag
        return stored

    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """Transform rows, then columns; multiply and sum over channels; transform columns, then rows back.

        Spectra have the channels innermost, so that columns are transformed in one product.
        """
        from ..kernels.spectra import sum_products

        high, _, wide = self.sides(shape)
        channels, kernels = shape.channels, shape.kernels
        rows, columns, back_columns, back_rows, spectra = self.stored(weights, shape)
        with arena.frame():
            first, second = map(arena.take, self.pieces(shape))
            half = _part(second, shape.height, 2 * wide, channels)
            np.matmul(rows, image.transpose(1, 2, 0), out=half)
            inputs = _part(first, high, 2, wide, channels)
            np.matmul(columns, _rows(half, 2 * shape.height), out=_rows(inputs, 2 * high))
            outputs = _part(second, high, 2, wide, kernels)
            sum_products(spectra.reshape(high, wide, channels, 2, kernels), inputs, outputs)
            half = _part(first, shape.out_height, 2 * wide, kernels)
            np.matmul(back_columns, _rows(outputs, 2 * high), out=_rows(half, 2 * shape.out_height))
            np.matmul(half.transpose(0, 2, 1), back_rows, out=out.transpose(1, 0, 2))
        add_bias(out, bias, "chw")


def _rows(array: Array, count: int) -> Array:
    """View of a dense array as a matrix of so many rows."""
    return array.reshape(count, -1)


def _part(memory: Array, *sides: int) -> Array:
    """The beginning of the memory as an array of these sides."""
    return memory[: math.prod(sides)].reshape(sides)


class FourierRows(Fourier):
    """Spectra of rows (2 F elements each, F = (W + P) / 2 + 1).

    A matrix product for each frequency and kernel row.
    """

    def __init__(self, name: str, rows: int | None) -> None:
        """``rows``: output rows that are in the workspace at once; None: all."""
        super().__init__(name, "chw", "chw")
        self.rows = rows

    def at_once(self, shape: ConvShape) -> int:
        """Output rows in the workspace."""
        return shape.out_height if self.rows is None else min(self.rows, shape.out_height)

    def read_at_once(self, shape: ConvShape) -> int:
        """Rows of the image that so many output rows read."""
        return min(shape.height, self.at_once(shape) + shape.kernel - 1)

    def count(self, shape: ConvShape) -> int:
        """F."""
        return frequencies(shape.width + shape.pad)

    def multiplies(self, shape: ConvShape) -> int:
        """4 C M K F Ho."""
        per_row = 4 * shape.channels * shape.kernels * shape.kernel * self.count(shape)
        return per_row * shape.out_height

    def workspace_elements(self, shape: ConvShape) -> int:
        """2 F (C R + M N) + 4 M N min(8, F) for N output rows, which read R = min(H, N + K - 1) rows.

        Spectra of inputs and of outputs, and the real products of a few frequencies.
        """
        count = self.count(shape)
        inputs = shape.channels * self.read_at_once(shape)
        outputs = shape.kernels * self.at_once(shape)
        return 2 * count * (inputs + outputs) + 4 * outputs * min(FREQUENCIES, count)

    def spectra_elements(self, shape: ConvShape) -> int:
        """2 M C K F."""
        return 2 * shape.kernels * shape.channels * shape.kernel * self.count(shape)

    def matrices(self, shape: ConvShape) -> tuple[tuple[int, int], ...]:
        """Of rows to frequencies and back."""
        both = 2 * self.count(shape)
        return (both, shape.width), (both, shape.out_width)

    def prepare(self, weights: Array, shape: ConvShape) -> Array:
        """The matrices, then for each frequency and kernel row the real parts [M x C] above the imaginary."""
        period = shape.width + shape.pad
        stored = np.empty(self.weight_elements(shape), FLOAT)
        forward, backward, spectra = self.stored(stored, shape)
        # Real and imaginary part of a frequency side by side, as one matrix product needs them.
        forward[:] = interleaved(forward_matrix(shape.width, period), 0)
        backward[:] = interleaved(backward_matrix(shape.out_width, -shape.pad, period), 0)
        along = turns(self.count(shape), shape.kernel, period).conj()
        parts = spectra.reshape(-1, shape.kernel, 2, shape.kernels, shape.channels)
        for i in range(shape.kernel):
            spectrum = np.tensordot(along, weights[:, :, i].astype(np.float64), (1, 2))
            parts[:, i, 0], parts[:, i, 1] = spectrum.real, spectrum.imag
        return stored

    def run(
        self, image: Array, weights: Array, bias: Array | None, out: Array, shape: ConvShape, arena: Arena
    ) -> None:
        """For each block of output rows: transform, multiply and sum, transform back."""
        channels, kernels, both = shape.channels, shape.kernels, 2 * self.count(shape)
        forward, backward, spectra = self.stored(weights, shape)
        by_frequency = spectra.reshape(-1, shape.kernel, 2 * kernels, channels)
        with arena.frame():
            at_once = self.at_once(shape)
            of_inputs = arena.take(both * channels * self.read_at_once(shape))
            of_outputs = arena.take(both * kernels * at_once)
            of_products = arena.take(4 * kernels * at_once * min(FREQUENCIES, both // 2))
            for top in range(0, shape.out_height, at_once):
                rows = min(at_once, shape.out_height - top)
                low = max(0, top - shape.pad)
                high = min(shape.height, top - shape.pad + rows + shape.kernel - 1)
                inputs = _part(of_inputs, both, channels, high - low)
                np.matmul(forward, image[:, low:high].transpose(0, 2, 1), out=inputs.transpose(1, 0, 2))
                outputs = _part(of_outputs, both, kernels, rows)
                self.multiply(by_frequency, inputs, outputs, of_products, top - shape.pad - low)
                np.matmul(outputs.transpose(1, 2, 0), backward, out=out[:, top : top + rows])
        add_bias(out, bias, "chw")

    def multiply(self, spectra: Array, inputs: Array, outputs: Array, memory: Array, first: int) -> None:
        """Multiply the spectra of kernel rows with those of the image's rows, frequency by frequency.

        ``first``: row of ``inputs`` that the first output row reads with the kernel's first row.
        """
        from ..kernels.spectra import add_complex, clear_all

        clear_all(outputs)
        count, read = outputs.shape[2], inputs.shape[2]
        images, targets = (array.reshape(-1, 2, *array.shape[1:]) for array in (inputs, outputs))
        for start in range(0, len(spectra), FREQUENCIES):
            some = slice(start, start + FREQUENCIES)
            for i in range(spectra.shape[1]):
                low, high = max(0, first + i), min(read, first + i + count)
                if low < high:
                    kernels = spectra[some, i, None]
                    products = _part(memory, len(kernels), 2, kernels.shape[2], high - low)
                    np.matmul(kernels, images[some, :, :, low:high], out=products)
                    add_complex(products, targets[some], low - first - i)


PRIMITIVES: tuple[Primitive, ...] = (
    Fourier2D("fft-2d", "chw", "chw"),
    FourierRows("fft-rows", None),
    FourierRows("fft-rows-8", 8),
)
