"""Products with few rows: what counts is how fast the weights are read, and that each is read once.

A block of threads has `COLUMNS` columns of the result (rows of the matrix) and up to `ROWS` rows of x. Its
threads go side by side along the rows of the matrix, a unit each, so that a warp reads 128 bytes at once of
each row; what they have summed is added up at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx
from tvm.tirx.script import builder as T

from edge_router.compile.gpu.arithmetic import to_float
from edge_router.compile.gpu.threads import (
    WARP,
    barrier,
    ceil_div,
    f32,
    launch,
    over_lanes,
    register,
    registers,
    shared,
    summed,
)
from edge_router.compile.gpu.weights import Finish, Units
from edge_router.compile.kernels.ir import Buffer, Expr, load, serial, store, when

COLUMNS = 4
ROWS = 4
_WARPS = 4


class MatVec:
    """`blocks` are the first rows, within the matrix, of what is multiplied side by side: gate and up."""

    def __init__(
        self, x: Buffer, rows: Expr, units: Units, width: int, blocks: Sequence[int], finish: Finish
    ) -> None:
        self._x, self._rows, self._units = x, rows, units
        self._width, self._blocks, self._finish = width, blocks, finish
        self._tile = min(ROWS, rows) if isinstance(rows, int) else ROWS
        self._threads = WARP * min(_WARPS, -(-units.count // WARP))

    def run(self) -> None:
        units, threads = self._units, self._threads
        grid = (-(-self._width // COLUMNS), ceil_div(self._rows, self._tile))
        with launch(grid, threads) as (strip, tile, thread):
            sums = registers(self._tile * len(self._blocks) * COLUMNS)
            for i in range(int(sums.shape[0])):
                store(sums, f32(0.0), i)
            with serial(-(-units.count // threads)) as step:
                unit = register(step * threads + thread)
                if units.count % threads:
                    with when(unit < units.count):
                        self._add(sums, strip, tile, unit)
                else:
                    self._add(sums, strip, tile, unit)
            self._share(sums, strip, tile, thread)

    def _row(self, tile: Expr, m: int) -> Expr:
        """Beyond the last row it is read again, and what comes of it is dropped."""
        row = tile * self._tile + m
        return row if isinstance(self._rows, int) and self._rows <= self._tile else self._inside(row)

    def _inside(self, row: Expr) -> Expr:
        return tirx.min(row, self._rows - 1)

    def _add(self, sums: Buffer, strip: Expr, tile: Expr, unit: Expr) -> None:
        units, rows = self._units, self._tile
        held = []
        for first in self._blocks:
            for c in range(COLUMNS):
                column = tirx.min(strip * COLUMNS + c, self._width - 1)
                held.append(units.fetch(first + column, unit))
        x = registers(rows * units.each)
        for m in range(rows):
            self._fetch_x(x, m * units.each, self._row(tile, m), unit)
        for place, (word, scale) in enumerate(held):
            numbers = units.numbers(word)
            parts = registers(rows)
            for i, (number, factor) in enumerate(numbers):
                number = register(number)
                for m in range(rows):
                    value = x[m * units.each + i]
                    if place == 0 and factor != 1.0:  # once for all columns
                        store(x, value * f32(factor), m * units.each + i)
                    product = number * value
                    store(parts, product if i == 0 else parts[m] + product, m)
            for m in range(rows):
                part = parts[m] if scale is None else parts[m] * scale
                store(sums, sums[place * rows + m] + part, place * rows + m)

    def _fetch_x(self, into: Buffer, place: int, row: Expr, unit: Expr) -> None:
        units, columns = self._units, self._units.matrix.inputs
        if not units.whole:
            for i in range(units.each):
                at = unit * units.each + i
                inside = tirx.if_then_else(at < columns, to_float(load(self._x, row, at)), f32(0.0))
                store(into, inside, place + i)
            return
        lanes = 4 if units.each % 4 == 0 else 2
        for i in range(0, units.each, lanes):
            values = load(self._x, row, unit * units.each + i, lanes=lanes)
            T.buffer_store(into, to_float(values), [tirx.Ramp(tirx.const(place + i, "int32"), 1, lanes)])

    def _share(self, sums: Buffer, strip: Expr, tile: Expr, thread: Expr) -> None:
        """Add up what the threads have, and hand each result to one of them."""
        count, warps = int(sums.shape[0]), self._threads // WARP
        parts = shared((warps, count))
        for i in range(count):
            value = over_lanes(sums[i], summed, thread)
            with when(thread % WARP == 0):
                store(parts, value, thread // WARP, i)
        barrier()
        results = self._tile * COLUMNS
        with when(thread < results):
            c, m = thread // self._tile, thread % self._tile
            column, row = register(strip * COLUMNS + c), register(tile * self._tile + m)
            with when(tirx.all(column < self._width, row < self._rows)):
                found = []
                for block in range(len(self._blocks)):
                    place = (block * COLUMNS + c) * self._tile + m
                    total = parts[0, place]
                    for warp in range(1, warps):
                        total = total + parts[warp, place]
                    found.append(register(total))
                self._finish(row, column, found)
