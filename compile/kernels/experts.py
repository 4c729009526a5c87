"""A mixture of experts: which of them each token goes to, and products with the matrices of those alone.

Tokens are sorted by expert, so that a matrix is read once for all that go to it, and one that nobody goes to is
not read. The columns are shared out among the threads, each of which does its own of every expert: so what
several experts give one token is added in one order, whoever computes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tvm import tirx

from edge_router.compile.kernels.ir import (
    Buffer,
    Cell,
    Expr,
    Kernel,
    bind,
    bits,
    branch,
    cast,
    const,
    kernel,
    lanes_of,
    load,
    parallel,
    scratch,
    serial,
    settle,
    splat,
    store,
    when,
    zero,
)
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.linear import FEW_ROWS, GATES
from edge_router.compile.kernels.matmul import MatMul, strip_columns, strip_starts, tile_rows
from edge_router.compile.kernels.matvec import ROWS, Finish, MatVec
from edge_router.compile.kernels.shapes import Grouped, Routing
from edge_router.compile.kernels.stored import Matrix
from edge_router.compile.kernels.vectors import exp2

LOG2E = 1.4426950408889634
LOWEST = -3.0e38
UNIT = 32  # columns that one thread does together; every width is a multiple
LANES = 8  # of what is copied
PARTS = 16  # among which they are shared out: whole stretches, so that what is fetched ahead is used
SHARED = 4  # tokens of each expert, in the mean, up to which its weights are not unpacked to memory


def route(routing: Routing, rows: int | None) -> Any:
    """(ratings [rows, experts] float32, again, y [rows, 2 * chosen] int32): experts, the best first, and shares.

    The shares are float32, whose bits stand there as integers. Ratings come twice because TVM takes a function
    of one tensor for a change of its shape, and fails.
    """
    count, chosen = routing.experts, routing.chosen
    with kernel("route") as k:
        tokens = k.size() if rows is None else rows
        ratings = k.tensor("ratings", (tokens, count))
        again = k.tensor("again", (tokens, count))
        y = k.tensor("y", (tokens, 2 * chosen), "int32")
        with parallel(tokens) if rows is None else serial(tokens) as m:
            left, among = scratch((count,)), scratch((chosen,))
            with serial(tirx.const(count, "int64")) as e:
                store(left, load(ratings, m, e), e)
            with serial(tirx.const(chosen, "int64")) as i:
                best, place = Cell(const(LOWEST, "float32")), Cell(tirx.const(0, "int64"))
                with serial(tirx.const(count, "int64")) as e, when(load(left, e) > best.value):
                    best.set(load(left, e))
                    place.set(e)
                store(y, cast(place.value, "int32"), m, i)
                store(among, load(again, m, place.value), i)
                store(left, const(LOWEST, "float32"), place.value)
            total = Cell(zero())
            with serial(tirx.const(chosen if routing.shared_out else count, "int64")) as i:
                value = load(among, i) if routing.shared_out else load(ratings, m, i)
                total.add(_power(value, load(among, 0)))
            with serial(tirx.const(chosen, "int64")) as i:
                share = bind(_power(load(among, i), load(among, 0)) / total.value)
                store(y, bits(share, "int32"), m, i + chosen)
    return k.function


def _power(value: Expr, peak: Expr) -> Expr:
    return exp2((value - peak) * const(LOG2E, "float32"))


def grouped(isa: Isa, shape: Grouped) -> Any:
    """(routes, as `route` gives them; x, the arrays of W, (added,) y)."""
    with kernel("experts" if shape.gate is None else "experts_gated") as k:
        product = _Product(k, isa, shape)
        few = max(FEW_ROWS, tile_rows(isa), SHARED * shape.routing.experts // shape.routing.chosen)
        if shape.rows is not None:
            product.few()
        else:
            with branch(product.tokens <= few) as (yes, no):
                with yes:
                    product.few()
                with no:
                    product.many()
    return k.function


class _Sorted:
    """Pairs of a token and one of its experts, numbered token by token, in the order of the experts.

    Those of expert e lie from `starts[e]` up to `starts[e + 1]`. `busy` are the experts that have any.
    """

    def __init__(self, routes: Buffer, tokens: Expr, routing: Routing) -> None:
        count, chosen = routing.experts, routing.chosen
        self.pairs, self.starts = scratch((tokens * chosen,), "int64"), scratch((count + 1,), "int64")
        places, self.busy = scratch((count,), "int64"), scratch((count + 1,), "int64")
        nothing, one = tirx.const(0, "int64"), tirx.const(1, "int64")
        with serial(tirx.const(count + 1, "int64")) as e:
            store(self.starts, nothing, e)

        def expert(token: Expr, i: Expr) -> Expr:
            return bind(cast(load(routes, token, i), "int64"))

        with serial(tokens) as token, serial(tirx.const(chosen, "int64")) as i:
            e = expert(token, i)
            store(self.starts, load(self.starts, e + 1) + one, e + 1)
        found = Cell(nothing)
        with serial(tirx.const(count, "int64")) as e:
            store(places, load(self.starts, e), e)
            with when(load(self.starts, e + 1) > 0):
                store(self.busy, e, found.value)
                found.add(one)
            store(self.starts, load(self.starts, e + 1) + load(self.starts, e), e + 1)
        self._number = settle(found.value)
        store(self.busy, load(self.busy, self._number - 1), self._number)  # nothing follows the last
        with serial(tokens) as token, serial(tirx.const(chosen, "int64")) as i:
            e = expert(token, i)
            store(self.pairs, token * chosen + i, load(places, e))
            store(places, load(places, e) + one, e)

    @contextmanager
    def each(self) -> Iterator[tuple[Expr, Expr, Expr, Expr]]:
        """Every expert that some go to: its number, where its pairs begin, how many they are, and who follows."""
        with serial(self._number) as i:
            e = bind(load(self.busy, i))
            start = bind(load(self.starts, e))
            yield e, start, bind(load(self.starts, e + 1) - start), bind(load(self.busy, i + 1))


class _Product:
    """What `grouped` computes, as parts of a kernel."""

    def __init__(self, k: Kernel, isa: Isa, shape: Grouped) -> None:
        count, gated = shape.routing.experts, shape.gate is not None
        self._isa, self._shape, self._chosen = isa, shape, shape.routing.chosen
        self._width = shape.outputs // 2 if gated else shape.outputs
        self.tokens = k.size() if shape.rows is None else shape.rows
        pairs = self.tokens * self._chosen
        self._routes = k.tensor("routes", (self.tokens, 2 * self._chosen), "int32")
        self._rows = self.tokens if gated else pairs
        self._x = k.tensor("x", (self._rows, shape.inputs), "float32")
        self._matrix = Matrix.argument(k, shape.stored, count * shape.outputs, shape.inputs)
        self._added = k.tensor("added", (self.tokens, self._width), "float32") if shape.add else None
        self._y = k.tensor("y", (pairs if gated else self.tokens, self._width), "float32")
        self._sorted = _Sorted(self._routes, self.tokens, shape.routing)

    def few(self) -> None:
        """Weights go through registers alone."""
        matvec = MatVec(self._isa.for_few_rows(), self._x, self._rows, self._matrix)
        with self._part() as (first, end), self._sorted.each() as (expert, start, number, following):
            blocks, count = self._blocks(expert), bind(end - first)
            leap = bind((following - expert) * self._shape.outputs - count)

            def some(at: Expr, rows: int) -> None:
                pairs = [bind(load(self._sorted.pairs, start + at + i)) for i in range(rows)]
                finish = self._finish(pairs)
                matvec.across(first, count, UNIT, blocks, [self._row(pair) for pair in pairs], finish, leap)

            if self.tokens == 1:  # no two of its experts are the same
                some(tirx.const(0, "int64"), 1)
                return
            with serial(number // ROWS) as tile:
                some(bind(tile * ROWS), ROWS)
            with serial(number % ROWS) as rest:
                some(bind(number // ROWS * ROWS + rest), 1)

    def many(self) -> None:
        """Weights are unpacked to memory, strip by strip."""
        matmul, height = MatMul(self._isa, self._x, self._rows, self._matrix), tile_rows(self._isa)
        width = strip_columns(self._isa, len(self._blocks(0)))
        with self._part() as (first, end), self._sorted.each() as (expert, start, number, _):
            starts = strip_starts(self._isa, self._blocks(expert))
            with serial((end - first) // width) as strip:
                column = bind(first + strip * width)
                panels = matmul.unpacked([column + s for s in starts], width)
                with serial((number + (height - 1)) // height) as tile:
                    places = [bind(tile * height + i) for i in range(height)]
                    inside = [place < number for place in places]  # what is not computes its last pair again
                    pairs = [
                        bind(load(self._sorted.pairs, start + tirx.min(place, number - 1)))
                        for place in places
                    ]
                    rows = [self._row(pair) for pair in pairs]
                    matmul.tile(panels, rows, column, width, self._finish(pairs, inside))

    def _blocks(self, expert: Expr) -> list[Expr]:
        """The first rows of an expert's matrices that share the columns."""
        first = expert * self._shape.outputs
        return [first] if self._shape.gate is None else [first, first + self._width]

    def _row(self, pair: Expr) -> Expr:
        """Of activations."""
        return bind(pair // self._chosen) if self._shape.gate else pair

    @contextmanager
    def _part(self) -> Iterator[tuple[Expr, Expr]]:
        """A thread's columns, from the first up to an end. What is summed begins with what is added."""
        units = self._width // UNIT
        parts = min(units, PARTS)
        with parallel(tirx.const(parts, "int64")) as part:
            first, end = (bind((part + i) * units // parts * UNIT) for i in (0, 1))
            if self._shape.gate is None:
                with serial(self.tokens) as m, serial((end - first) // LANES) as i:
                    column = first + i * LANES
                    begin = zero(LANES) if self._added is None else load(self._added, m, column, lanes=LANES)
                    store(self._y, begin, m, column)
            yield first, end

    def _finish(self, pairs: Sequence[Expr], inside: Sequence[Expr] | None = None) -> Finish:
        """What becomes of the sums of these pairs; those that are not `inside` count for nothing."""
        gate, chosen, shares = self._shape.gate, self._chosen, list[Expr]()
        if gate is None:
            for i, pair in enumerate(pairs):
                share = bits(load(self._routes, pair // chosen, chosen + pair % chosen), "float32")
                shares.append(bind(share if inside is None else tirx.Select(inside[i], share, zero())))

        def finish(i: Expr, column: Expr, sums: Sequence[Expr]) -> None:
            if gate is not None:
                store(self._y, GATES[gate](bind(sums[0])) * sums[1], pairs[i], column)
                return
            token, lanes = pairs[i] // chosen, lanes_of(sums[0])
            so_far = load(self._y, token, column, lanes=lanes)
            store(self._y, so_far + sums[0] * splat(shares[i], lanes), token, column)

        return finish
