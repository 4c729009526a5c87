"""Attention of many new tokens: to one another (`fresh`) and to those in the KV cache (`cached`).

A vector's lanes are query rows: the query heads that share a key-value head, of consecutive tokens. So
scores, maxima, sums and results are all plain vector arithmetic with keys and values broadcast, and nothing
is ever summed across lanes. Rows are transposed once when a tile begins and once when it ends.

The last tile is padded by repeating its last row; keys beyond the end repeat the last key and are masked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from edge_router.compile.kernels.attention import (
    Arguments,
    Fresh,
    Paged,
    Source,
    cached_tokens,
    earliest,
    softcap,
)
from edge_router.compile.kernels.ir import (
    Buffer,
    Cell,
    Expr,
    bind,
    cast,
    const,
    kernel,
    load,
    parallel,
    pick,
    scratch,
    serial,
    splat,
    store,
    when,
    zero,
)
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.shapes import Heads
from edge_router.compile.kernels.vectors import LOG2_E, MASKED, exp2, from_float, log2, to_float, transposed
from edge_router.records import dataclass

VECTORS = 2  # of query rows in a tile
KEYS = 32  # tokens of one block: their keys, values and scores stay in the innermost memory


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one sequence: row r is token r // group, head r % group of the key-value head's heads."""

    queries: Buffer
    first_token: Expr
    tokens: Expr
    head: Expr  # of keys and values
    group: int

    @property
    def count(self) -> Expr:
        return self.tokens * self.group

    def place(self, row: Expr) -> tuple[Expr, Expr]:
        """Token (of the call) and query head."""
        return self.first_token + row // self.group, self.head * self.group + row % self.group


