"""Which parameters a model has, and what is wrong with a configuration that has none."""

from __future__ import annotations

from typing import Any

import pytest

from edge_router.catalog import find_model, model_cards
from edge_router.compile.weights.parameters import count, parameters
from edge_router.errors import InvalidModel, UnsupportedArchitecture


def test_the_demo_model_has_its_numbers() -> None:
    wanted = parameters(find_model("SmolLM2-135M-Instruct").config, "demo")
    assert count(wanted) == 134_515_008
    assert [p.kind for p in wanted].count("linear") == 120


def test_published_sizes() -> None:
    sizes = {
        "Llama-3.2-1B-Instruct": 1_235_814_400,
        "Llama-3.1-8B-Instruct": 8_030_261_248,
        "gorilla-openfunctions-v2": 6_910_365_696,
        "Mistral-7B-Instruct-v0.3": 7_248_023_552,
        "Phi-3-mini-4k-instruct": 3_821_079_552,
        "Phi-4-mini-instruct": 3_836_021_760,
        "Qwen2.5-0.5B-Instruct": 494_032_768,
        "Qwen3-0.6B": 596_049_920,
        "gemma-2-2b-it": 2_614_341_888,
        "gemma-3-1b-it": 999_885_952,
    }
    for name, size in sizes.items():
        assert count(parameters(model_cards()[name].config, name)) == size


@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        ("mistral", "model.layers.0.self_attn.qkv_proj.weight model.norm.weight lm_head.weight"),
        (
            "qwen2",
            "model.layers.0.self_attn.c_attn.weight model.layers.0.self_attn.c_attn.bias"
            " model.layers.0.self_attn.o_proj.weight",
        ),
        ("qwen3", "model.layers.1.self_attn.q_norm.weight model.layers.1.self_attn.k_norm.weight"),
        (
            "phi3",
            "transformer.embd.weight transformer.h.0.ln.weight transformer.h.0.mixer.qkv_proj.weight"
            " transformer.h.0.mixer.out_proj.weight transformer.h.0.mlp.gate_up_proj.weight"
            " transformer.h.0.post_attention_layernorm.weight transformer.norm.weight lm_head.weight",
        ),
        (
            "gemma2",
            "model.layers.0.pre_feedforward_layernorm.weight model.layers.0.post_feedforward_layernorm.weight"
            " model.layers.0.post_attention_layernorm.weight model.embed_tokens.weight",
        ),
        (
            "gemma3_text",
            "language_model.model.embed_tokens.weight language_model.model.layers.0.self_attn.q_proj.weight"
            " language_model.model.layers.0.self_attn.k_norm.weight language_model.model.norm.weight",
        ),
    ],
)
def test_parameters_have_mlcs_names(architecture: str, names: str, tiny: Any) -> None:
    config = {**tiny.CONFIG, "model_type": architecture, "tie_word_embeddings": "gemma" in architecture}
    found = {f"{p.name}.{p.word}" for p in parameters(config, "tiny")}
    assert set(names.split()) <= found


def test_gemma_ties_its_tables_where_the_config_is_silent(tiny: Any) -> None:
    config = {k: v for k, v in tiny.CONFIG.items() if k != "tie_word_embeddings"}
    names = {p.name for p in parameters({**config, "model_type": "gemma2"}, "tiny")}
    assert "lm_head" not in names
    assert "lm_head" in {p.name for p in parameters({**config, "model_type": "llama"}, "tiny")}


def test_a_scaling_that_is_not_known_is_refused_before_any_work(tiny: Any) -> None:
    with pytest.raises(InvalidModel, match="rope_scaling is 'axial'"):
        parameters({**tiny.CONFIG, "rope_scaling": {"type": "axial", "factor": 4.0}}, "tiny")


def test_other_architectures_are_named() -> None:
    with pytest.raises(UnsupportedArchitecture, match="'mamba'"):
        parameters({"model_type": "mamba"}, "somewhere")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": None}, "hidden_size is None"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"intermediate_size": "96"}, "intermediate_size is '96'"),
        ({"num_key_value_heads": 3}, "4 query heads over 3 key heads"),
        ({"attention_bias": True}, "attention_bias is set"),
    ],
)
def test_configurations_that_make_no_model(change: dict[str, Any], words: str, tiny: Any) -> None:
    with pytest.raises(InvalidModel, match=words):
        parameters(tiny.CONFIG | change, "somewhere")


def test_left_out_numbers_follow_from_the_others(tiny: Any) -> None:
    config = {k: v for k, v in tiny.CONFIG.items() if k not in ("num_key_value_heads", "head_dim")}
    fused = next(p for p in parameters(config, "tiny") if p.name.endswith("qkv_proj"))
    assert fused.source_rows == (64, 64, 64)
