"""Attention of one new token of each sequence to its tokens in the KV cache.

Work is shared out by sequence, run of pages and key-value head; the runs' partial answers are merged at the
end, so that one long conversation occupies all threads. A page's 16 scores of one query head are one set of
lanes: products are summed over channels by adding while transposing, and each key and value that is read
serves every query head of its group.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

from tvm import tirx

from edge_router.compile.kernels.attention import (
    Arguments,
    Page,
    Paged,
    Pages,
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
    settle,
    splat,
    store,
    when,
    zero,
)
from edge_router.compile.kernels.isa import Dot, Isa
from edge_router.compile.kernels.shapes import PAGE, Heads
from edge_router.compile.kernels.vectors import (
    LOG2_E,
    MASKED,
    dot,
    exp2,
    from_float,
    largest,
    log2,
    to_float,
    to_nearest,
    total,
    totals,
)
from edge_router.records import dataclass

RUN = 8  # pages of one task
TOGETHER = 4  # pages whose scores become weights at once
AHEAD = 4  # pages that are on their way: a head's part of one is too short for the processor's own guess
TILE_REGISTERS = 16  # of sums, while a page's values are added
LIMIT = 127.0 * 256  # of a query's integers: below 2**15, rounded too
MOST_CHANNELS = 512  # of a head, whose products with bytes then stay below 2**31
LEAST_LANES = 4


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


@dataclass(frozen=True, slots=True)
class Integers:
    """Queries as integers of sixteen bits, with a scale each, for keys that are bytes: products of whole numbers."""

    isa: Isa  # of whose vectors, taken as pairs of such integers, a head is a multiple
    heads: Heads
    numbers: Buffer
    scales: Buffer

    @classmethod
    def of(cls, isa: Isa, heads: Heads) -> Integers | None:
        """None where floats are as fast, or a head has too few channels."""
        isa = replace(isa.narrowed(heads.size // 2), bytes=False)
        if isa.dot is Dot.FLOAT or isa.lanes < LEAST_LANES or heads.size > MOST_CHANNELS:
            return None
        return cls(isa, heads, scratch((heads.group, heads.size), "int16"), scratch((heads.group,)))

    def take(self, queries: Buffer) -> None:
        lanes = self.isa.lanes
        starts = range(0, self.heads.size, lanes)
        with serial(self.heads.group) as g:
            numbers = [bind(load(queries, g, i, lanes=lanes)) for i in starts]
            magnitudes = [tirx.max(number, zero(lanes) - number) for number in numbers]
            peak = bind(tirx.max(largest(reduce(tirx.max, magnitudes)), const(1e-30, "float32")))
            store(self.scales, peak * const(1 / LIMIT, "float32"), g)
            by = bind(splat(const(LIMIT, "float32") / peak, lanes))
            for i, number in zip(starts, numbers, strict=True):
                store(self.numbers, cast(to_nearest(bind(number * by)), "int16"), g, i)

    def score(self, page: Page, later: Page, into: Buffer, start: Expr) -> None:
        """As `Run._score`, a vector of tokens at a time."""
        lanes, group = self.isa.lanes, self.heads.group
        with serial(PAGE // lanes) as vector:
            products: list[list[Expr]] = [[] for _ in range(group)]
            for token in range(lanes):
                place = bind(vector * lanes + token)
                later.fetch(0, place)
                sums = [Cell(const(0, "int32", lanes)) for _ in range(group)]
                for i in range(0, self.heads.size, 2 * lanes):
                    key = bind(cast(page.key(place, i, 2 * lanes), "int16"))
                    for g, cell in enumerate(sums):
                        cell.set(dot(self.isa, cell.value, key, load(self.numbers, g, i, lanes=2 * lanes)))
                for column, cell in zip(products, sums, strict=True):
                    column.append(cell.value)
            scales = bind(page.scales(self.isa, 0, vector * lanes, lanes))
            for g, column in enumerate(products):
                scale = scales * splat(load(self.scales, g), lanes)
                store(into, cast(totals(column), "float32") * scale, g, start + vector * lanes)


class Run:
    """The state of one task: the queries of one group of heads on their way through a run of pages."""

    def __init__(
        self, isa: Isa, heads: Heads, partial: Partial, task: Expr, *, rounded: bool = False
    ) -> None:
        """`rounded`: keys and values have scales."""
        self._isa, self._heads, self._partial, self._task = isa, heads, partial, task
        self._queries = scratch((heads.group, heads.size))
        self._integers = Integers.of(isa, heads) if rounded else None
        self._weights = scratch((heads.group, TOGETHER * PAGE))
        self._value_scales = scratch((TOGETHER * PAGE,)) if rounded else None
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
        if self._integers is not None:
            self._integers.take(self._queries)

    def walk(self, source: Pages, page: Expr, pages: Expr, count: Expr, begin: Expr | None = None) -> None:
        """Take in `pages` pages from `page` on; tokens from `count` on and before `begin` are masked."""
        with serial((pages + (TOGETHER - 1)) // TOGETHER) as step:
            first = bind((page + step * TOGETHER) * PAGE)
            here = bind(tirx.min(pages - step * TOGETHER, TOGETHER))
            with serial(here) as i:
                token = bind(first + i * PAGE)
                later = bind(tirx.min(token + AHEAD * PAGE, count - 1))
                self._score(source.page(token), source.page(later), bind(i * PAGE))
            with serial(self._heads.group) as g:
                self._soften(g, first, count, begin)
            self._add_values(source, first, here, count)

    def _score(self, page: Page, later: Page, start: Expr) -> None:
        """Each head's scores of a page's tokens; the keys of a later page are asked for."""
        lanes, group = self._isa.lanes, self._heads.group
        page, later = _settled(page), _settled(later)
        if self._value_scales is not None:
            for place in range(0, PAGE, lanes):
                scales = page.scales(self._isa, 1, place, lanes)
                store(self._value_scales, scales, start + place)
        if self._integers is not None:
            self._integers.score(page, later, self._weights, start)
            return
        with serial(PAGE // lanes) as vector:
            products: list[list[Expr]] = [[] for _ in range(group)]
            for token in range(lanes):
                place = bind(vector * lanes + token)
                later.fetch(0, place)
                sums = [Cell(zero(lanes)) for _ in range(group)]
                for i in range(self._blocks):
                    key = bind(to_float(self._isa, page.key(place, i * lanes, lanes)))
                    for g, cell in enumerate(sums):
                        cell.add(key * load(self._queries, g, i * lanes, lanes=lanes))
                for column, cell in zip(products, sums, strict=True):
                    column.append(cell.value)
            scales = page.scales(self._isa, 0, vector * lanes, lanes)
            for g, column in enumerate(products):
                score = totals(column) if scales is None else totals(column) * bind(scales)
                store(self._weights, score, g, start + vector * lanes)

    def _soften(self, g: Expr, first: Expr, count: Expr, begin: Expr | None) -> None:
        """Of what no page was scored for, anything may lie in `_weights`: it is masked."""
        lanes, task = self._isa.lanes, self._task
        steps = tirx.Ramp(tirx.const(0, "int32"), tirx.const(1, "int32"), lanes)
        masked = const(MASKED, "float32", lanes)
        places = range(0, TOGETHER * PAGE, lanes)
        scores = []
        for start in places:
            score = softcap(self._heads, load(self._weights, g, start, lanes=lanes))
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
        for start, weight in zip(places, weights, strict=True):
            if self._value_scales is not None:
                weight = weight * load(self._value_scales, start, lanes=lanes)
            store(self._weights, weight, g, start)

    def _add_values(self, source: Pages, first: Expr, pages: Expr, count: Expr) -> None:
        """From `count` on lies what memory happened to hold, maybe no number at all: that times 0 is not 0."""
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
            with serial(pages) as i:
                token = bind(first + i * PAGE)
                page = _settled(source.page(token))
                later = _settled(source.page(bind(tirx.min(token + AHEAD * PAGE, count - 1))))
                with serial(tirx.min(count - token, PAGE)) as place:
                    with when(step == 0):
                        later.fetch(1, place)
                    values = [
                        bind(to_float(self._isa, page.value(place, channel, lanes))) for channel in channels
                    ]
                    for g, row in enumerate(cells):
                        weight = bind(splat(load(self._weights, g, i * PAGE + place), lanes))
                        for cell, value in zip(row, values, strict=True):
                            cell.add(value * weight)
            for g, row in enumerate(cells):
                for cell, channel in zip(row, channels, strict=True):
                    store(self._partial.sums, cell.value, task, g, channel)


def _settled(page: Page) -> Page:
    """The same, looked up once."""
    return replace(page, number=tuple(bind(number) for number in page.number))


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
            sequence, head = bind(task // (heads.key_value * runs)), bind(task % heads.key_value)
            first, count = cached_tokens(page_starts, last_page, sequence)
            state = Run(isa, heads, partial, task)
            state.look(queries, sequence, head, tirx.abs(scale) if heads.window else scale)
            begin = None
            if heads.window:
                begin = earliest(heads, scale, load(positions, sequence), load(starts, sequence))
            page = bind(task // heads.key_value % runs * RUN)
            here = bind(tirx.max(tirx.min((count + (PAGE - 1)) // PAGE - page, RUN), 0))
            skipped = 0 if begin is None else bind(tirx.min(tirx.max(begin // PAGE - page, 0), here))
            state.walk(Paged(pages, numbers, first, head), page + skipped, here - skipped, count, begin)
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
        start = bind(sequence * runs * heads.key_value + pair % heads.key_value)  # its first task
        peak, summed = Cell(const(MASKED, "float32")), Cell(const(0.0, "float32"))
        with serial(runs) as run:
            peak.set(tirx.max(peak.value, load(partial.peaks, start + run * heads.key_value, g)))
        with serial(runs) as run:
            task = bind(start + run * heads.key_value)
            share = bind(exp2(load(partial.peaks, task, g) - peak.value))
            store(partial.peaks, share, task, g)
            summed.add(load(partial.totals, task, g) * share)
        # no tokens at all: zeros, and a sum so small that merging with another kernel's answer ignores it
        divisor = bind(tirx.max(summed.value, const(1e-30, "float32")))
        with serial(heads.size // lanes) as block:
            sums = Cell(zero(lanes))
            with serial(runs) as run:
                task = bind(start + run * heads.key_value)
                share = splat(load(partial.peaks, task, g), lanes)
                sums.add(load(partial.sums, task, g, block * lanes, lanes=lanes) * share)
            value = from_float(isa, sums.value / splat(divisor, lanes), heads.dtype)
            store(output, value, sequence, head, block * lanes)
        if lse is not None:
            store(lse, peak.value + log2(divisor), sequence, head)
