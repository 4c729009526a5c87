"""Root-mean-square normalisation."""

from __future__ import annotations

from typing import Any

from tvm import tirx

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
    serial,
    share_out,
    splat,
    store,
    zero,
)
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.shapes import Heads
from edge_router.compile.kernels.vectors import from_float, to_float, total


def rms_norm(
    isa: Isa, columns: int, epsilon: float, rows: int | None, x_dtype: str, weight_dtype: str, y_dtype: str
) -> Any:
    """(x [rows, columns], weight [columns], y): x / sqrt(mean(x^2) + epsilon) * weight, in float32."""
    with kernel("rms_norm") as k:
        count = k.size() if rows is None else rows
        x = k.tensor("x", (count, columns), x_dtype)
        weight = k.tensor("weight", (columns,), weight_dtype)
        y = k.tensor("y", (count, columns), y_dtype)
        lanes = isa.lanes
        while columns % lanes:
            lanes //= 2
        with parallel(count) if rows is None else serial(count) as m:
            factor = _factor(isa, x, m, 0, columns, epsilon, lanes)
            with serial(columns // lanes) as i:
                value = to_float(isa, load(x, m, i * lanes, lanes=lanes)) * factor
                value = value * to_float(isa, load(weight, i * lanes, lanes=lanes))
                store(y, from_float(isa, value, y_dtype), m, i * lanes)
    return k.function


def scaled_sum(isa: Isa, columns: int, by: float) -> Any:
    """(x [rows, columns], more [rows, columns], y): x + by * more, in float32, alike for one row and for many.

    TVM's own sums are rounded once or twice, by how many rows are known when they are compiled.
    """
    with kernel("scaled_sum") as k:
        rows = k.size()
        x, more, y = (k.tensor(name, (rows, columns), "float32") for name in ("x", "more", "y"))
        lanes = isa.narrowed(columns).lanes

        def token(m: Expr) -> None:
            with serial(tirx.const(columns // lanes, "int64")) as i:
                added = load(more, m, i * lanes, lanes=lanes) * const(by, "float32", lanes)
                store(y, load(x, m, i * lanes, lanes=lanes) + added, m, i * lanes)

        share_out(rows, rows, token)
    return k.function


def head_norm(isa: Isa, heads: Heads, epsilon: float, rows: int | None) -> Any:
    """(qkv [rows, all heads * channels] float32, query weight [channels], key weight, y).

    Each query and key is normalised for itself; values are only converted to the heads' type,
    which the weights have, too.
    """
    with kernel("head_norm") as k:
        count = k.size() if rows is None else rows
        everything = heads.query + 2 * heads.key_value
        qkv = k.tensor("qkv", (count, everything * heads.size), "float32")
        weights = [k.tensor(name, (heads.size,), heads.dtype) for name in ("query_weight", "key_weight")]
        y = k.tensor("y", (count, everything * heads.size), heads.dtype)
        lanes = isa.narrowed(heads.size).lanes

        def convert(m: Expr, head: Expr, factor: Expr | None, weight: Any) -> None:
            with serial(heads.size // lanes) as i:
                place = head * heads.size + i * lanes
                value = load(qkv, m, place, lanes=lanes)
                if factor is not None:
                    value = value * factor * to_float(isa, load(weight, i * lanes, lanes=lanes))
                store(y, from_float(isa, value, heads.dtype), m, place)

        with parallel(count) if rows is None else serial(count) as m:
            start = 0
            for weight, number in zip([*weights, None], (heads.query, *[heads.key_value] * 2), strict=True):
                with serial(number) as i:
                    head = bind(i + start)
                    factor = None
                    if weight is not None:
                        factor = _factor(isa, qkv, m, head * heads.size, heads.size, epsilon, lanes)
                    convert(m, head, factor, weight)
                start += number
    return k.function


def _factor(isa: Isa, x: Buffer, m: Expr, first: Expr, columns: int, epsilon: float, lanes: int) -> Expr:
    """What `columns` elements of row `m` of `x` from `first` on are multiplied by, in every lane."""
    squares = Cell(zero(lanes))
    with serial(columns // lanes) as i:
        value = bind(to_float(isa, load(x, m, first + i * lanes, lanes=lanes)))
        squares.add(value * value)
    mean = total(squares.value) * const(1 / columns, "float32")
    return bind(splat(_inverse_root(mean + const(epsilon, "float32")), lanes))


def _inverse_root(value: Expr) -> Expr:
    assert lanes_of(value) == 1
    return const(1.0, "float32") / tirx.sqrt(value)
