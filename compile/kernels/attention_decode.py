"""Attention of one new token of each sequence to its tokens in the KV cache.

Work is shared out by sequence, key-value head and run of pages; the runs' partial answers are merged at the
end, so that one long conversation occupies all threads. A page's 16 scores of one query head are one set of
lanes: products are summed over channels by adding while transposing, and each key and value that is read
serves every query head of its group.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

from tvm import tirx

from edge_router.compile.kernels.attention import Arguments, Paged, Source, bent, cached_tokens, earliest
from edge_router.compile.kernels.ir import (
    Buffer,
    Cell,
    Expr,
    bind,
    const,
    kernel,
    load,
    parallel,
    pick,
    scratch,
    serial,
    settle,
    splat,
    store,
    when,
    zero,
)
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.shapes import PAGE, Heads
from edge_router.compile.kernels.vectors import (
    LOG2_E,
    MASKED,
    exp2,
    from_float,
    largest,
    log2,
    to_float,
    total,
    totals,
)
from edge_router.records import dataclass

RUN = 8  # pages of one task
TILE_REGISTERS = 16  # of sums, while a page's values are added


@dataclass(frozen=True, slots=True)
class Partial:
    """What the tasks leave behind: [task, head of the group] and its sums over values [.., channels]."""

    sums: Buffer
    peaks: Buffer
    totals: Buffer

    @classmethod
    def make(cls, tasks: Expr, heads: Heads) -> Partial:
        return cls(
            scratch((tasks, heads.group, heads.size)),
            scratch((tasks, heads.group)),
            scratch((tasks, heads.group)),
        )


class Page:
    """The state of one task: the queries of one group of heads on their way through a run of pages."""

    def __init__(self, isa: Isa, heads: Heads, partial: Partial, task: Expr) -> None:
        self._isa, self._heads, self._partial, self._task = isa, heads, partial, task
        self._queries = scratch((heads.group, heads.size))
        self._weights = scratch((heads.group, PAGE))
        self._blocks = heads.size // isa.lanes

        with serial(heads.group) as g:
            with serial(self._blocks) as i:
                store(partial.sums, zero(isa.lanes), task, g, i * isa.lanes)
            store(partial.peaks, const(MASKED, "float32"), task, g)
            store(partial.totals, const(0.0, "float32"), task, g)

    def look(self, queries: Buffer, sequence: Expr, head: Expr, scale: Expr) -> None:
        """The queries from now on."""
        lanes = self._isa.lanes
        factor = bind(splat(scale * const(LOG2_E, "float32"), lanes))
        with serial(self._heads.group) as g, serial(self._blocks) as i:
            query = load(queries, sequence, head * self._heads.group + g, i * lanes, lanes=lanes)
            store(self._queries, to_float(self._isa, query) * factor, g, i * lanes)

    def attend(self, source: Source, first: Expr, count: Expr, begin: Expr | None = None) -> None:
        """Take in 16 tokens from `first` on; those from `count` on and before `begin` are masked."""
        with serial(PAGE // self._isa.lanes) as vector:
            self._score(source, first, bind(vector * self._isa.lanes))
        with serial(self._heads.group) as g:
            self._soften(g, first, count, begin)
        self._add_values(source, first, count - 1)

    def _score(self, source: Source, first: Expr, start: Expr) -> None:
        """Each head's scores of as many tokens as there are lanes."""
        lanes, group = self._isa.lanes, self._heads.group
        products: list[list[Expr]] = [[] for _ in range(group)]
        for token in range(lanes):
            place = bind(first + start + token)
            sums = [Cell(zero(lanes)) for _ in range(group)]
            with serial(self._blocks) as i:
                key = bind(to_float(self._isa, source.key(place, i * lanes, lanes)))
                for g, cell in enumerate(sums):
                    cell.add(key * load(self._queries, g, i * lanes, lanes=lanes))
            for column, cell in zip(products, sums, strict=True):
                column.append(cell.value)
        for g, column in enumerate(products):
            store(self._weights, totals(column), g, start)

    def _soften(self, g: Expr, first: Expr, count: Expr, begin: Expr | None) -> None:
        lanes, task = self._isa.lanes, self._task
        steps = tirx.Ramp(tirx.const(0, "int32"), tirx.const(1, "int32"), lanes)
        masked = const(MASKED, "float32", lanes)
        scores = []
        for start in range(0, PAGE, lanes):
            score = bent(self._heads, load(self._weights, g, start, lanes=lanes))
            tokens = steps + splat(first + start, lanes)
            if begin is not None:
                score = tirx.Select(tokens < splat(begin, lanes), masked, score)
            seen = tokens < splat(count, lanes)
            scores.append(bind(tirx.Select(seen, score, masked)))
        before = bind(load(self._partial.peaks, task, g))
        peak = bind(tirx.max(before, largest(reduce(tirx.max, scores))))
        with when(peak > before):  # rarely, after the first pages
            shrink = bind(exp2(splat(before - peak, lanes)))
            with serial(self._blocks) as i:
                sums = load(self._partial.sums, task, g, i * lanes, lanes=lanes)
                store(self._partial.sums, sums * shrink, task, g, i * lanes)
            store(self._partial.totals, load(self._partial.totals, task, g) * pick([shrink], [0]), task, g)
            store(self._partial.peaks, peak, task, g)
        weights = [bind(exp2(score - splat(peak, lanes))) for score in scores]
        added = load(self._partial.totals, task, g) + total(reduce(add, weights))
        store(self._partial.totals, added, task, g)
        for start, weight in zip(range(0, PAGE, lanes), weights, strict=True):
            store(self._weights, weight, g, start)

    def _add_values(self, source: Source, first: Expr, last: Expr) -> None:
        """Beyond `last` lies what memory happened to hold, maybe no number at all: that times 0 is not 0."""
        lanes, group, task = self._isa.lanes, self._heads.group, self._task
        width = max(1, TILE_REGISTERS // group)
        while self._blocks % width:
            width -= 1
        with serial(self._blocks // width) as step:
            channels = [bind((step * width + i) * lanes) for i in range(width)]
            cells = [
                [Cell(load(self._partial.sums, task, g, channel, lanes=lanes)) for channel in channels]
                for g in range(group)
            ]
            with serial(PAGE) as token:
                place = bind(tirx.min(first + token, last))
                values = [
                    bind(to_float(self._isa, source.value(place, channel, lanes))) for channel in channels
                ]
                for g, row in enumerate(cells):
                    weight = bind(splat(load(self._weights, g, token), lanes))
                    for cell, value in zip(row, values, strict=True):
                        cell.add(value * weight)
            for g, row in enumerate(cells):
                for cell, channel in zip(row, channels, strict=True):
                    store(self._partial.sums, cell.value, task, g, channel)


def decode(isa: Isa, heads: Heads) -> Any:
    with kernel("attention_decode") as k:
        a = Arguments(k, heads)
        queries, pages = a.queries(one_each=True), a.pages()
        page_starts, numbers = a.starts("page_indptr"), a.integers("page_values", k.size(32))
        last_page = a.integers("length_info", a.batch)
        starts, positions = (a.integers(name, a.batch) for name in ("k_rope_pos_offset", "q_rope_position"))
        results = a.results(one_each=True)
        scale = a.rotary()

        longest = Cell(const(0, "int32"))
        with serial(a.batch) as sequence:
            longest.set(
                tirx.max(longest.value, load(page_starts, sequence + 1) - load(page_starts, sequence))
            )
        runs = bind(tirx.max((longest.value + (RUN - 1)) // RUN, 1))
        tasks = settle(a.batch * heads.key_value * runs)
        partial = Partial.make(tasks, heads)
        with parallel(tasks) as task:
            sequence, head = bind(task // (heads.key_value * runs)), bind(task // runs % heads.key_value)
            first, count = cached_tokens(page_starts, last_page, sequence)
            state = Page(isa, heads, partial, task)
            state.look(queries, sequence, head, tirx.abs(scale) if heads.window else scale)
            begin = None
            if heads.window:
                begin = earliest(heads, scale, load(positions, sequence), load(starts, sequence))
            page = bind(task % runs * RUN)
            here = bind(tirx.max(tirx.min((count + (PAGE - 1)) // PAGE - page, RUN), 0))
            skipped = 0 if begin is None else bind(tirx.min(tirx.max(begin // PAGE - page, 0), here))
            with serial(here - skipped) as i:
                token = bind((page + skipped + i) * PAGE)
                state.attend(Paged(pages, numbers, first, head), token, count, begin)
        merge_runs(isa, heads, partial, runs, a.batch, *results)
    return k.function


def merge_runs(
    isa: Isa,
    heads: Heads,
    partial: Partial,
    runs: Expr,
    batch: Expr,
    output: Buffer,
    lse: Buffer | None = None,
) -> None:
    lanes = isa.lanes
    with serial(batch * heads.key_value) as pair, serial(heads.group) as g:
        sequence, head = bind(pair // heads.key_value), bind(pair % heads.key_value * heads.group + g)
        peak, summed = Cell(const(MASKED, "float32")), Cell(const(0.0, "float32"))
        with serial(runs) as run:
            peak.set(tirx.max(peak.value, load(partial.peaks, pair * runs + run, g)))
        with serial(runs) as run:
            task = bind(pair * runs + run)
            share = bind(exp2(load(partial.peaks, task, g) - peak.value))
            store(partial.peaks, share, task, g)
            summed.add(load(partial.totals, task, g) * share)
        # no tokens at all: zeros, and a sum so small that merging with another kernel's answer ignores it
        divisor = bind(tirx.max(summed.value, const(1e-30, "float32")))
        with serial(heads.size // lanes) as block:
            sums = Cell(zero(lanes))
            with serial(runs) as run:
                task = bind(pair * runs + run)
                share = splat(load(partial.peaks, task, g), lanes)
                sums.add(load(partial.sums, task, g, block * lanes, lanes=lanes) * share)
            value = from_float(isa, sums.value / splat(divisor, lanes), heads.dtype)
            store(output, value, sequence, head, block * lanes)
        if lse is not None:
            store(lse, peak.value + log2(divisor), sequence, head)
