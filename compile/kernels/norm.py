"""Root-mean-square normalisation."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edge_router.compile.kernels.ir import (
    Cell,
    Expr,
    bind,
    const,
    kernel,
    lanes_of,
    load,
    parallel,
    serial,
    splat,
    store,
    zero,
)
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.vectors import from_float, to_float, total


def rms_norm(isa: Isa, columns: int, epsilon: float, rows: int | None, x_dtype: str, y_dtype: str) -> Any:
    """(x [rows, columns], weight float16, y): x / sqrt(mean(x^2) + epsilon) * weight, in float32."""
    with kernel("rms_norm") as k:
        count = k.size() if rows is None else rows
        x = k.tensor("x", (count, columns), x_dtype)
        weight = k.tensor("weight", (columns,), "float16")
        y = k.tensor("y", (count, columns), y_dtype)
        lanes = isa.lanes
        while columns % lanes:
            lanes //= 2
        with parallel(count) if rows is None else serial(count) as m:
            squares = Cell(zero(lanes))
            with serial(columns // lanes) as i:
                value = bind(to_float(isa, load(x, m, i * lanes, lanes=lanes)))
                squares.add(value * value)
            mean = total(squares.value) * const(1 / columns, "float32")
            factor = bind(splat(_inverse_root(mean + const(epsilon, "float32")), lanes))
            with serial(columns // lanes) as i:
                value = to_float(isa, load(x, m, i * lanes, lanes=lanes)) * factor
                value = value * to_float(isa, load(weight, i * lanes, lanes=lanes))
                store(y, from_float(isa, value, y_dtype), m, i * lanes)
    return k.function


def _inverse_root(value: Expr) -> Expr:
    assert lanes_of(value) == 1
    return const(1.0, "float32") / tirx.sqrt(value)
