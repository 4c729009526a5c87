"""Activations in the form in which the products want them: float32, or integers for weights of four bits.

Each group of 32 (the weights' own groups) becomes integers with one float32 scale: bytes of +-127 where the
processor multiplies those, else sixteen bits of +-32,512. A 4-bit weight is an integer too, so a lane of 32 bits
takes four products, or two.

Word w of a weight row holds the nibbles 8w..8w+7. Shifting it right by 4j and masking leaves nibbles j, j+2, j+4
and j+6 as bytes (j = 0, 1), or j and j+4 as sixteen-bit integers (j = 0..3). So those activations share lane j.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from edge_router.compile.kernels.ir import (
    Buffer,
    Cell,
    Expr,
    bind,
    bits,
    cast,
    const,
    lanes_of,
    load,
    pick,
    scratch,
    serial,
    splat,
    store,
)
from edge_router.compile.kernels.isa import Dot, Isa
from edge_router.compile.kernels.stored import WORDS, Matrix
from edge_router.compile.kernels.vectors import (
    byte_pairs,
    dot,
    largest,
    to_float,
    total,
    totals,
    word_pairs,
)
from edge_router.records import dataclass

GROUP = 32  # weights with one scale
ROUNDER = 1.5 * 2.0**23  # adding it leaves the nearest integer in a float's lowest bits
ROUNDER_BITS = 0x4B400000
OFFSET = 7  # the nibble that means zero


@dataclass(frozen=True, slots=True)
class Form:
    """`bits` of an integer; the largest is `limit`."""

    bits: int
    limit: float

    @classmethod
    def of(cls, isa: Isa) -> Form:
        return cls(8, 127.0) if isa.bytes else cls(16, 127.0 * 256)  # below 2**15, rounded too

    @property
    def each(self) -> int:
        """Integers of a lane."""
        return 32 // self.bits

    @property
    def slots(self) -> int:
        """Lanes of the activations that meet one word of weights."""
        return 8 // self.each

    def nibbles(self, words: Expr, j: int) -> Expr:
        """Of each word those that meet lane j, as integers of this form."""
        lanes = lanes_of(words)
        shifted = words >> const(4 * j, "uint32", lanes) if j else words
        mask = sum(0xF << at for at in range(0, 32, self.bits))
        return bits(shifted & const(mask, "uint32", lanes), f"int32x{lanes}")


@dataclass(frozen=True, slots=True)
class Piece:
    """`blocks` vectors of `lanes` words each, from word `start` of a row on."""

    start: int
    blocks: int
    lanes: int


def pieces(words: int, lanes: int) -> list[Piece]:
    """A row of `words` words as full vectors, then ever smaller ones for the rest."""
    found, start = [], 0
    while start < words:
        if blocks := (words - start) // lanes:
            found.append(Piece(start, blocks, lanes))
            start += blocks * lanes
        lanes //= 2
    return found


def copy_row(isa: Isa, x: Buffer, m: Expr, inputs: int, into: Buffer, width: int) -> None:
    """Row m in float32, with zeros from `inputs` to `width`."""
    lanes = isa.narrowed(inputs).lanes
    with serial(inputs // lanes) as i:
        store(into, to_float(isa, load(x, m, i * lanes, lanes=lanes)), m, i * lanes)
    if width > inputs:
        with serial(width - inputs) as i:
            store(into, const(0.0, "float32"), m, i + inputs)


def whole_groups(isa: Isa, x: Buffer, rows: Expr, matrix: Matrix, each: Callable[[Expr], Any]) -> Buffer:
    """`x` itself where groups divide its rows; else a copy with zeros behind each, made in a loop of `each`."""
    if matrix.inputs % GROUP == 0:
        return x
    copy = scratch((rows, matrix.padded))
    with each(rows) as m:
        copy_row(isa, x, m, matrix.inputs, copy, matrix.padded)
    return copy


def quantized_group(isa: Isa, x: Buffer, m: Expr, g: Expr) -> tuple[list[Expr], Expr, Expr]:
    """Row m's group g: its four words' lanes, -7 times each word's sum, and the scale.

    The sums are what turns nibbles into weights.
    """
    form = Form.of(isa)
    values = [bind(to_float(isa, load(x, m, g * GROUP + 8 * w, lanes=8))) for w in range(WORDS)]
    zero = const(0.0, "float32", 8)
    sizes = [tirx.max(v, zero - v) for v in values]
    peak = bind(
        tirx.max(largest(tirx.max(tirx.max(sizes[0], sizes[1]), tirx.max(sizes[2], sizes[3]))), 1e-30)
    )
    factor = bind(const(form.limit, "float32") / peak)
    order = [j + form.slots * i for j in range(form.slots) for i in range(form.each)]
    words, halves = [], []
    for value in values:
        moved = bits(value * splat(factor, 8) + const(ROUNDER, "float32", 8), "int32x8")
        rounded = bind(moved - const(ROUNDER_BITS, "int32", 8))
        integers = bind(cast(rounded, f"int{form.bits}"))
        words.append(bind(bits(pick([integers], order), f"int32x{form.slots}")))
        halves.append(bind(pick([rounded], range(4)) + pick([rounded], range(4, 8))))
    zeros = bind(totals(halves) * const(-OFFSET, "int32", WORDS))
    return words, zeros, bind(peak * const(1 / form.limit, "float32"))


def pack_by_word(isa: Isa, x: Buffer, m: Expr, words: int, into: tuple[Buffer, Buffer, Buffer]) -> None:
    """Row m for `matvec`: lanes are words.

    Into lanes [m, slots * words] (vectors of a piece's block lie together, j by j), zero points [m, words] and
    scales [m, words] (each group's four times).
    """
    lanes, zeros, scales = into
    slots = Form.of(isa).slots
    for piece in pieces(words, isa.lanes):
        with serial(tirx.const(piece.blocks * piece.lanes // WORDS, "int64")) as i:
            word = bind(i * WORDS)  # counted from the piece's start
            quantized, zero, scale = quantized_group(isa, x, m, i + piece.start // WORDS)
            place = bind(
                word // piece.lanes * (slots * piece.lanes) + word % piece.lanes + slots * piece.start
            )
            for j in range(slots):
                column = pick(quantized, [slots * w + j for w in range(WORDS)])
                store(lanes, column, m, place + j * piece.lanes)
            store(zeros, zero, m, word + piece.start)
            store(scales, splat(scale, WORDS), m, word + piece.start)


def pack_by_group(isa: Isa, x: Buffer, m: Expr, words: int, into: tuple[Buffer, Buffer, Buffer]) -> None:
    """Row m for `matmul`: lanes are output columns, activations are broadcast one lane at a time.

    Into lanes [m, slots * words] (word by word), zero points [m, groups], scales [m, groups].
    """
    lanes, zeros, scales = into
    slots = Form.of(isa).slots
    with serial(tirx.const(words // WORDS, "int64")) as g:
        quantized, zero, scale = quantized_group(isa, x, m, g)
        for w, word in enumerate(quantized):
            store(lanes, word, m, g * (slots * WORDS) + slots * w)
        store(zeros, total(zero), m, g)
        store(scales, scale, m, g)


class Sums:
    """int32 sums of the products of one group, lane by lane, from `start` on."""

    def __init__(self, isa: Isa, start: Expr) -> None:
        self._isa, self._lanes = isa, lanes_of(start)
        self._short = isa.bytes and isa.dot is Dot.PAIRS  # 32 x 15 x 127 stay below 2**15 in pairs
        self._start = start
        self._cell = Cell(const(0, "int16", 2 * self._lanes) if self._short else start)

    def add(self, weights: Expr, activations: Expr) -> None:
        """`weights` as `Form.nibbles` leaves them."""
        if self._short:
            self._cell.add(byte_pairs(weights, activations))
        else:
            self._cell.set(dot(self._isa, self._cell.value, weights, activations))

    @property
    def value(self) -> Expr:
        if not self._short:
            return self._cell.value
        ones = const(1, "int16", 2 * self._lanes)
        return self._start + word_pairs(self._cell.value, ones)
