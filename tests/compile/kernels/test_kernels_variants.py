"""What single architectures ask of the kernels: biases, other gates, heads normalised, scores and turns bent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edge_router.compile.kernels.attention_prefill import fresh
from edge_router.compile.kernels.linear import linear
from edge_router.compile.kernels.norm import head_norm
from edge_router.compile.kernels.rotary import rotary
from edge_router.compile.kernels.shapes import Heads, Linear


def matrix(rng: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words, scales and the values they stand for."""
    numbers = rng.integers(0, 16, (rows, columns)).astype("u4")
    scales = rng.uniform(-0.02, 0.02, (rows, columns // 32)).astype("f2")
    words = sum(numbers[:, j::8] << np.uint32(4 * j) for j in range(8))
    return words, scales, (numbers.astype("f4") - 7) * np.repeat(scales.astype("f4"), 32, axis=1)


def close(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> bool:
    return bool(np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("rows", [1, 37])
def test_a_bias_is_added_to_each_row(machine: Any, rng: np.random.Generator, rows: int) -> None:
    words, scales, values = matrix(rng, 102, 64)
    run = machine.compile(linear(machine.isa, Linear(64, 102, None, "float32", "float32", bias=True)))
    x, bias = rng.normal(0, 1, (rows, 64)).astype("f4"), rng.normal(0, 3, 102).astype("f2")
    y = np.zeros((rows, 102), "f4")
    run(x, words, scales, bias, y)
    assert any(close(y, taken @ values.T + bias.astype("f4"), 1e-4) for taken in machine.taken(x))


@pytest.mark.parametrize("rows", [1, 37])
def test_gelu_as_a_gate(machine: Any, rng: np.random.Generator, rows: int) -> None:
    words, scales, values = matrix(rng, 64, 64)
    shape = Linear(64, 64, None, "float32", "float32", gated=True, gate="gelu_tanh")
    run = machine.compile(linear(machine.isa, shape))
    x, y = rng.normal(0, 4, (rows, 64)).astype("f4"), np.zeros((rows, 32), "f4")
    run(x, words, scales, y)
    wanted = []
    for taken in machine.taken(x):
        gate, up = np.split(taken @ values.T, 2, axis=1)
        inner = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
        wanted.append(0.5 * gate * (1 + np.tanh(inner)) * up)
    assert any(close(y, values, 3e-4) for values in wanted)


@pytest.mark.parametrize("size", [24, 64])
def test_heads_are_normalised_each_for_itself(machine: Any, rng: np.random.Generator, size: int) -> None:
    heads = Heads(4, 2, size)
    run = machine.compile(head_norm(machine.isa, heads, 1e-6, None))
    qkv = rng.normal(0, 5, (3, 8 * size)).astype("f4")
    weights = [rng.uniform(0.5, 1.5, size).astype("f2") for _ in range(2)]
    y = np.zeros((3, 8 * size), "f2")
    run(qkv, *weights, y)
    each = qkv.reshape(3, 8, size)
    normalised = each / np.sqrt((each**2).mean(-1, keepdims=True) + 1e-6)
    wanted = np.concatenate(
        [normalised[:, :4] * weights[0], normalised[:, 4:6] * weights[1], each[:, 6:]], axis=1
    )
    assert close(y.reshape(3, 8, size), wanted, 1e-3)


def test_turned_channels_are_made_larger(machine: Any, rng: np.random.Generator) -> None:
    heads, frequencies = Heads(2, 1, 64), [0.5**i for i in range(16)]
    qkv = rng.normal(0, 1, (5, 4, 64)).astype("f2")
    positions = np.arange(5, dtype="i4")
    found = []
    for amplitude in (1.0, 1.25):
        outputs = [np.zeros((5, count, 64), "f2") for count in (2, 1, 1)]
        machine.compile(rotary(machine.isa, heads, frequencies, amplitude))(qkv, positions, *outputs, 1)
        found.append(outputs[0].astype("f4"))
    plain, larger = found
    assert np.abs(larger[..., :32] - 1.25 * plain[..., :32]).max() < 5e-3
    assert np.array_equal(larger[..., 32:], plain[..., 32:])


def test_scores_are_bent_to_their_cap(machine: Any, rng: np.random.Generator) -> None:
    cap, size, tokens = 2.0, 32, 20
    run = machine.compile(fresh(machine.isa, Heads(1, 1, size, cap=cap)))
    q, k, v = (rng.normal(0, 2, (tokens, 1, size)).astype("f2") for _ in range(3))
    starts, places = np.array([0, tokens], "i4"), np.arange(tokens, dtype="i4")
    output, lse = np.zeros((tokens, 1, size), "f2"), np.zeros((tokens, 1), "f4")
    scale = size**-0.5
    run(q, starts, k, v, starts, places, np.zeros(1, "i4"), output, lse, 1, 0, 1.0, 10000.0, scale)
    scores = q[:, 0].astype("f4") @ k[:, 0].astype("f4").T * scale
    assert np.abs(scores).max() > 2 * cap  # else it would not be seen
    bent = np.where(np.tri(tokens, dtype=bool), cap * np.tanh(scores / cap), -np.inf)
    weights = np.exp(bent - bent.max(-1, keepdims=True))
    wanted = weights / weights.sum(-1, keepdims=True) @ v[:, 0].astype("f4")
    assert np.abs(output[:, 0] - wanted).max() < 5e-3
