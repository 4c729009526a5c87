"""Frequencies of every kind of scaling: by hand, and as transformers makes them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edge_router.compile.rotary import rotary
from edge_router.errors import InvalidModel

PLAIN = 10000.0 ** -(np.arange(0, 8, 2) / 8)
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
LONGROPE = {"type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.0, 4.0]}
PHI = {"original_max_position_embeddings": 64, "max_position_embeddings": 256, "partial_rotary_factor": 0.5}


@pytest.mark.parametrize("scaling", [None, {"type": "default"}, {"rope_type": "default"}])
def test_without_scaling(scaling: Any) -> None:
    found = rotary({"rope_theta": 10000.0, "rope_scaling": scaling}, 8)
    assert found.frequencies == pytest.approx(PLAIN)
    assert found.amplitude == 1.0


def test_linear_scaling_divides() -> None:
    found = rotary({"rope_scaling": {"type": "linear", "factor": 4.0}}, 8)
    assert found.frequencies == pytest.approx(PLAIN / 4)


def test_llama3_leaves_fast_turns_alone_and_slows_the_slow_ones() -> None:
    found = rotary({"rope_theta": 500000.0, "rope_scaling": LLAMA3}, 128).frequencies
    plain = 500000.0 ** -(np.arange(0, 128, 2) / 128)
    turns = 8192 * plain / (2 * math.pi)
    assert found[turns > 4] == pytest.approx(plain[turns > 4])
    assert found[turns < 1] == pytest.approx(plain[turns < 1] / 8)
    between = (turns > 1) & (turns < 4)
    assert between.any()
    assert (found[between] < plain[between]).all() and (found[between] > plain[between] / 8).all()


@pytest.mark.parametrize(("context", "divisors"), [(64, [1.0, 1.5]), (65, [2.0, 4.0])])
def test_the_context_chooses_the_factors_of_longrope(context: int, divisors: list[float]) -> None:
    found = rotary({**PHI, "rope_scaling": LONGROPE, "context_window_size": context}, 8)
    plain = 10000.0 ** -(np.arange(0, 4, 2) / 4)  # half of each head is turned
    assert found.frequencies == pytest.approx(plain / divisors)
    assert found.amplitude == pytest.approx(math.sqrt(1 + math.log(4) / math.log(64)))


def test_longrope_without_a_longer_context_keeps_its_amplitude() -> None:
    config = {**PHI, "max_position_embeddings": 64, "rope_scaling": LONGROPE}
    assert rotary(config, 8).amplitude == 1.0
    assert rotary({**config, "rope_scaling": {**LONGROPE, "attention_factor": 1.25}}, 8).amplitude == 1.25


def test_dynamic_scaling_changes_the_base_beyond_the_trained_length() -> None:
    config = {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 100}
    for context in (None, 50, 100):
        found = rotary({**config, "context_window_size": context}, 8)
        assert found.frequencies == pytest.approx(PLAIN)
    grown = (10000.0 * (2 * 3 - 1) ** (8 / 6)) ** -(np.arange(0, 8, 2) / 8)
    assert rotary({**config, "context_window_size": 300}, 8).frequencies == pytest.approx(grown)


def test_proportional_scaling_leaves_the_slow_pairs_where_they_are() -> None:
    for stated in ({"partial_rotary_factor": 0.5}, {}):
        scaling = {"rope_type": "proportional", **stated}
        config = {"rope_scaling": scaling, **({} if stated else {"partial_rotary_factor": 0.5})}
        assert rotary(config, 8).frequencies.tolist() == pytest.approx([*PLAIN[:2], 0, 0])
    assert rotary({"rope_scaling": {"rope_type": "proportional"}}, 8).frequencies == pytest.approx(PLAIN)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"rope_scaling": {"type": "axial", "factor": 4.0}}, "'axial'; known: default, linear, dynamic"),
        ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "max_position_embeddings"),
        ({"rope_scaling": {"type": "linear"}}, "factor"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "divide by zero"),
        *(
            ({"rope_scaling": {"type": "linear", "factor": odd}}, "must turn")
            for odd in (-1, math.nan, math.inf)
        ),
        *(({"rope_theta": odd}, f"rope_theta {odd}") for odd in (-1, -10000.0, math.nan, math.inf)),
        ({"rope_scaling": {**LLAMA3, "factor": None}}, "TypeError"),
        ({**PHI, "rope_scaling": {**LONGROPE, "short_factor": [1.0]}}, "1 factors for 2 pairs"),
    ],
)
def test_scaling_that_cannot_be_used_names_the_model(config: Any, words: str) -> None:
    with pytest.raises(InvalidModel, match=words) as caught:
        rotary(config, 8, "the model")
    assert caught.value.where == "the model"


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("linear", {"factor": 4.0}),
        ("llama3", {key: value for key, value in LLAMA3.items() if key != "rope_type"}),
        ("longrope", {"short_factor": [1.0 + i / 9 for i in range(16)], "long_factor": [2.0] * 16}),
        ("dynamic", {"factor": 3.0}),
        ("proportional", {"partial_rotary_factor": 0.25, "factor": 2.0}),
    ],
)
@pytest.mark.reference
def test_transformers_makes_the_same(kind: str, extra: dict[str, Any]) -> None:
    import transformers
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    original = extra.get("original_max_position_embeddings", 4096)
    parameters = {
        "rope_type": kind,
        "rope_theta": 250000.0,
        "original_max_position_embeddings": original,
        **extra,
    }
    config = transformers.LlamaConfig(
        hidden_size=128,
        num_attention_heads=4,
        max_position_embeddings=4 * original,
        rope_parameters=parameters,
    )
    wanted, amplitude = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    ours = {"rope_theta": 250000.0, "rope_scaling": parameters, "max_position_embeddings": 4 * original}
    found = rotary(ours, 32)
    assert found.frequencies == pytest.approx(wanted.numpy(), rel=1e-6)
    assert found.amplitude == pytest.approx(amplitude)
