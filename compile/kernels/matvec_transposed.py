"""Few rows of activations times a matrix that lies transposed: decoding in the formats "_0".

A vector's lanes are consecutive outputs, each activation is broadcast. As in `matvec` the weights are passed
over once, and nothing is unpacked to memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx

from edge_router.compile.kernels.activations import Form, Sums, copy_row, pack_by_group, whole_groups
from edge_router.compile.kernels.ir import (
    Buffer,
    Cell,
    Expr,
    bind,
    cast,
    const,
    load,
    parallel,
    prefetch,
    scratch,
    serial,
    splat,
    store,
    zero,
)
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.matvec import Finish, by_integers, codes
from edge_router.compile.kernels.stored import WORDS, Matrix
from edge_router.compile.kernels.vectors import to_float

VECTORS = 6  # of outputs that one task has: so many sums are under way at once
AHEAD = 8  # groups whose weights are on their way


class _Integers:
    """Of each word lanes of small integers; see `activations`."""

    def __init__(self, isa: Isa, x: Buffer, rows: Expr, matrix: Matrix) -> None:
        self._isa, self._form, words = isa, Form.of(isa), WORDS * matrix.groups
        self.each = self._form.slots
        self._activations = scratch((rows, self.each * words), "int32")
        self._zeros = scratch((rows, matrix.groups), "int32")
        self._scales = scratch((rows, matrix.groups))
        x = whole_groups(isa, x, rows, matrix, serial)
        with serial(rows) as m:
            pack_by_group(isa, x, m, words, (self._activations, self._zeros, self._scales))

    def start(self, m: Expr, g: Expr) -> Sums:
        return Sums(self._isa, bind(splat(load(self._zeros, m, g), self._isa.lanes)))

    def activation(self, m: Expr, place: Expr) -> Expr:
        return splat(load(self._activations, m, place), self._isa.lanes)

    def add(self, sums: Sums, words: Expr, j: int, activation: Expr) -> None:
        sums.add(self._form.nibbles(words, j), activation)

    def finished(self, m: Expr, g: Expr, sums: Sums) -> Expr:
        return cast(sums.value, "float32") * splat(load(self._scales, m, g), self._isa.lanes)


class _Floats:
    """Of each word its numbers, in float32."""

    def __init__(self, isa: Isa, x: Buffer, rows: Expr, matrix: Matrix) -> None:
        self._isa, self._stored = isa, matrix.stored
        self.each = matrix.stored.per_word
        self._values, self._zeros = scratch((rows, matrix.padded)), scratch((rows, matrix.groups))
        with serial(rows) as m:
            copy_row(isa, x, m, matrix.inputs, self._values, matrix.padded)
            with serial(tirx.const(matrix.groups, "int64")) as g:
                total = Cell(zero())
                with serial(tirx.const(matrix.stored.group, "int64")) as i:
                    total.add(load(self._values, m, g * matrix.stored.group + i))
                store(self._zeros, total.value * const(-matrix.stored.offset, "float32"), m, g)

    def start(self, m: Expr, g: Expr) -> Cell:
        return Cell(bind(splat(load(self._zeros, m, g), self._isa.lanes)))

    def activation(self, m: Expr, place: Expr) -> Expr:
        return splat(load(self._values, m, place), self._isa.lanes)

    def add(self, sums: Cell, words: Expr, j: int, activation: Expr) -> None:
        sums.add(cast(codes(words, j, self._stored), "float32") * activation)

    def finished(self, m: Expr, g: Expr, sums: Cell) -> Expr:
        return sums.value


class Across:
    """Made inside a kernel, like `MatVec`, for a transposed matrix of at least four columns."""

    def __init__(self, isa: Isa, x: Buffer, rows: Expr, matrix: Matrix, columns: int) -> None:
        """`columns` will be asked for: vectors are no longer than that."""
        while isa.lanes > columns:
            isa = isa.narrowed(isa.lanes // 2)
        self._isa, self._rows, self._matrix = isa, rows, matrix
        self._method = (_Integers if by_integers(isa, matrix.stored) else _Floats)(isa, x, rows, matrix)

    def run(self, columns: int, blocks: Sequence[int], finish: Finish) -> None:
        """As `MatVec.run`."""
        lanes = self._isa.lanes
        width = lanes * min(VECTORS // len(blocks), columns // lanes)
        with parallel(tirx.const(-(-columns // width), "int64")) as strip:
            first = bind(tirx.min(strip * width, tirx.const(columns - width, "int64")))
            starts = [first + (b + i) for b in blocks for i in range(0, width, lanes)]
            with serial(self._rows) as m:
                sums = self._multiply(m, starts)
                for i in range(width // lanes):
                    finish(m, first + i * lanes, sums[i :: width // lanes])

    def _multiply(self, m: Expr, starts: Sequence[Expr]) -> list[Expr]:
        matrix, method, lanes = self._matrix, self._method, self._isa.lanes
        sums = [Cell(zero(lanes)) for _ in starts]
        with serial(tirx.const(matrix.groups, "int64")) as g:
            parts: list[Any] = [method.start(m, g) for _ in starts]
            with serial(tirx.const(WORDS, "int64")) as w:
                row = bind(g * WORDS + w)
                words = []
                for start in starts:
                    prefetch(matrix.weights, row + AHEAD * WORDS, start)
                    words.append(bind(load(matrix.weights, row, start, lanes=lanes)))
                for j in range(method.each):
                    activation = bind(method.activation(m, row * method.each + j))
                    for part, word in zip(parts, words, strict=True):
                        method.add(part, word, j, activation)
            for total, part, start in zip(sums, parts, starts, strict=True):
                prefetch(matrix.scales, g + AHEAD, start)
                scale = to_float(self._isa, load(matrix.scales, g, start, lanes=lanes))
                total.add(method.finished(m, g, part) * scale)
        return [total.value for total in sums]
