"""The matrix kernels as functions of a model: products, and rows looked up, in each of MLC's formats.

Sums are float32: in float16, as TVM's own lowering sums, greedy answers diverge.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

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
from edge_router.compile.kernels.matvec_transposed import Across
from edge_router.compile.kernels.shapes import Linear
from edge_router.compile.kernels.stored import WORDS, Matrix, Stored
from edge_router.compile.kernels.vectors import from_float, gelu_tanh, silu, to_float

GATES = {"silu": silu, "gelu_tanh": gelu_tanh}

FEW_ROWS = 8  # from here on unpacking the weights to memory pays


def linear(isa: Isa, shape: Linear) -> Any:
    """(x [rows, inputs], the arrays of W, (bias,) (added,) y)."""
    width = shape.outputs // 2 if shape.gated else shape.outputs
    blocks = (0, width) if shape.gated else (0,)
    with kernel("gated" if shape.gated else "linear") as k:
        rows = k.size() if shape.rows is None else shape.rows
        x = k.tensor("x", (rows, shape.inputs), shape.x_dtype)
        matrix = Matrix.argument(k, shape.stored, shape.outputs, shape.inputs)
        bias = k.tensor("bias", (width,), shape.stored.dtype) if shape.bias else None
        added = k.tensor("added", (rows, width), shape.y_dtype) if shape.add else None
        y = k.tensor("y", (rows, width), shape.y_dtype)
        finish = _finish(isa, shape, bias, added, y)

        def few() -> None:
            if shape.stored.transposed:
                Across(isa.for_few_rows(), x, rows, matrix, width).run(width, blocks, finish)
            else:
                MatVec(isa.for_few_rows(), x, rows, matrix).run(width, blocks, finish)

        if shape.rows is not None or not shape.many or width < strip_columns(isa, len(blocks)):
            few()
        else:
            with branch(rows <= max(FEW_ROWS, tile_rows(isa))) as (yes, no):
                with yes:
                    few()
                with no:
                    MatMul(isa, x, rows, matrix).run(width, blocks, finish)
    return k.function


def _finish(isa: Isa, shape: Linear, bias: Buffer | None, added: Buffer | None, y: Buffer) -> Finish:
    def finish(m: Expr, column: Expr, sums: Any) -> None:
        value = bind(sums[0])
        if shape.gated:
            value = GATES[shape.gate](value) * sums[1]
        if bias is not None:
            value = value + to_float(isa, load(bias, column, lanes=value.ty.dtype.lanes))
        if added is not None:
            value = value + to_float(isa, load(added, m, column, lanes=value.ty.dtype.lanes))
        store(y, from_float(isa, value, shape.y_dtype), m, column)

    return finish


def lookup(isa: Isa, vocabulary: int, columns: int, y_dtype: str, stored: Stored) -> Any:
    """(the arrays of the embedding, ids [rows] int32, y [rows, columns]): the embedding of each id."""
    with kernel("lookup") as k:
        rows = k.size()
        matrix = Matrix.argument(k, stored, vocabulary, columns)
        ids = k.tensor("ids", (rows,), "int32")
        y = k.tensor("y", (rows, columns), y_dtype)
        each = stored.per_word if stored.bits else isa.narrowed(columns).lanes
        whole, rest = divmod(columns, each)
        with serial(rows) as m:
            token = bind(cast(load(ids, m), "int64"))
            with serial(tirx.const(whole, "int64")) as i:
                store(y, from_float(isa, _numbers(isa, matrix, token, i, each), y_dtype), m, i * each)
            if rest:
                last = _numbers(isa, matrix, token, tirx.const(whole, "int64"), rest)
                store(y, from_float(isa, last, y_dtype), m, whole * each)
    return k.function


def _numbers(isa: Isa, matrix: Matrix, row: Expr, i: Expr, count: int) -> Expr:
    """The first `count` numbers of word `i` of a row, or of the vector of so many plain ones."""
    stored = matrix.stored
    if matrix.scales is None or stored.bits is None:
        return to_float(isa, load(matrix.weights, row, i * count, lanes=count))
    shifts = cast(tirx.Ramp(tirx.const(0, "int32"), tirx.const(stored.bits, "int32"), count), "uint32")
    mask = const((1 << stored.bits) - 1, "uint32", count)
    code = (splat(load(matrix.weights, row, i), count) >> shifts) & mask
    value = cast(bits(code, f"int32x{count}"), "float32") - const(stored.offset, "float32", count)
    return value * splat(to_float(isa, load(matrix.scales, row, i // WORDS)), count)
