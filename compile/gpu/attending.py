"""The KV cache's attention: new tokens to one another, to those in the cache, and one token to all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tvm import tirx

from edge_router.compile.gpu.arithmetic import to
from edge_router.compile.gpu.attention import GROUPS, THREADS, Seen, Tile, cached_tokens, earliest
from edge_router.compile.gpu.threads import WARP, Register, ceil_div, every, f32, launch, register
from edge_router.compile.kernels.attention import Arguments as _Arguments
from edge_router.compile.kernels.attention import Fresh, Paged, Source
from edge_router.compile.kernels.ir import Buffer, Expr, kernel, load, scratch, serial, store, when
from edge_router.compile.kernels.shapes import PAGE, Heads
from edge_router.compile.kernels.vectors import MASKED
from edge_router.records import dataclass

_SHARE = 256  # tokens of the past for one block, where there are many
_MOST_SHARES = 32

# (sequence, key-value head) -> the keys' source and how many of its tokens count
Find = Callable[[Expr, Expr], tuple[Source, Expr]]


class Arguments(_Arguments):
    """Pages begin where their memory does: only then is it certain that four channels can be read at once."""

    def pages(self) -> Buffer:
        shape = (self._k.size(32), 2, self._heads.key_value, PAGE, self._heads.size)
        return self._k.tensor("pages", shape, self._heads.dtype)


@dataclass(frozen=True, slots=True)
class _Call:
    """What the two kernels for many tokens are given."""

    a: Arguments
    queries: Buffer
    starts: Buffer
    positions: tuple[Buffer, Buffer]  # of the queries, and of each sequence's first key
    results: tuple[Buffer, Buffer]
    causal: Expr
    scale: Expr


def _tile_of(call: _Call, heads: Heads, rows: int, block: Expr) -> tuple[Expr, Expr]:
    """Which sequence a block has, and its which tile; tile numbers beyond the end have no rows.

    How many tiles there are is known on the GPU alone, so as many blocks are started as there might be.
    """
    sequence, number = Register(tirx.const(0, "int32")), Register(tirx.const(1 << 24, "int32"))
    before = Register(tirx.const(0, "int32"))
    with serial(call.a.batch) as i:
        tokens = load(call.starts, i + 1) - load(call.starts, i)
        tiles = register(ceil_div(tokens * heads.group, rows))
        with when(tirx.all(block >= before.value, block < before.value + tiles)):
            sequence.set(i)
            number.set(block - before.value)
        before.add(tiles)
    return sequence.value, number.value


def _run(call: _Call, heads: Heads, find: Find, shared: int) -> None:
    """`shared`: bytes that a block may share."""
    rows = next(n for n in (4 * GROUPS, 2 * GROUPS, GROUPS) if Tile.shared_bytes(heads, n) <= shared)
    blocks = ceil_div(call.a.tokens * heads.group, rows) + call.a.batch
    with launch((blocks, heads.key_value), THREADS) as (block, head, thread):
        sequence, number = _tile_of(call, heads, rows, block)
        start = register(load(call.starts, sequence))
        tokens = register(load(call.starts, sequence + 1) - start)
        source, count = find(sequence, head)
        last = tirx.max(tokens * heads.group - 1, 0)

        def place(row: Expr) -> tuple[Expr, Expr]:
            """Token of the call and query head; what is beyond the last row repeats it."""
            inside = register(tirx.min(number * rows + row, last))
            return start + inside // heads.group, head * heads.group + inside % heads.group

        tile = Tile(heads, rows, thread)
        tile.begin(
            lambda row, channel: load(call.queries, *place(row), channel, lanes=4),
            tirx.abs(call.scale) if heads.window else call.scale,
        )
        first_token = number * rows // heads.group
        final_token = tirx.min(number * rows + (rows - 1), last) // heads.group
        behind = register(count - tokens)  # a token sees this many more than its own number
        end = tirx.if_then_else(call.causal > 0, tirx.min(count, behind + final_token + 1), count)
        here = number * rows < tokens * heads.group
        end = register(tirx.if_then_else(here, end, 0))
        oldest = earliest(
            heads, call.scale, load(call.positions[0], start), load(call.positions[1], sequence)
        )
        seen: list[Seen] = []
        for i in range(tile.each):
            own = register((number * rows + tile.row(i)) // heads.group)
            seen.append(partial(_visible, own, behind, call.causal, oldest))
        begin = register(tirx.max(oldest + first_token, 0)) if heads.window else 0
        tile.attend(source, begin, end, seen)
        output, lse = call.results
        for i in range(tile.each):
            row = register(number * rows + tile.row(i))
            with when(row < tokens * heads.group):
                where = place(tile.row(i))
                tile.result(i, partial(_write, output, where))
                with when(tile.is_first_lane()):
                    store(lse, tile.logarithm(i), *where)


def _visible(own: Expr, behind: Expr, causal: Expr, oldest: Expr, token: Expr) -> Expr:
    past = tirx.any(causal <= 0, token <= behind + own)
    return tirx.all(past, token >= oldest + own)


def _write(into: Buffer, where: tuple[Expr, Expr], channel: Expr, values: Expr) -> None:
    store(into, to(values, str(into.dtype)), *where, channel)


def fresh(heads: Heads, shared: int) -> Any:
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
            start = register(load(kv_starts, sequence))
            return Fresh(keys, values, start, head), register(load(kv_starts, sequence + 1) - start)

        _run(_Call(a, queries, starts, positions, results, causal, scale), heads, find, shared)
    return k.function


def cached(heads: Heads, shared: int) -> Any:
    """To the tokens in the KV cache's pages."""
    with kernel("attention_cached") as k:
        a = Arguments(k, heads)
        queries, starts, pages = a.queries(), a.starts("q_indptr"), a.pages()
        page_starts, numbers = a.starts("page_indptr"), a.integers("page_values", k.size(32))
        last_page, key_positions = (
            a.integers(name, a.batch) for name in ("length_info", "k_rope_pos_offset")
        )
        positions = a.integers("q_rope_position", a.tokens), key_positions
        results = a.results()
        causal, scale = k.scalar("causal", "int32"), a.rotary()

        def find(sequence: Expr, head: Expr) -> tuple[Source, Expr]:
            first, count = cached_tokens(page_starts, last_page, sequence)
            return Paged(pages, numbers, first, head), count

        _run(_Call(a, queries, starts, positions, results, causal, scale), heads, find, shared)
    return k.function


