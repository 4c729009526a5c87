"""Products with many rows, tile by tile through shared memory, by ordinary multiplications in float32.

Where the GPU has tensor cores that can be reached, `tensor_cores` is several times as fast.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from edge_router.compile.gpu.arithmetic import to_float
from edge_router.compile.gpu.threads import barrier, ceil_div, f32, launch, register, registers, shared
from edge_router.compile.gpu.weights import Finish, Units
from edge_router.compile.kernels.ir import Buffer, Expr, load, serial, store, when

TILE = 64  # rows and columns of a block; a gated product has so many of gate and of up
_THREADS = 256
_EACH = 4  # rows, and columns of each block of the matrix, of a thread
_PAD = 4


class MatMul:
    """As `matvec.MatVec`."""

    def __init__(
        self, x: Buffer, rows: Expr, units: Units, width: int, blocks: Sequence[int], finish: Finish
    ) -> None:
        self._x, self._rows, self._units = x, rows, units
        self._width, self._blocks, self._finish = width, blocks, finish
        group = units.matrix.stored.group
        self._depth = group if units.matrix.stored.bits is not None else 32

    def run(self) -> None:
        depth, inputs = self._depth, self._units.matrix.inputs
        grid = (-(-self._width // TILE), ceil_div(self._rows, TILE))
        with launch(grid, _THREADS) as (strip, tile, thread):
            x = shared((depth, TILE + _PAD))
            w = [shared((depth, TILE + _PAD)) for _ in self._blocks]
            sums = registers(len(w) * _EACH * _EACH)
            for i in range(int(sums.shape[0])):
                store(sums, f32(0.0), i)
            across, down = register(thread % (TILE // _EACH)), register(thread // (TILE // _EACH))
            with serial(-(-inputs // depth)) as step:
                self._fetch_x(x, tile, step, thread)
                for first, into in zip(self._blocks, w, strict=True):
                    self._fetch_w(into, first, strip, step, thread)
                barrier()
                with serial(depth) as i:
                    self._multiply(sums, x, w, i, across, down)
                barrier()
            for r in range(_EACH):
                for c in range(_EACH):
                    row, column = (
                        register(tile * TILE + down * _EACH + r),
                        register(strip * TILE + across * _EACH + c),
                    )
                    with when(tirx.all(row < self._rows, column < self._width)):
                        places = [(b * _EACH + r) * _EACH + c for b in range(len(w))]
                        self._finish(row, column, [sums[place] for place in places])

    def _multiply(self, sums: Buffer, x: Buffer, w: list[Buffer], i: Expr, across: Expr, down: Expr) -> None:
        rows = registers(_EACH)
        store(rows, load(x, i, down * _EACH, lanes=_EACH), 0)
        for b, block in enumerate(w):
            columns = registers(_EACH)
            store(columns, load(block, i, across * _EACH, lanes=_EACH), 0)
            for r in range(_EACH):
                for c in range(_EACH):
                    place = (b * _EACH + r) * _EACH + c
                    store(sums, sums[place] + rows[r] * columns[c], place)

    def _fetch_x(self, into: Buffer, tile: Expr, step: Expr, thread: Expr) -> None:
        """Rows and columns beyond the end: the last row again, and zeros."""
        inputs, depth = self._units.matrix.inputs, self._depth
        with serial(-(-TILE * depth // _THREADS)) as n:
            i = register(n * _THREADS + thread)
            row = register(tirx.min(tile * TILE + i // depth, self._rows - 1))
            column = register(step * depth + i % depth)
            value = to_float(load(self._x, row, tirx.min(column, inputs - 1)))
            if inputs % depth:
                value = tirx.Select(column < inputs, value, f32(0.0))
            store(into, value, i % depth, i // depth)

    def _fetch_w(self, into: Buffer, first: int, strip: Expr, step: Expr, thread: Expr) -> None:
        units = self._units
        across = self._depth // units.each
        assert TILE * across % _THREADS == 0
        with serial(TILE * across // _THREADS) as n:
            i = register(n * _THREADS + thread)
            column, unit = (
                (i % TILE, i // TILE) if units.matrix.stored.transposed else (i // across, i % across)
            )
            column, unit = register(column), register(unit)
            row = first + tirx.min(strip * TILE + column, self._width - 1)
            held, scale = units.fetch(row, tirx.min(step * across + unit, units.count - 1))
            for place, (number, factor) in enumerate(units.numbers(held)):
                value = number if scale is None else number * (scale * f32(factor))
                store(into, value, unit * units.each + place, column)
