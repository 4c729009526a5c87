"""Attention over scattered pages, against numpy, for every shape that an architecture may bring."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_router.compile.webgpu.shaders.append import append
from edge_router.compile.webgpu.shaders.attend_many import attend_many
from edge_router.compile.webgpu.shaders.attend_one import attend_one, combine
from edge_router.compile.webgpu.shaders.heads import Heads
from edge_router.webgpu_program import PAGE_SIZE, ROW_WORDS

CLOSE = {False: {"rtol": 2e-3, "atol": 2e-3}, True: {"rtol": 0.02, "atol": 0.02}}  # in float16; in eight bits
EPSILON = 1e-6
SHAPES = {
    "as small as it gets": Heads(1, 1, 16, 0.25),
    "SmolLM2": Heads(9, 3, 64, 64**-0.5),
    "Phi": Heads(2, 2, 96, 96**-0.5),
    "not a power of two": Heads(4, 2, 80, 80**-0.5),
    "Llama": Heads(4, 1, 128, 128**-0.5),
    "Gemma": Heads(2, 1, 256, 256**-0.5),
    "a window": Heads(4, 2, 32, 32**-0.5, window=20),
    "a window beyond the past": Heads(2, 1, 32, 32**-0.5, window=500),
    "a window and sinks": Heads(4, 2, 32, 32**-0.5, window=20, sinks=5),
    "sinks beyond a tile": Heads(2, 1, 32, 32**-0.5, window=9, sinks=40),
    "capped scores": Heads(2, 1, 32, 32**-0.5, cap=3.0),
    "normalised heads": Heads(4, 2, 64, 64**-0.5, norm=EPSILON),
    "turned in part": Heads(2, 1, 64, 64**-0.5, turned=48),
    "eight bits": Heads(9, 3, 64, 64**-0.5, eight=True),
    "eight bits and all": Heads(4, 2, 48, 0.2, 37, 3, 5.0, EPSILON, 32, eight=True),
    "all at once": Heads(4, 2, 48, 0.2, window=37, sinks=3, cap=5.0, norm=EPSILON, turned=32),
}


class Model:
    """Attention in numpy over everything a sequence was given so far, and the arrays the shaders see."""

    def __init__(self, heads: Heads, pages: int, seed: int = 0) -> None:
        self.heads, self.rng = heads, np.random.default_rng(seed)
        self.keys = np.zeros((pages, heads.page_bytes // 4), np.uint32)
        self.values = np.zeros_like(self.keys)
        pairs = (heads.turned or heads.size) // 2
        angles = np.arange(400)[:, None] * 100.0 ** -(np.arange(pairs) / heads.size)
        self.rotary = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        self.norms = [self.rng.uniform(0.5, 1.5, heads.size).astype(np.float32) for _ in range(2)]
        self.past: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}

    def qkv(self, rows: int) -> np.ndarray:
        width = (self.heads.query + 2 * self.heads.key) * self.heads.size
        return self.rng.normal(size=(rows, width)).astype(np.float32)

    @property
    def given_norms(self) -> list[np.ndarray]:
        return self.norms if self.heads.norm is not None else []

    def expected(self, sequence: int, qkv: np.ndarray) -> np.ndarray:
        """Appends the row to the sequence; what attention makes of it."""
        heads, past = self.heads, self.past.setdefault(sequence, [])
        parts = qkv.astype(np.float64).reshape(-1, heads.size)
        query, key, value = np.split(parts, [heads.query, heads.query + heads.key])
        place = len(past)
        near = min(place, heads.window + heads.sinks - 1)  # where the query stands for the sinks
        far = self._turned(query, self.norms[0], near if heads.sinks else place)
        query, key = self._turned(query, self.norms[0], place), self._turned(key, self.norms[1], place)
        past.append((key, value))
        first = max(0, place + 1 - heads.window) if heads.window else 0
        kept = [*range(min(heads.sinks, first)), *range(first, place + 1)]
        keys, values = (np.stack(part) for part in zip(*(past[token] for token in kept), strict=True))
        keys, values = (np.repeat(part, heads.query // heads.key, axis=1) for part in (keys, values))
        sinks = sum(token < heads.sinks for token in kept)
        scores = np.einsum("hd,thd->ht", query, keys)
        scores[:, :sinks] = np.einsum("hd,thd->ht", far, keys[:sinks])
        scores *= heads.scale
        if heads.cap is not None:
            scores = heads.cap * np.tanh(scores / heads.cap)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return np.einsum("ht,thd->hd", weights, values).reshape(-1)

    def _turned(self, vectors: np.ndarray, weight: np.ndarray, place: int) -> np.ndarray:
        half = self.rotary.shape[1] // 2
        if self.heads.norm is not None:
            vectors = vectors * weight / np.sqrt((vectors**2).mean(-1, keepdims=True) + self.heads.norm)
        first, second, rest = np.split(vectors, [half, 2 * half], axis=1)
        cosine, sine = self.rotary[place, :half], self.rotary[place, half:]
        return np.concatenate([first * cosine - second * sine, second * cosine + first * sine, rest], axis=1)


def control(rows: list[tuple[int, int]], tables: list[list[int]]) -> np.ndarray:
    """`rows`: the position and the number of the page table of each."""
    head, begins = len(rows) * ROW_WORDS, list[int]()
    words: list[int] = []
    for table in tables:
        begins.append(head + len(words))
        words += table
    return np.array(
        [*(w for place, number in rows for w in (0, place, begins[number], 0)), *words], np.uint32
    )


def feed(run: Any, model: Model, qkv: np.ndarray, begin: int, table: list[int]) -> np.ndarray:
    """A chunk of one sequence."""
    n, heads = len(qkv), model.heads
    said = control([(begin + row, 0) for row in range(n)], [table])
    y = np.zeros((n, heads.query * heads.size), np.float32)
    queries = np.concatenate([y, y]) if heads.sinks else y.copy()
    cache = [model.keys, model.values]
    run(append(heads), [said, qkv, model.rotary, *cache, *model.given_norms, queries], n=n)
    return run(attend_many(heads), [said, queries, *cache, y], n=n)


@pytest.mark.parametrize("name", SHAPES)
def test_chunks_and_single_tokens(run: Any, name: str) -> None:
    """Two chunks and then tokens one by one, on pages in any order, are one sequence."""
    model = Model(SHAPES[name], pages=9)
    table = [5, 2, 8, 0, 7]
    begin = 0
    for size in (37, 18):
        qkv = model.qkv(size)
        found = feed(run, model, qkv, begin, table)
        np.testing.assert_allclose(found, [model.expected(0, row) for row in qkv], **CLOSE[model.heads.eight])
        begin += size
    for place in range(begin, begin + 12):
        qkv = model.qkv(1)
        found = step(run, model, qkv, [(place, 0)], [table])
        np.testing.assert_allclose(found, [model.expected(0, qkv[0])], **CLOSE[model.heads.eight])


def step(
    run: Any,
    model: Model,
    qkv: np.ndarray,
    rows: list[tuple[int, int]],
    tables: list[list[int]],
    splits: int = 1,
) -> np.ndarray:
    """One token of each of several sequences."""
    n, heads = len(qkv), model.heads
    y = np.zeros((n, heads.query * heads.size), np.float32)
    before = [control(rows, tables), qkv, model.rotary, model.keys, model.values, *model.given_norms]
    if splits == 1:
        return run(attend_one(heads), [*before, y], n=n)
    parts = np.zeros((n * heads.query * splits, heads.size + 2), np.float32)
    run(attend_one(heads, splits), [*before, parts], n=n)
    return run(combine(heads, splits), [parts, y], n=n)


@pytest.mark.parametrize("splits", [1, 3, 8])
@pytest.mark.parametrize("name", ["SmolLM2", "all at once", "a window and sinks", "sinks beyond a tile"])
def test_a_long_past_shared_out(run: Any, name: str, splits: int) -> None:
    """More splits than tiles, and tiles that don't share out evenly."""
    model = Model(SHAPES[name], pages=24, seed=1)
    table = list(model.rng.permutation(24))
    qkv = model.qkv(300)
    feed(run, model, qkv, 0, table)
    for row in qkv:
        model.expected(0, row)
    for place in (300, 301):
        row = model.qkv(1)
        found = step(run, model, row, [(place, 0)], [table], splits)
        np.testing.assert_allclose(found, [model.expected(0, row[0])], **CLOSE[model.heads.eight])


