"""Short causal convolutions, each channel with taps of its own, and the states that they leave behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from edge_router.compile.kernels.ir import (
    Buffer,
    Cell,
    Expr,
    Kernel,
    bind,
    branch,
    cast,
    kernel,
    load,
    scratch,
    serial,
    share_out,
    store,
    when,
    zero,
)
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.shapes import BEFORE
from edge_router.compile.kernels.vectors import to_float

_LINE = 16  # channels of a cache line, which are computed together


class Rows:
    """Kernel arguments that say where rows take states from and leave them: (sources, saves, layer).

    Of each row `sources` is the slot of the state before it, `BEFORE`: the one that the row before it left,
    or less for the beginning of a text; `saves` the slot that gets the state behind it, below 0 for none.
    """

    def __init__(self, k: Kernel, rows: Expr) -> None:
        self._sources, self._saves = (k.tensor(name, (rows,), "int32") for name in ("sources", "saves"))
        self.layer = k.scalar("layer", "int64")

    def at_begin(self, row: Expr, take: Callable[[Expr], None], empty: Callable[[], None]) -> None:
        """Before a row: `take` the state in a slot, begin with an `empty` one, or go on with what is there."""
        source = bind(load(self._sources, row))
        with when(source != BEFORE), branch(source >= 0) as (kept, none):
            with kept:
                take(bind(cast(source, "int64")))
            with none:
                empty()

    def at_end(self, row: Expr, keep: Callable[[Expr], None]) -> None:
        """Behind a row: `keep` the state in a slot, where it has one."""
        target = bind(load(self._saves, row))
        with when(target >= 0):
            keep(bind(cast(target, "int64")))


class Convolution:
    """`taps` of [channels, taps] over what comes in, channel block by channel block, and its tail.

    tail [layers, slots, taps - 1, channels].
    """

    def __init__(self, isa: Isa, taps: Buffer, tail: Buffer, rows: Rows, first: Expr, lanes: int) -> None:
        self._tail, self._rows, self._first, self._lanes = tail, rows, first, lanes
        self._count = int(taps.shape[1])
        turned = scratch((self._count, lanes))
        with serial(lanes) as i:
            for tap in range(self._count):
                store(turned, to_float(isa, load(taps, first + i, tap)), tap, i)
        self._taps = [bind(load(turned, tap, 0, lanes=lanes)) for tap in range(self._count)]
        self._last = [Cell(zero(lanes)) for _ in range(self._count - 1)]  # what came in, the oldest first

    def step(self, row: Expr, value: Expr) -> Expr:
        """What comes out for `value`, this row's."""
        layer, first, lanes = self._rows.layer, self._first, self._lanes

        def take(slot: Expr) -> None:
            for number, cell in enumerate(self._last):
                cell.set(load(self._tail, layer, slot, number, first, lanes=lanes))

        def empty() -> None:
            for cell in self._last:
                cell.set(zero(lanes))

        def keep(slot: Expr) -> None:
            for number, cell in enumerate(self._last):
                store(self._tail, cell.value, layer, slot, number, first)

        self._rows.at_begin(row, take, empty)
        total = Cell(value * self._taps[-1])
        for cell, tap in zip(self._last, self._taps, strict=False):
            total.add(cell.value * tap)
        for cell, following in zip(self._last, self._last[1:], strict=False):
            cell.set(following.value)
        self._last[-1].set(value)
        self._rows.at_end(row, keep)
        return total.value


def lanes_for(isa: Isa, channels: int) -> int:
    """Of a vector that divides the channels."""
    lanes = isa.lanes
    while channels % lanes:
        lanes //= 2
    return lanes


def blocks_of(channels: int, lanes: int) -> tuple[int, int]:
    """How many tasks, and vectors of each."""
    vectors = max(1, _LINE // lanes)
    while channels % (lanes * vectors):
        vectors //= 2
    return channels // (lanes * vectors), vectors


def short_convolution(isa: Isa, channels: int, taps: int, weight_dtype: str) -> Any:
    """(projected [rows, 3 * channels], weight [channels, taps], tail, sources, saves, layer, y [rows, channels]).

    Of LFM2: the three parts are B, C and x, and y = C * convolution(B * x).
    """
    with kernel("short_convolution") as k:
        count = k.size()
        projected = k.tensor("projected", (count, 3 * channels), "float32")
        weight = k.tensor("weight", (channels, taps), weight_dtype)
        tail = k.tensor("tail", (k.size(), k.size(), taps - 1, channels), "float32")
        rows = Rows(k, count)
        y = k.tensor("y", (count, channels), "float32")
        lanes = lanes_for(isa, channels)
        tasks, vectors = blocks_of(channels, lanes)

        def block(task: Expr) -> None:
            places = [bind(task * (vectors * lanes) + number * lanes) for number in range(vectors)]
            convolutions = [Convolution(isa, weight, tail, rows, place, lanes) for place in places]
            with serial(count) as row:
                for place, convolution in zip(places, convolutions, strict=True):
                    before, after, x = (
                        load(projected, row, place + part * channels, lanes=lanes) for part in range(3)
                    )
                    store(y, after * convolution.step(row, bind(before * x)), row, place)

        share_out(count, tirx.const(tasks, "int64"), block)
    return k.function
