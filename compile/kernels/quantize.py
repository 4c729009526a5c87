"""Choosing codes with feedback for one group of columns: what `compile.weights.gptq` does for each.

Columns are chosen one after another, each making up for the errors of those before it, and many scales are
tried: numpy would go through memory for every step of it, here a few rows stay in registers all the while.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from tvm import tirx

from edge_router.architectures.quantization import Quantization
from edge_router.compile.kernels.ir import (
    Buffer,
    Cell,
    Expr,
    Kernel,
    Shape,
    bind,
    cast,
    const,
    intrinsic,
    kernel,
    lanes_of,
    load,
    scratch,
    serial,
    splat,
    store,
    zero,
)
from edge_router.compile.kernels.isa import Isa

TILE = 8  # outputs of a product that are summed up at once
_VECTORS = 2  # of rows, likewise
_KEPT = 8  # columns, which divide every group

_FIRST, _STEP, _SHARES = 0.6, 0.075, 8  # tried scales, of the one that meets a group's largest weight exactly
_REFITS = 2


@dataclass(frozen=True, slots=True)
class FeedbackKernels:
    """The kernels of a format, called with tensors of TVM's (`tensor`) and whole numbers.

    Matrices have `padded` rows.
    """

    lanes: int
    add_product: Callable[..., None]
    search: Callable[..., None]
    encode: Callable[..., None]

    def padded(self, rows: int) -> int:
        return -(-rows // (_VECTORS * self.lanes)) * _VECTORS * self.lanes


@cache
def feedback_kernels(form: Quantization) -> FeedbackKernels:
    """Compiled for this machine's processor, in half a second. Raises `UnsupportedTarget`."""
    import tvm

    from edge_router.compile.targets import host_target, tvm_target
    from edge_router.device import host

    spec = host_target(host())
    isa = spec.isa()
    made = {
        "add_product": add_product(isa),
        "search": search(isa, form),
        "encode": encode(isa, form),
    }
    with tvm.transform.PassContext(config={"tirx.disable_storage_rewrite": True}):
        compiled = tvm.compile(tvm.IRModule(made), tvm_target(spec))
    return FeedbackKernels(isa.lanes, *(compiled[name] for name in made))


def tensor(array: np.typing.NDArray[Any]) -> Any:
    """The same memory, as the kernels take it; an array of whole rows."""
    from tvm_ffi import from_dlpack

    return from_dlpack(array)


