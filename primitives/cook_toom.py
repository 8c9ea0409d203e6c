"""Minimal filtering F(m, r): m outputs of a filter of r taps for t = m + r - 1 multiplications.

The matrices come from the Cook-Toom construction: the filter is a product of polynomials, evaluated at t - 1
small rational points and at infinity, and transposed (Winograd, "Arithmetic Complexity of Computations",
1980; Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

from .primitive import Array

Matrix = tuple[tuple[Fraction, ...], ...]

POINTS = tuple(Fraction(p) for p in ("0", "1", "-1", "2", "-2", "1/2", "-1/2"))
"""Where the polynomials are evaluated, in the order of use. Small ones keep rounding errors small."""


@dataclass(frozen=True, slots=True)
class Filtering:
    """The three matrices of F(m, r): outputs = ``outputs`` ((``taps`` g) * (``inputs`` d)), exactly.

    Their usual names are A^T (m x t), G (t x r) and B^T (t x t).
    """

    outputs: Matrix
    taps: Matrix
    inputs: Matrix


@cache
def cook_toom(m: int, r: int) -> Filtering:
    """F(m, r). Raises ValueError where there are too few points: m + r - 2 must be from 1 to 7."""
    points = POINTS[: m + r - 2]
    if min(m, r) < 1 or not 1 <= m + r - 2 <= len(POINTS):
        raise ValueError(f"F({m}, {r}): m and r must be at least 1, m + r - 2 from 1 to {len(POINTS)}")
    others = [[other for other in points if other != point] for point in points]
    scales = [_product([point - other for other in rest]) for point, rest in zip(points, others, strict=True)]
    columns = [*([point**power for power in range(m)] for point in points), _unit(m)]
    taps = [[point**power / scale for power in range(r)] for point, scale in zip(points, scales, strict=True)]
    inputs = [*([*_with_roots(rest), Fraction(0)] for rest in others), _with_roots(points)]
    return Filtering(_matrix(zip(*columns, strict=True)), _matrix([*taps, _unit(r)]), _matrix(inputs))


def as_array(matrix: Matrix) -> Array:
    """The matrix in float64."""
    return np.array([[float(value) for value in row] for row in matrix])


def _with_roots(roots: tuple[Fraction, ...] | list[Fraction]) -> list[Fraction]:
    """Coefficients of the product of all (x - root), the constant one first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        scaled = [*(root * value for value in coefficients), Fraction(0)]
        coefficients = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


def _product(values: list[Fraction]) -> Fraction:
    result = Fraction(1)
    for value in values:
        result *= value
    return result


def _unit(size: int) -> list[Fraction]:
    return [Fraction(0)] * (size - 1) + [Fraction(1)]


def _matrix(rows: object) -> Matrix:
    return tuple(tuple(row) for row in rows)  # type: ignore[attr-defined]
