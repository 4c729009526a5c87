"""Rotary embedding, tokens into pages, partial answers merged, normalisation, logits: against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_router.compile.kernels.logits import add_bias, mask, penalize, softmax
from edge_router.compile.kernels.norm import rms_norm
from edge_router.compile.kernels.pages import append, merge
from edge_router.compile.kernels.rotary import MANY, rotary
from edge_router.compile.kernels.shapes import PAGE, Heads


@pytest.mark.parametrize(("size", "turned"), [(64, 64), (80, 80), (96, 48)])
def test_rotary(machine: Any, rng: np.random.Generator, size: int, turned: int) -> None:
    heads = Heads(4, 2, size)
    frequencies = 10000.0 ** -(np.arange(0, turned, 2) / turned)
    run = machine.compile(rotary(machine.isa, heads, list(frequencies)))
    for tokens in (1, MANY + 3):
        qkv = rng.normal(0, 1, (tokens, 8, size)).astype("f2")
        positions = rng.integers(0, 8000, tokens).astype("i4")
        outputs = [np.zeros((tokens, count, size), "f2") for count in (4, 2, 2)]
        for apply in (1, 0):
            run(qkv, positions, *outputs, apply)
            angles = positions[:, None].astype("f4") * frequencies.astype("f4") * apply
            cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
            a, b, rest = np.split(qkv.astype("f8"), [turned // 2, turned], axis=-1)
            wanted = np.concatenate([a * cosine - b * sine, b * cosine + a * sine, rest], axis=-1)
            assert np.abs(outputs[0] - wanted[:, :4]).max() < 3e-3
            assert np.abs(outputs[1] - wanted[:, 4:6]).max() < 3e-3
            assert np.array_equal(outputs[2], qkv[:, 6:])


def test_append_to_pages(machine: Any, rng: np.random.Generator) -> None:
    heads = Heads(4, 2, 32)
    pages = np.zeros((4, 2, 2, PAGE, 32), "f2")
    keys, values = (rng.normal(0, 1, (5, 2, 32)).astype("f2") for _ in range(2))
    places = np.array([3, 17, -1, 63, 32], "i4")
    machine.compile(append(machine.isa, heads))(pages, keys, values, places)
    for i, place in enumerate(places):
        if place >= 0:
            assert np.array_equal(pages[place // PAGE, 0, :, place % PAGE], keys[i])
            assert np.array_equal(pages[place // PAGE, 1, :, place % PAGE], values[i])
    assert np.count_nonzero(pages.any(axis=(1, 2, 4))) == 4  # and nothing else


def test_merge(machine: Any, rng: np.random.Generator) -> None:
    heads = Heads(3, 1, 64)
    out, other = (rng.normal(0, 1, (6, 3, 64)).astype("f2") for _ in range(2))
    sums, other_sums = (rng.normal(0, 5, (6, 3)).astype("f4") for _ in range(2))
    other_sums[0] = -5e4  # saw nothing
    first = out.copy()
    shares = [2.0 ** (s - np.maximum(sums, other_sums)) for s in (sums, other_sums)]
    both = shares[0] + shares[1]
    wanted = (out * shares[0][..., None] + other * shares[1][..., None]) / both[..., None]
    logarithms = np.maximum(sums, other_sums) + np.log2(both)
    machine.compile(merge(machine.isa, heads))(out, sums, other, other_sums)
    assert np.abs(out - wanted).max() < 2e-3
    assert np.abs(sums - logarithms).max() < 1e-4
    assert np.array_equal(out[0], first[0])


@pytest.mark.parametrize("columns", [96, 68])
@pytest.mark.parametrize("rows", [1, None])
def test_rms_norm(machine: Any, rng: np.random.Generator, columns: int, rows: int | None) -> None:
    x = rng.normal(0, 3, (rows or 5, columns)).astype("f4")
    weight = rng.normal(1, 0.3, columns).astype("f2")
    y = np.zeros_like(x)
    machine.compile(rms_norm(machine.isa, columns, 1e-5, rows, "float32", "float16", "float32"))(x, weight, y)
    wanted = x / np.sqrt((x.astype("f8") ** 2).mean(1, keepdims=True) + 1e-5) * weight
    assert np.allclose(y, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("vocabulary", "active"), [(96, 96), (101, 90)])
def test_softmax(machine: Any, rng: np.random.Generator, vocabulary: int, active: int) -> None:
    logits = rng.normal(0, 4, (3, 1, vocabulary)).astype("f4")
    logits[2, 0, [4, 9]] = 50.0  # two equally probable ones
    temperature = np.float32([1.0, 0.3, 0.0])
    y = np.full_like(logits, np.nan)
    machine.compile(softmax(machine.isa, vocabulary, active))(logits, temperature, y)
    for row in (0, 1):
        powers = np.exp((logits[row, 0, :active] - logits[row, 0, :active].max()) / temperature[row])
        assert np.allclose(y[row, 0, :active], powers / powers.sum(), rtol=1e-4, atol=1e-7)
    assert y[2, 0, 4] == y[2, 0, 9] == 0.5
    assert not y[:, :, active:].any()
    assert np.allclose(y.sum(-1), 1, atol=1e-5)


def test_bias_penalties_and_mask(machine: Any, rng: np.random.Generator) -> None:
    logits = rng.normal(0, 1, (2, 70)).astype("f4")
    wanted = logits.copy()
    machine.compile(add_bias())(logits, np.int32([0, 1]), np.int32([5, 69]), np.float32([2, -3]))
    wanted[0, 5] += 2
    wanted[1, 69] -= 3
    assert np.array_equal(logits, wanted)

    # one sequence, whose logits are row 1; token 3 was used twice
    penalties = np.float32([[0.5, 0.25, 2.0]])
    logits[1, 3], logits[1, 4] = 3.0, -1.0
    tokens, counts = np.int32([3, 4]), np.int32([2, 1])
    machine.compile(penalize())(logits, np.int32([1]), np.int32([0, 0]), tokens, counts, penalties)
    assert logits[1, 3] == (3.0 - (0.5 + 2 * 0.25)) / 2
    assert logits[1, 4] == (-1.0 - (0.5 + 0.25)) * 2

    kept = rng.random(70) < 0.5
    words = np.zeros((2, 3), "u4")
    for token in np.flatnonzero(kept):
        words[1, token // 32] |= np.uint32(1 << (token % 32))
    before = logits.copy()
    machine.compile(mask())(logits, np.int32([1]), words.view("i4"))
    assert np.array_equal(logits[0], before[0])
    assert np.array_equal(logits[1] == before[1], kept)
    assert (logits[1][~kept] < -1e38).all()
