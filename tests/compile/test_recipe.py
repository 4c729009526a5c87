"""Settings over a card's defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from edge_router.catalog import HubSource, ModelCard, find_model
from edge_router.compile.recipe import ENDLESS, BuildSettings, doubts, recipe
from edge_router.config.settings import Config
from edge_router.errors import ConfigError
from edge_router.vram.estimate import SINK


@pytest.fixture
def card() -> ModelCard:
    return find_model("SmolLM2-135M-Instruct")


def test_a_card_alone_says_everything(card: ModelCard) -> None:
    made = recipe(card, BuildSettings())
    assert (made.quantization, made.quantizer, made.target) == ("q4f16_1", "gptq", "llvm")
    assert made.windows == {"context_window_size": 4096, "prefill_chunk_size": 512, "max_batch_size": 8}
    assert made.source is card.source


def test_settings_come_first_and_a_chunk_is_never_longer_than_the_context(card: ModelCard) -> None:
    given = BuildSettings(quantizer="round", context_window_size=256, max_sequences=3)
    made = recipe(card, given)
    assert made.quantizer == "round"
    assert made.windows == {"context_window_size": 256, "prefill_chunk_size": 256, "max_batch_size": 8}
    assert recipe(card, replace(given, max_sequences=9)).windows["max_batch_size"] == 9


def test_the_configuration_names_the_quantizer(card: ModelCard) -> None:
    config = Config().replace(**{"weak.quantizer": "weighted"})
    assert recipe(card, BuildSettings.from_config(config)).quantizer == "weighted"
    assert recipe(card, BuildSettings.from_config(Config())).quantizer == "gptq"


def test_the_configuration_says_what_activations_become(card: ModelCard) -> None:
    config = Config().replace(**{"weak.activations": "int8"})
    assert recipe(card, BuildSettings.from_config(config)).bytes
    assert not recipe(card, BuildSettings.from_config(Config())).bytes


def test_keys_and_values_may_be_kept_in_eight_bits(card: ModelCard) -> None:
    config = Config().replace(**{"weak.kv_cache": "int8"})
    made = recipe(card, BuildSettings.from_config(config))
    stated = {"model_config": {"model_type": "llama"}}
    assert cast("dict[str, object]", made.applied(stated)["model_config"])["kv_cache"] == "int8"
    plain = recipe(card, BuildSettings.from_config(Config())).applied(stated)
    assert "kv_cache" not in cast("dict[str, object]", plain["model_config"])
    assert BuildSettings.from_config(config, shared=True).kv_cache == "auto"
    assert BuildSettings.from_config(config.replace(**{"weak.engine": "webgpu"})).kv_cache == "int8"
    for changes in ({"weak.device": "cuda"}, {"weak.engine": "mlc"}):
        with pytest.raises(ConfigError, match="keys and values"):
            BuildSettings.from_config(config.replace(**changes))


def test_another_format_is_made_from_the_unquantized_weights(card: ModelCard) -> None:
    original = HubSource("someone/unquantized")
    both = replace(card, original=original)
    assert recipe(both, BuildSettings()).source is card.source
    assert recipe(both, BuildSettings(quantization="q0f16")).source is original
    assert recipe(both, BuildSettings(quantizer="round")).source is original
    assert recipe(card, BuildSettings(quantization="q0f16")).source is card.source


def test_the_configuration_becomes_settings(card: ModelCard) -> None:
    overrides = {"weak.context_window_size": 1024, "weak.max_sequences": 2, "weak.device": "cpu"}
    settings = BuildSettings.from_config(Config.load(overrides=overrides))
    assert settings == BuildSettings(None, None, "llvm", 1024, None, 2)
    assert BuildSettings.from_config(Config()).target == "llvm"


@pytest.mark.parametrize(
    ("windows", "said"),
    [
        (
            (8193, None),
            ["SmolLM2-135M-Instruct was trained for 8192 tokens; a context of 8193 is beyond that"],
        ),
        ((256, 512), ["the prefill chunk of 512 is cut to the context of 256"]),
        ((8192, 8192), []),
        ((256, None), []),  # the card's own chunk is cut without a word
    ],
)
def test_what_is_doubtful_is_said(card: ModelCard, windows: tuple[int, int | None], said: list[str]) -> None:
    context, chunk = windows
    assert list(doubts(card, BuildSettings(context_window_size=context, prefill_chunk_size=chunk))) == said


def test_what_is_to_be_endless_gets_its_context_for_a_window(card: ModelCard) -> None:
    config = Config.load(overrides={"weak.context_window_size": 512, "weak.overflow": "window"})
    wanted = recipe(card, BuildSettings.from_config(config))
    chat = {"sliding_window_size": -1, "attention_sink_size": -1, "model_config": {"hidden_size": 64}}
    found = wanted.applied(chat)
    assert (found["sliding_window_size"], found["attention_sink_size"]) == (512, SINK)
    inner = found["model_config"]
    assert isinstance(inner, dict)
    assert found["context_window_size"] == inner["context_window_size"] == ENDLESS
    for own in ({"sliding_window": 300}, {"sliding_window": 300, "hidden_size": 64}):
        assert wanted.applied({**chat, "model_config": own})["sliding_window_size"] == 300
    asked = Config.load(overrides={"weak.sliding_window_size": 100, "weak.attention_sink_size": 0})
    given = recipe(card, BuildSettings.from_config(asked)).applied(chat)
    assert (given["sliding_window_size"], given["attention_sink_size"]) == (100, 0)
    assert given["context_window_size"] == card.context_window_size


@pytest.mark.parametrize("elsewhere", [{"weak.engine": "mlc"}, {"weak.device": "cuda"}])
def test_not_every_engine_forgets(elsewhere: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="only tvm on a processor and webgpu"):
        BuildSettings.from_config(Config.load(overrides={"weak.overflow": "window", **elsewhere}))


def test_a_shared_library_is_one_whatever_engine_is_configured() -> None:
    """And of a model that keeps its whole context: MLC's engine would not know when to forget."""
    for given, target in (
        ({"weak.engine": "webgpu"}, "llvm"),
        ({"weak.engine": "mlc", "weak.overflow": "window"}, "llvm"),
        ({"weak.device": "cuda:sm_89"}, "cuda:sm_89"),
        ({"weak.device": "metal"}, "metal"),
        ({"weak.device": "vulkan"}, "vulkan"),  # where TVM was built without it, that is said; no program
    ):
        made = BuildSettings.from_config(Config.load(overrides=given), shared=True)
        assert (made.target, made.shared, made.endless) == (target, True, False), given


def test_sinks_that_nobody_would_keep_are_refused() -> None:
    sinks = {"weak.attention_sink_size": 4, "weak.sliding_window_size": 64}
    with pytest.raises(ConfigError, match=r"weak.attention_sink_size = 4 .*have sinks"):
        BuildSettings.from_config(Config.load(overrides={**sinks, "weak.device": "cuda"}))
    for where in ({}, {"weak.device": "vulkan"}, {"weak.engine": "mlc"}):
        assert BuildSettings.from_config(Config.load(overrides={**sinks, **where})).attention_sink_size == 4


def test_the_language_part_of_a_model_that_also_sees_is_what_is_compiled(card: ModelCard) -> None:
    nested = {"text_config": {"hidden_size": 64, "context_window_size": 999}, "vocab_size": 100}
    found = recipe(card, BuildSettings(context_window_size=512)).applied({"model_config": nested})
    inner = found["model_config"]
    assert isinstance(inner, dict) and "text_config" not in inner
    assert (inner["hidden_size"], inner["vocab_size"], inner["context_window_size"]) == (64, 100, 512)
