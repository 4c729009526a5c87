"""Attention among new tokens, to cached ones and of single tokens, against a plain softmax."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from edge_router.compile.kernels.attention_decode import RUN, decode
from edge_router.compile.kernels.attention_prefill import KEYS, cached, fresh
from edge_router.compile.kernels.shapes import PAGE, Heads

TAIL = (0, 1.0, 1e4)  # no rotation inside the kernel
TOLERANCE = 2e-3  # the output is float16


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, ends: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Query row i sees the first ends[i] keys. Also the base-2 logarithm of the softmax sum."""
    out, sums = np.zeros(q.shape), np.zeros(q.shape[:2])
    for head in range(q.shape[1]):
        shared = head // (q.shape[1] // k.shape[1])
        scores = q[:, head].astype("f8") @ k[:, shared].astype("f8").T * scale / np.log(2)
        scores[np.arange(len(k)) >= np.asarray(ends)[:, None]] = -np.inf
        peak = scores.max(1, keepdims=True)
        powers = np.exp2(scores - peak)
        total = powers.sum(1, keepdims=True)
        out[:, head], sums[:, head] = (
            powers / total @ v[:, shared].astype("f8"),
            (peak + np.log2(total))[:, 0],
        )
    return out, sums


def starts(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype("i4")


@dataclass
class Cache:
    """Sequences of these lengths in pages that lie in random order."""

    pages: np.ndarray
    starts: np.ndarray
    numbers: np.ndarray
    last: np.ndarray
    keys: list[np.ndarray]
    values: list[np.ndarray]

    @classmethod
    def make(cls, rng: np.random.Generator, heads: Heads, lengths: list[int]) -> Cache:
        counts = [-(-length // PAGE) for length in lengths]
        shape = (sum(counts) + 3, 2, heads.key_value, PAGE, heads.size)
        pages = rng.normal(0, 1, shape).astype("f2")
        numbers = rng.permutation(len(pages))[: sum(counts)].astype("i4")
        begin = starts(counts)
        found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for i, length in enumerate(lengths):
            own = pages[numbers[begin[i] : begin[i + 1]]]
            for which in (0, 1):
                flat = own[:, which].transpose(0, 2, 1, 3).reshape(-1, heads.key_value, heads.size)
                found[which].append(flat[:length])
        last = np.array([(length - 1) % PAGE + 1 if length else 0 for length in lengths], "i4")
        return cls(pages, begin, numbers, last, *found)


def zeros(count: int) -> np.ndarray:
    return np.zeros(count, "i4")


HEADS = [Heads(9, 3, 64), Heads(4, 4, 80), Heads(8, 1, 96), Heads(4, 2, 128), Heads(4, 2, 16)]


def ids(heads: Heads) -> str:
    return f"{heads.query}over{heads.key_value}x{heads.size}"


@pytest.mark.parametrize("heads", HEADS, ids=ids)
def test_among_new_tokens(machine: Any, rng: np.random.Generator, heads: Heads) -> None:
    lengths = [1, KEYS + 6, 5, 2 * KEYS]
    begin, tokens = starts(lengths), sum(lengths)
    q = rng.normal(0, 2, (tokens, heads.query, heads.size)).astype("f2")
    k, v = (rng.normal(0, 1, (tokens, heads.key_value, heads.size)).astype("f2") for _ in range(2))
    out, sums = np.zeros(q.shape, "f2"), np.zeros(q.shape[:2], "f4")
    run = machine.compile(fresh(machine.isa, heads))
    scale = heads.size**-0.5
    run(q, begin, k, v, begin, zeros(tokens), zeros(len(lengths)), out, sums, 1, *TAIL, scale)
    for a, b in pairwise(begin):
        wanted, logarithms = attention(q[a:b], k[a:b], v[a:b], np.arange(b - a) + 1, scale)
        assert np.abs(out[a:b] - wanted).max() < TOLERANCE
        assert np.abs(sums[a:b] - logarithms).max() < 1e-4


@pytest.mark.parametrize("heads", HEADS[:2], ids=ids)
@pytest.mark.parametrize("causal", [0, 1])
def test_to_cached_tokens(machine: Any, rng: np.random.Generator, heads: Heads, causal: int) -> None:
    new, old = [3, 40, 2, 1], [40, 200, 0, 17]
    cache, begin, tokens = Cache.make(rng, heads, old), starts(new), sum(new)
    q = rng.normal(0, 2, (tokens, heads.query, heads.size)).astype("f2")
    out, sums = np.zeros(q.shape, "f2"), np.zeros(q.shape[:2], "f4")
    run = machine.compile(cached(machine.isa, heads))
    scale = heads.size**-0.5
    run(
        *(q, begin, cache.pages, cache.starts, cache.numbers, cache.last, zeros(4), zeros(tokens), out, sums),
        *(causal, *TAIL, scale),
    )
    for i, (a, b) in enumerate(pairwise(begin)):
        if not old[i]:  # nothing to see: merging with this must change nothing
            assert not out[a:b].any()
            assert (sums[a:b] < -4e4).all()
            continue
        ends = np.arange(b - a) + 1 + old[i] - new[i] if causal else np.full(b - a, old[i])
        wanted, logarithms = attention(q[a:b], cache.keys[i], cache.values[i], ends, scale)
        assert np.abs(out[a:b] - wanted).max() < TOLERANCE
        assert np.abs(sums[a:b] - logarithms).max() < 1e-4


@pytest.mark.parametrize("heads", HEADS, ids=ids)
def test_of_single_tokens(machine: Any, rng: np.random.Generator, heads: Heads) -> None:
    lengths = [1, 17, 3 * RUN * PAGE + 5, 0, RUN * PAGE, 100]
    cache, count = Cache.make(rng, heads, lengths), len(lengths)
    q = rng.normal(0, 2, (count, heads.query, heads.size)).astype("f2")
    out, sums = np.zeros(q.shape, "f2"), np.zeros(q.shape[:2], "f4")
    run = machine.compile(decode(machine.isa, heads))
    scale = heads.size**-0.5
    run(
        *(q, cache.pages, cache.starts, cache.numbers, cache.last, zeros(count), zeros(count), out, sums),
        *(*TAIL, scale),
    )
    for i, length in enumerate(lengths):
        if not length:
            assert not out[i].any()
            continue
        wanted, logarithms = attention(
            q[i : i + 1], cache.keys[i], cache.values[i], np.array([length]), scale
        )
        assert np.abs(out[i] - wanted[0]).max() < TOLERANCE
        assert np.abs(sums[i] - logarithms[0]).max() < 1e-4


def test_scores_far_apart_stay_finite(machine: Any, rng: np.random.Generator) -> None:
    heads = Heads(2, 1, 64)
    cache = Cache.make(rng, heads, [50])
    q = np.full((1, 2, 64), 60000, "f2")
    out, sums = np.zeros(q.shape, "f2"), np.zeros(q.shape[:2], "f4")
    machine.compile(decode(machine.isa, heads))(
        *(q, cache.pages, cache.starts, cache.numbers, cache.last, zeros(1), zeros(1), out, sums),
        *(*TAIL, 1e-3),
    )
    assert np.isfinite(out).all()
    assert np.isfinite(sums).all()


@pytest.mark.parametrize("garbage", [np.nan, np.inf])
def test_what_lies_behind_the_last_token_does_not_matter(
    machine: Any, rng: np.random.Generator, garbage: float
) -> None:
    heads, length = Heads(3, 1, 64), 2 * PAGE + 5
    cache = Cache.make(rng, heads, [length])
    cache.pages[cache.numbers[-1], :, :, 5:] = garbage
    q = rng.normal(0, 1, (1, 3, 64)).astype("f2")
    wanted, _ = attention(q, cache.keys[0], cache.values[0], np.array([length]), 0.125)
    rest = (cache.pages, cache.starts, cache.numbers, cache.last, zeros(1), zeros(1))
    out, sums = np.zeros(q.shape, "f2"), np.zeros(q.shape[:2], "f4")
    machine.compile(decode(machine.isa, heads))(q, *rest, out, sums, *TAIL, 0.125)
    assert np.abs(out - wanted).max() < TOLERANCE
    out, sums = np.zeros(q.shape, "f2"), np.zeros(q.shape[:2], "f4")
    run = machine.compile(cached(machine.isa, heads))
    run(q, starts([1]), *rest, out, sums, 0, *TAIL, 0.125)
    assert np.abs(out - wanted).max() < TOLERANCE