class Tile:
    """`VECTORS` vectors of query rows on their way through the keys."""

    def __init__(self, isa: Isa, heads: Heads, rows: Rows, first_row: Expr, scale: Expr) -> None:
        self._isa, self._heads, self._rows, self._first = isa, heads, rows, first_row
        width = VECTORS * isa.lanes
        self._queries = scratch((heads.size, width))
        self._keys = scratch((KEYS, heads.size))
        self._values = scratch((KEYS, heads.size))
        self._scores = scratch((KEYS, width))
        self._sums = scratch((heads.size, width))
        self._peaks = [Cell(const(MASKED, "float32", isa.lanes)) for _ in range(VECTORS)]
        self._totals = [Cell(const(1.0, "float32", isa.lanes)) for _ in range(VECTORS)]
        self.look(rows.queries, scale)
        with serial(heads.size) as d:
            for v in range(VECTORS):
                store(self._sums, zero(isa.lanes), d, v * isa.lanes)

    def look(self, queries: Buffer, scale: Expr) -> None:
        """The rows' queries from now on."""
        lanes = self._isa.lanes
        factor = bind(splat(scale * const(LOG2_E, "float32"), lanes))
        for v in range(VECTORS):
            places = []
            for i in range(lanes):
                row = bind(tirx.min(self._first + (v * lanes + i), self._rows.count - 1))
                places.append([bind(p) for p in self._rows.place(row)])
            with serial(self._heads.size // lanes) as block:
                parts = [load(queries, *place, block * lanes, lanes=lanes) for place in places]
                vectors = [bind(to_float(self._isa, part) * factor) for part in parts]
                for i, vector in enumerate(transposed(vectors)):
                    store(self._queries, vector, block * lanes + i, v * lanes)

    def tokens(self) -> list[Expr]:
        """Each lane's token, counted from the sequence's first in this call."""
        lanes = self._isa.lanes
        steps = tirx.Ramp(tirx.const(0, "int32"), tirx.const(1, "int32"), lanes)
        firsts = [self._first + v * lanes for v in range(VECTORS)]
        return [
            (splat(first, lanes) + steps) // splat(tirx.const(self._rows.group, "int32"), lanes)
            for first in firsts
        ]

    def attend(
        self, source: Source, count: Expr, ends: list[Expr],
        begins: list[Expr] | None = None, start: Expr = 0,
    ) -> None:  # fmt: skip
        """Take in `source` from `start` to before `count`; lane by lane only from `begins` to before `ends`."""
        last = count - 1
        with serial((count - start + (KEYS - 1)) // KEYS) as block:
            first = bind(start + block * KEYS)
            self._fetch(source, first, last)
            self._score()
            self._soften(first, ends, begins)
            self._gather_values()

    def _fetch(self, source: Source, first: Expr, last: Expr) -> None:
        lanes = self._isa.lanes
        with serial(KEYS) as i:
            token = bind(tirx.min(first + i, last))
            ways = ((self._keys, source.key), (self._values, source.value))
            scales = [source.scale(self._isa, which, token) for which in range(len(ways))]
            factors = [None if scale is None else bind(splat(scale, lanes)) for scale in scales]
            with serial(self._heads.size // lanes) as block:
                channel = bind(block * lanes)
                for (held, read), factor in zip(ways, factors, strict=True):
                    vector = to_float(self._isa, read(token, channel, lanes))
                    store(held, vector if factor is None else vector * factor, i, channel)

    def _height(self) -> int:
        return 8 if self._isa.registers == 32 else 4

    def _score(self) -> None:
        lanes, height = self._isa.lanes, self._height()
        with serial(KEYS // height) as step:
            first = bind(step * height)
            cells = [[Cell(zero(lanes)) for _ in range(VECTORS)] for _ in range(height)]
            with serial(self._heads.size) as d:
                queries = [bind(load(self._queries, d, v * lanes, lanes=lanes)) for v in range(VECTORS)]
                for i, row in enumerate(cells):
                    key = bind(splat(load(self._keys, first + i, d), lanes))
                    for cell, query in zip(row, queries, strict=True):
                        cell.add(key * query)
            for i, row in enumerate(cells):
                for v, cell in enumerate(row):
                    store(self._scores, cell.value, first + i, v * lanes)

    def _soften(self, first: Expr, ends: list[Expr], begins: list[Expr] | None) -> None:
        """Scores to softmax's numerators, and what was summed before to the new maximum."""
        lanes = self._isa.lanes
        for v, (peak, total_) in enumerate(zip(self._peaks, self._totals, strict=True)):
            highest = Cell(peak.value)
            with serial(KEYS) as i:
                seen = splat(first + i, lanes) < ends[v]
                score = softcap(self._heads, load(self._scores, i, v * lanes, lanes=lanes))
                masked = const(MASKED, "float32", lanes)
                if begins is not None:
                    score = tirx.Select(splat(first + i, lanes) < begins[v], masked, score)
                score = bind(tirx.Select(seen, score, masked))
                store(self._scores, score, i, v * lanes)
                highest.set(tirx.max(highest.value, score))
            shrink = bind(exp2(peak.value - highest.value))
            peak.set(highest.value)
            total_.set(total_.value * shrink)
            with serial(KEYS) as i:
                numerator = bind(exp2(load(self._scores, i, v * lanes, lanes=lanes) - peak.value))
                store(self._scores, numerator, i, v * lanes)
                total_.add(numerator)
            with serial(self._heads.size) as d:
                store(self._sums, load(self._sums, d, v * lanes, lanes=lanes) * shrink, d, v * lanes)

    def _gather_values(self) -> None:
        lanes, height = self._isa.lanes, self._height()
        with serial(self._heads.size // height) as step:
            first = bind(step * height)
            cells = [
                [Cell(load(self._sums, first + i, v * lanes, lanes=lanes)) for v in range(VECTORS)]
                for i in range(height)
            ]
            with serial(KEYS) as key:
                scores = [bind(load(self._scores, key, v * lanes, lanes=lanes)) for v in range(VECTORS)]
                for i, row in enumerate(cells):
                    value = bind(splat(load(self._values, key, first + i), lanes))
                    for cell, score in zip(row, scores, strict=True):
                        cell.add(value * score)
            for i, row in enumerate(cells):
                for v, cell in enumerate(row):
                    store(self._sums, cell.value, first + i, v * lanes)

    def finish(self, output: Buffer, lse: Buffer | None = None) -> None:
        lanes = self._isa.lanes
        for v in range(VECTORS):
            inverse = bind(const(1.0, "float32", lanes) / self._totals[v].value)
            first = bind(self._first + v * lanes)
            with serial(self._heads.size // lanes) as block:
                channels = [
                    bind(load(self._sums, block * lanes + i, v * lanes, lanes=lanes) * inverse)
                    for i in range(lanes)
                ]
                for i, vector in enumerate(transposed(channels)):
                    with when(first + i < self._rows.count):
                        value = from_float(self._isa, vector, self._heads.dtype)
                        store(output, value, *self._rows.place(first + i), block * lanes)
            if lse is None:
                continue
            logarithms = bind(self._peaks[v].value + log2(self._totals[v].value))
            for i in range(lanes):
                with when(first + i < self._rows.count):
                    store(lse, pick([logarithms], [i]), *self._rows.place(first + i))


# (sequence, its rows' key-value head) -> the keys' source and how many of its tokens count
Find = Callable[[Expr, Expr], tuple[Source, Expr]]


def _run(
    isa: Isa, heads: Heads, a: Arguments, queries: Buffer, starts: Buffer, results: tuple[Buffer, Buffer],
    scale: Expr, causal: Expr, find: Find, positions: tuple[Buffer, Buffer],
) -> None:  # fmt: skip
    """`positions` are those of the queries and of each sequence's first key."""
    width = VECTORS * isa.lanes
    with serial(a.batch) as sequence:
        first = bind(load(starts, sequence))
        tokens = bind(load(starts, sequence + 1) - first)
        tiles = bind((tokens * heads.group + (width - 1)) // width)
        with parallel(tiles * heads.key_value) as task:
            head, turn = bind(task % heads.key_value), bind(task // heads.key_value)
            # later tiles see more keys: first and last in turn, so that equal runs of tasks are equal work
            number = bind(tirx.Select(turn % 2 == 0, turn // 2, tiles - 1 - turn // 2))
            rows = Rows(queries, first, tokens, head, heads.group)
            source, cached = find(sequence, head)
            tile = Tile(isa, heads, rows, bind(number * width), tirx.abs(scale) if heads.window else scale)
            own = tile.tokens()
            limit = [cast(splat(cached, isa.lanes), "int32") for _ in own]
            past = [splat(cached - tokens + 1, isa.lanes) + token for token in own]
            ends = [
                bind(tirx.Select(splat(causal > 0, isa.lanes), p, n))
                for p, n in zip(past, limit, strict=True)
            ]
            last = tirx.min(number * width + (width - 1), rows.count - 1) // heads.group
            seen = bind(tirx.if_then_else(causal > 0, tirx.min(cached, cached - tokens + last + 1), cached))
            begins, start = None, 0
            if heads.window:
                begin = earliest(heads, scale, load(positions[0], first), load(positions[1], sequence))
                begins = [bind(splat(begin, isa.lanes) + token) for token in own]
                start = bind(tirx.max(begin + number * width // heads.group, 0))
            tile.attend(source, seen, ends, begins, start)
            tile.finish(*results)


def fresh(isa: Isa, heads: Heads) -> Any:
    """Among the tokens of this call; several sequences lie end to end ("ragged")."""
    with kernel("attention_fresh") as k:
        a = Arguments(k, heads)
        kv_tokens = k.size(32)
        queries, starts = a.queries(), a.starts("q_indptr")
        keys, values = a.keys("k", kv_tokens), a.keys("v", kv_tokens)
        kv_starts = a.starts("kv_indptr")
        positions = a.integers("q_rope_position", a.tokens), a.integers("k_rope_pos_offset", a.batch)
        results = a.results()
        causal, scale = k.scalar("causal", "int32"), a.rotary()

        def find(sequence: Expr, head: Expr) -> tuple[Source, Expr]:
            start = bind(load(kv_starts, sequence))
            return Fresh(keys, values, start, head), bind(load(kv_starts, sequence + 1) - start)

        _run(isa, heads, a, queries, starts, results, scale, causal, find, positions)
    return k.function


def cached(isa: Isa, heads: Heads) -> Any:
    """To the tokens in the KV cache's pages."""
    with kernel("attention_cached") as k:
        a = Arguments(k, heads)
        queries, starts, pages = a.queries(), a.starts("q_indptr"), a.pages()
        page_starts, numbers = a.starts("page_indptr"), a.integers("page_values", k.size(32))
        last_page = a.integers("length_info", a.batch)
        key_positions = a.integers("k_rope_pos_offset", a.batch)
        positions = a.integers("q_rope_position", a.tokens), key_positions
        results = a.results()
        causal, scale = k.scalar("causal", "int32"), a.rotary()

        def find(sequence: Expr, head: Expr) -> tuple[Source, Expr]:
            first, count = cached_tokens(page_starts, last_page, sequence)
            return Paged(pages, numbers, first, head), count

        _run(isa, heads, a, queries, starts, results, scale, causal, find, positions)
    return k.function
