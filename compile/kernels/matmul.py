"""Many rows of activations times a matrix: prefill.

For each strip of columns the weights are unpacked once, column by column into lanes, and then a register
tile of `rows` x two vectors walks down the activations. Strips are the parallel tasks. What does not divide
is covered by moving the last strip or tile back over its neighbour: a few sums are made twice, and there is
no second code path.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    pick,
    prefetch,
    scratch,
    serial,
    splat,
    store,
    when,
    zero,
)
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.matvec import Finish, by_integers, by_row, codes
from edge_router.compile.kernels.stored import WORDS, Matrix
from edge_router.compile.kernels.vectors import to_float, transposed

UNROLLED = 4  # lanes of activations
LINE = 64 * 8  # bits of memory that are fetched together
AHEAD = 8  # groups of a transposed matrix that are on their way


def tile_rows(isa: Isa) -> int:
    """As many as leave room in the registers: two vectors of sums for each row (integers and floats)."""
    return 6 if isa.registers == 32 else 4


def strip_columns(isa: Isa, blocks: int) -> int:
    """Columns of one strip, where `blocks` matrices share it (see `MatVec.run`)."""
    return isa.lanes * (2 if blocks == 1 else 1)


def strip_starts(isa: Isa, blocks: Sequence[Expr]) -> list[Expr]:
    """Where in a strip, or beside it, each vector of columns begins."""
    return [b + i for b in blocks for i in range(0, strip_columns(isa, len(blocks)), isa.lanes)]


class _Integers:
    """Small integers; a strip's panel holds raw nibbles, several rows of k in one lane."""

    def __init__(self, isa: Isa, x: Buffer, rows: Expr, matrix: Matrix) -> None:
        self._isa, self._groups, self._form = isa, matrix.groups, Form.of(isa)
        self._slots = WORDS * self._form.slots  # of a group
        # a number that LLVM does not know: it would unroll the loop, and keep weights instead of sums in registers
        self._parts = bind(tirx.if_then_else(rows < 0, 0, self._slots // UNROLLED))
        groups = self._groups
        self._activations = scratch((rows, self._slots * groups), "int32")
        self._zeros = scratch((rows, groups), "int32")
        self._scales = scratch((rows, groups))
        x = whole_groups(isa, x, rows, matrix, parallel)
        with parallel(rows) as m:
            pack_by_group(isa, x, m, WORDS * groups, (self._activations, self._zeros, self._scales))

    def strip(self) -> Buffer:
        return scratch((2, self._groups * self._slots, self._isa.lanes), "int32")

    def unpack(self, panel: Buffer, v: int, g: Expr, w: int, words: Expr, scale: Expr) -> None:
        slots = self._form.slots
        for j in range(slots):
            store(panel, self._form.nibbles(words, j), v, g * self._slots + (slots * w + j), 0)

    def multiply(self, panel: Buffer, scales: Buffer, rows: Sequence[Expr]) -> list[list[Expr]]:
        lanes = self._isa.lanes
        sums = [[Cell(zero(lanes)) for _ in range(2)] for _ in rows]
        with serial(tirx.const(self._groups, "int64")) as g:
            integers = []
            for m in rows:
                start = bind(splat(load(self._zeros, m, g), lanes))
                integers.append([Sums(self._isa, start) for _ in range(2)])
            with serial(self._parts) as part:
                for i in range(UNROLLED):
                    place = bind(g * self._slots + part * UNROLLED + i)
                    weights = [bind(load(panel, v, place, 0, lanes=lanes)) for v in range(2)]
                    for m, cells in zip(rows, integers, strict=True):
                        activation = bind(splat(load(self._activations, m, place), lanes))
                        for cell, weight in zip(cells, weights, strict=True):
                            cell.add(weight, activation)
            weight_scales = [bind(load(scales, v, g, 0, lanes=lanes)) for v in range(2)]
            for m, cells, floats in zip(rows, integers, sums, strict=True):
                scale = bind(splat(load(self._scales, m, g), lanes))
                for v in range(2):
                    floats[v].add(cast(cells[v].value, "float32") * (scale * weight_scales[v]))
        return [[cell.value for cell in cells] for cells in sums]


class _Floats:
    """Float32 throughout; the panel holds the weights themselves."""

    def __init__(self, isa: Isa, x: Buffer, rows: Expr, matrix: Matrix) -> None:
        self._isa, self._stored, self._depth = isa, matrix.stored, matrix.padded
        self._x = scratch((rows, self._depth))
        with parallel(rows) as m:
            copy_row(isa, x, m, matrix.inputs, self._x, self._depth)

    def strip(self) -> Buffer:
        return scratch((2, self._depth, self._isa.lanes))

    def unpack(self, panel: Buffer, v: int, g: Expr, w: int, words: Expr, scale: Expr) -> None:
        stored = self._stored
        zero_point = const(stored.offset, "float32", self._isa.lanes)
        for j in range(stored.per_word):
            value = cast(codes(words, j, stored), "float32") - zero_point
            store(panel, value * scale, v, g * stored.group + (stored.per_word * w + j), 0)

    def multiply(self, panel: Buffer, scales: Buffer, rows: Sequence[Expr]) -> list[list[Expr]]:
        lanes = self._isa.lanes
        sums = [[Cell(zero(lanes)) for _ in range(2)] for _ in rows]
        with serial(tirx.const(self._depth // 4, "int64")) as quarter:
            for i in range(4):
                k = bind(quarter * 4 + i)
                weights = [bind(load(panel, v, k, 0, lanes=lanes)) for v in range(2)]
                for m, cells in zip(rows, sums, strict=True):
                    value = bind(splat(load(self._x, m, k), lanes))
                    for cell, weight in zip(cells, weights, strict=True):
                        cell.add(value * weight)
        return [[cell.value for cell in cells] for cells in sums]


class MatMul:
    """Made inside a kernel: packs the rows of `x`, then `run` multiplies them by the matrix.

    x [rows, inputs]. There must be at least `tile_rows` rows and `strip_columns` columns.
    """

    def __init__(self, isa: Isa, x: Buffer, rows: Expr, matrix: Matrix) -> None:
        self._isa, self._matrix, self._rows = isa, matrix, rows
        self._method = (_Integers if by_integers(isa, matrix.stored) else _Floats)(isa, x, rows, matrix)

    def run(self, columns: int, blocks: Sequence[int], finish: Finish) -> None:
        """As `MatVec.run`."""
        height, width = tile_rows(self._isa), strip_columns(self._isa, len(blocks))
        starts = strip_starts(self._isa, blocks)
        with parallel(tirx.const(-(-columns // width), "int64")) as strip:
            first = bind(tirx.min(strip * width, tirx.const(columns - width, "int64")))
            panels = self.unpacked([first + start for start in starts], width)
            with serial((self._rows + (height - 1)) // height) as tile:
                top = bind(tirx.min(tile * height, self._rows - height))
                rows = [bind(top + i) for i in range(height)]
                self.tile(panels, rows, first, width, by_row(rows, finish))

    def unpacked(self, starts: Sequence[Expr], width: int) -> tuple[Buffer, Buffer]:
        """As many columns from each of `starts` on as there are lanes: what stands for them, and their scales."""
        panel, scales = self._method.strip(), scratch((2, self._matrix.groups, self._isa.lanes))
        for v, start in enumerate(starts):
            if self._matrix.scales is None:
                self._turn(panel, v, start, width)
            else:
                self._unpack(panel, scales, v, start, width)
        return panel, scales

    def tile(
        self,
        panels: tuple[Buffer, Buffer],
        rows: Sequence[Expr],
        first: Expr,
        width: int,
        finish: Finish,
    ) -> None:
        """A few rows times what is unpacked, `width` columns from `first` on."""
        lanes, vectors = self._isa.lanes, width // self._isa.lanes
        for number, sums in enumerate(self._method.multiply(*panels, rows)):
            for i in range(vectors):
                finish(number, first + i * lanes, sums[i::vectors])

    def _turn(self, panel: Buffer, v: int, first: Expr, width: int) -> None:
        """Plain numbers: rows of the weights become lanes, as many columns at a time."""
        lanes, weights = self._isa.lanes, self._matrix.weights
        inputs = self._matrix.inputs
        with serial(tirx.const(-(-inputs // lanes), "int64")) as block:
            start = bind(tirx.min(block * lanes, tirx.const(inputs - lanes, "int64")))
            self._fetch(weights, first + width, start)
            rows = [load(weights, first + i, start, lanes=lanes) for i in range(lanes)]
            for j, column in enumerate(transposed([bind(to_float(self._isa, row)) for row in rows])):
                store(panel, column, v, start + j, 0)

    def _unpack(self, panel: Buffer, scales: Buffer, v: int, first: Expr, width: int) -> None:
        """Rows of the weights become lanes, a group at a time."""
        with serial(tirx.const(self._matrix.groups, "int64")) as g:
            scale, words = (self._across if self._matrix.stored.transposed else self._along)(g, first, width)
            store(scales, scale, v, g, 0)
            for w in range(WORDS):
                self._method.unpack(panel, v, g, w, bind(words[w]), scale)

    def _along(self, g: Expr, first: Expr, width: int) -> tuple[Expr, list[Expr]]:
        """Group g's scales and words, of which each row holds its own together."""
        lanes, matrix = self._isa.lanes, self._matrix
        halves = scratch((lanes,), matrix.stored.dtype)
        for i in range(lanes):
            store(halves, load(matrix.scales, first + i, g), i)
        scale = bind(to_float(self._isa, load(halves, 0, lanes=lanes)))
        self._fetch(matrix.weights, first + width, g * WORDS)
        self._fetch(matrix.scales, first + width, g)
        rows = [bind(load(matrix.weights, first + i, g * WORDS, lanes=WORDS)) for i in range(lanes)]
        return scale, [pick(rows, [WORDS * i + w for i in range(lanes)]) for w in range(WORDS)]

    def _across(self, g: Expr, first: Expr, width: int) -> tuple[Expr, list[Expr]]:
        """The same where the rows' scales and words of one group lie together."""
        lanes, matrix = self._isa.lanes, self._matrix
        ahead = g + AHEAD
        prefetch(matrix.scales, ahead, first)
        for w in range(WORDS):
            prefetch(matrix.weights, ahead * WORDS + w, first)
        scale = bind(to_float(self._isa, load(matrix.scales, g, first, lanes=lanes)))
        return scale, [load(matrix.weights, g * WORDS + w, first, lanes=lanes) for w in range(WORDS)]

    def _fetch(self, buffer: Buffer, first: Expr, place: Expr) -> None:
        """Send for what follows in as many rows: the processor cannot guess that many streams.

        Once for each 64 bytes.
        """
        with when(place % (LINE // load(buffer, first, place).ty.dtype.bits) == 0):
            for i in range(self._isa.lanes):
                prefetch(buffer, first + i, place)
