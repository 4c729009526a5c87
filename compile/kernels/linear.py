"""The q4f16_1 matrix kernels as functions of a model: products, and rows looked up.

q4f16_1 is MLC's: groups of 32 along a row share a float16 scale, weight = (nibble - 7) * scale, eight nibbles
to a uint32, lowest first. Sums are float32: in float16, as TVM's own lowering sums, greedy answers diverge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tvm import tirx

from edge_router.compile.kernels.activations import GROUP, OFFSET, WORDS
from edge_router.compile.kernels.ir import (
    Buffer,
    Expr,
    bind,
    bits,
    branch,
    cast,
    const,
    kernel,
    load,
    serial,
    splat,
    store,
)
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.matmul import MatMul, strip_columns, tile_rows
from edge_router.compile.kernels.matvec import Finish, MatVec
from edge_router.compile.kernels.vectors import from_float, gelu_tanh, silu, to_float

Gate = Literal["silu", "gelu_tanh"]

_GATES = {"silu": silu, "gelu_tanh": gelu_tanh}

FEW_ROWS = 8  # from here on unpacking the weights to memory pays


@dataclass(frozen=True, slots=True)
class Linear:
    """What one kernel computes: `y = x W^T` with what surrounds it.

    `rows` None: any number; `many` False says that it stays small. `add`: another argument, of y's shape and type, is added; `bias`: one of a row, in float16. `gated`: the matrix is
    gate upon up, and y = gate(x gate^T) * (x up^T), half as wide, where gate is what is said.
    """

    inputs: int
    outputs: int
    rows: int | None
    x_dtype: str
    y_dtype: str
    add: bool = False
    bias: bool = False
    gated: bool = False
    gate: Gate = "silu"
    many: bool = True


def linear(isa: Isa, shape: Linear) -> Any:
    """(x [rows, inputs], q_weight [outputs, inputs/8], q_scale [outputs, inputs/32], (bias,) (added,) y)."""
    groups = shape.inputs // GROUP
    width = shape.outputs // 2 if shape.gated else shape.outputs
    blocks = (0, width) if shape.gated else (0,)
    with kernel("q4_gated" if shape.gated else "q4_linear") as k:
        rows = k.size() if shape.rows is None else shape.rows
        x = k.tensor("x", (rows, shape.inputs), shape.x_dtype)
        weights = k.tensor("q_weight", (shape.outputs, groups * WORDS), "uint32")
        scales = k.tensor("q_scale", (shape.outputs, groups), "float16")
        bias = k.tensor("bias", (width,), "float16") if shape.bias else None
        added = k.tensor("added", (rows, width), shape.y_dtype) if shape.add else None
        y = k.tensor("y", (rows, width), shape.y_dtype)
        finish = _finish(isa, shape, bias, added, y)
        if shape.rows is not None or not shape.many or width < strip_columns(isa, len(blocks)):
            MatVec(isa, x, rows, weights, scales, groups).run(width, blocks, finish)
        else:
            with branch(rows <= max(FEW_ROWS, tile_rows(isa))) as (few, many):
                with few:
                    MatVec(isa, x, rows, weights, scales, groups).run(width, blocks, finish)
                with many:
                    MatMul(isa, x, rows, weights, scales, groups).run(width, blocks, finish)
    return k.function


def _finish(isa: Isa, shape: Linear, bias: Buffer | None, added: Buffer | None, y: Buffer) -> Finish:
    def finish(m: Expr, column: Expr, sums: Any) -> None:
        value = bind(sums[0])
        if shape.gated:
            value = _GATES[shape.gate](value) * sums[1]
        if bias is not None:
            value = value + to_float(isa, load(bias, column, lanes=value.ty.dtype.lanes))
        if added is not None:
            value = value + to_float(isa, load(added, m, column, lanes=value.ty.dtype.lanes))
        store(y, from_float(isa, value, shape.y_dtype), m, column)

    return finish


def lookup(isa: Isa, vocabulary: int, columns: int, y_dtype: str) -> Any:
    """(q_weight, q_scale, ids [rows] int32, y [rows, columns]): the embedding of each id."""
    with kernel("q4_lookup") as k:
        rows = k.size()
        weights = k.tensor("q_weight", (vocabulary, columns // 8), "uint32")
        scales = k.tensor("q_scale", (vocabulary, columns // GROUP), "float16")
        ids = k.tensor("ids", (rows,), "int32")
        y = k.tensor("y", (rows, columns), y_dtype)
        shifts = const(0, "uint32", 8) + _ramp8()
        with serial(rows) as m:
            token = bind(cast(load(ids, m), "int64"))
            with serial(tirx.const(columns // 8, "int64")) as word:
                scale = to_float(isa, load(scales, token, word // WORDS))
                nibble = (splat(load(weights, token, word), 8) >> shifts) & const(15, "uint32", 8)
                value = cast(bits(nibble, "int32x8"), "float32") - const(OFFSET, "float32", 8)
                store(y, from_float(isa, value * splat(scale, 8), y_dtype), m, word * 8)
    return k.function


def _ramp8() -> Expr:
    return cast(tirx.Ramp(tirx.const(0, "int32"), tirx.const(4, "int32"), 8), "uint32")
