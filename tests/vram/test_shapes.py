"""Parameters counted from a config alone, against the numbers that the models' makers state."""

from __future__ import annotations

import math

import pytest
from table import each

from edge_router.architectures import architecture, architectures
from edge_router.architectures.quantization import quantization
from edge_router.catalog import find_model, model_cards
from edge_router.compile.weights.parameters import parameters as parameters_of
from edge_router.compile.weights.quantize import stored_bytes
from edge_router.errors import InvalidModel, UnsupportedArchitecture
from edge_router.vram import ModelShape
from edge_router.vram.estimate import Settings, tensor_bytes, weight_bytes
from edge_router.vram.speed import bytes_per_token

QWEN2_5_7B = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}
QWEN3_4B = {
    "model_type": "qwen3",
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
QWEN3_30B_A3B = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
}
GEMMA2_2B = {
    "model_type": "gemma2",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 256000,
    "sliding_window": 4096,
}
GEMMA3_1B = {
    "model_type": "gemma3_text",
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "num_hidden_layers": 26,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "vocab_size": 262144,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
}
PHI3_MINI = {
    "model_type": "phi3",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32064,
    "sliding_window": 2047,
    "tie_word_embeddings": False,
}


def parameters(shape: ModelShape) -> int:
    return sum(tensor.count * tensor.rows * tensor.columns for tensor in shape.tensors())