@pytest.mark.parametrize("splits", [1, 4])
def test_sequences_of_different_lengths_together(run: Any, splits: int) -> None:
    model = Model(SHAPES["SmolLM2"], pages=12, seed=2)
    tables, lengths = [[3, 1, 4, 9, 11], [5], [0, 2]], [70, 0, 16]
    for number, length in enumerate(lengths):
        if length:
            qkv = model.qkv(length)
            feed(run, model, qkv, 0, tables[number])
            for row in qkv:
                model.expected(number, row)
    for turn in range(3):
        qkv = model.qkv(3)
        rows = [(length + turn, number) for number, length in enumerate(lengths)]
        found = step(run, model, qkv, rows, tables, splits)
        expected = [model.expected(number, row) for number, row in enumerate(qkv)]
        np.testing.assert_allclose(found, expected, **CLOSE[model.heads.eight])


def test_large_scores_do_not_overflow(run: Any) -> None:
    model = Model(replace(SHAPES["SmolLM2"], scale=30.0), pages=4, seed=3)
    qkv = model.qkv(40)
    found = feed(run, model, qkv, 0, [2, 0, 3])
    assert np.isfinite(found).all()
    assert np.isfinite(step(run, model, model.qkv(1), [(40, 0)], [[2, 0, 3]])).all()


def test_a_page_takes_what_it_should() -> None:
    assert Heads(32, 8, 128, 1.0).page_bytes == PAGE_SIZE * 8 * 128 * 2


def test_names_tell_shapes_apart() -> None:
    shapes = [*SHAPES.values(), *(replace(SHAPES["all at once"], cap=cap) for cap in (30.0, 50.0))]
    assert len({shape.name for shape in shapes}) == len(shapes)
