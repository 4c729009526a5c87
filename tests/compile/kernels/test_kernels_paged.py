"""Attention over pages, of which some are gone where there is a window, against a plain softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_router.compile.kernels.attention_paged import Sight, paged_decode, paged_prefill
from edge_router.compile.kernels.shapes import PAGE, Heads
from edge_router.compile.weights.key_values import as_bytes, rounded

TOLERANCE = 3e-3  # the output is float16
LAYERS, LAYER = 2, 1
SHAPES = [
    Sight(Heads(4, 2, 64, window=20), 0, 0.2),
    Sight(Heads(9, 3, 16, window=37), 4, 0.3),
    Sight(Heads(4, 4, 80, window=130), 19, 0.15),
    Sight(Heads(2, 1, 32, cap=3.0, window=1), 0, 0.2),
    Sight(Heads(9, 3, 64), 0, 0.125),
    Sight(Heads(9, 3, 64), 0, 0.125, "int8"),
    Sight(Heads(4, 1, 128, cap=3.0, window=37), 4, 0.1, "int8"),
    Sight(Heads(4, 2, 24, "float32"), 0, 0.2, "int8"),
    Sight(Heads(4, 2, 64, "float32"), 0, 0.2, "float16"),
]
NAN = 0x7F  # of bytes: what two of them say as a float16


class Conversation:
    """Keys and values of `length` tokens, in pages where all that the next query can't see is no number."""

    def __init__(self, rng: np.random.Generator, shape: Sight, length: int) -> None:
        self.shape, self.length = shape, length
        heads = shape.heads
        size = (length, heads.key_value, heads.size)
        self.keys, self.values = (rng.normal(0, 1, size).astype(heads.dtype) for _ in range(2))
        self.window = heads.window or 1 << 20

    def put(self, pages: np.ndarray, table: np.ndarray, free: list[int], more: int) -> None:
        """Into `pages`, with room for `more` tokens."""
        first = max(0, self.length - (self.window - self.shape.sinks) + 1)
        for page in range(-(-(self.length + more) // PAGE)):
            begin = page * PAGE
            if begin + PAGE <= first and begin >= self.shape.sinks:
                table[page] = 0  # whose content is no number
                continue
            table[page] = free.pop()
            for which, held in enumerate((self.keys, self.values)):
                write(pages[LAYER, table[page], which], held[begin : begin + PAGE].swapaxes(0, 1), self.shape)

    def wanted(self, qkv: np.ndarray, for_sinks: np.ndarray) -> np.ndarray:
        """[rows, query heads, channels] of the next tokens."""
        heads, sinks, window = self.shape.heads, self.shape.sinks, self.window
        fresh = qkv[:, heads.query :]
        both = (self.keys, fresh[:, : heads.key_value]), (self.values, fresh[:, heads.key_value :])
        keys, values = (read_back(np.concatenate(parts), self.shape) for parts in both)
        out = np.zeros((len(qkv), heads.query, heads.size))
        for row in range(len(qkv)):
            position = self.length + row
            near = np.arange(max(sinks, position - (window - sinks) + 1), position + 1)
            far = np.arange(min(sinks, position + 1))
            for head in range(heads.query):
                shared = head // heads.group
                scores = np.concatenate(
                    [
                        keys[far, shared] @ for_sinks[row, head].astype("f8"),
                        keys[near, shared] @ qkv[row, head].astype("f8"),
                    ]
                ) * self.shape.scale  # fmt: skip
                if heads.cap:
                    scores = heads.cap * np.tanh(scores / heads.cap)
                weights = np.exp(scores - scores.max())
                seen = values[np.concatenate([far, near]), shared]
                out[row, head] = weights / weights.sum() @ seen
        return out


def write(page: np.ndarray, numbers: np.ndarray, shape: Sight) -> None:
    """numbers [heads, places, channels] from the page's first place on."""
    if not shape.pages.rounded:
        page[:, : numbers.shape[1]] = numbers
        return
    codes, scales = as_bytes(numbers)
    after = PAGE * shape.heads.size
    page[:, : codes[0].size] = codes.reshape(len(codes), -1)
    page[:, after : after + 2 * scales.shape[1]] = np.ascontiguousarray(scales).view("i1")


def read_back(numbers: np.ndarray, shape: Sight) -> np.ndarray:
    if shape.pages.rounded:
        return rounded(numbers).astype("f8")
    return numbers.astype(shape.pages.dtype).astype("f8")


def turned(rng: np.random.Generator, shape: Sight, rows: int) -> list[np.ndarray]:
    """Queries, keys and values, and the queries once more for the sinks."""
    heads = shape.heads
    qkv = rng.normal(0, 1.5, (rows, heads.query + 2 * heads.key_value, heads.size)).astype(heads.dtype)
    other = qkv.copy()
    other[:, : heads.query] = rng.normal(0, 1.5, (rows, heads.query, heads.size))
    return [qkv, other]


def kept(shape: Sight, sequences: int, places: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    count, form = sequences * places + 1, shape.pages
    pages = np.full(form.shape(LAYERS, count), NAN if form.rounded else np.nan, form.dtype)
    return pages, np.zeros((sequences, places), "i4"), list(range(1, count))


def untouched(pages: np.ndarray) -> bool:
    return bool((pages == NAN).all() if pages.dtype == np.int8 else np.isnan(pages).all())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_next_tokens_of_some_conversations(machine: Any, rng: np.random.Generator, shape: Sight) -> None:
    run = machine.compile(paged_prefill(machine.isa.narrowed(shape.heads.size), shape))
    for told in ([(0, 3)], [(0, 150)], [(7, 40)], [(100, 33), (0, 1), (161, 70)], [(3, 1), (20, 9)]):
        conversations = [Conversation(rng, shape, length) for length, _ in told]
        pages, table, free = kept(shape, len(told), 16)
        for conversation, own, (_, rows) in zip(conversations, table, told, strict=True):
            conversation.put(pages, own, free, rows)
        counts = [rows for _, rows in told]
        queries = turned(rng, shape, sum(counts))
        out = np.zeros((sum(counts), shape.heads.query, shape.heads.size), shape.heads.dtype)
        positions = np.concatenate([np.arange(length, length + rows, dtype="i4") for length, rows in told])
        ends = np.cumsum(counts, dtype="i4") - 1
        run(*queries[: 1 + bool(shape.sinks)], pages, table, positions, ends.astype("i4"), LAYER, out)
        for conversation, end, rows in zip(conversations, ends, counts, strict=True):
            own = slice(end + 1 - rows, end + 1)
            wanted = conversation.wanted(*(q[own] for q in queries))
            assert np.abs(out[own] - wanted).max() < TOLERANCE, told
        assert untouched(pages[1 - LAYER])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_several_tokens_of_one_are_computed_as_one_by_one(
    machine: Any, rng: np.random.Generator, shape: Sight
) -> None:
    """To the last bit."""
    run = machine.compile(paged_decode(machine.isa.narrowed(shape.heads.size), shape))
    for length, rows in ((0, 8), (13, 5), (129, 8), (300, 3)):
        told = Conversation(rng, shape, length)
        pages, table, free = kept(shape, 1, 20)
        told.put(pages, table[0], free, rows)
        other, queries = pages.copy(), turned(rng, shape, rows)[: 1 + bool(shape.sinks)]
        positions = np.arange(length, length + rows, dtype="i4")
        together, alone = (
            np.zeros((rows, shape.heads.query, shape.heads.size), shape.heads.dtype) for _ in range(2)
        )
        run(*queries, pages, np.repeat(table, rows, axis=0), positions, LAYER, together)
        for row in range(rows):
            own = slice(row, row + 1)
            run(*(q[own].copy() for q in queries), other, table, positions[own].copy(), LAYER, alone[own])
        assert (together == alone).all(), (length, rows)
        assert pages.tobytes() == other.tobytes()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_token_of_each_of_several(machine: Any, rng: np.random.Generator, shape: Sight) -> None:
    run = machine.compile(paged_decode(machine.isa.narrowed(shape.heads.size), shape))
    lengths = [0, 2, 19, 20, 64, 300, 129]
    pages, table, free = kept(shape, len(lengths), 20)
    told = [Conversation(rng, shape, length) for length in lengths]
    for conversation, own in zip(told, table, strict=True):
        conversation.put(pages, own, free, 1)
    queries = turned(rng, shape, len(lengths))
    out = np.zeros((len(lengths), shape.heads.query, shape.heads.size), shape.heads.dtype)
    run(*queries[: 1 + bool(shape.sinks)], pages, table, np.array(lengths, "i4"), LAYER, out)
    for row, conversation in enumerate(told):
        wanted = conversation.wanted(*(q[row : row + 1] for q in queries))
        assert np.abs(out[row] - wanted[0]).max() < TOLERANCE, lengths[row]