def add_product(isa: Isa) -> Any:
    """`add_product(base, base_start, factors, inputs, inputs_start, out)`: out = base + factors^T inputs.

    `factors` has shape (depth, outs), outs being `TILE` times something, and `out` (outs, rows); of `base`
    and `inputs` (anything, rows) outs and depth rows are read from where they start. `out` may be `base`.
    """
    lanes, tile = isa.lanes, TILE if isa.registers > 16 else TILE // 2
    with kernel("add_product", public=True) as k:
        rows, depth, outs = k.size(), k.size(), k.size()
        base, base_start = _tensor(k, "base", (k.size(), rows)), k.scalar("base_start", "int64")
        factors = _tensor(k, "factors", (depth, outs))
        inputs, inputs_start = _tensor(k, "inputs", (k.size(), rows)), k.scalar("inputs_start", "int64")
        out = _tensor(k, "out", (outs, rows))
        with serial(rows // (_VECTORS * lanes)) as b, serial(outs // tile) as t:
            places = [(b * _VECTORS + v) * lanes for v in range(_VECTORS)]
            sums = [
                [Cell(load(base, base_start + t * tile + c, place, lanes=lanes)) for place in places]
                for c in range(tile)
            ]
            with serial(depth) as j:
                met = [bind(load(inputs, inputs_start + j, place, lanes=lanes)) for place in places]
                for c in range(tile):
                    factor = bind(splat(factors[j, t * tile + c], lanes))
                    for total, value in zip(sums[c], met, strict=True):
                        total.set(_added_product(factor, value, total.value))
            for c in range(tile):
                for place, total in zip(places, sums[c], strict=True):
                    store(out, total.value, t * tile + c, place)
    return k.function


def search(
    isa: Isa,
    form: Quantization,
    *,
    shares: int = _SHARES,
    refits: int = _REFITS,
    first: float = _FIRST,
    step: float = _STEP,
) -> Any:
    """`search(wanted, start, aims, feedback, counts, scales)`: the scale of least error for each row.

    `wanted` (columns, rows) is read from column `start` on; `aims` (columns of a group, rows) is the same
    with the feedback of the groups before. `feedback` (columns of a group, the same) is that within the
    group, and `counts` (columns of a group,) what a column's squared error counts. Rows are whole vectors.
    """
    lanes = isa.lanes
    with kernel("search", public=True) as k:
        rows, columns = k.size(), k.size()
        group = _Group(k, form, lanes, rows, columns)
        counts, scales = _tensor(k, "counts", (form.group,)), _tensor(k, "scales", (rows,))
        group.prepare()
        with serial(rows // lanes) as b:
            group.enter(b * lanes)
            whole = bind(group.extreme() * const(1 / (form.zero + 1), "float32", lanes))
            best, refit = Cell(zero(lanes)), Cell(zero(lanes))
            least, promised = (Cell(const(3e38, "float32", lanes)) for _ in range(2))
            with serial(shares + refits) as trial:
                share = cast(tirx.min(trial, shares - 1), "float32") * const(step, "float32")
                share = splat(share + const(first, "float32"), lanes)
                scale = bind(tirx.Select(trial < shares, whole * share, refit.value))
                loss, product, square = (Cell(zero(lanes)) for _ in range(3))

                def met(column: Expr, aim: Expr, level: Expr, _error: Expr) -> None:
                    count = bind(splat(counts[column], lanes))
                    missed = bind(aim - level * scale)
                    weighed = bind(count * level)
                    loss.set(_added_product(bind(count * missed), missed, loss.value))
                    product.set(_added_product(weighed, aim, product.value))
                    square.set(_added_product(weighed, level, square.value))

                group.choose(scale, met)
                best.set(tirx.Select(loss.value < least.value, scale, best.value))
                least.set(tirx.min(loss.value, least.value))
                # For these levels another scale is the best one, and this is what it would save.
                over = bind(tirx.max(square.value, const(1e-30, "float32", lanes)))
                fitted = bind(product.value / over)
                away = bind(fitted - scale)
                promise = bind(loss.value - over * away * away)
                refit.set(tirx.Select(promise < promised.value, fitted, refit.value))
                promised.set(tirx.min(promise, promised.value))
            store(scales, best.value, b * lanes)
    return k.function


def encode(isa: Isa, form: Quantization) -> Any:
    """`encode(wanted, start, aims, feedback, scales, codes, errors)`: codes for these scales, and what is lost.

    As in `search`; `codes` and `errors` have the shape of `wanted` and are written where that is read.
    """
    lanes = isa.lanes
    with kernel("encode", public=True) as k:
        rows, columns = k.size(), k.size()
        group = _Group(k, form, lanes, rows, columns)
        scales = _tensor(k, "scales", (rows,))
        codes, errors = _tensor(k, "codes", (columns, rows), "uint8"), _tensor(k, "errors", (columns, rows))
        group.prepare()
        with serial(rows // lanes) as b:
            group.enter(b * lanes)

            def met(column: Expr, _aim: Expr, level: Expr, error: Expr) -> None:
                shifted = cast(cast(level + const(form.zero, "float32", lanes), "int32"), "uint8")
                store(codes, shifted, group.start + column, b * lanes)
                store(errors, error, group.start + column, b * lanes)

            group.choose(load(scales, b * lanes, lanes=lanes), met)
    return k.function


def _tensor(k: Kernel, name: str, shape: Shape, dtype: str = "float32") -> Buffer:
    """An array of numpy's."""
    return k.tensor(name, shape, dtype, align=np.dtype(dtype).itemsize)


def _added_product(a: Expr, b: Expr, c: Expr) -> Expr:
    return intrinsic(f"float32x{lanes_of(c)}", "fmuladd", a, b, c)


class _Group:
    """The columns of a group, for as many rows as a vector has lanes; the arguments that tell of them."""

    def __init__(self, k: Kernel, form: Quantization, lanes: int, rows: Expr, columns: Expr) -> None:
        self._lanes, self._form = lanes, form
        self._from = _tensor(k, "wanted", (columns, rows))
        self.start = k.scalar("start", "int64")
        self._towards = _tensor(k, "aims", (form.group, rows))
        self._feedback = _tensor(k, "feedback", (form.group, form.group))

    def prepare(self) -> None:
        """The memory to work in; after the last argument."""
        shape = (self._form.group * self._lanes,)
        self._wanted, self._aims, self._left = scratch(shape), scratch(shape), scratch(shape)

    def enter(self, row: Expr) -> None:
        lanes = self._lanes
        with serial(self._form.group) as c:
            store(self._wanted, load(self._from, self.start + c, row, lanes=lanes), c * lanes)
            store(self._aims, load(self._towards, c, row, lanes=lanes), c * lanes)

    def extreme(self) -> Expr:
        """The aim of largest magnitude, with its sign."""
        high, low = Cell(zero(self._lanes)), Cell(zero(self._lanes))
        with serial(self._form.group) as c:
            aim = bind(load(self._aims, c * self._lanes, lanes=self._lanes))
            high.set(tirx.max(high.value, aim))
            low.set(tirx.min(low.value, aim))
        return bind(tirx.Select(high.value >= zero(self._lanes) - low.value, high.value, low.value))

    def choose(self, scale: Expr, met: Callable[[Expr, Expr, Expr, Expr], None]) -> None:
        """Column after column; `met(column, aim, level, error)` hears of each.

        The errors of a few columns are kept until all these are chosen: so later aims are read once for them.
        """
        lanes, form = self._lanes, self._form
        scale = bind(scale)
        none = bind(tirx.Select(scale == zero(lanes), const(1.0, "float32", lanes), zero(lanes)))
        inverse = bind((const(1.0, "float32", lanes) - none) / (scale + none))
        with serial(form.group) as c:
            store(self._left, load(self._aims, c * lanes, lanes=lanes), c * lanes)
        low, high = const(-form.zero, "float32", lanes), const(form.zero + 1, "float32", lanes)
        with serial(form.group // _KEPT) as block:
            first = bind(block * _KEPT)
            aims = [Cell(load(self._left, (first + i) * lanes, lanes=lanes)) for i in range(_KEPT)]
            errors = []
            for i, aim in enumerate(aims):
                column, here = first + i, bind(aim.value)
                level = bind(
                    tirx.max(tirx.min(intrinsic(f"float32x{lanes}", "rint", here * inverse), high), low)
                )
                error = bind(load(self._wanted, column * lanes, lanes=lanes) - level * scale)
                met(column, here, level, error)
                for later in range(i + 1, _KEPT):
                    aims[later].set(self._fed(column, first + later, error, aims[later].value))
                errors.append(error)
            with serial(form.group - _KEPT - first) as later:
                c = bind(first + _KEPT + later)
                moved = Cell(load(self._left, c * lanes, lanes=lanes))
                for i, error in enumerate(errors):
                    moved.set(self._fed(first + i, c, error, moved.value))
                store(self._left, moved.value, c * lanes)

    def _fed(self, column: Expr, later: Expr, error: Expr, aim: Expr) -> Expr:
        return _added_product(bind(splat(self._feedback[column, later], self._lanes)), error, aim)
