"""Attention, tile by tile: query rows against a stretch of keys at a time, softmax taken online in base 2.

A block of threads has one sequence, one key-value head and `rows` query rows: the query heads that share it,
of consecutive tokens. Eight groups of 16 threads have `rows` / 8 rows each; within a group a thread has every
16th key of a stretch when scores are made, and every 16th four channels when values are added up, so that
what belongs to a row is summed over 16 lanes of a warp. Keys and then values lie in shared memory, in
float32 like everything that is summed.

The calling convention is that of `compile.kernels.attention`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from edge_router.compile.gpu.arithmetic import capped, to_float
from edge_router.compile.gpu.threads import (
    WARP,
    Register,
    barrier,
    every,
    f32,
    over_lanes,
    register,
    registers,
    shared,
    summed,
)
from edge_router.compile.kernels.attention import Source
from edge_router.compile.kernels.ir import Buffer, Expr, load, serial, store, when
from edge_router.compile.kernels.shapes import PAGE, Heads
from edge_router.compile.kernels.vectors import LOG2_E, MASKED

THREADS = 4 * WARP
_LANES = 16  # of a row
GROUPS = THREADS // _LANES
_QUAD = 4  # channels that are read at once
_WIDE = 128  # channels of a head; larger ones get shorter stretches, for shared memory's sake

# (token of the sequence, counted as the keys are) -> whether this row may see it
Seen = Callable[[Expr], Expr]


class Tile:
    """`rows` query rows on their way through the keys. Every thread of the block must make and use it."""

    def __init__(self, heads: Heads, rows: int, thread: Expr) -> None:
        self.heads, self.rows, self._thread = heads, rows, thread
        self.each = rows // GROUPS
        self._keys = self._stretch(heads)
        self._lane, self._group = register(thread % _LANES), register(thread // _LANES)
        self._queries = shared((rows, heads.size))
        self._held = shared((self._keys, heads.size + _QUAD))  # keys, then values
        self._weights = shared((rows, self._keys + 1))
        self._quads = heads.size // _QUAD
        self._mine = -(-self._quads // _LANES)
        self._sums = registers(self.each * self._mine * _QUAD)
        for i in range(self.each * self._mine * _QUAD):
            store(self._sums, f32(0.0), i)
        self._peaks = [Register(f32(MASKED)) for _ in range(self.each)]
        self._totals = [Register(f32(0.0)) for _ in range(self.each)]

    @staticmethod
    def _stretch(heads: Heads) -> int:
        return 2 * _LANES if heads.size <= _WIDE else _LANES

    @classmethod
    def shared_bytes(cls, heads: Heads, rows: int) -> int:
        keys, float32 = cls._stretch(heads), 4
        return float32 * (rows * heads.size + keys * (heads.size + _QUAD) + rows * (keys + 1))

    def row(self, number: int) -> Expr:
        """Of the tile: this thread's `number`th."""
        return self._group * self.each + number

    def begin(self, query: Callable[[Expr, Expr], Expr], scale: Expr) -> None:
        """`query`: (row of the tile, channel) -> four numbers of it."""
        factor = tirx.Broadcast(register(scale * f32(LOG2_E)), _QUAD)
        with every(self.rows * self._quads, self._thread, THREADS) as i:
            row, quad = register(i // self._quads), register(i % self._quads)
            store(self._queries, to_float(query(row, quad * _QUAD)) * factor, row, quad * _QUAD)

    def attend(self, source: Source, first: Expr, end: Expr, seen: Sequence[Seen | None]) -> None:
        """Take in the tokens from `first` to before `end`; `seen` for each of this thread's rows."""
        count = tirx.max(end - first, 0)
        with serial((count + (self._keys - 1)) // self._keys) as stretch:
            start = register(first + stretch * self._keys)
            self._fetch(source.key, start, end)
            barrier()
            self._soften(start, end, seen)
            barrier()
            self._fetch(source.value, start, end)
            barrier()
            self._add_values()
            barrier()

    def _fetch(self, read: Callable[[Expr, Expr, int], Expr], start: Expr, end: Expr) -> None:
        """Beyond the end the last token again: what memory happens to hold there may be no number at all."""
        with every(self._keys * self._quads, self._thread, THREADS) as i:
            token, quad = register(i // self._quads), register(i % self._quads)
            place = register(tirx.min(start + token, end - 1))
            store(self._held, to_float(read(place, quad * _QUAD, _QUAD)), token, quad * _QUAD)

    def _soften(self, start: Expr, end: Expr, seen: Sequence[Seen | None]) -> None:
        """Scores, the new peak, and what each key weighs below it."""
        across = self._keys // _LANES
        scores = registers(self.each * across)
        for i in range(self.each * across):
            store(scores, f32(0.0), i)
        with serial(self._quads) as quad:
            for c in range(across):
                key = registers(_QUAD)
                store(key, load(self._held, self._lane + c * _LANES, quad * _QUAD, lanes=_QUAD), 0)
                for r in range(self.each):
                    query = registers(_QUAD)
                    store(query, load(self._queries, self.row(r), quad * _QUAD, lanes=_QUAD), 0)
                    place = r * across + c
                    products = [key[i] * query[i] for i in range(_QUAD)]
                    store(
                        scores,
                        scores[place] + (products[0] + products[1]) + (products[2] + products[3]),
                        place,
                    )
        for r, visible in enumerate(seen):
            before = register(self._peaks[r].value)
            for c in range(across):
                token = start + self._lane + c * _LANES
                score = scores[r * across + c]
                if self.heads.cap:
                    score = capped(score, self.heads.cap * LOG2_E)
                inside = (token < end) if visible is None else tirx.all(token < end, visible(token))
                store(scores, tirx.Select(inside, score, f32(MASKED)), r * across + c)
                self._peaks[r].set(tirx.max(self._peaks[r].value, scores[r * across + c]))
            self._peaks[r].set(over_lanes(self._peaks[r].value, tirx.max, self._thread, _LANES))
            added = Register(f32(0.0))
            for c in range(across):
                place = r * across + c
                weight = register(tirx.exp2(scores[place] - self._peaks[r].value))
                weight = register(tirx.Select(scores[place] > f32(MASKED), weight, f32(0.0)))
                added.add(weight)
                store(self._weights, weight, self.row(r), self._lane + c * _LANES)
            shrink = register(tirx.exp2(before - self._peaks[r].value))
            both = over_lanes(added.value, summed, self._thread, _LANES)
            self._totals[r].set(self._totals[r].value * shrink + both)
            for i in range(self._mine * _QUAD):
                place = r * self._mine * _QUAD + i
                store(self._sums, self._sums[place] * shrink, place)

    def _add_values(self) -> None:
        with serial(self._keys) as token:
            weights = [register(load(self._weights, self.row(r), token)) for r in range(self.each)]
            for part in range(self._mine):
                quad = tirx.min(self._lane + part * _LANES, self._quads - 1)
                value = registers(_QUAD)
                store(value, load(self._held, token, quad * _QUAD, lanes=_QUAD), 0)
                for r, weight in enumerate(weights):
                    for i in range(_QUAD):
                        place = (r * self._mine + part) * _QUAD + i
                        store(self._sums, self._sums[place] + weight * value[i], place)

    def result(self, number: int, write: Callable[[Expr, Expr], None], *, divided: bool = True) -> None:
        """`write`: (channel, four numbers) of this thread's `number`th row.

        A row that saw nothing becomes zeros.
        """
        divisor = register(tirx.max(self._totals[number].value, f32(1e-30)))
        for part in range(self._mine):
            quad = self._lane + part * _LANES

            def write_part(quad: Expr = quad, part: int = part) -> None:
                place = (number * self._mine + part) * _QUAD
                values = load(self._sums, place, lanes=_QUAD)
                write(quad * _QUAD, values / tirx.Broadcast(divisor, _QUAD) if divided else values)

            if self._quads % _LANES:
                with when(quad < self._quads):
                    write_part()
            else:
                write_part()

    def peak(self, number: int) -> Expr:
        return self._peaks[number].value

    def total(self, number: int) -> Expr:
        return self._totals[number].value

    def logarithm(self, number: int) -> Expr:
        """Of the row's softmax sum; so small where it saw nothing that it adds nothing to another's."""
        return self._peaks[number].value + tirx.log2(tirx.max(self._totals[number].value, f32(1e-30)))

    def is_first_lane(self) -> Expr:
        return self._lane == 0


def cached_tokens(starts: Buffer, last_page: Buffer, sequence: Expr) -> tuple[Expr, Expr]:
    """A sequence's first place in the list of page numbers, and how many of its tokens are in the cache."""
    first, end = register(load(starts, sequence)), register(load(starts, sequence + 1))
    full = (end - first - 1) * PAGE + load(last_page, sequence)
    return first, register(tirx.if_then_else(end > first, full, 0))


def earliest(heads: Heads, scale: Expr, position: Expr, start: Expr) -> Expr:
    """The first token that a query at `position` sees, counted from `start`, which is token 0's position."""
    if not heads.window:
        return tirx.const(-(1 << 30), "int32")
    behind = position - (heads.window - 1) - start
    return register(tirx.if_then_else(scale < f32(0.0), behind, -(1 << 30)))
