"""Few rows of activations times a matrix whose rows are its outputs: decoding, alone or for several at once.

One pass over the weights, whose bytes set the pace. A vector's lanes are consecutive uint32 words (or plain
numbers) of one weight row; nothing is unpacked to memory, and the float32 sums stay in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from edge_router.architectures.quantization import DTYPE_BYTES
from edge_router.compile.kernels.activations import (
    Form,
    Piece,
    Sums,
    copy_row,
    pack_by_word,
    pieces,
    whole_groups,
)
from edge_router.compile.kernels.ir import (
    Buffer,
    Cell,
    Expr,
    bind,
    bits,
    cast,
    const,
    lanes_of,
    load,
    parallel,
    pick,
    prefetch,
    scratch,
    serial,
    store,
    zero,
)
from edge_router.compile.kernels.isa import Dot, Isa
from edge_router.compile.kernels.stored import WORDS, Matrix, Stored
from edge_router.compile.kernels.vectors import spread, to_float, total, totals

TILE = 4  # columns that are finished together
ROWS = 2  # of activations that share the unpacking of weights
AHEAD = 12 << 10  # bytes of weights that are on their way: the processor's own guess stops at each 4 KB page
CHUNK = 64  # weight rows of one parallel task: they stay in the innermost memory for all activation rows

# (activation row, first output column, the sums of consecutive columns, one vector for each block of columns);
# where rows are handed over as a list, their number in it is the first
Finish = Callable[[Expr, Expr, Sequence[Expr]], None]


def by_integers(isa: Isa, stored: Stored) -> bool:
    """Whether products go through small integers."""
    return stored.bits == 4 and isa.dot is not Dot.FLOAT


def codes(words: Expr, j: int, stored: Stored) -> Expr:
    """Number j of each word, as int32."""
    assert stored.bits is not None
    lanes = lanes_of(words)
    shifted = words >> const(stored.bits * j, "uint32", lanes) if j else words
    return bits(shifted & const((1 << stored.bits) - 1, "uint32", lanes), f"int32x{lanes}")


class _Packed:
    """Weights as words: a vector of them, with each word's scale."""

    def __init__(self, isa: Isa, matrix: Matrix) -> None:
        self._isa, self._matrix = isa, matrix
        self.units = matrix.groups * WORDS  # that a row has

    def products(self, column: Expr, ahead: Expr, rows: Sequence[Expr], piece: Piece, b: Expr) -> list[Expr]:
        """For each row its products with block `b` of a piece of weight row `column`, summed over words.

        `ahead` is the weight row that is sent for meanwhile.
        """
        word, group = b * piece.lanes + piece.start, b * (piece.lanes // WORDS) + piece.start // WORDS
        matrix = self._matrix
        prefetch(matrix.weights, ahead, word)
        prefetch(matrix.scales, ahead, group)
        words = bind(load(matrix.weights, column, word, lanes=piece.lanes))
        groups = load(matrix.scales, column, group, lanes=piece.lanes // WORDS)
        scale = bind(spread(to_float(self._isa, groups), WORDS))
        return self._multiplied(words, scale, rows, piece, b)

    def _multiplied(
        self, words: Expr, scale: Expr, rows: Sequence[Expr], piece: Piece, b: Expr
    ) -> list[Expr]:
        raise NotImplementedError


class _Integers(_Packed):
    """The products through small integers; see `activations`."""

    def __init__(self, isa: Isa, x: Buffer, rows: Expr, matrix: Matrix) -> None:
        super().__init__(isa, matrix)
        words, self._form = self.units, Form.of(isa)
        self._activations = scratch((rows, self._form.slots * words), "int32")
        self._zeros = scratch((rows, words), "int32")
        self._scales = scratch((rows, words))
        x = whole_groups(isa, x, rows, matrix, serial)
        with serial(rows) as m:
            pack_by_word(isa, x, m, words, (self._activations, self._zeros, self._scales))

    def _multiplied(
        self, words: Expr, scale: Expr, rows: Sequence[Expr], piece: Piece, b: Expr
    ) -> list[Expr]:
        lanes, at = piece.lanes, b * piece.lanes + piece.start
        slots = self._form.slots
        weights = [bind(self._form.nibbles(words, j)) for j in range(slots)]
        found = []
        for m in rows:
            sums = Sums(self._isa, load(self._zeros, m, at, lanes=lanes))
            for j, weight in enumerate(weights):
                place = b * (slots * lanes) + (slots * piece.start + j * lanes)
                sums.add(weight, load(self._activations, m, place, lanes=lanes))
            found.append(cast(sums.value, "float32") * (scale * load(self._scales, m, at, lanes=lanes)))
        return found


class _Floats(_Packed):
    """The products in float32: for processors without a quick sixteen-bit one, and for other than 4 bits.

    Lane l of a vector meets activations `per_word` * (its word) + j, so they are laid out j by j beforehand.
    """

    def __init__(self, isa: Isa, x: Buffer, rows: Expr, matrix: Matrix) -> None:
        super().__init__(isa, matrix)
        words, self._each = self.units, matrix.stored.per_word
        self._values = scratch((rows, self._each * words))
        self._zeros = scratch((rows, words))
        row = scratch((rows, matrix.padded))
        with serial(rows) as m:
            copy_row(isa, x, m, matrix.inputs, row, matrix.padded)
            for piece in pieces(words, isa.lanes):
                with serial(tirx.const(piece.blocks * piece.lanes, "int64")) as word:
                    self._lay_out(row, m, word, piece)

    def _lay_out(self, row: Buffer, m: Expr, word: Expr, piece: Piece) -> None:
        each, lanes = self._each, piece.lanes
        place = word // lanes * (each * lanes) + word % lanes + each * piece.start
        values = [bind(load(row, m, (word + piece.start) * each + j)) for j in range(each)]
        for j, value in enumerate(values):
            store(self._values, value, m, place + j * lanes)
        zero_point = const(-self._matrix.stored.offset, "float32")
        store(self._zeros, sum(values[1:], start=values[0]) * zero_point, m, word + piece.start)

    def _multiplied(
        self, words: Expr, scale: Expr, rows: Sequence[Expr], piece: Piece, b: Expr
    ) -> list[Expr]:
        lanes, stored = piece.lanes, self._matrix.stored
        weights = [bind(cast(codes(words, j, stored), "float32")) for j in range(self._each)]
        found = []
        for m in rows:
            sums = load(self._zeros, m, b * lanes + piece.start, lanes=lanes)
            for j, weight in enumerate(weights):
                place = b * (self._each * lanes) + (self._each * piece.start + j * lanes)
                sums = sums + weight * load(self._values, m, place, lanes=lanes)
            found.append(sums * scale)
        return found


class _Plain:
    """Weights that are not quantized."""

    def __init__(self, isa: Isa, x: Buffer, rows: Expr, matrix: Matrix) -> None:
        self._isa, self._x, self._weights = isa, x, matrix.weights
        self.units = matrix.inputs

    def products(self, column: Expr, ahead: Expr, rows: Sequence[Expr], piece: Piece, b: Expr) -> list[Expr]:
        at = b * piece.lanes + piece.start
        prefetch(self._weights, ahead, at)
        weight = bind(to_float(self._isa, load(self._weights, column, at, lanes=piece.lanes)))
        return [to_float(self._isa, load(self._x, m, at, lanes=piece.lanes)) * weight for m in rows]


def _method(isa: Isa, matrix: Matrix) -> type[_Integers | _Floats | _Plain]:
    if matrix.stored.bits is None:
        return _Plain
    return _Integers if by_integers(isa, matrix.stored) else _Floats


class MatVec:
    """Made inside a kernel: packs the rows of `x`, then `run` multiplies them by the matrix.

    x [rows, inputs]; the matrix must not be transposed.
    """

    def __init__(self, isa: Isa, x: Buffer, rows: Expr, matrix: Matrix) -> None:
        stored = matrix.stored
        size = matrix.inputs * DTYPE_BYTES[stored.dtype] if stored.bits is None else 16 * matrix.groups
        self._ahead = TILE * max(1, AHEAD // (size * TILE))  # in rows; a tile is read as one
        self._isa, self._rows = isa, rows
        self._method = _method(isa, matrix)(isa, x, rows, matrix)

    def run(self, columns: int, blocks: Sequence[int], finish: Finish) -> None:
        """`finish` for each row and each run of columns 0..`columns`.

        `blocks` are the first weight rows of the matrices that share those columns: (0,) for one matrix,
        (0, columns) for two that lie on top of each other and are wanted together.
        """
        with parallel(tirx.const(-(-columns // CHUNK), "int64")) as chunk:
            first = bind(chunk * CHUNK)
            count = bind(tirx.min(tirx.const(CHUNK, "int64"), columns - first))
            if isinstance(self._rows, int):
                rows = [tirx.const(m, "int64") for m in range(self._rows)]
                self.across(first, count, columns, blocks, rows, by_row(rows, finish))
                return
            with serial(self._rows // ROWS) as tile:
                rows = [bind(tile * ROWS + i) for i in range(ROWS)]
                self.across(first, count, columns, blocks, rows, by_row(rows, finish))
            with serial(self._rows % ROWS) as rest:
                row = bind(self._rows // ROWS * ROWS + rest)
                self.across(first, count, columns, blocks, [row], by_row([row], finish))

    def across(
        self,
        first: Expr,
        count: Expr,
        columns: int,
        blocks: Sequence[Expr],
        rows: Sequence[Expr],
        finish: Finish,
        leap: Expr | None = None,
    ) -> None:
        """Some rows of activations, `TILE` columns at a time, `count` of them from `first` on.

        `columns`: of which each count is a multiple, up to what `TILE` does not divide. `leap`: so many weight
        rows behind these are those that are needed next, instead of the ones that follow.
        """
        end = None if leap is None else bind(first + count)

        def lanes(columns: Sequence[Expr], block: Expr) -> list[Expr]:
            ahead = [bind(column + block + self._ahead) for column in columns]
            if end is not None:
                past = [row >= end + block for row in ahead]
                ahead = [
                    bind(row + tirx.Select(far, leap, tirx.const(0, "int64")))
                    for row, far in zip(ahead, past, strict=True)
                ]
            return self._lanes([column + block for column in columns], ahead, rows)

        with serial(count // TILE) as tile:
            column = bind(first + tile * TILE)
            parts = [lanes([column + i for i in range(TILE)], b) for b in blocks]
            for i in range(len(rows)):
                finish(i, column, [totals(part[i :: len(rows)]) for part in parts])
        if columns % TILE:
            with serial(count % TILE) as rest:
                column = bind(first + count // TILE * TILE + rest)
                parts = [lanes([column], b) for b in blocks]
                for i in range(len(rows)):
                    finish(i, column, [total(part[i]) for part in parts])

    def _lanes(self, columns: Sequence[Expr], ahead: Sequence[Expr], rows: Sequence[Expr]) -> list[Expr]:
        """For each column and row a vector of four, whose sum is the product."""
        parts = pieces(self._method.units, self._isa.lanes)
        sums: list[Expr] = []
        for part in parts:
            cells = [Cell(zero(part.lanes)) for _ in range(len(columns) * len(rows))]
            with serial(tirx.const(part.blocks, "int64")) as b:
                for i, column in enumerate(columns):
                    products = self._method.products(column, ahead[i], rows, part, b)
                    for cell, product in zip(cells[i * len(rows) :], products, strict=False):
                        cell.add(product)
            values = [cell.value for cell in cells]
            sums = (
                [a + b for a, b in zip(_narrowed(sums, part.lanes), values, strict=True)] if sums else values
            )
        return _narrowed(sums, TILE)


def by_row(rows: Sequence[Expr], finish: Finish) -> Finish:
    """`finish`, called with the number of a row in `rows`."""
    return lambda i, column, sums: finish(rows[i], column, sums)


def _narrowed(vectors: list[Expr], lanes: int) -> list[Expr]:
    """The same sums in fewer lanes."""
    while lanes_of(vectors[0]) > lanes:
        half = lanes_of(vectors[0]) // 2
        vectors = [bind(v) for v in vectors]
        vectors = [pick([v], range(half)) + pick([v], range(half, 2 * half)) for v in vectors]
    return vectors
