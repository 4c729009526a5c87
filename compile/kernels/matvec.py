"""Few rows of activations times a q4f16_1 matrix: decoding, alone or for several conversations.

One pass over the weights, whose bytes set the pace. A vector's lanes are consecutive uint32 words of one
weight row; nothing is unpacked to memory, and the float32 sums stay in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from edge_router.compile.kernels.activations import GROUP, OFFSET, WORDS, Piece, pack_by_word, pieces
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
from edge_router.compile.kernels.vectors import dot, spread, to_float, total, totals

TILE = 4  # columns that are finished together
ROWS = 2  # of activations that share the unpacking of weights
AHEAD = 12 << 10  # bytes of weights that are on their way: the processor's own guess stops at each 4 KB page
CHUNK = 64  # weight rows of one parallel task: they stay in the innermost memory for all activation rows

# (activation row, first output column, the sums of consecutive columns, one vector for each block of columns)
Finish = Callable[[Expr, Expr, Sequence[Expr]], None]


def nibbles(words: Expr, j: int) -> Expr:
    """Nibbles j and j+4 of each word as a pair of int16."""
    lanes = lanes_of(words)
    shifted = words >> const(4 * j, "uint32", lanes) if j else words
    return bits(shifted & const(0x000F000F, "uint32", lanes), f"int32x{lanes}")


class _Integers:
    """The products through sixteen-bit integers; see `activations`."""

    def __init__(self, isa: Isa, x: Buffer, rows: Expr, words: int) -> None:
        self._isa = isa
        self._pairs = scratch((rows, 4 * words), "int32")
        self._zeros = scratch((rows, words), "int32")
        self._scales = scratch((rows, words))
        with serial(rows) as m:
            pack_by_word(isa, x, m, words, (self._pairs, self._zeros, self._scales))

    def products(self, words: Expr, scale: Expr, rows: Sequence[Expr], piece: Piece, b: Expr) -> list[Expr]:
        lanes, at = piece.lanes, b * piece.lanes + piece.start
        weights = [bind(nibbles(words, j)) for j in range(4)]
        found = []
        for m in rows:
            sums = load(self._zeros, m, at, lanes=lanes)
            for j, weight in enumerate(weights):
                place = b * (4 * lanes) + (4 * piece.start + j * lanes)
                sums = dot(self._isa, sums, weight, load(self._pairs, m, place, lanes=lanes))
            found.append(cast(sums, "float32") * (scale * load(self._scales, m, at, lanes=lanes)))
        return found


class _Floats:
    """The products in float32, for processors without a quick sixteen-bit one.

    Lane l of a vector meets activations 8 * (its word) + j, so they are laid out j by j beforehand.
    """

    def __init__(self, isa: Isa, x: Buffer, rows: Expr, words: int) -> None:
        self._values = scratch((rows, 8 * words))
        self._zeros = scratch((rows, words))
        with serial(rows) as m:
            for piece in pieces(words, isa.lanes):
                with serial(tirx.const(piece.blocks * piece.lanes, "int64")) as word:
                    place = word // piece.lanes * (8 * piece.lanes) + word % piece.lanes + 8 * piece.start
                    values = bind(to_float(isa, load(x, m, (word + piece.start) * 8, lanes=8)))
                    for j in range(8):
                        store(self._values, pick([values], [j]), m, place + j * piece.lanes)
                    store(self._zeros, total(values) * const(-OFFSET, "float32"), m, word + piece.start)

    def products(self, words: Expr, scale: Expr, rows: Sequence[Expr], piece: Piece, b: Expr) -> list[Expr]:
        lanes = piece.lanes
        weights = []
        for j in range(8):
            shifted = words >> const(4 * j, "uint32", lanes) if j else words
            weights.append(
                bind(cast(bits(shifted & const(15, "uint32", lanes), f"int32x{lanes}"), "float32"))
            )
        found = []
        for m in rows:
            sums = load(self._zeros, m, b * lanes + piece.start, lanes=lanes)
            for j, weight in enumerate(weights):
                place = b * (8 * lanes) + (8 * piece.start + j * lanes)
                sums = sums + weight * load(self._values, m, place, lanes=lanes)
            found.append(sums * scale)
        return found


class MatVec:
    """Made inside a kernel: packs the rows of `x`, then `run` multiplies them by the matrix.

    x [rows, 32 * groups], weights [columns, 4 * groups] uint32, scales [columns, groups] float16.
    """

    def __init__(self, isa: Isa, x: Buffer, rows: Expr, weights: Buffer, scales: Buffer, groups: int) -> None:
        self._isa, self._weights, self._scales = isa, weights, scales
        self._words = groups * WORDS
        self._ahead = TILE * max(1, AHEAD // (4 * self._words * TILE))  # in rows; a tile is read as one
        method = _Floats if isa.dot is Dot.FLOAT else _Integers
        self._method = method(isa, x, rows, self._words)
        self._rows = rows

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
                self._across(first, count, columns, blocks, rows, finish)
                return
            with serial(self._rows // ROWS) as tile:
                rows = [bind(tile * ROWS + i) for i in range(ROWS)]
                self._across(first, count, columns, blocks, rows, finish)
            with serial(self._rows % ROWS) as rest:
                row = bind(self._rows // ROWS * ROWS + rest)
                self._across(first, count, columns, blocks, [row], finish)

    def _across(
        self,
        first: Expr,
        count: Expr,
        columns: int,
        blocks: Sequence[int],
        rows: Sequence[Expr],
        finish: Finish,
    ) -> None:
        """Some rows of activations, `TILE` columns at a time."""
        with serial(count // TILE) as tile:
            column = bind(first + tile * TILE)
            parts = [self._lanes([column + b + i for i in range(TILE)], rows) for b in blocks]
            for i, m in enumerate(rows):
                finish(m, column, [totals(part[i :: len(rows)]) for part in parts])
        if columns % TILE:
            with serial(count % TILE) as rest:
                column = bind(first + count // TILE * TILE + rest)
                parts = [self._lanes([column + b], rows) for b in blocks]
                for i, m in enumerate(rows):
                    finish(m, column, [total(part[i]) for part in parts])

    def _lanes(self, columns: Sequence[Expr], rows: Sequence[Expr]) -> list[Expr]:
        """For each column and row a vector of four, whose sum is the product."""
        parts = pieces(self._words, self._isa.lanes)
        sums: list[Expr] = []
        for part in parts:
            cells = [Cell(zero(part.lanes)) for _ in range(len(columns) * len(rows))]
            with serial(tirx.const(part.blocks, "int64")) as b:
                for i, column in enumerate(columns):
                    word, group = b * part.lanes + part.start, b * (part.lanes // WORDS) + part.start // WORDS
                    prefetch(self._weights, column + self._ahead, word)
                    prefetch(self._scales, column + self._ahead, group)
                    words = bind(load(self._weights, column, word, lanes=part.lanes))
                    groups = load(self._scales, column, group, lanes=part.lanes // WORDS)
                    scale = bind(spread(to_float(self._isa, groups), WORDS))
                    products = self._method.products(words, scale, rows, part, b)
                    for cell, product in zip(cells[i * len(rows) :], products, strict=False):
                        cell.add(product)
            values = [cell.value for cell in cells]
            sums = (
                [a + b for a, b in zip(_narrowed(sums, part.lanes), values, strict=True)] if sums else values
            )
        return _narrowed(sums, TILE)


def _narrowed(vectors: list[Expr], lanes: int) -> list[Expr]:
    """The same sums in fewer lanes."""
    while lanes_of(vectors[0]) > lanes:
        half = lanes_of(vectors[0]) // 2
        vectors = [bind(v) for v in vectors]
        vectors = [pick([v], range(half)) + pick([v], range(half, 2 * half)) for v in vectors]
    return vectors


assert GROUP == 8 * WORDS
