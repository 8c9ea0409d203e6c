"""Winograd transforms of one tile, generated as machine code: unrolled, without the matrices' zeros.

Numba cannot see that the many places which a tile is read from and written to do not overlap, and so would
not use vectors. Here the vectors are written down: a tile is transformed for several channels (or other
neighbours in memory) at once, one lane each. What numba knows when it compiles is given by lengths of tuples:
that of ``order`` is t, that of ``outputs`` m, that of ``down`` 1 for rows and the side of the tile for tiles,
that of ``lanes`` the number of lanes, and that of ``near`` is 0 where the lanes' places in the image may be
apart; their values are of no interest.

Numba's cache of the loops that call this is renewed when their file changes, not when this one does.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ..cook_toom import Matrix, cook_toom

# As kernels/compiled.py allows for everything else.
FLAGS = ("reassoc", "contract", "nsz")
FLOAT = ir.FloatType()
FLOAT_BYTES = 4
LANE = ir.IntType(32)

Value = Any
"""A vector of floats, one lane a channel, that is known when the code runs."""


def generated(function: Any) -> Any:
    """The function says which code stands where it is called; the type context that it takes is numba's."""
    return intrinsic(function)


class Lanes:
    """Arithmetic on vectors of ``count`` floats."""

    def __init__(self, builder: Any, count: int) -> None:
        self.builder = builder
        self.type = ir.VectorType(FLOAT, count)
        self.count = count

    def constant(self, value: Fraction) -> Value:
        """The same number in every lane."""
        return ir.Constant(self.type, [float(value)] * self.count)

    def load(self, pointer: Any, pitch: Any = None) -> Value:
        """From a pointer to float on; the lanes' places are ``pitch`` floats apart, None: side by side."""
        if pitch is None:
            whole = self.builder.bitcast(pointer, self.type.as_pointer())
            return self.builder.load(whole, align=FLOAT_BYTES)
        value = ir.Constant(self.type, ir.Undefined)
        for lane, place in enumerate(self.places(pointer, pitch)):
            value = self.builder.insert_element(value, self.builder.load(place), LANE(lane))
        return value

    def store(self, value: Value, pointer: Any, pitch: Any = None) -> None:
        """The opposite of ``load``."""
        if pitch is None:
            whole = self.builder.bitcast(pointer, self.type.as_pointer())
            self.builder.store(value, whole, align=FLOAT_BYTES)
            return
        for lane, place in enumerate(self.places(pointer, pitch)):
            self.builder.store(self.builder.extract_element(value, LANE(lane)), place)

    def places(self, pointer: Any, pitch: Any) -> list[Any]:
        """Pointers to the lanes' floats."""
        return [
            self.builder.gep(pointer, [self.builder.mul(pitch, pitch.type(lane))])
            for lane in range(self.count)
        ]

    def add(self, a: Value, b: Value) -> Value:
        """Sum of two vectors."""
        return self.builder.fadd(a, b, flags=FLAGS)

    def subtract(self, a: Value, b: Value) -> Value:
        """Difference of two vectors."""
        return self.builder.fsub(a, b, flags=FLAGS)

    def dot(self, coefficients: tuple[Fraction, ...], values: list[Value]) -> Value:
        """Sum of the values times their coefficients."""
        terms = [(c, v) for c, v in zip(coefficients, values, strict=True) if c]
        # A term to be added as it is comes first, so that none must be negated.
        terms.sort(key=lambda term: (term[0] != 1, abs(term[0]) != 1))
        total = None
        for coefficient, value in terms:
            size = abs(coefficient)
            part = value if size == 1 else self.builder.fmul(value, self.constant(size), flags=FLAGS)
            if total is None:
                total = part if coefficient > 0 else self.builder.fneg(part)
            else:
                total = self.add(total, part) if coefficient > 0 else self.subtract(total, part)
        return self.constant(Fraction(0)) if total is None else total

    def product(self, matrix: Matrix, values: list[Value]) -> list[Value]:
        """The matrix times the values.

        The points a and -a make neighbours of rows or columns that share their even and their odd powers:
        what neighbours have in common is computed once.
        """
        values = list(values)
        columns = list(zip(*matrix, strict=True))
        for at in range(len(columns) - 1):
            even, odd = _halves(columns[at], columns[at + 1])
            if _terms(even, odd) + 2 < _terms(columns[at], columns[at + 1]):
                columns[at], columns[at + 1] = even, odd
                a, b = values[at], values[at + 1]
                values[at], values[at + 1] = self.add(a, b), self.subtract(a, b)
        rows = list(zip(*columns, strict=True))
        results: list[Value] = []
        while len(results) < len(rows):
            pair = rows[len(results) : len(results) + 2]
            if len(pair) == 2:
                even, odd = _halves(*pair)
                if _terms(even, odd) + 2 <= _terms(*pair):
                    a, b = self.dot(even, values), self.dot(odd, values)
                    results += [self.add(a, b), self.subtract(a, b)]
                    continue
            results.append(self.dot(pair[0], values))
        return results

    def both_ways(self, matrix: Matrix, tile: list[list[Value]]) -> list[list[Value]]:
        """The matrix times a tile times its transpose; a tile of one row is only multiplied along it."""
        if len(tile) > 1:
            columns = [self.product(matrix, list(column)) for column in zip(*tile, strict=True)]
            tile = [list(row) for row in zip(*columns, strict=True)]
        return [self.product(matrix, row) for row in tile]


