"""Attention over pages that are handed over with every call, with which tokens they hold.

The runtime's own KV cache computes one token by another kernel than several, adds up in another order and
rounds in between; it forgets by the call instead of the token, and neither forks nor shortens what has begun
to slide. Here a token is computed alike whether it comes alone or with others, and pages may be gone that no
query will look at again.

With a window a query at position p sees the last `window - sinks` tokens, its own included, and the first
`sinks` ones ("attention sinks": Xiao et al., "Efficient streaming language models with attention sinks",
2023). As there, sinks are never farther away than the window is long: for them a query is turned to its place
in the window.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from tvm import tirx

from edge_router.architectures.key_values import LIMIT, SCALE_BYTES, PageForm
from edge_router.compile.kernels.attention import OnePage, Page, RoundedPage
from edge_router.compile.kernels.attention_decode import RUN, Partial, Run, merge_runs
from edge_router.compile.kernels.attention_prefill import VECTORS, Rows, Tile
from edge_router.compile.kernels.ir import (
    Buffer,
    Cell,
    Expr,
    Kernel,
    bind,
    bits,
    cast,
    const,
    kernel,
    load,
    parallel,
    serial,
    settle,
    splat,
    store,
    zero,
)
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.shapes import PAGE, Heads
from edge_router.compile.kernels.vectors import from_float, largest, to_float, to_nearest
from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class Sight:
    """`heads.window` tokens are seen, the first `sinks` always among them; all where it is 0.

    Scores are multiplied by `scale`. `kept` is the type in which keys and values are stored; "" for the heads'.
    """

    heads: Heads
    sinks: int
    scale: float
    kept: str = ""

    @property
    def pages(self) -> PageForm:
        return PageForm(self.kept or self.heads.dtype, self.heads.key_value, self.heads.size)

    def begin(self, position: Expr) -> Expr:
        """The first token after the sinks that a query at `position` sees."""
        if not self.heads.window:
            return tirx.const(0, "int32")
        return tirx.max(position - (self.heads.window - self.sinks - 1), self.sinks)


@dataclass(frozen=True, slots=True)
class _Kept:
    """The keys and values of one sequence and one head."""

    pages: Buffer
    table: Buffer
    layer: Expr
    sequence: Expr
    head: Expr
    form: PageForm

    def page(self, token: Expr) -> Page:
        number = (self.layer, load(self.table, self.sequence, token // PAGE))
        if self.form.rounded:
            return RoundedPage(self.pages, number, self.head, self.form.size)
        return OnePage(self.pages, number, self.head)

    def key(self, token: Expr, channel: Expr, lanes: int) -> Expr:
        return self.page(token).key(token % PAGE, channel, lanes)

    def value(self, token: Expr, channel: Expr, lanes: int) -> Expr:
        return self.page(token).value(token % PAGE, channel, lanes)

    def scale(self, isa: Isa, which: int, token: Expr) -> Expr | None:
        return self.page(token).scales(isa, which, token % PAGE)


class _Arguments:
    """(qkv, qkv for the sinks where there are any, pages, table, positions, (ends,) layer, output).

    qkv [rows, all heads, channels], turned; pages as `PageForm` has them; table
    [sequences, pages], of each sequence the pages in the order of its tokens; positions [rows]; ends
    [sequences]: the last row of each, where they have more than one.
    """

    def __init__(self, k: Kernel, isa: Isa, shape: Sight, *, one_each: bool) -> None:
        self._isa, self._heads, self._form = isa, shape.heads, shape.pages
        heads, rows = shape.heads, k.size()
        names = ("qkv", "qkv_for_sinks") if shape.sinks else ("qkv",)
        everything = heads.query + 2 * heads.key_value
        self.turned = [k.tensor(name, (rows, everything, heads.size), heads.dtype) for name in names]
        form = self._form
        self.pages = k.tensor("pages", (k.size(), k.size(), 2, form.heads, *form.row), form.dtype)
        sequences = k.size()
        self.table = k.tensor("table", (sequences, k.size()), "int32")
        self.positions = k.tensor("positions", (rows,), "int32")
        self.ends = None if one_each else k.tensor("ends", (sequences,), "int32")
        self.layer = k.scalar("layer", "int64")
        self.output = k.tensor("output", (rows, heads.query, heads.size), heads.dtype)
        self.rows, self.sequences = bind(cast(rows, "int32")), bind(cast(sequences, "int32"))

    def kept(self, sequence: Expr, head: Expr) -> _Kept:
        return _Kept(self.pages, self.table, self.layer, sequence, head, self._form)

    def append(self, row: Expr, sequence: Expr) -> None:
        """The row's key and value to the place of its position."""
        heads, lanes, form = self._heads, self._isa.lanes, self._form
        position = bind(load(self.positions, row))
        page, place = bind(load(self.table, sequence, position // PAGE)), bind(position % PAGE)
        with serial(heads.key_value) as head:
            for which in range(2):
                source = heads.query + which * heads.key_value + head
                to = (self.layer, page, which, head)
                if form.rounded:
                    self._append_rounded(row, source, to, place)
                    continue
                for i in range(0, heads.size, lanes):
                    value = load(self.turned[0], row, source, i, lanes=lanes)
                    if form.dtype != heads.dtype:
                        value = from_float(self._isa, bind(to_float(self._isa, value)), form.dtype)
                    store(self.pages, value, *to, place, i)

    def _append_rounded(self, row: Expr, source: Expr, to: tuple[Expr, ...], place: Expr) -> None:
        """One head's key or value as bytes, and their scale.

        Divided, not multiplied by one over the scale: that might be fused with what rounds it, or not.
        """
        isa, size, lanes = self._isa, self._heads.size, self._isa.lanes
        starts = range(0, size, lanes)
        numbers = [bind(to_float(isa, load(self.turned[0], row, source, i, lanes=lanes))) for i in starts]
        magnitudes = [tirx.max(number, zero(lanes) - number) for number in numbers]
        peak = bind(largest(reduce(tirx.max, magnitudes)))
        scale = bind(from_float(isa, bind(peak * const(1 / LIMIT, "float32")), "float16"))
        known = bind(to_float(isa, scale))
        divisor = splat(bind(tirx.Select(known > zero(), known, const(1.0, "float32"))), lanes)
        least, most = (const(limit, "int32", lanes) for limit in (-LIMIT, LIMIT))
        for i, number in zip(starts, numbers, strict=True):
            code = tirx.max(tirx.min(to_nearest(bind(number / divisor)), most), least)
            store(self.pages, cast(code, "int8"), *to, place * size + i)
        store(self.pages, bits(scale, f"int8x{SCALE_BYTES}"), *to, PAGE * size + place * SCALE_BYTES)


def paged_prefill(isa: Isa, shape: Sight) -> Any:
    """Rows are the next tokens of one sequence, then those of another."""
    heads, width, scale = shape.heads, VECTORS * isa.lanes, const(shape.scale, "float32")
    with kernel("attention_paged_prefill") as k:
        a = _Arguments(k, isa, shape, one_each=False)
        assert a.ends is not None
        with serial(a.sequences) as sequence:
            top = bind(tirx.if_then_else(sequence > 0, load(a.ends, tirx.max(sequence - 1, 0)) + 1, 0))
            count = bind(load(a.ends, sequence) + 1 - top)
            with parallel(count) as row:
                a.append(top + row, sequence)
            begin = bind(load(a.positions, top))
            tiles = bind((count * heads.group + (width - 1)) // width)
            with parallel(tiles * heads.key_value) as task:
                head, turn = bind(task % heads.key_value), bind(task // heads.key_value)
                # later tiles see more keys: first and last in turn, so that equal runs of tasks are equal work
                number = bind(tirx.Select(turn % 2 == 0, turn // 2, tiles - 1 - turn // 2))
                first = bind(number * width)
                rows = Rows(a.turned[0], top, count, head, heads.group)
                tile = Tile(isa, heads, rows, first, scale)
                source = a.kept(sequence, head)
                positions = [bind(splat(begin, isa.lanes) + token) for token in tile.tokens()]
                ends = [bind(position + splat(tirx.const(1, "int32"), isa.lanes)) for position in positions]
                if shape.sinks:
                    tile.look(a.turned[1], scale)
                    sinks = splat(tirx.const(shape.sinks, "int32"), isa.lanes)
                    seen = bind(tirx.min(begin + count, shape.sinks))
                    tile.attend(source, seen, [bind(tirx.min(end, sinks)) for end in ends])
                    tile.look(a.turned[0], scale)
                last = tirx.min(first + (width - 1), rows.count - 1) // heads.group
                start = bind(shape.begin(begin + first // heads.group))
                tile.attend(source, bind(begin + last + 1), ends, _begins(isa, shape, positions), start)
                tile.finish(a.output)
    return k.function


def _begins(isa: Isa, shape: Sight, positions: list[Expr]) -> list[Expr] | None:
    """Of each lane the first token after the sinks that it sees; None where that is the first of all."""
    if not shape.heads.window:
        return None
    back, sinks = (
        splat(tirx.const(number, "int32"), isa.lanes)
        for number in (shape.heads.window - shape.sinks - 1, shape.sinks)
    )
    return [bind(tirx.max(position - back, sinks)) for position in positions]


def paged_decode(isa: Isa, shape: Sight) -> Any:
    """Each row is the next token of its own sequence: of another one, or of one that has those before it, too."""
    heads, scale = shape.heads, const(shape.scale, "float32")
    with kernel("attention_paged_decode") as k:
        a = _Arguments(k, isa, shape, one_each=True)
        longest = Cell(tirx.const(1, "int32"))
        with serial(a.rows) as row:
            a.append(row, row)
            position = bind(load(a.positions, row))
            longest.set(tirx.max(longest.value, position // PAGE - shape.begin(position) // PAGE + 1))
        runs = bind((longest.value + (RUN - 1)) // RUN)
        tasks = settle(a.rows * heads.key_value * runs)
        partial = Partial.make(tasks, heads)
        with parallel(tasks) as task:
            row, head = bind(task // (heads.key_value * runs)), bind(task % heads.key_value)
            position, run = bind(load(a.positions, row)), bind(task // heads.key_value % runs)
            state = Run(isa, heads, partial, task, rounded=shape.pages.rounded)
            source = a.kept(row, head)
            if shape.sinks:
                count = bind(tirx.if_then_else(run > 0, 0, tirx.min(position + 1, shape.sinks)))
                state.look(a.turned[1], row, head, scale)
                state.walk(source, tirx.const(0, "int32"), bind((count + (PAGE - 1)) // PAGE), count)
            state.look(a.turned[0], row, head, scale)
            begin = bind(shape.begin(position))
            first = bind(begin // PAGE + run * RUN)
            here = bind(tirx.max(tirx.min(position // PAGE + 1 - first, RUN), 0))
            state.walk(source, first, here, bind(position + 1), begin if heads.window else None)
        merge_runs(isa, heads, partial, runs, a.rows, a.output)
    return k.function