@pytest.mark.parametrize(
    ("config", "count"),
    [
        # the totals that the hub shows for the safetensors files
        ({**QWEN2_5_7B}, 7_615_616_512),
        ({**QWEN3_4B}, 4_022_468_096),
        ({**QWEN3_30B_A3B}, 30_532_122_624),
        ({**GEMMA2_2B}, 2_614_341_888),
        ({**GEMMA3_1B}, 999_885_952),
        ({**PHI3_MINI}, 3_821_079_552),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)
def test_all_parameters_are_counted(config, count):
    assert parameters(ModelShape.of(config, "test")) == count


def test_a_llama_and_its_small_relative(llama_8b, smol):
    assert parameters(ModelShape.of(llama_8b, "test")) == 8_030_261_248
    assert parameters(ModelShape.of(smol, "test")) == 134_515_008


def test_sliding_windows_where_a_runtime_uses_them(mistral):
    mistral_shape = ModelShape.of(mistral, "test")
    assert (mistral_shape.window, mistral_shape.whole_window) == (4096, True)
    gemma2, gemma3 = ModelShape.of(GEMMA2_2B, "test"), ModelShape.of(GEMMA3_1B, "test")
    assert (gemma2.window, gemma2.windowed_layers, gemma2.whole_window) == (4096, 13, False)
    assert (gemma3.window, gemma3.windowed_layers, gemma3.whole_window) == (512, 22, False)
    assert ModelShape.of(PHI3_MINI, "test").whole_window
    assert ModelShape.of({**mistral, "sliding_window": None}, "test").window is None
    assert ModelShape.of({**mistral, "sliding_window_size": 1024}, "test").window == 1024
    asked = ModelShape.of({**GEMMA2_2B, "sliding_window_size": 1024}, "test")
    assert (asked.window, asked.whole_window) == (4096, False)


def test_what_a_config_leaves_out_is_derived(llama_8b):
    shape = ModelShape.of(llama_8b, "test")
    assert (shape.head_dim, shape.query_width, shape.key_width) == (128, 4096, 1024)
    del llama_8b["num_key_value_heads"]
    assert ModelShape.of(llama_8b, "test").kv_heads == 32
    assert ModelShape.of(GEMMA2_2B, "test").tied


@pytest.mark.parametrize("value", [0, -1, 1.5, "64", True, None])
def test_a_number_that_is_none_is_named(llama_8b, value):
    with pytest.raises(InvalidModel, match="hidden_size"):
        ModelShape.of({**llama_8b, "hidden_size": value}, "there")


def test_heads_must_divide(llama_8b):
    with pytest.raises(InvalidModel, match="32 query heads over 5"):
        ModelShape.of({**llama_8b, "num_key_value_heads": 5}, "there")


def test_an_unknown_architecture_is_told_with_the_known_ones(llama_8b):
    with pytest.raises(UnsupportedArchitecture, match="llama"):
        ModelShape.of({**llama_8b, "model_type": "mamba"}, "there")


def test_names_tell_tensors_apart(llama_8b):
    names = [tensor.name for tensor in ModelShape.of(llama_8b, "test").tensors()]
    assert len(names) == len(set(names))
    assert math.prod(tensor.count for tensor in ModelShape.of(llama_8b, "test").tensors()) == 32**6


LFM2 = {
    "model_type": "lfm2",
    "hidden_size": 1024,
    "intermediate_size": 4608,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "vocab_size": 65536,
    "layer_types": ["conv", "conv", "full_attention", "conv"],
}


QWEN3_5 = {
    "model_type": "qwen3_5_text",
    "hidden_size": 1024,
    "intermediate_size": 3584,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "rms_norm_eps": 1e-6,
    "vocab_size": 1000,
    "partial_rotary_factor": 0.25,
    "layer_types": [*["linear_attention"] * 3, "full_attention"],
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 16,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
}


GRANITE = {
    "model_type": "granitemoehybrid",
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 4,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-5,
    "vocab_size": 1000,
    "tie_word_embeddings": True,
    "layer_types": [*["mamba"] * 3, "attention"],
    "mamba_n_heads": 48,
    "mamba_d_head": 32,
    "mamba_d_state": 128,
}


@each("config", [LFM2, QWEN3_5, GRANITE])
def test_layers_without_attention_are_counted_as_they_are_compiled(config):
    compiled, shape = parameters_of(config, "test"), ModelShape.of(config, "test")
    for form_name in ("q4f16_1", "q4f16_2", "q0f16"):
        form = quantization(form_name)
        planned = sum(tensor.count * sum(tensor_bytes(tensor, form)) for tensor in shape.tensors())
        assert planned == sum(stored_bytes(form, parameter) for parameter in compiled), form_name
    names = [tensor.name for tensor in shape.tensors()]
    assert len(names) == len(set(names))


def test_what_layers_are_must_be_known():
    for kinds in (None, ["conv"], ["conv", "mamba", "conv", "conv"]):
        with pytest.raises(InvalidModel, match="layer_types does not have one of attention, conv"):
            ModelShape.of({**LFM2, "layer_types": kinds}, "there")


@each("name", model_cards())
def test_the_planner_and_the_compiler_count_the_same_tensors(name):
    """To the byte, whatever the format."""
    card = find_model(name)
    compiled = parameters_of(card.config, name)
    for form_name in ("q4f16_1", "q4f16_2", "q0f16"):
        form = quantization(form_name)
        shape = ModelShape.of(card.config, name)
        planned = sum(tensor.count * sum(tensor_bytes(tensor, form)) for tensor in shape.tensors())
        assert planned == sum(stored_bytes(form, parameter) for parameter in compiled), form_name


def test_of_experts_all_are_held_and_those_read_that_a_token_takes():
    """As its maker has it, 30.5 billion parameters, of which 3.3 are active."""
    shape = ModelShape.of(QWEN3_30B_A3B, "test")
    assert 3.3e9 < shape.active_parameters < 3.4e9
    settings = Settings("q4f16_1", 4096, 512)
    read = bytes_per_token(shape, settings)
    held = weight_bytes(shape, quantization("q4f16_1"))
    assert held > 17e9 > 2.5e9 > read
    compiled = parameters_of({**QWEN3_30B_A3B, "rms_norm_eps": 1e-6}, "test")
    assert held == sum(stored_bytes(quantization("q4f16_1"), parameter) for parameter in compiled)


@each(
    "changed, said",
    [
        ({"num_experts_per_tok": 129}, "num_experts_per_tok is 129, of 128 experts"),
        ({"num_experts": None}, "num_experts is None, not a positive whole number"),
        ({"moe_intermediate_size": 800 + 8}, "moe_intermediate_size is 808, no multiple of"),
        ({"num_experts": 1 << 30}, "num_experts is 1073741824; at most 1024"),
        ({"hidden_size": 2040}, "hidden_size is 2040, no multiple of"),
        ({"mlp_only_layers": [3]}, r"mlp_only_layers is \[3\]: some of its layers have no experts"),
        ({"decoder_sparse_step": 2}, "decoder_sparse_step is 2: some of its layers have no experts"),
    ],
)
def test_experts_that_cannot_be_computed_are_refused(changed, said):
    with pytest.raises(InvalidModel, match=said):
        ModelShape.of({**QWEN3_30B_A3B, **changed}, "test")


def test_every_architecture_that_can_be_compiled_can_be_planned():
    for name in architectures():
        more = {"sliding_window": None, "layer_types": ["full_attention"] * 32}
        config = {**QWEN3_30B_A3B, **PHI3_MINI, "model_type": name, **more}
        assert ModelShape.of(config, "test").architecture is architecture(name)


def test_the_language_part_of_a_model_that_also_sees():
    outer = {"model_type": "gemma3", "text_config": {**GEMMA3_1B, "model_type": "gemma3_text"}}
    assert ModelShape.of(outer, "test") == ModelShape.of(GEMMA3_1B, "test")
