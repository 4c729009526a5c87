"""What each architecture computes once compiled, held against transformers on the same dequantized weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from architecture_kinds import KINDS

from edge_router.architectures.gemma import GEMMA3
from edge_router.architectures.quantization import quantization
from edge_router.compile.graphs import definition
from edge_router.compile.link import load_library
from edge_router.engines.tvm.engine import TvmRunner
from edge_router.engines.tvm.runtime import load_runtime
from edge_router.errors import InvalidModel
from edge_router.vram import ModelShape, Place, Settings, backend, estimate
from edge_router.vram.library import usage_bytes

# Largest difference of a logit over the standard deviation of all. Queries, keys, values and embeddings are
# float16 here, and activations sixteen-bit integers; transformers computes in float32.
CLOSE = 0.03


def decoder(**changes: Any) -> dict[str, Any]:
    numbers = {
        "hidden_size": 128,
        "intermediate_size": 192,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "rms_norm_eps": 1e-6,
        "vocab_size": 288,
        "context_window_size": 128,
        "prefill_chunk_size": 32,
    }
    return numbers | changes


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3_text"])
def test_a_gemma_says_what_it_lacks(architecture: str) -> None:
    with pytest.raises(InvalidModel, match="lacks sliding_window"):
        definition(architecture)(decoder(), None, "tiny")


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3_text"])
def test_a_gemma_has_no_other_window_than_its_own(architecture: str) -> None:
    with pytest.raises(InvalidModel, match=r"sliding_window_size is 32, but some .* look back at everything"):
        definition(architecture)(decoder(sliding_window=64, sliding_window_size=32), None, "tiny")


def test_sinks_must_leave_something_of_the_window() -> None:
    with pytest.raises(InvalidModel, match="attention_sink_size 32 leaves nothing of sliding_window_size 32"):
        definition("llama")(decoder(sliding_window_size=32, attention_sink_size=32), None, "tiny")


def test_every_sixth_layer_of_gemma_3_sees_everything() -> None:
    windows = GEMMA3.layer_windows({"sliding_window": 20}, 8)
    assert windows == (20,) * 5 + (0,) + (20,) * 2
    stated = {"sliding_window": 20, "layer_types": ["full_attention", "sliding_attention"]}
    assert GEMMA3.layer_windows(stated, 2) == (0, 20)


def test_another_gate_is_refused() -> None:
    with pytest.raises(InvalidModel, match="hidden_activation is 'relu'"):
        definition("gemma2")(decoder(hidden_activation="relu"), None, "tiny")


@pytest.fixture(scope="module", params=list(KINDS))
def twin(
    request: pytest.FixtureRequest, twins: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    architecture, numbers = KINDS[request.param]
    return twins.twin(architecture, numbers, tmp_path_factory.mktemp("twin"), tiny)


@pytest.fixture
def runner(twin: Any) -> Iterator[TvmRunner]:
    made = TvmRunner(twin.model_dir, twin.library, max_sequences=2)
    yield made
    made.close()


def test_it_computes_what_transformers_does(twin: Any, runner: TvmRunner, twins: Any) -> None:
    errors = twins.errors(twin, runner)
    assert max(errors.values()) < CLOSE, errors


def test_a_conversation_continues_from_the_middle_of_another(twin: Any, runner: TvmRunner) -> None:
    tokens = np.random.default_rng(2).integers(0, runner.vocab_size, 100).tolist()
    other = np.random.default_rng(3).integers(0, runner.vocab_size, 12).tolist()
    runner.add_sequence(0)
    for start in (0, 32, 64):
        runner.prefill(0, tokens[start : start + 32])
    begun = runner.reach(0, 77)  # earlier where layers keep states: what lies between is read again
    runner.fork_sequence(0, 1, begun)
    parted = runner.prefill(1, tokens[begun:77] + other).copy()
    begun = runner.reach(0, 76)
    runner.pop_tokens(0, 96 - begun)
    shortened = runner.prefill(0, tokens[begun:76] + other).copy()
    for found, text in ((parted, tokens[:77] + other), (shortened, tokens[:76] + other)):
        wanted = twin.wanted(text)[:, : runner.vocab_size]
        assert np.abs(found - wanted[-1]).max() < CLOSE * wanted.std()


def test_the_planner_bounds_what_it_computes_in(twin: Any) -> None:
    """The closed formula, against what the compiler itself has planned."""
    load_runtime()
    said = json.loads(load_library(twin.library)["_metadata"]())
    chat = json.loads((twin.model_dir / "mlc-chat-config.json").read_text(encoding="utf-8"))
    shape = ModelShape.of({"model_type": chat["model_type"], **chat["model_config"]}, "tiny")
    sequences = said["max_batch_size"]
    settings = Settings("q4f16_1", said["context_window_size"], said["prefill_chunk_size"], sequences)
    products = estimate(shape, quantization("q4f16_1"), settings, Place(backend("cpu")))
    bound = sum(item.bytes for item in products if item.name in ("activations", "logits"))
    assert 0 < usage_bytes(said["memory_usage"], sequences) <= bound