def decode(heads: Heads) -> Any:
    """One token of each sequence. Blocks share out a long past; a second kernel adds up what they found."""
    with kernel("attention_decode") as k:
        a = Arguments(k, heads)
        queries, pages = a.queries(one_each=True), a.pages()
        page_starts, page_count = a.starts("page_indptr"), k.size(32)
        numbers, last_page = a.integers("page_values", page_count), a.integers("length_info", a.batch)
        starts, positions = (a.integers(name, a.batch) for name in ("k_rope_pos_offset", "q_rope_position"))
        results = a.results(one_each=True)
        scale = a.rotary()
        rows = -(-heads.group // GROUPS) * GROUPS
        shares = tirx.max(1, tirx.min(page_count * PAGE // (a.batch * _SHARE), _MOST_SHARES))
        tasks = a.batch * heads.key_value * shares
        sums, marks = scratch((tasks, heads.group, heads.size)), scratch((tasks, heads.group, 2))
        with launch((a.batch * heads.key_value, shares), THREADS) as (pair, share, thread):
            sequence, head = register(pair // heads.key_value), register(pair % heads.key_value)
            first, count = cached_tokens(page_starts, last_page, sequence)
            tile = Tile(heads, rows, thread)

            def query(row: Expr, channel: Expr) -> Expr:
                number = head * heads.group + tirx.min(row, heads.group - 1)
                return load(queries, sequence, number, channel, lanes=4)

            tile.begin(query, tirx.abs(scale) if heads.window else scale)
            oldest = tirx.max(earliest(heads, scale, load(positions, sequence), load(starts, sequence)), 0)
            oldest = register(tirx.min(oldest, count))
            each = register((count - oldest + shares - 1) // shares)
            begin = register(oldest + share * each)
            end = register(tirx.min(begin + each, count))
            tile.attend(Paged(pages, numbers, first, head), begin, end, [None] * tile.each)
            task = register(pair * shares + share)
            for i in range(tile.each):
                row = register(tile.row(i))
                with when(row < heads.group):
                    tile.result(i, partial(_write, sums, (task, row)), divided=False)
                    with when(tile.is_first_lane()):
                        store(marks, tile.peak(i), task, row, 0)
                        store(marks, tile.total(i), task, row, 1)
        _combine(heads, a.batch, shares, sums, marks, results)
    return k.function


def _combine(
    heads: Heads, batch: Expr, shares: Expr, sums: Buffer, marks: Buffer, results: tuple[Buffer, Buffer]
) -> None:
    output, lse = results
    with launch((batch, heads.query), WARP) as (sequence, head, thread):
        row = head % heads.group
        first = register((sequence * heads.key_value + head // heads.group) * shares)
        peak, total = Register(f32(MASKED)), Register(f32(0.0))
        with serial(shares) as i:
            peak.set(tirx.max(peak.value, load(marks, first + i, row, 0)))
        with serial(shares) as i:
            total.add(load(marks, first + i, row, 1) * tirx.exp2(load(marks, first + i, row, 0) - peak.value))
        divisor = register(tirx.max(total.value, f32(1e-30)))
        with every(heads.size, thread, WARP) as channel:
            value = Register(f32(0.0))
            with serial(shares) as i:
                share = tirx.exp2(load(marks, first + i, row, 0) - peak.value)
                value.add(load(sums, first + i, row, channel) * share)
            store(output, to(value.value / divisor, heads.dtype), sequence, head, channel)
        with when(thread == 0):
            store(lse, peak.value + tirx.log2(divisor), sequence, head)
