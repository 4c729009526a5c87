"""Attention among new tokens, to cached ones and of single tokens, on the emulated GPU against a plain softmax."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from edge_router.compile.kernels.shapes import PAGE, Heads

TAIL = (0, 1.0, 1e4)  # no rotation inside the kernel
TOLERANCE = 2e-3  # the output is float16
HEADS = [
    Heads(9, 3, 64),
    Heads(4, 1, 128),
    Heads(2, 2, 256),
    Heads(10, 1, 80),
    Heads(4, 2, 64, cap=5.0, window=20),
]


# only some are tested each time
SOME = [
    heads if i in (0, 4) else pytest.param(heads, marks=pytest.mark.slow) for i, heads in enumerate(HEADS)
]


def ids(heads: Heads) -> str:
    return f"{heads.query}over{heads.key_value}x{heads.size}"


def attention(
    heads: Heads, q: np.ndarray, k: np.ndarray, v: np.ndarray, ends: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Query row i sees keys before ends[i], the last `window` of them; also the softmax sums' base-2 logarithms."""
    out, sums, token = np.zeros(q.shape), np.zeros(q.shape[:2]), np.arange(len(k))
    for head in range(heads.query):
        shared = head // heads.group
        scores = q[:, head].astype("f8") @ k[:, shared].astype("f8").T * scale
        scores = (np.tanh(scores / heads.cap) * heads.cap if heads.cap else scores) / np.log(2)
        scores[token >= ends[:, None]] = -np.inf
        if heads.window:
            scores[token < ends[:, None] - heads.window] = -np.inf
        peak = scores.max(1, keepdims=True)
        powers = np.exp2(scores - peak)
        total = powers.sum(1, keepdims=True)
        out[:, head] = powers / total @ v[:, shared].astype("f8")
        sums[:, head] = (peak + np.log2(total))[:, 0]
    return out, sums


def starts(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype("i4")


@dataclass
class Cache:
    """Sequences of these lengths in pages that lie in random order; what nobody wrote is no number."""

    pages: np.ndarray
    starts: np.ndarray
    numbers: np.ndarray
    last: np.ndarray
    keys: list[np.ndarray]
    values: list[np.ndarray]

    @classmethod
    def make(cls, rng: np.random.Generator, heads: Heads, lengths: list[int]) -> Cache:
        counts = [-(-length // PAGE) for length in lengths]
        pages = np.full((sum(counts) + 3, 2, heads.key_value, PAGE, heads.size), np.nan, "f2")
        numbers, begin = rng.permutation(len(pages))[: sum(counts)].astype("i4"), starts(counts)
        both: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for i, length in enumerate(lengths):
            for which, kept in enumerate(both):
                kept.append(rng.normal(0, 1, (length, heads.key_value, heads.size)).astype("f2"))
                for token, value in enumerate(kept[-1]):
                    pages[numbers[begin[i] + token // PAGE], which, :, token % PAGE] = value
        last = np.array([(length - 1) % PAGE + 1 if length else 0 for length in lengths], "i4")
        return cls(pages, begin, numbers, last, *both)


def zeros(count: int) -> np.ndarray:
    return np.zeros(count, "i4")


def scales(heads: Heads) -> tuple[float, float]:
    """The scores', and what the kernel is given: below zero where there is a window."""
    scale = heads.size**-0.5
    return scale, -scale if heads.window else scale


@pytest.mark.parametrize("heads", SOME, ids=ids)
def test_among_new_tokens(gpu: Any, backwards: Any, rng: np.random.Generator, heads: Heads) -> None:
    lengths = [1, 45, 5, 64]
    begin, tokens = starts(lengths), sum(lengths)
    q = rng.normal(0, 2, (tokens, heads.query, heads.size)).astype("f2")
    k, v = (rng.normal(0, 1, (tokens, heads.key_value, heads.size)).astype("f2") for _ in range(2))
    scale, given = scales(heads)
    positions, found = np.concatenate([np.arange(n) for n in lengths]).astype("i4"), []
    for device in (gpu, backwards):
        out, sums = np.full(q.shape, np.nan, "f2"), np.full(q.shape[:2], np.nan, "f4")
        rest = (positions, zeros(len(lengths)), out, sums, 1, *TAIL, given)
        device.run("fresh", [heads], q, begin, k, v, begin, *rest)
        for a, b in pairwise(begin):
            wanted, logarithms = attention(heads, q[a:b], k[a:b], v[a:b], np.arange(b - a) + 1, scale)
            assert np.abs(out[a:b] - wanted).max() < TOLERANCE
            assert np.abs(sums[a:b] - logarithms).max() < 1e-4
        found.append(out)
    assert np.array_equal(*found)


@pytest.mark.parametrize("heads", HEADS[:2], ids=ids)
@pytest.mark.parametrize("causal", [0, 1])
def test_to_cached_tokens(gpu: Any, rng: np.random.Generator, heads: Heads, causal: int) -> None:
    new, old = [3, 40, 2, 1], [40, 200, 0, 17]
    cache, begin, tokens = Cache.make(rng, heads, old), starts(new), sum(new)
    q = rng.normal(0, 2, (tokens, heads.query, heads.size)).astype("f2")
    out, sums = np.full(q.shape, np.nan, "f2"), np.full(q.shape[:2], np.nan, "f4")
    scale = heads.size**-0.5
    pages = (cache.pages, cache.starts, cache.numbers, cache.last, zeros(4), zeros(tokens))
    gpu.run("cached", [heads], q, begin, *pages, out, sums, causal, *TAIL, scale)
    for i, (a, b) in enumerate(pairwise(begin)):
        if not old[i]:  # nothing to see: merging with this must change nothing
            assert not out[a:b].any()
            assert (sums[a:b] < -4e4).all()
            continue
        ends = np.arange(b - a) + 1 + old[i] - new[i] if causal else np.full(b - a, old[i])
        wanted, logarithms = attention(heads, q[a:b], cache.keys[i], cache.values[i], ends, scale)
        assert np.abs(out[a:b] - wanted).max() < TOLERANCE
        assert np.abs(sums[a:b] - logarithms).max() < 1e-4


@pytest.mark.parametrize("heads", SOME, ids=ids)
@pytest.mark.parametrize("longest", [100, 3000])  # one block for a head's past, or several
def test_of_single_tokens(gpu: Any, rng: np.random.Generator, heads: Heads, longest: int) -> None:
    lengths = [1, 17, longest, 0]
    cache, count = Cache.make(rng, heads, lengths), len(lengths)
    q = rng.normal(0, 2, (count, heads.query, heads.size)).astype("f2")
    out, sums = np.full(q.shape, np.nan, "f2"), np.full(q.shape[:2], np.nan, "f4")
    scale, given = scales(heads)
    positions = np.array([max(0, length - 1) for length in lengths], "i4")
    pages = (cache.pages, cache.starts, cache.numbers, cache.last, zeros(count), positions)
    gpu.run("decode", [heads], q, *pages, out, sums, *TAIL, given)
    for i, length in enumerate(lengths):
        if not length:
            assert not out[i].any()
            continue
        ends = np.array([length])
        wanted, logarithms = attention(heads, q[i : i + 1], cache.keys[i], cache.values[i], ends, scale)
        assert np.abs(out[i] - wanted[0]).max() < TOLERANCE
        assert np.abs(sums[i] - logarithms[0]).max() < 1e-4
