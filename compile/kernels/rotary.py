"""Rotary embedding: queries and keys turned by their positions, values split off, all in one pass.

Frequencies are numbers in the code, and each token's sines and cosines are made once for all its heads.
TVM's own kernel takes a power, a sine and a cosine for every element, which made it as slow as a projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx

from edge_router.compile.kernels.ir import (
    Buffer,
    Expr,
    bind,
    branch,
    cast,
    const,
    kernel,
    lanes_of,
    load,
    parallel,
    scratch,
    serial,
    splat,
    store,
)
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.shapes import Heads
from edge_router.compile.kernels.vectors import from_float, sine_cosine, to_float

MANY = 16  # tokens from which sharing them out over threads pays


def rotary(isa: Isa, heads: Heads, frequencies: Sequence[float], amplitude: float = 1.0) -> Any:
    """(qkv [tokens, all heads, channels], positions, q, k, v, apply int64).

    `frequencies` are the radians per position of channel pairs (i, i + their number); what is left of a head
    is not turned. What is turned is multiplied by `amplitude`. With `apply` 0 nothing is.
    """
    with kernel("split_rotary") as k:
        tokens = k.size(32)
        everything = heads.query + 2 * heads.key_value
        qkv = k.tensor("qkv", (tokens, everything, heads.size), heads.dtype)
        positions = k.tensor("positions", (tokens,), "int32", offset=k.size(32))
        outputs = [
            k.tensor(name, (tokens, count, heads.size), heads.dtype)
            for name, count in (("q", heads.query), ("k", heads.key_value), ("v", heads.key_value))
        ]
        apply = k.scalar("apply", "int64")
        turn = _Turn(isa, heads, frequencies, amplitude, qkv, positions, outputs, apply)
        turn.tokens(tokens)
    return k.function


def turn_together(isa: Isa, heads: Heads, frequencies: Sequence[float], amplitude: float = 1.0) -> Any:
    """(qkv [tokens, all heads * channels], positions, y): as `rotary`, but what comes out is not taken apart."""
    with kernel("turn_together") as k:
        tokens = k.size()
        everything = heads.query + 2 * heads.key_value
        shape = (tokens, everything * heads.size)
        flat = k.tensor("qkv", shape, heads.dtype)
        positions = k.tensor("positions", (tokens,), "int32", offset=k.size(32))
        y = k.tensor("y", shape, heads.dtype)
        always = const(1, "int64")
        turn = _Turn(isa, heads, frequencies, amplitude, flat, positions, [y] * 3, always, together=True)
        turn.tokens(tokens)
    return k.function


class _Turn:
    """`together`: heads lie end to end in rows, in what comes out, too."""

    def __init__(
        self, isa: Isa, heads: Heads, frequencies: Sequence[float], amplitude: float, qkv: Buffer,
        positions: Buffer, outputs: Sequence[Buffer], apply: Expr, *, together: bool = False,
    ) -> None:  # fmt: skip
        self._together = together
        self._amplitude = amplitude
        self._isa, self._heads, self._frequencies = isa, heads, frequencies
        self._qkv, self._positions, self._outputs, self._apply = qkv, positions, outputs, apply

    def tokens(self, count: Expr) -> None:
        with branch(count >= MANY) as (many, few):
            with many, parallel(count) as token:
                self._token(token)
            with few, serial(count) as token:
                self._token(token)

    def _token(self, token: Expr) -> None:
        half = len(self._frequencies)
        sines, cosines = scratch((half,)), scratch((half,))
        lanes = _lanes(half, self._isa.lanes)
        with branch(self._apply > 0) as (turned, plain):
            with turned:
                position = bind(cast(load(self._positions, token), "float32"))
                for first in range(0, half, lanes):
                    angle = splat(position, lanes) * _constants(self._frequencies[first : first + lanes])
                    sine, cosine = sine_cosine(bind(angle))
                    store(sines, self._scaled(sine), first)
                    store(cosines, self._scaled(cosine), first)
            with plain:
                for first in range(0, half, lanes):
                    store(sines, const(0.0, "float32", lanes), first)
                    store(cosines, const(1.0, "float32", lanes), first)
        start = 0
        for output, count in zip(self._outputs, (self._heads.query, self._heads.key_value, 0), strict=True):
            if count:
                with serial(count) as head:
                    self._turn_head(output, token, head, start, sines, cosines, lanes)
            start += count
        with serial(self._heads.key_value) as head:
            self._copy(self._outputs[2], token, head, start, 0)

    def _scaled(self, values: Expr) -> Expr:
        return (
            values if self._amplitude == 1.0 else values * const(self._amplitude, "float32", lanes_of(values))
        )

    def _turn_head(
        self, output: Buffer, token: Expr, head: Expr, start: int, sines: Buffer, cosines: Buffer, lanes: int
    ) -> None:
        half = len(self._frequencies)
        for i in range(0, half, lanes):
            a, b = (
                bind(to_float(self._isa, self._load(token, head + start, c, lanes))) for c in (i, i + half)
            )
            sine, cosine = bind(load(sines, i, lanes=lanes)), bind(load(cosines, i, lanes=lanes))
            turned = a * cosine - b * sine, b * cosine + a * sine
            for channel, value in zip((i, i + half), turned, strict=True):
                self._store(
                    output, from_float(self._isa, value, self._heads.dtype), token, head, start, channel
                )
        self._copy(output, token, head, start, 2 * half)

    def _copy(self, output: Buffer, token: Expr, head: Expr, start: int, first: int) -> None:
        lanes = _lanes(self._heads.size - first, self._isa.lanes) if first < self._heads.size else 1
        for i in range(first, self._heads.size, lanes):
            self._store(output, self._load(token, head + start, i, lanes), token, head, start, i)

    def _load(self, token: Expr, head: Expr, channel: int, lanes: int) -> Expr:
        if self._together:
            return load(self._qkv, token, head * self._heads.size + channel, lanes=lanes)
        return load(self._qkv, token, head, channel, lanes=lanes)

    def _store(self, output: Buffer, value: Expr, token: Expr, head: Expr, start: int, channel: int) -> None:
        """`start` is the number of heads before this kind's."""
        if self._together:
            store(output, value, token, (head + start) * self._heads.size + channel)
        else:
            store(output, value, token, head, channel)


def _lanes(count: int, most: int) -> int:
    """The widest vector of which `count` is a multiple."""
    while count % most:
        most //= 2
    return most


def _constants(values: Sequence[float]) -> Expr:
    numbers = [tirx.const(float(v), "float32") for v in values]
    return (
        tirx.Shuffle(numbers, [tirx.const(i, "int32") for i in range(len(numbers))])
        if len(numbers) > 1
        else numbers[0]
    )
