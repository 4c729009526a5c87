"""Many rows of activations times a q4f16_1 matrix: prefill.

For each strip of columns the weights are unpacked once, column by column into lanes, and then a register
tile of `rows` x two vectors walks down the activations. Strips are the parallel tasks. What does not divide
is covered by moving the last strip or tile back over its neighbour: a few sums are made twice, and there is
no second code path.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from edge_router.compile.kernels.activations import GROUP, OFFSET, WORDS, pack_by_group
from edge_router.compile.kernels.ir import (
    Buffer,
    Cell,
    Expr,
    bind,
    bits,
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
from edge_router.compile.kernels.isa import Dot, Isa
from edge_router.compile.kernels.matvec import Finish, nibbles
from edge_router.compile.kernels.vectors import dot, to_float

PAIRS = GROUP // 2  # of sixteen-bit integers, in a group


def tile_rows(isa: Isa) -> int:
    """As many as leave room in the registers: two vectors of sums for each row (integers and floats)."""
    return 6 if isa.registers == 32 else 4


def strip_columns(isa: Isa, blocks: int) -> int:
    """Columns of one strip, where `blocks` matrices share it (see `MatVec.run`)."""
    return isa.lanes * (2 if blocks == 1 else 1)


class _Integers:
    """Sixteen-bit integers; a strip's panel holds raw nibbles, two rows of k in one lane."""

    def __init__(self, isa: Isa, x: Buffer, rows: Expr, groups: int) -> None:
        self._isa, self._groups = isa, groups
        self._pairs = scratch((rows, PAIRS * groups), "int32")
        self._zeros = scratch((rows, groups), "int32")
        self._scales = scratch((rows, groups))
        with parallel(rows) as m:
            pack_by_group(isa, x, m, WORDS * groups, (self._pairs, self._zeros, self._scales))

    def strip(self) -> Buffer:
        return scratch((2, self._groups * PAIRS, self._isa.lanes), "int32")

    def unpack(self, panel: Buffer, v: int, g: Expr, w: int, words: Expr, scale: Expr) -> None:
        for j in range(4):
            store(panel, nibbles(words, j), v, g * PAIRS + (4 * w + j), 0)

    def multiply(self, panel: Buffer, scales: Buffer, rows: Sequence[Expr]) -> list[list[Expr]]:
        lanes = self._isa.lanes
        sums = [[Cell(zero(lanes)) for _ in range(2)] for _ in rows]
        with serial(tirx.const(self._groups, "int64")) as g:
            integers = []
            for m in rows:
                start = bind(splat(load(self._zeros, m, g), lanes))
                integers.append([Cell(start) for _ in range(2)])
            with serial(tirx.const(PAIRS // 4, "int64")) as quarter:
                for i in range(4):
                    place = bind(g * PAIRS + quarter * 4 + i)
                    weights = [bind(load(panel, v, place, 0, lanes=lanes)) for v in range(2)]
                    for m, cells in zip(rows, integers, strict=True):
                        pair = bind(splat(load(self._pairs, m, place), lanes))
                        for cell, weight in zip(cells, weights, strict=True):
                            cell.set(dot(self._isa, cell.value, weight, pair))
            weight_scales = [bind(load(scales, v, g, 0, lanes=lanes)) for v in range(2)]
            for m, cells, floats in zip(rows, integers, sums, strict=True):
                scale = bind(splat(load(self._scales, m, g), lanes))
                for v in range(2):
                    floats[v].add(cast(cells[v].value, "float32") * (scale * weight_scales[v]))
        return [[cell.value for cell in cells] for cells in sums]


class _Floats:
    """Float32 throughout; the panel holds the weights themselves."""

    def __init__(self, isa: Isa, x: Buffer, rows: Expr, groups: int) -> None:
        self._isa, self._groups = isa, groups
        self._x = scratch((rows, GROUP * groups))
        with parallel(rows) as m, serial(tirx.const(GROUP * groups // isa.lanes, "int64")) as i:
            store(self._x, to_float(isa, load(x, m, i * isa.lanes, lanes=isa.lanes)), m, i * isa.lanes)

    def strip(self) -> Buffer:
        return scratch((2, self._groups * GROUP, self._isa.lanes))

    def unpack(self, panel: Buffer, v: int, g: Expr, w: int, words: Expr, scale: Expr) -> None:
        lanes = self._isa.lanes
        for j in range(8):
            nibble = (words >> const(4 * j, "uint32", lanes)) & const(15, "uint32", lanes)
            value = cast(bits(nibble, f"int32x{lanes}"), "float32") - const(OFFSET, "float32", lanes)
            store(panel, value * scale, v, g * GROUP + (8 * w + j), 0)

    def multiply(self, panel: Buffer, scales: Buffer, rows: Sequence[Expr]) -> list[list[Expr]]:
        lanes = self._isa.lanes
        sums = [[Cell(zero(lanes)) for _ in range(2)] for _ in rows]
        with serial(tirx.const(GROUP * self._groups // 4, "int64")) as quarter:
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

    Shapes as in `MatVec`. There must be at least `tile_rows` rows and `strip_columns` columns.
    """

    def __init__(self, isa: Isa, x: Buffer, rows: Expr, weights: Buffer, scales: Buffer, groups: int) -> None:
        self._isa, self._weights, self._scales = isa, weights, scales
        self._groups, self._rows = groups, rows
        self._method = (_Floats if isa.dot is Dot.FLOAT else _Integers)(isa, x, rows, groups)

    def run(self, columns: int, blocks: Sequence[int], finish: Finish) -> None:
        """As `MatVec.run`."""
        lanes, height = self._isa.lanes, tile_rows(self._isa)
        width = strip_columns(self._isa, len(blocks))
        starts = [b + i for b in blocks for i in range(0, width, lanes)]
        with parallel(tirx.const(-(-columns // width), "int64")) as strip:
            first = bind(tirx.min(strip * width, tirx.const(columns - width, "int64")))
            panel, scales = self._method.strip(), scratch((2, self._groups, lanes))
            for v, start in enumerate(starts):
                self._unpack(panel, scales, v, first + start, width)
            with serial((self._rows + (height - 1)) // height) as tile:
                top = bind(tirx.min(tile * height, self._rows - height))
                rows = [bind(top + i) for i in range(height)]
                for m, sums in zip(rows, self._method.multiply(panel, scales, rows), strict=True):
                    for i in range(width // lanes):
                        finish(m, first + i * lanes, sums[i :: width // lanes])

    def _unpack(self, panel: Buffer, scales: Buffer, v: int, first: Expr, width: int) -> None:
        """Rows of the weights become lanes, a group at a time.

        The next strip's weights are sent for meanwhile: the processor cannot guess that many streams.
        """
        lanes = self._isa.lanes
        with serial(tirx.const(self._groups, "int64")) as g:
            halves = scratch((lanes,), "float16")
            for i in range(lanes):
                store(halves, load(self._scales, first + i, g), i)
            scale = bind(to_float(self._isa, load(halves, 0, lanes=lanes)))
            store(scales, scale, v, g, 0)
            for buffer, place, line in ((self._weights, g * WORDS, 4), (self._scales, g, 32)):
                with when(g % line == 0):  # so many groups lie in 64 bytes
                    for i in range(lanes):
                        prefetch(buffer, first + (i + width), place)
            columns = [bind(load(self._weights, first + i, g * WORDS, lanes=WORDS)) for i in range(lanes)]
            for w in range(WORDS):
                words = bind(pick(columns, [WORDS * i + w for i in range(lanes)]))
                self._method.unpack(panel, v, g, w, words, scale)
