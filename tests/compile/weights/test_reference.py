"""The numpy model: against one written separately, token by token, and against published formulas."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edge_router.compile.readers import open_weights
from edge_router.compile.rotary import rotary
from edge_router.compile.weights.equalize import Activations
from edge_router.compile.weights.package import PackageWindows, write_model
from edge_router.compile.weights.quantize import supported
from edge_router.compile.weights.reference import Reference

TOKENS = [7, 100, 3, 255, 12, 90, 31, 31, 8]


@pytest.fixture(scope="module")
def model(tiny_llama: Any) -> Reference:
    return Reference(open_weights(tiny_llama.folder))


def other_reference() -> ModuleType:
    """The model that the tests of the engine use, which shares no code with the package."""
    file = Path(__file__).parents[2] / "reference_llama.py"
    spec = importlib.util.spec_from_file_location("reference_llama_of_tests", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("tied", [True, False])
def test_it_agrees_with_a_model_written_separately(tied: bool, tiny: ModuleType, tmp_path: Path) -> None:
    made = tiny.make(tmp_path / "made", seed=3, tied=tied)
    folder = tmp_path / "mlc"
    folder.mkdir()
    write_model(
        open_weights(made.gguf),
        folder,
        config={},
        form=supported("q4f16_1"),
        quantizer="signed",
        activations=Activations(),
        windows=PackageWindows(128, 32),
    )
    ours = Reference(open_weights(folder))
    theirs = other_reference().ReferenceLlama(folder).logits(TOKENS)
    np.testing.assert_allclose(ours.logits(ours.hidden(TOKENS)), theirs, rtol=1e-3, atol=1e-3)


def test_token_by_token_is_the_same_as_at_once(model: Reference) -> None:
    model.reset()
    whole = model.hidden(TOKENS)
    model.reset()
    parts = np.concatenate([model.hidden(TOKENS[:4]), *(model.hidden([token]) for token in TOKENS[4:])])
    np.testing.assert_allclose(parts, whole, rtol=1e-3, atol=1e-4)


def test_later_tokens_change_nothing_before_them(model: Reference) -> None:
    model.reset()
    first = model.hidden(TOKENS)
    model.reset()
    np.testing.assert_allclose(model.hidden([*TOKENS[:-1], 200])[:-1], first[:-1], rtol=1e-3, atol=1e-4)


def test_greedy_takes_the_most_probable_and_stops(model: Reference) -> None:
    answer = model.greedy(TOKENS, 5)
    model.reset()
    logits = model.logits(model.hidden([*TOKENS, *answer[:-1]]))
    assert answer == logits[len(TOKENS) - 1 :].argmax(-1).tolist()
    assert model.greedy(TOKENS, 5, stop=answer[1:2]) == answer[: answer.index(answer[1]) + 1]


def test_every_linear_layer_is_observed(model: Reference) -> None:
    seen: dict[str, tuple[int, ...]] = {}
    model.reset()
    model.hidden(TOKENS, lambda name, inputs: seen.__setitem__(name, inputs.shape))
    layers = [f"model.layers.{n}.{part}" for n in range(2) for part in ("self_attn", "mlp")]
    expected = {f"{layers[i]}.{name}" for i in (0, 2) for name in ("qkv_proj", "o_proj")}
    expected |= {f"{layers[i]}.{name}" for i in (1, 3) for name in ("gate_up_proj", "down_proj")}
    assert set(seen) == expected | {"lm_head"}
    assert seen["model.layers.1.mlp.down_proj"] == (len(TOKENS), 96)


def test_rotary_frequencies_with_llama_3_scaling() -> None:
    """Values that transformers computes for Llama 3.2 1B (head_dim 64, theta 500000, factor 32)."""
    scaling = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = {"rope_theta": 500000.0, "rope_scaling": scaling}
    plain = rotary({"rope_theta": 500000.0}, 64).frequencies
    scaled = rotary(config, 64).frequencies
    assert plain[1] == pytest.approx(500000.0 ** (-2 / 64))
    np.testing.assert_array_equal(scaled[:14], plain[:14])  # waves of at most 2048 positions
    np.testing.assert_allclose(scaled[18:], plain[18:] / 32, rtol=1e-6)  # of at least 8192
    assert (scaled[15:18] < plain[15:18]).all() and (scaled[15:18] > plain[15:18] / 32).all()
