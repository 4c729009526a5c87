"""Root-mean-square normalisation: of rows, and of each head."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edge_router.compile.gpu.arithmetic import to, to_float
from edge_router.compile.gpu.threads import (
    MANY,
    WARP,
    Register,
    every,
    f32,
    launch,
    over_block,
    register,
    summed,
)
from edge_router.compile.kernels.ir import Buffer, Expr, kernel, load, store
from edge_router.compile.kernels.shapes import Heads


def rms_norm(
    columns: int, epsilon: float, rows: int | None, x_dtype: str, weight_dtype: str, y_dtype: str
) -> Any:
    """(x [rows, columns], weight, y): x / sqrt(mean(x^2) + epsilon) * weight, in float32."""
    with kernel("rms_norm") as k:
        count = k.size(32) if rows is None else rows
        x = k.tensor("x", (count, columns), x_dtype)
        weight = k.tensor("weight", (columns,), weight_dtype)
        y = k.tensor("y", (count, columns), y_dtype)
        threads = min(MANY, -(-columns // WARP) * WARP)
        with launch(count, threads) as (m, thread):
            factor = _factor(x, m, 0, columns, epsilon, thread, threads)
            with every(columns, thread, threads) as column:
                value = to_float(load(x, m, column)) * factor * to_float(load(weight, column))
                store(y, to(value, y_dtype), m, column)
    return k.function


def head_norm(heads: Heads, epsilon: float, rows: int | None) -> Any:
    """(qkv [rows, all heads * channels] float32, query weight [channels], key weight, y).

    Each query and key is normalised for itself; values are only converted to the heads' type.
    """
    with kernel("head_norm") as k:
        count = k.size(32) if rows is None else rows
        everything = heads.query + 2 * heads.key_value
        qkv = k.tensor("qkv", (count, everything * heads.size), "float32")
        query, key = (k.tensor(name, (heads.size,), heads.dtype) for name in ("query_weight", "key_weight"))
        y = k.tensor("y", (count, everything * heads.size), heads.dtype)
        with launch((everything, count), WARP) as (head, m, thread):
            first = head * heads.size
            factor = _factor(qkv, m, first, heads.size, epsilon, thread, WARP)
            with every(heads.size, thread, WARP) as channel:
                weights = [to_float(load(weight, channel)) for weight in (query, key)]
                weight = tirx.Select(head < heads.query, weights[0], weights[1])
                normalised = head < heads.query + heads.key_value
                scale = tirx.Select(normalised, factor * weight, f32(1.0))
                store(y, to(load(qkv, m, first + channel) * scale, heads.dtype), m, first + channel)
    return k.function


def _factor(
    x: Buffer, m: Expr, first: Expr, columns: int, epsilon: float, thread: Expr, threads: int
) -> Expr:
    """What `columns` elements of row `m` from `first` on are multiplied by, for every thread of the block."""
    squares = Register(f32(0.0))
    with every(columns, thread, threads) as column:
        value = register(to_float(load(x, m, first + column)))
        squares.add(value * value)
    mean = over_block(squares.value, summed, thread, threads) * f32(1 / columns)
    return register(f32(1.0) / tirx.sqrt(mean + f32(epsilon)))
