"""Keys and values in eight bits: how they are rounded, and what that costs a model."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edge_router.compile.readers import open_weights
from edge_router.compile.weights.key_values import as_bytes, kept, rounded
from edge_router.compile.weights.quality import compare_models, main
from edge_router.compile.weights.reference import Reference


def test_each_row_is_rounded_by_its_own_largest_number() -> None:
    numbers = np.random.default_rng(0).normal(0, 1, (50, 3, 64)).astype("f4")
    numbers[7] *= 1000
    numbers[8, 1] = 0
    numbers[9, 2] = 1e-9  # whose scale a float16 cannot hold
    codes, scales = as_bytes(numbers)
    assert codes.dtype == np.int8 and scales.dtype == np.float16 and scales.shape == (50, 3)
    assert np.abs(codes).max() == 127 and not codes[8, 1].any() and not codes[9, 2].any()
    step = np.abs(numbers).max(-1, keepdims=True) / 127
    assert (
        np.abs(rounded(numbers) - numbers) <= step * 0.57 + 1e-8
    ).all()  # half a step, and the scale's own
    assert np.array_equal(rounded(numbers)[[3]], rounded(numbers[[3]]))
    assert np.abs(kept(numbers, "float16") - numbers).max() < 1


def test_what_it_costs_is_measured_slice_by_slice(
    tiny_llama: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = open_weights(tiny_llama.gguf)
    tokens = np.random.default_rng(1).integers(3, 280, 700).tolist()  # more than are held at once
    models = [(way, Reference(reader, kept=way)) for way in ("float16", "int8")]
    base, half, eight = compare_models(("as they come", Reference(reader)), models, [tokens])
    assert base.divergence == 0 and base.agreement == 1 and base.tokens == 700
    assert 0 <= half.divergence < eight.divergence < 0.02
    whole = Reference(reader)
    logits = whole.logits(whole.hidden(tokens)).astype("f8")
    losses = np.log(np.exp(logits).sum(-1))[:-1] - logits[np.arange(699), tokens[1:]]
    assert base.perplexity == pytest.approx(np.exp(losses.mean()), rel=1e-4)
    assert main([str(tiny_llama.gguf), "--kv-cache", "int8", "--tokens", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["quantizer"] for row in found] == ["as they come", "int8"] and found[0]["tokens"] == 20
