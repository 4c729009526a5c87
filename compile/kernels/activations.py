"""Activations in the form in which the products want them: float32, or integers for weights of four bits.

Sixteen-bit form: each group of 32 (the weights' own groups) becomes integers of +-32,512 with one float32
scale. That is finer than the float16 in which these models keep their activations elsewhere, and it halves
(with VNNI: quarters) the arithmetic, because a 4-bit weight is an integer too.

Two integers share a lane: word w of a weight row holds the nibbles 8w..8w+7, and shifting it right by 4j and
masking with 0x000F000F leaves nibbles j and j+4. So activations 8w+j and 8w+j+4 are one pair, j = 0..3.
"""

from __future__ import annotations

from tvm import tirx

from edge_router.compile.kernels.ir import Buffer, Expr, bind, bits, const, load, pick, serial, splat, store
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.stored import WORDS
from edge_router.compile.kernels.vectors import dot, largest, to_float, transposed
from edge_router.records import dataclass

GROUP = 32  # weights with one scale
LIMIT = 32512.0  # 127 * 256: room for rounding below 2**15
ROUNDER = 1.5 * 2.0**23  # adding it leaves the nearest integer in a float's lowest bits
OFFSET = 7  # the nibble that means zero


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


def quantized_group(isa: Isa, x: Buffer, m: Expr, g: Expr) -> tuple[list[Expr], Expr]:
    """Row m's group g: its four words' pairs (int32x4 each, j = 0..3), and the scale."""
    values = [bind(to_float(isa, load(x, m, g * GROUP + 8 * w, lanes=8))) for w in range(WORDS)]
    zero = const(0.0, "float32", 8)
    sizes = [tirx.max(v, zero - v) for v in values]
    peak = bind(
        tirx.max(largest(tirx.max(tirx.max(sizes[0], sizes[1]), tirx.max(sizes[2], sizes[3]))), 1e-30)
    )
    factor = bind(const(LIMIT, "float32") / peak)
    words = []
    for value in values:
        rounded = bind(bits(value * splat(factor, 8) + const(ROUNDER, "float32", 8), "int32x8"))
        low = pick([rounded], range(4)) & const(0xFFFF, "int32", 4)
        words.append(bind(low | (pick([rounded], range(4, 8)) << const(16, "int32", 4))))
    return words, bind(peak * const(1 / LIMIT, "float32"))


def minus_zero_points(isa: Isa, pairs: list[Expr], start: Expr | None = None) -> Expr:
    """-7 times the sum over the pairs, lane by lane: what turns nibbles into weights, before the scale."""
    lanes = pairs[0].ty.dtype.lanes
    seven = const((-OFFSET & 0xFFFF) << 16 | (-OFFSET & 0xFFFF), "uint32", lanes)
    sums = const(0, "int32", lanes) if start is None else start
    for pair in pairs:
        sums = dot(isa, sums, pair, bits(seven, f"int32x{lanes}"))
    return sums


def pack_by_word(isa: Isa, x: Buffer, m: Expr, words: int, into: tuple[Buffer, Buffer, Buffer]) -> None:
    """Row m for `matvec`: lanes are words.

    Into pairs [m, 4 * words] (vectors of a piece's block lie together, j by j), zero points [m, words] and
    scales [m, words] (each group's four times).
    """
    pairs, zeros, scales = into
    for piece in pieces(words, isa.lanes):
        with serial(tirx.const(piece.blocks * piece.lanes // WORDS, "int64")) as i:
            word = bind(i * WORDS)  # counted from the piece's start
            quantized, scale = quantized_group(isa, x, m, i + piece.start // WORDS)
            place = bind(word // piece.lanes * (4 * piece.lanes) + word % piece.lanes + 4 * piece.start)
            for j, column in enumerate(transposed(quantized)):
                store(pairs, column, m, place + j * piece.lanes)
            store(scales, splat(scale, WORDS), m, word + piece.start)
        with serial(tirx.const(piece.blocks, "int64")) as b:
            block = [
                load(pairs, m, b * (4 * piece.lanes) + (4 * piece.start + j * piece.lanes), lanes=piece.lanes)
                for j in range(4)
            ]
            store(zeros, minus_zero_points(isa, block), m, b * piece.lanes + piece.start)


def pack_by_group(isa: Isa, x: Buffer, m: Expr, words: int, into: tuple[Buffer, Buffer, Buffer]) -> None:
    """Row m for `matmul`: lanes are output columns, activations are broadcast one pair at a time.

    Into pairs [m, 4 * words] (word by word), zero points [m, groups], scales [m, groups].
    """
    pairs, zeros, scales = into
    with serial(tirx.const(words // WORDS, "int64")) as g:
        quantized, scale = quantized_group(isa, x, m, g)
        for w, pair in enumerate(quantized):
            store(pairs, pair, m, g * (4 * WORDS) + 4 * w)
        lanes = bind(minus_zero_points(isa, quantized))
        store(zeros, sum((pick([lanes], [i]) for i in range(1, 4)), start=pick([lanes], [0])), m, g)
        store(scales, scale, m, g)
