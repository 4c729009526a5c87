"""Products with many rows on NVIDIA's tensor cores (sm_80 and later), by the instruction mma.sync.

A block makes a tile of `ROWS` x `COLUMNS` results step by step along the inner dimension: weights are
unpacked and, like x, rounded to float16 in shared memory; sums are float32. While one step is multiplied
the next is fetched into registers. Each of 8 warps has a part of 64 x 32, in pieces of 16 x 8 that one
instruction adds up.

Which numbers of a piece a thread holds is the instruction's definition (PTX ISA, "Matrix fragments for
mma.m16n8k16 with floating point type"): with g = lane / 4 and t = lane % 4, of A rows g and g + 8 at columns
2t, 2t + 1, 2t + 8, 2t + 9; of B the same places with rows for columns; of the sums rows g and g + 8 at
columns 2t and 2t + 1. Two float16 lie in each uint32 of shared memory, and rows of it are so long that the
32 words that a warp reads at once lie in different banks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm
from typing import Any

from tvm import tirx
from tvm.backend.cuda.op import cuda_func_call
from tvm.tirx.script import builder as T

from edge_router.compile.gpu.arithmetic import to, to_float
from edge_router.compile.gpu.threads import WARP, barrier, ceil_div, f32, launch, register, registers, shared
from edge_router.compile.gpu.weights import Finish, Units
from edge_router.compile.kernels.ir import Buffer, Expr, bits, load, serial, store, when

ROWS, COLUMNS = 128, 128  # a gated product has 64 columns of gate and 64 of up
_WARPS_DOWN, _WARPS_ACROSS = 2, 4
_THREADS = WARP * _WARPS_DOWN * _WARPS_ACROSS
_DEPTH = 16  # of one instruction
_PIECE_ROWS, _PIECE_COLUMNS = 16, 8
_DOWN, _ACROSS = ROWS // _WARPS_DOWN // _PIECE_ROWS, COLUMNS // _WARPS_ACROSS // _PIECE_COLUMNS
_PAD = 4  # words
_QUAD = 4  # numbers of x that are fetched at once

MULTIPLY = "edge_router_mma"
SOURCE = f"""
static __device__ __forceinline__ void {MULTIPLY}(float* sums, unsigned a0, unsigned a1, unsigned a2,
                                                   unsigned a3, unsigned b0, unsigned b1) {{
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{{%0,%1,%2,%3}}, {{%4,%5,%6,%7}}, {{%8,%9}}, {{%0,%1,%2,%3}};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}}
"""


class TensorCores:
    """As `matvec.MatVec`."""

    def __init__(
        self, x: Buffer, rows: Expr, units: Units, width: int, blocks: Sequence[int], finish: Finish
    ) -> None:
        self._x, self._rows, self._units = x, rows, units
        self._width, self._blocks, self._finish = width, blocks, finish
        stored = units.matrix.stored
        self._depth = lcm(2 * _DEPTH, stored.group if stored.bits is not None else 1)
        if self._depth > 5 * _DEPTH:  # groups of 40
            self._depth //= 2
        self._columns = COLUMNS // len(blocks)

    def run(self) -> None:
        grid = (-(-self._width // self._columns), ceil_div(self._rows, ROWS))
        with launch(grid, _THREADS) as (strip, tile, thread):
            words = self._depth // 2 + _PAD
            x, w = shared((ROWS, words), "uint32"), shared((COLUMNS, words), "uint32")
            sums = registers(_DOWN * _ACROSS * 4)
            for i in range(_DOWN * _ACROSS * 4):
                store(sums, f32(0.0), i)
            fetched = _Fetched(self, strip, tile, thread)
            steps = -(-self._units.matrix.inputs // self._depth)
            fetched.fetch(tirx.const(0, "int32"))
            with serial(steps) as step:
                fetched.put(x, w)
                barrier()
                with when(step + 1 < steps):
                    fetched.fetch(step + 1)
                for inner in range(0, self._depth, _DEPTH):
                    self._multiply(sums, x, w, inner // 2, thread)
                barrier()
            self._store(sums, strip, tile, thread)

    def _multiply(self, sums: Buffer, x: Buffer, w: Buffer, first: int, thread: Expr) -> None:
        warp, g, t = thread // WARP, thread % WARP // 4, thread % 4
        down, across = warp // _WARPS_ACROSS, warp % _WARPS_ACROSS
        b = []
        for piece in range(_ACROSS):
            row = self._w_row(across, piece) + g
            b.append([register(load(w, row, first + t + half)) for half in (0, 4)])
        for piece in range(_DOWN):
            row = down * (ROWS // _WARPS_DOWN) + piece * _PIECE_ROWS + g
            places = [(row, 0), (row + 8, 0), (row, 4), (row + 8, 4)]
            a = [register(load(x, place, first + t + half)) for place, half in places]
            for other in range(_ACROSS):
                at = tirx.address_of(sums[(piece * _ACROSS + other) * 4])
                T.evaluate(cuda_func_call(MULTIPLY, at, *a, *b[other], source_code=SOURCE))

    def _w_row(self, across: Expr, piece: int) -> Expr:
        """Where in shared memory the columns of a warp's piece begin: each block has its part of them."""
        each = _ACROSS // len(self._blocks)
        block, within = divmod(piece, each)
        return block * self._columns + (across * each + within) * _PIECE_COLUMNS

    def _store(self, sums: Buffer, strip: Expr, tile: Expr, thread: Expr) -> None:
        warp, g, t = thread // WARP, thread % WARP // 4, thread % 4
        down, across = warp // _WARPS_ACROSS, warp % _WARPS_ACROSS
        each = _ACROSS // len(self._blocks)
        for piece in range(_DOWN):
            for half in range(2):
                row = tile * ROWS + down * (ROWS // _WARPS_DOWN) + piece * _PIECE_ROWS + half * 8 + g
                row = register(row)
                for within in range(each):
                    for i in range(2):
                        column = register(
                            strip * self._columns + (across * each + within) * _PIECE_COLUMNS + 2 * t + i
                        )
                        with when(tirx.all(row < self._rows, column < self._width)):
                            found = [
                                sums[(piece * _ACROSS + block * each + within) * 4 + half * 2 + i]
                                for block in range(len(self._blocks))
                            ]
                            self._finish(row, column, found)


class _Fetched:
    """A thread's share of one step, on its way from memory to shared memory."""

    def __init__(self, product: TensorCores, strip: Expr, tile: Expr, thread: Expr) -> None:
        p = self._product = product
        self._strip, self._tile, self._thread = strip, tile, thread
        self._quads = p._depth // _QUAD
        self._units = p._depth // p._units.each
        self._x = registers(ROWS * self._quads // _THREADS * _QUAD)
        self._count = COLUMNS * self._units // _THREADS
        stored = p._units.matrix.stored
        if stored.bits is None:
            self._words = registers(self._count * p._units.each, stored.dtype)
        else:
            self._words, self._scales = registers(self._count, "uint32"), registers(self._count)

    def _x_place(self, n: int) -> tuple[Expr, Expr]:
        """Row and quad."""
        i = self._thread + n * _THREADS
        return i // self._quads, i % self._quads

    def _w_place(self, n: int) -> tuple[Expr, Expr]:
        """Row of shared memory and unit."""
        i = self._thread + n * _THREADS
        if self._product._units.matrix.stored.transposed:
            return i % COLUMNS, i // COLUMNS
        return i // self._units, i % self._units

    def fetch(self, step: Expr) -> None:
        p = self._product
        inputs, units = p._units.matrix.inputs, p._units
        for n in range(ROWS * self._quads // _THREADS):
            row, quad = self._x_place(n)
            row = tirx.min(self._tile * ROWS + row, p._rows - 1)
            quad, last = register(step * self._quads + quad), inputs // _QUAD - 1
            place = register(tirx.min(quad, last)) if inputs % p._depth else quad
            value = to_float(load(p._x, row, place * _QUAD, lanes=_QUAD))
            if inputs % p._depth:
                inside = tirx.Select(quad <= last, f32(1.0), f32(0.0))
                value = value * tirx.Broadcast(inside, _QUAD)
            store(self._x, value, n * _QUAD)
        for n in range(self._count):
            row, unit = self._w_place(n)
            held, scale = units.fetch(self._row(row), tirx.min(step * self._units + unit, units.count - 1))
            store(self._words, held, n * int(held.ty.dtype.lanes))
            if scale is not None:
                store(self._scales, scale, n)

    def _row(self, row: Expr) -> Expr:
        """Of the matrix, for one of shared memory."""
        p = self._product
        block, column = row // p._columns, row % p._columns
        column = tirx.min(self._strip * p._columns + column, p._width - 1)
        return column if len(p._blocks) == 1 else block * p._blocks[1] + column

    def put(self, x: Buffer, w: Buffer) -> None:
        for n in range(ROWS * self._quads // _THREADS):
            row, quad = self._x_place(n)
            for i in range(0, _QUAD, 2):
                pair = load(self._x, n * _QUAD + i, lanes=2)
                store(x, bits(to(pair, "float16"), "uint32"), row, quad * (_QUAD // 2) + i // 2)
        for n in range(self._count):
            row, unit = self._w_place(n)
            values = self._values(n)
            for i in range(0, len(values), 2):
                store(w, _packed(values[i], values[i + 1]), row, unit * (len(values) // 2) + i // 2)

    def _values(self, n: int) -> list[Expr]:
        units = self._product._units
        if units.matrix.stored.bits is None:
            held = load(self._words, n * units.each, lanes=units.each)
            return [number for number, _ in units.numbers(held)]
        numbers = units.numbers(self._words[n])
        scaled = {factor: register(self._scales[n] * f32(factor)) for factor in {f for _, f in numbers}}
        return [number * scaled[factor] for number, factor in numbers]


def _packed(low: Expr, high: Expr) -> Any:
    """Two numbers as float16 in one word."""
    pair = registers(2)
    store(pair, low, 0)
    store(pair, high, 1)
    return bits(to(load(pair, 0, lanes=2), "float16"), "uint32")
