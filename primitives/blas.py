"""BLAS by its bare address: sums into what a matrix already holds, which numpy cannot.

The address is the one that scipy gives out for compiled code (``scipy.linalg.cython_blas``). scipy's own
Python wrapper would copy every operand that is not dense, which is what is to be avoided here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

from .primitive import Array

_INT = ctypes.POINTER(ctypes.c_int)
_FLOAT = ctypes.POINTER(ctypes.c_float)


@cache
def _sgemm() -> Callable[..., None]:
    from scipy.linalg import cython_blas

    capsule = cython_blas.__pyx_capi__["sgemm"]
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    char, address = ctypes.c_char_p, ctypes.c_void_p
    # transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc
    takes = (char, char, _INT, _INT, _INT, _FLOAT, address, _INT, address, _INT, _FLOAT, address, _INT)
    return ctypes.CFUNCTYPE(None, *takes)(pointer(capsule, name(capsule)))


def multiply_add(a: Array, b: Array, out: Array) -> None:
    """``out`` += ``a`` ``b`` without a copy of anything.

    Float32 matrices, each with a unit stride along one axis; ``out`` along its second. Raises ValueError
    for others.
    """
    rows, inner = a.shape
    columns = b.shape[1]
    if not (rows and inner and columns):
        return
    transposed_a, pitch_a = _stored(a)
    transposed_b, pitch_b = _stored(b)
    transposed_out, pitch_out = _stored(out)
    if transposed_out != b"N":
        raise ValueError("the sum must have a unit stride along its second axis")
    # BLAS counts columns first and so sees every matrix transposed: out^T += b^T a^T.
    _sgemm()(
        transposed_b,
        transposed_a,
        ctypes.c_int(columns),
        ctypes.c_int(rows),
        ctypes.c_int(inner),
        ctypes.c_float(1.0),
        b.ctypes.data,
        ctypes.c_int(pitch_b),
        a.ctypes.data,
        ctypes.c_int(pitch_a),
        ctypes.c_float(1.0),
        out.ctypes.data,
        ctypes.c_int(pitch_out),
    )


def _stored(matrix: Array) -> tuple[bytes, int]:
    """Whether BLAS must transpose the matrix, and the distance of its rows (or columns) in elements."""
    size: Any = matrix.itemsize
    (rows, columns), (down, along) = matrix.shape, matrix.strides
    if along == size or columns == 1:
        return b"N", max(down // size if rows > 1 else columns, columns, 1)
    if down == size or rows == 1:
        return b"T", max(along // size, rows, 1)
    raise ValueError(f"a matrix of strides {matrix.strides} has no unit stride")
