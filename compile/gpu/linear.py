"""The products of a model, `y = x W^T` with what surrounds them, and rows of the embedding looked up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edge_router.compile.gpu.arithmetic import gelu_tanh, silu, to, to_float
from edge_router.compile.gpu.matmul import MatMul
from edge_router.compile.gpu.matvec import MatVec
from edge_router.compile.gpu.tensor_cores import TensorCores
from edge_router.compile.gpu.threads import WARP, f32, launch, register
from edge_router.compile.gpu.weights import Units
from edge_router.compile.kernels.ir import Expr, branch, kernel, load, serial, store, when
from edge_router.compile.kernels.shapes import Linear
from edge_router.compile.kernels.stored import Matrix, Stored

FEW_ROWS = 8  # up to here weights are read once for every four rows

_GATES: dict[str, Callable[[Expr], Expr]] = {"silu": silu, "gelu_tanh": gelu_tanh}


def linear(shape: Linear, *, tensor_cores: bool) -> Any:
    """(x [rows, inputs], the arrays of W, (bias,) (added,) y)."""
    width = shape.outputs // 2 if shape.gated else shape.outputs
    blocks = (0, width) if shape.gated else (0,)
    with kernel("gated" if shape.gated else "linear") as k:
        rows = k.size(32) if shape.rows is None else shape.rows
        x = k.tensor("x", (rows, shape.inputs), shape.x_dtype)
        units = Units(Matrix.argument(k, shape.stored, shape.outputs, shape.inputs))
        bias = k.tensor("bias", (width,), shape.stored.dtype) if shape.bias else None
        added = k.tensor("added", (rows, width), shape.y_dtype) if shape.add else None
        y = k.tensor("y", (rows, width), shape.y_dtype)

        def finish(m: Expr, column: Expr, sums: Sequence[Expr]) -> None:
            value = sums[0]
            if shape.gated:
                value = _GATES[shape.gate](register(value)) * sums[1]
            if bias is not None:
                value = value + to_float(load(bias, column))
            if added is not None:
                value = value + to_float(load(added, m, column))
            store(y, to(value, shape.y_dtype), m, column)

        few = MatVec(x, rows, units, width, blocks, finish)
        if isinstance(rows, int) or not shape.many:
            few.run()
        else:
            many = TensorCores if tensor_cores else MatMul
            with branch(rows <= FEW_ROWS) as (yes, no):
                with yes:
                    few.run()
                with no:
                    many(x, rows, units, width, blocks, finish).run()
    return k.function


def lookup(vocabulary: int, columns: int, y_dtype: str, stored: Stored) -> Any:
    """(the arrays of the embedding, ids [rows] int32, y [rows, columns]): the embedding of each id."""
    with kernel("lookup") as k:
        rows = k.size(32)
        units = Units(Matrix.argument(k, stored, vocabulary, columns))
        ids = k.tensor("ids", (rows,), "int32")
        y = k.tensor("y", (rows, columns), y_dtype)
        threads = 4 * WARP
        with launch(rows, threads) as (m, thread):
            token = register(load(ids, m))
            with serial(-(-units.count // threads)) as step:
                unit = register(step * threads + thread)
                with when(unit < units.count):
                    held, scale = units.fetch(token, unit)
                    for i, (number, factor) in enumerate(units.numbers(held)):
                        value = number * f32(factor) if scale is None else number * f32(factor) * scale
                        if units.whole:
                            store(y, to(value, y_dtype), m, unit * units.each + i)
                        else:
                            with when(unit * units.each + i < columns):
                                store(y, to(value, y_dtype), m, unit * units.each + i)
    return k.function
