"""Attention of one new token of each sequence to its tokens in the KV cache.

Work is shared out by sequence, key-value head and run of pages; the runs' partial answers are merged at the
end, so that one long conversation occupies all threads. A page's 16 scores of one query head are one set of
lanes: products are summed over channels by adding while transposing, and each key and value that is read
serves every query head of its group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edge_router.compile.kernels.attention import PAGE, Arguments, Heads, Paged, Source, cached_tokens
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

    def begin(self, queries: Buffer, sequence: Expr, head: Expr, scale: Expr) -> None:
        lanes = self._isa.lanes
        factor = bind(splat(scale * const(LOG2_E, "float32"), lanes))
        for g in range(self._heads.group):
            for i in range(self._blocks):
                query = load(queries, sequence, head * self._heads.group + g, i * lanes, lanes=lanes)
                store(self._queries, to_float(self._isa, query) * factor, g, i * lanes)
                store(self._partial.sums, zero(lanes), self._task, g, i * lanes)
            store(self._partial.peaks, const(MASKED, "float32"), self._task, g)
            store(self._partial.totals, const(0.0, "float32"), self._task, g)

    def attend(self, source: Source, first: Expr, count: Expr) -> None:
        """Take in 16 tokens from `first` on; those from `count` on are masked."""
        scores = self._scores(source, first)
        for g, vectors in enumerate(scores):
            self._soften(g, vectors, first, count)
        self._add_values(source, first)

    def _scores(self, source: Source, first: Expr) -> list[list[Expr]]:
        """For each head of the group its scores of the page, in vectors of lanes."""
        lanes = self._isa.lanes
        found: list[list[Expr]] = [[] for _ in range(self._heads.group)]
        for start in range(0, PAGE, lanes):
            products: list[list[Expr]] = [[] for _ in range(self._heads.group)]
            for token in range(start, start + lanes):
                keys = [
                    bind(to_float(self._isa, source.key(first + token, i * lanes, lanes)))
                    for i in range(self._blocks)
                ]
                for g, column in enumerate(products):
                    sums = keys[0] * load(self._queries, g, 0, lanes=lanes)
                    for i in range(1, self._blocks):
                        sums = sums + keys[i] * load(self._queries, g, i * lanes, lanes=lanes)
                    column.append(bind(sums))
            for g, column in enumerate(products):
                found[g].append(bind(totals(column)))
        return found

    def _soften(self, g: int, scores: list[Expr], first: Expr, count: Expr) -> None:
        lanes, task = self._isa.lanes, self._task
        steps = tirx.Ramp(tirx.const(0, "int32"), tirx.const(1, "int32"), lanes)
        masked = const(MASKED, "float32", lanes)
        scores = [
            bind(tirx.Select(steps + splat(first + start, lanes) < splat(count, lanes), score, masked))
            for start, score in zip(range(0, PAGE, lanes), scores, strict=True)
        ]
        highest = scores[0]
        for score in scores[1:]:
            highest = tirx.max(highest, score)
        before = bind(load(self._partial.peaks, task, g))
        peak = bind(tirx.max(before, largest(highest)))
        with when(peak > before):  # rarely, after the first pages
            shrink = bind(exp2(splat(before - peak, lanes)))
            for i in range(self._blocks):
                sums = load(self._partial.sums, task, g, i * lanes, lanes=lanes)
                store(self._partial.sums, sums * shrink, task, g, i * lanes)
            store(self._partial.totals, load(self._partial.totals, task, g) * pick([shrink], [0]), task, g)
            store(self._partial.peaks, peak, task, g)
        weights = [bind(exp2(score - splat(peak, lanes))) for score in scores]
        added = weights[0]
        for weight in weights[1:]:
            added = added + weight
        store(self._partial.totals, load(self._partial.totals, task, g) + total(added), task, g)
        for start, weight in zip(range(0, PAGE, lanes), weights, strict=True):
            store(self._weights, weight, g, start)

    def _add_values(self, source: Source, first: Expr) -> None:
        lanes, group, task = self._isa.lanes, self._heads.group, self._task
        step = max(1, TILE_REGISTERS // group)
        for start in range(0, self._blocks, step):
            blocks = range(start, min(start + step, self._blocks))
            cells = {
                (g, i): Cell(load(self._partial.sums, task, g, i * lanes, lanes=lanes))
                for g in range(group)
                for i in blocks
            }
            for token in range(PAGE):
                weights = [bind(splat(load(self._weights, g, token), lanes)) for g in range(group)]
                for i in blocks:
                    value = bind(to_float(self._isa, source.value(first + token, i * lanes, lanes)))
                    for g, weight in enumerate(weights):
                        cells[g, i].add(value * weight)
            for (g, i), cell in cells.items():
                store(self._partial.sums, cell.value, task, g, i * lanes)


def decode(isa: Isa, heads: Heads) -> Any:
    with kernel("attention_decode") as k:
        a = Arguments(k, heads)
        queries, pages = a.queries(one_each=True), a.pages()
        page_starts, numbers = a.starts("page_indptr"), a.integers("page_values", k.size(32))
        last_page = a.integers("length_info", a.batch)
        a.integers("k_rope_pos_offset", a.batch)
        a.integers("q_rope_position", a.batch)
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
            state.begin(queries, sequence, head, scale)
            page = bind(task % runs * RUN)
            here = bind(tirx.max(tirx.min((count + (PAGE - 1)) // PAGE - page, RUN), 0))
            with serial(here) as i:
                token = bind((page + i) * PAGE)
                state.attend(Paged(pages, numbers, first, head), token, count)
        _merge(isa, heads, partial, runs, a.batch, results)
    return k.function


def _merge(
    isa: Isa, heads: Heads, partial: Partial, runs: Expr, batch: Expr, results: tuple[Buffer, Buffer]
) -> None:
    output, lse = results
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
        store(lse, peak.value + log2(divisor), sequence, head)
