"""Recurrent states: each head's is a matrix, faded, written to and read from once for every token.

One token after the other, however many come together, so that all are computed alike. Tasks are parts of heads.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edge_router.compile.kernels.convolution import Convolution, Rows, blocks_of, lanes_for
from edge_router.compile.kernels.ir import (
    Buffer,
    Cell,
    Expr,
    bind,
    const,
    kernel,
    lanes_of,
    load,
    parallel,
    scratch,
    serial,
    share_out,
    splat,
    store,
    zero,
)
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.shapes import Convolved, GatedNorm, Heads, Recurrence
from edge_router.compile.kernels.vectors import LOG2_E, exp2, from_float, log2, silu, to_float, total

_VECTORS = 4  # of a task's part of a head


def convolve(isa: Isa, shape: Convolved) -> Any:
    """(x [rows, width], weight [channels, taps], (bias,) tail, sources, saves, layer, y [rows, channels]).

    y = silu(convolution(x's channels from `first` on) + bias).
    """
    with kernel("convolve") as k:
        count = k.size()
        x = k.tensor("x", (count, shape.width), "float32")
        weight = k.tensor("weight", (shape.channels, shape.taps), shape.dtype)
        bias = k.tensor("bias", (shape.channels,), shape.dtype) if shape.bias else None
        tail = k.tensor("tail", (k.size(), k.size(), shape.taps - 1, shape.channels), "float32")
        rows = Rows(k, count)
        y = k.tensor("y", (count, shape.channels), "float32")
        lanes = lanes_for(isa, shape.channels)
        tasks, vectors = blocks_of(shape.channels, lanes)

        def block(task: Expr) -> None:
            places = [bind(task * (vectors * lanes) + number * lanes) for number in range(vectors)]
            convolutions = [Convolution(isa, weight, tail, rows, place, lanes) for place in places]
            with serial(count) as row:
                for place, convolution in zip(places, convolutions, strict=True):
                    value = bind(load(x, row, place + shape.first, lanes=lanes))
                    found = convolution.step(row, value)
                    if bias is not None:
                        found = found + to_float(isa, load(bias, place, lanes=lanes))
                    store(y, silu(bind(found)), row, place)

        share_out(count, tirx.const(tasks, "int64"), block)
    return k.function


def recurrence(isa: Isa, shape: Recurrence) -> Any:
    """(projected, convolved, decay [heads], step bias [heads], (skip [heads],) state, sources, saves, layer, y).

    projected [rows, `width`] has each head's step and, for the delta rule, its rate; convolved [rows, ...] queries,
    keys and values; state [layers, slots, heads, keys, values]; y [rows, heads * values].

    With s = softplus(step + bias) a state S fades to f S, f = exp(-exp(decay) s). Mamba 2 adds k (s v)^T; the
    gated delta rule k (rate (v - (f S)^T k))^T, with queries and keys of length one. Then y = S^T q (+ skip v).
    """
    with kernel("recurrence") as k:
        count = k.size()
        projected = k.tensor("projected", (count, shape.width), "float32")
        convolved = k.tensor("convolved", (count, shape.convolved), "float32")
        decay, bias = (k.tensor(name, (shape.heads,), shape.dtype) for name in ("decay", "bias"))
        skip = None if shape.delta else k.tensor("skip", (shape.heads,), shape.dtype)
        state = k.tensor(
            "state", (k.size(), k.size(), shape.heads, shape.key_size, shape.value_size), "float32"
        )
        rows = Rows(k, count)
        y = k.tensor("y", (count, shape.heads * shape.value_size), "float32")
        lanes = lanes_for(isa, shape.value_size)
        vectors = _VECTORS
        while shape.value_size % (lanes * vectors):
            vectors //= 2
        parts = shape.value_size // (lanes * vectors)
        with parallel(tirx.const(shape.heads * parts, "int64")) as task:
            head, first = bind(task // parts), bind(task % parts * (lanes * vectors))
            held = _Held(state, rows, head, first, shape.key_size, lanes, vectors)
            fade = bind(_exp(to_float(isa, load(decay, head))))
            offset = bind(to_float(isa, load(bias, head)))
            more = None if skip is None else bind(to_float(isa, load(skip, head)))
            vector = _Vectors(isa, convolved, shape, head)
            with serial(count) as row:
                held.begin(row)
                step = bind(_softplus(load(projected, row, head + shape.step) + offset))
                faded = bind(_exp(-(fade * step)))
                keys, queries = vector.keys(row), vector.queries(row)
                values = [
                    bind(
                        load(
                            convolved,
                            row,
                            head * shape.value_size + first + shape.value + i * lanes,
                            lanes=lanes,
                        )
                    )
                    for i in range(vectors)
                ]
                if shape.delta:
                    rate = bind(_sigmoid(load(projected, row, head + shape.rate)))
                    known = held.times(keys)
                    added = [
                        bind((value - found * splat(faded, lanes)) * splat(rate, lanes))
                        for value, found in zip(values, known, strict=True)
                    ]
                else:
                    added = [bind(value * splat(step, lanes)) for value in values]
                read = held.write(keys, added, faded, queries)
                for i, (found, value) in enumerate(zip(read, values, strict=True)):
                    out = found if more is None else found + value * splat(more, lanes)
                    store(y, out, row, head * shape.value_size + first + i * lanes)
                held.end(row)
    return k.function


class _Held:
    """A part of one head's state [keys, values], in memory of its own while rows go through it."""

    def __init__(
        self, state: Buffer, rows: Rows, head: Expr, first: Expr, keys: int, lanes: int, vectors: int
    ) -> None:
        self._state, self._rows, self._head, self._first = state, rows, head, first
        self._keys, self._lanes, self._vectors = keys, lanes, vectors
        self._own = scratch((keys, vectors * lanes))
        self._each(lambda key, place: store(self._own, zero(lanes), key, place))

    def _each(self, do: Any) -> None:
        with serial(tirx.const(self._keys, "int64")) as key:
            for i in range(self._vectors):
                do(key, i * self._lanes)

    def _there(self, slot: Expr, key: Expr, place: int) -> tuple[Expr, ...]:
        return self._rows.layer, slot, self._head, key, self._first + place

    def begin(self, row: Expr) -> None:
        lanes = self._lanes
        self._rows.at_begin(
            row,
            lambda slot: self._each(
                lambda key, place: store(
                    self._own, load(self._state, *self._there(slot, key, place), lanes=lanes), key, place
                )
            ),
            lambda: self._each(lambda key, place: store(self._own, zero(lanes), key, place)),
        )

    def end(self, row: Expr) -> None:
        lanes = self._lanes
        self._rows.at_end(
            row,
            lambda slot: self._each(
                lambda key, place: store(
                    self._state, load(self._own, key, place, lanes=lanes), *self._there(slot, key, place)
                )
            ),
        )

    def times(self, keys: Buffer) -> list[Expr]:
        """S^T k."""
        sums = [Cell(zero(self._lanes)) for _ in range(self._vectors)]
        with serial(tirx.const(self._keys, "int64")) as key:
            by = bind(splat(load(keys, key), self._lanes))
            for i, cell in enumerate(sums):
                cell.add(load(self._own, key, i * self._lanes, lanes=self._lanes) * by)
        return [cell.value for cell in sums]

    def write(self, keys: Buffer, added: list[Expr], faded: Expr, queries: Buffer) -> list[Expr]:
        """S = faded S + k added^T; S^T q."""
        lanes = self._lanes
        sums = [Cell(zero(lanes)) for _ in added]
        left = bind(splat(faded, lanes))
        with serial(tirx.const(self._keys, "int64")) as key:
            by, asked = (bind(splat(load(vector, key), lanes)) for vector in (keys, queries))
            for i, (cell, more) in enumerate(zip(sums, added, strict=True)):
                new = bind(load(self._own, key, i * lanes, lanes=lanes) * left + more * by)
                store(self._own, new, key, i * lanes)
                cell.add(new * asked)
        return [cell.value for cell in sums]


class _Vectors:
    """A head's query and key of one row, as they meet the state."""

    def __init__(self, isa: Isa, convolved: Buffer, shape: Recurrence, head: Expr) -> None:
        self._convolved, self._shape = convolved, shape
        self._group = bind(head // (shape.heads // shape.key_heads))
        self._lanes = lanes_for(isa, shape.key_size)
        self._made = {name: scratch((shape.key_size,)) for name in ("key", "query")}

    def keys(self, row: Expr) -> Buffer:
        return self._vector("key", row, self._shape.key, 1.0)

    def queries(self, row: Expr) -> Buffer:
        return self._vector("query", row, self._shape.query, self._shape.key_size**-0.5)

    def _vector(self, name: str, row: Expr, first: int, scale: float) -> Buffer:
        into, lanes, size = self._made[name], self._lanes, self._shape.key_size
        place = bind(self._group * size + first)
        factor: Expr = const(1.0, "float32")
        if self._shape.delta:
            squares = Cell(zero(lanes))
            with serial(tirx.const(size // lanes, "int64")) as i:
                value = bind(load(self._convolved, row, place + i * lanes, lanes=lanes))
                squares.add(value * value)
            length = tirx.sqrt(total(squares.value) + const(1e-6, "float32"))
            factor = bind(const(scale, "float32") / length)
        by = bind(splat(factor, lanes))
        with serial(tirx.const(size // lanes, "int64")) as i:
            store(into, load(self._convolved, row, place + i * lanes, lanes=lanes) * by, i * lanes)
        return into


def gated_norm(isa: Isa, shape: GatedNorm) -> Any:
    """(x [rows, groups * size], projected [rows, width], weight [size or groups * size], y as x), in float32.

    z are projected's columns from `gate` on: norm(x) * weight * silu(z), or norm(x * silu(z)) * weight.
    """
    columns = shape.groups * shape.size
    with kernel("gated_norm") as k:
        count = k.size()
        x = k.tensor("x", (count, columns), "float32")
        projected = k.tensor("projected", (count, shape.width), "float32")
        weight = k.tensor("weight", (columns if shape.whole else shape.size,), shape.dtype)
        y = k.tensor("y", (count, columns), "float32")
        lanes = lanes_for(isa, shape.size)

        def group(task: Expr) -> None:
            row, first = bind(task // shape.groups), bind(task % shape.groups * shape.size)

            def value(i: Expr, row: Expr = row, first: Expr = first) -> Expr:
                found = load(x, row, first + i * lanes, lanes=lanes)
                return found * gate(i, row, first) if shape.before else found

            def gate(i: Expr, row: Expr = row, first: Expr = first) -> Expr:
                return silu(bind(load(projected, row, first + i * lanes + shape.gate, lanes=lanes)))

            squares = Cell(zero(lanes))
            with serial(tirx.const(shape.size // lanes, "int64")) as i:
                one = bind(value(i))
                squares.add(one * one)
            mean = total(squares.value) * const(1 / shape.size, "float32")
            factor = bind(
                splat(const(1.0, "float32") / tirx.sqrt(mean + const(shape.epsilon, "float32")), lanes)
            )
            with serial(tirx.const(shape.size // lanes, "int64")) as i:
                place = first + i * lanes if shape.whole else i * lanes
                found = value(i) * factor * to_float(isa, load(weight, place, lanes=lanes))
                store(y, found if shape.before else found * gate(i), row, first + i * lanes)

        share_out(count, count * shape.groups, group)
    return k.function


def gated_head_norm(isa: Isa, heads: Heads, epsilon: float) -> Any:
    """(qkv [rows, queries with a gate behind each, keys, values], query weight, key weight, y): as `head_norm`.

    y [rows, all heads * channels] is without the gates.
    """
    size, group = heads.size, 2 * heads.size
    with kernel("gated_head_norm") as k:
        count = k.size()
        qkv = k.tensor("qkv", (count, (2 * heads.query + 2 * heads.key_value) * size), "float32")
        weights = [k.tensor(name, (size,), heads.dtype) for name in ("query_weight", "key_weight")]
        y = k.tensor("y", (count, (heads.query + 2 * heads.key_value) * size), heads.dtype)
        lanes = lanes_for(isa, size)

        def token(row: Expr) -> None:
            source, into = 0, 0
            for weight, number, stride in (
                (weights[0], heads.query, group),
                (weights[1], heads.key_value, size),
                (None, heads.key_value, size),
            ):
                with serial(tirx.const(number, "int64")) as head:
                    at, to = bind(head * stride + source), bind(head * size + into)
                    factor: Expr | None = None
                    if weight is not None:
                        squares = Cell(zero(lanes))
                        with serial(tirx.const(size // lanes, "int64")) as i:
                            one = bind(load(qkv, row, at + i * lanes, lanes=lanes))
                            squares.add(one * one)
                        mean = total(squares.value) * const(1 / size, "float32") + const(epsilon, "float32")
                        factor = bind(splat(const(1.0, "float32") / tirx.sqrt(mean), lanes))
                    with serial(tirx.const(size // lanes, "int64")) as i:
                        value = load(qkv, row, at + i * lanes, lanes=lanes)
                        if factor is not None and weight is not None:
                            value = value * factor * to_float(isa, load(weight, i * lanes, lanes=lanes))
                        store(y, from_float(isa, bind(value), heads.dtype), row, to + i * lanes)
                source, into = source + number * stride, into + number * size

        share_out(count, count, token)
    return k.function


def gated_output(isa: Isa, heads: Heads) -> Any:
    """(attended [rows, queries * channels], qkv as `gated_head_norm` takes it, y): attended * sigmoid(gate)."""
    size = heads.size
    with kernel("gated_output") as k:
        count = k.size()
        attended = k.tensor("attended", (count, heads.query * size), heads.dtype)
        qkv = k.tensor("qkv", (count, (2 * heads.query + 2 * heads.key_value) * size), "float32")
        y = k.tensor("y", (count, heads.query * size), "float32")
        lanes = lanes_for(isa, size)

        def token(row: Expr) -> None:
            with (
                serial(tirx.const(heads.query, "int64")) as head,
                serial(tirx.const(size // lanes, "int64")) as i,
            ):
                gate = bind(load(qkv, row, head * 2 * size + size + i * lanes, lanes=lanes))
                value = to_float(isa, load(attended, row, head * size + i * lanes, lanes=lanes))
                store(y, value * _sigmoid(gate), row, head * size + i * lanes)

        share_out(count, count, token)
    return k.function


def _exp(x: Expr) -> Expr:
    return exp2(x * const(LOG2_E, "float32", lanes_of(x)))


def _sigmoid(x: Expr) -> Expr:
    one = const(1.0, "float32", lanes_of(x))
    return one / (one + _exp(-x))


def _softplus(x: Expr) -> Expr:
    """log(1 + exp(x)), of one number."""
    x = bind(x)
    one = const(1.0, "float32")
    return tirx.max(x, const(0.0, "float32")) + log2(one + _exp(-tirx.abs(x))) * const(1 / LOG2_E, "float32")