def _halves(
    a: tuple[Fraction, ...], b: tuple[Fraction, ...]
) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    """Half the sum and half the difference."""
    pairs = list(zip(a, b, strict=True))
    return tuple((x + y) / 2 for x, y in pairs), tuple((x - y) / 2 for x, y in pairs)


def _terms(*rows: tuple[Fraction, ...]) -> int:
    return sum(value != 0 for row in rows for value in row)


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return context.make_array(kind)(context, builder, array).data


def _zeros(context: Any, builder: Any, lanes: Lanes) -> Any:
    """Pointer to as many zeros as there are lanes."""
    zeros = ir.Constant(ir.ArrayType(FLOAT, lanes.count), [0.0] * lanes.count)
    place = cgutils.global_constant(builder.module, f".zeros.{lanes.count}", zeros)
    return builder.bitcast(place, FLOAT.as_pointer())


@generated
def transform_inputs(
    typing_context: Any,
    image: Any,
    at: Any,
    pitches: Any,
    edges: Any,
    target: Any,
    to: Any,
    apart: Any,
    down: Any,
    order: Any,
    near: Any,
    lanes: Any,
) -> Any:
    """Read a tile, multiply it by B^T (both ways where it has t rows), and write its elements ``apart``.

    ``at``: place of its first element; ``pitches``: of its rows, columns and lanes; ``edges``: its rows and
    columns inside the image are those from edges[0] to before edges[1] and from edges[2] to before edges[3],
    the others are zeros; () where all are inside.
    """
    signature = types.void(image, at, pitches, edges, target, to, apart, down, order, near, lanes)
    height, width = len(down), len(order)
    # Whatever m and r: the points are those of t.
    matrix = cook_toom(1, width).inputs

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        image, at, pitches, edges, target, to, apart, *_ = arguments
        vectors = Lanes(builder, len(lanes))
        source = builder.gep(_data(context, builder, signature.args[0], image), [at])
        row_pitch, column_pitch, lane_pitch = (builder.extract_value(pitches, n) for n in range(3))
        whole = row_pitch.type
        limits = [builder.extract_value(edges, n) for n in range(len(signature.args[3]))]
        columns = [builder.mul(column_pitch, whole(x)) for x in range(width)]
        zeros = _zeros(context, builder, vectors)

        def within(number: int, low: Any, high: Any) -> Any:
            from_low = builder.icmp_signed(">=", whole(number), low)
            return builder.and_(from_low, builder.icmp_signed("<", whole(number), high))

        visible = [within(x, limits[2], limits[3]) for x in range(width)] if limits else []
        tile = []
        for y in range(height):
            row = builder.gep(source, [builder.mul(row_pitch, whole(y))])
            pointers = [builder.gep(row, [column]) for column in columns]
            spread = [None if len(near) else lane_pitch] * width
            if limits:
                seen = within(y, limits[0], limits[1])
                seen_at = [builder.and_(seen, inside) for inside in visible]
                pointers = [builder.select(s, p, zeros) for s, p in zip(seen_at, pointers, strict=True)]
                if not len(near):
                    spread = [builder.select(s, lane_pitch, whole(0)) for s in seen_at]
            tile.append([vectors.load(p, pitch) for p, pitch in zip(pointers, spread, strict=True)])
        place = builder.gep(_data(context, builder, signature.args[4], target), [to])
        for result in (value for row in vectors.both_ways(matrix, tile) for value in row):
            vectors.store(result, place)
            place = builder.gep(place, [apart])
        return context.get_dummy_value()

    return signature, generate


@generated
def transform_products(
    typing_context: Any,
    products: Any,
    at: Any,
    apart: Any,
    out: Any,
    to: Any,
    pitches: Any,
    kept: Any,
    bias: Any,
    channel: Any,
    add: Any,
    down: Any,
    outputs: Any,
    order: Any,
    near: Any,
    lanes: Any,
) -> Any:
    """Read a tile whose elements lie ``apart``, multiply it by A^T, and write m outputs (or m x m) at ``to``.

    ``pitches``: of the output's rows, columns and lanes; ``kept``: how many rows and columns of the tile are
    not beyond an edge; () for all. With ``add`` the output's values are added, else the bias from ``channel``
    on (nothing if it has no elements).
    """
    signature = types.void(
        products, at, apart, out, to, pitches, kept, bias, channel, add, down, outputs, order, near, lanes
    )
    height, width = len(down), len(order)
    matrix = cook_toom(len(outputs), width - len(outputs) + 1).outputs

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        products, at, apart, out, to, pitches, kept, bias, channel, add, *_ = arguments
        vectors = Lanes(builder, len(lanes))
        place = builder.gep(_data(context, builder, signature.args[0], products), [at])
        tile: list[list[Value]] = [[] for _ in range(height)]
        for row in tile:
            for _ in range(width):
                row.append(vectors.load(place))
                place = builder.gep(place, [apart])
        results = vectors.both_ways(matrix, tile)

        target = builder.gep(_data(context, builder, signature.args[3], out), [to])
        row_pitch, column_pitch, lane_pitch = (builder.extract_value(pitches, n) for n in range(3))
        whole = row_pitch.type
        limits = [builder.extract_value(kept, n) for n in range(len(signature.args[6]))]
        biases = context.make_array(signature.args[7])(context, builder, bias)
        biased = builder.icmp_signed(">", biases.nitems, biases.nitems.type(0))
        zeros = _zeros(context, builder, vectors)
        start = builder.select(biased, builder.gep(biases.data, [channel]), zeros)

        def write(value: Value, pointer: Any) -> None:
            source = builder.select(add, pointer, start)
            if len(near):
                vectors.store(vectors.add(value, vectors.load(source)), pointer)
            else:
                before = vectors.load(source, builder.select(add, lane_pitch, whole(1)))
                vectors.store(vectors.add(value, before), pointer, lane_pitch)

        for y, values in enumerate(results):
            for x, value in enumerate(values):
                shift = builder.add(builder.mul(row_pitch, whole(y)), builder.mul(column_pitch, whole(x)))
                pointer = builder.gep(target, [shift])
                if not limits:
                    write(value, pointer)
                    continue
                seen = builder.and_(
                    builder.icmp_signed("<", whole(y), limits[0]),
                    builder.icmp_signed("<", whole(x), limits[1]),
                )
                with builder.if_then(seen):
                    write(value, pointer)
        return context.get_dummy_value()

    return signature, generate
