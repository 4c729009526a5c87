"""GGUF files of each architecture, under the gguf package's own names, read back as the checkpoint they are of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from architecture_kinds import EXPERTS, YARN

from edge_router.catalog.gguf import gguf_config
from edge_router.compile.readers import open_weights
from edge_router.compile.weights.equalize import Activations
from edge_router.compile.weights.package import PackageWindows, write_model
from edge_router.compile.weights.parameters import check, parameters
from edge_router.compile.weights.quantize import supported
from edge_router.compile.weights.reference import Reference

TOKENS = [7, 100, 3, 255, 12, 90, 31, 31, 8, 44, 2, 19, 200, 61, 5, 5, 77, 130, 9, 250, 33, 18, 4, 99]
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.125 * i for i in range(16)],
    "long_factor": [1.0 + 0.25 * i for i in range(16)],
}
GEMMA = {"query_pre_attn_scalar": 64, "sliding_window": 20, "tie_word_embeddings": True}
YARN_KEYS = {
    "rope.freq_base": 1000000.0,
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 8.0,
    "rope.scaling.original_context_length": 32,
    "rope.scaling.yarn_beta_fast": 4.0,
    "rope.scaling.yarn_beta_slow": 1.0,
}
# GGUF's name, and what is special -> transformers', what differs from twins.COMMON, and the keys that llama.cpp's converter adds
FAMILIES: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {
    "llama": ("llama", {}, {}),
    "qwen2": ("qwen2", {"rope_theta": 1000000.0, "tie_word_embeddings": True}, {}),
    "qwen3": ("qwen3", {}, {}),
    "qwen3moe": (
        "qwen3_moe",
        {**EXPERTS, "norm_topk_prob": True},
        {"expert_count": 8, "expert_used_count": 3, "expert_feed_forward_length": 96},
    ),
    "gemma2": (
        "gemma2",
        {**GEMMA, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
        {"attention.sliding_window": 20, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
    ),
    "gemma3": (
        "gemma3_text",
        {
            **GEMMA,
            "num_hidden_layers": 6,
            "layer_types": [*["sliding_attention"] * 5, "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
        {
            "attention.sliding_window": 20,
            "rope.freq_base": 1000000.0,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
    ),
    "smollm3": ("smollm3", {"num_hidden_layers": 4, "rope_theta": 2000000.0}, {"rope.freq_base": 2000000.0}),
    "granite": (
        "granite",
        {
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.015,
            "logits_scaling": 0.125,
        },
        {"embedding_scale": 12.0, "residual_scale": 0.22, "attention.scale": 0.015, "logit_scale": 0.125},
    ),
    "olmo2": ("olmo2", {"rope_theta": 500000.0}, {}),
    "olmo2, with windows": (
        "olmo3",
        {
            "sliding_window": 20,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": YARN,
                "sliding_attention": {"rope_type": "default", "rope_theta": 1000000.0},
            },
        },
        {"attention.sliding_window": 20, "attention.sliding_window_pattern": [True, False], **YARN_KEYS},
    ),
    "exaone4": (
        "exaone4",
        {"sliding_window": 20, "layer_types": ["sliding_attention", "full_attention"]},
        {"attention.sliding_window": 20, "attention.sliding_window_pattern": [True, False]},
    ),
    "mistral3": (
        "ministral3",
        {
            "rope_parameters": {
                **YARN,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.1,
            }
        },
        {**YARN_KEYS, "rope.scaling.yarn_log_multiplier": 1.0, "attention.temperature_scale": 0.1},
    ),
    "lfm2": (
        "lfm2",
        {
            "num_hidden_layers": 4,
            "layer_types": ["conv", "full_attention", "conv", "conv"],
            "norm_eps": 1e-6,
            "block_multiple_of": 32,
            "tie_word_embeddings": True,
        },
        {"attention.head_count_kv": [0, 2, 0, 0], "shortconv.l_cache": 3},
    ),
    "qwen35": (
        "qwen3_5_text",
        {
            "num_hidden_layers": 4,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1000000.0,
                "partial_rotary_factor": 0.25,
                "mrope_section": [3, 3, 2],
            },
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 6,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 16,
        },
        {
            "block_count": 5,
            "nextn_predict_layers": 1,
            "full_attention_interval": 4,
            "rope.dimension_count": 16,
            "ssm.conv_kernel": 4,
            "ssm.state_size": 32,
            "ssm.group_count": 2,
            "ssm.time_step_rank": 6,
            "ssm.inner_size": 96,
        },
    ),
    "phi3": (
        "phi3",
        {
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": LONG,
            "partial_rotary_factor": 0.5,
            "original_max_position_embeddings": 128,
            "max_position_embeddings": 256,
        },
        {
            "rope.dimension_count": 32,
            "rope.scaling.original_context_length": 128,
            "rope.scaling.attn_factor": float(np.sqrt(1 + np.log(2) / np.log(128))),
        },
    ),
}


def in_tiles(name: str, tensor: np.ndarray) -> np.ndarray:
    """Value heads as llama.cpp has them: the first of each of the two groups, then the second of each."""
    if name.endswith("A_log"):
        tensor = -np.exp(tensor)
    keys = 2 * 2 * 32 if name.endswith(("in_proj_qkv.weight", "conv1d.weight")) else 0
    size = 16 if keys or name.endswith(("in_proj_z.weight", "out_proj.weight")) else 1
    if ".linear_attn." not in name or name.endswith("norm.weight"):
        return tensor
    if name.endswith("out_proj.weight"):
        whole = tensor.reshape(len(tensor), 2, 3, size).swapaxes(1, 2)
        return np.ascontiguousarray(whole.reshape(tensor.shape))
    whole = tensor[keys:].reshape(2, 3, size, *tensor.shape[1:]).swapaxes(0, 1)
    return np.concatenate([tensor[:keys], whole.reshape(tensor[keys:].shape)])


def write(file: Path, family: str, checkpoint: Any, extra: Mapping[str, Any], tiny: Any) -> None:
    """As llama.cpp's converter does, under the names that the gguf package maps Hugging Face's to."""
    config, writer = checkpoint.config, gguf.GGUFWriter(file, family)
    numbers = {
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config["head_dim"],
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.freq_base": config["rope_theta"],
        **extra,
    }
    for key, value in numbers.items():
        kinds = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add = {**kinds, list: writer.add_array}[type(value)]
        add(f"{family}.{key}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tiny.tokens())
    writer.add_token_types([3] * len(tiny.SPECIALS) + [1] * (len(tiny.tokens()) - len(tiny.SPECIALS)))
    writer.add_token_merges(tiny.MERGES)
    kind = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == family)
    names = gguf.get_tensor_name_map(kind, config["num_hidden_layers"])
    held = checkpoint.names  # by Llama's names
    for name, tensor in together(checkpoint).items():
        if family in ("llama", "smollm3", "granite", "mistral3") and name.endswith(
            ("q_proj.weight", "k_proj.weight")
        ):
            tensor = tiny.llama_cpp_order(tensor, config["head_dim"])
        plus = family.startswith("gemma") or (family == "qwen35" and ".linear_attn." not in name)
        if plus and name.endswith("norm.weight"):
            tensor = tensor + 1
        if family == "qwen35":
            tensor = in_tiles(name, tensor)
        theirs = held.get(name, name).replace(".dt_bias", ".dt_proj.bias")
        writer.add_tensor(names.get_name(theirs, try_suffixes=(".weight", ".bias")), tensor)
    if family == "qwen35":  # of a layer that guesses ahead
        writer.add_tensor("blk.4.nextn.enorm.weight", np.ones(config["hidden_size"], np.float32))
        writer.add_tensor("blk.4.attn_norm.weight", np.ones(config["hidden_size"], np.float32))
    if family == "phi3":
        writer.add_tensor("rope_factors_long.weight", np.array(LONG["long_factor"], np.float32))
        writer.add_tensor("rope_factors_short.weight", np.array(LONG["short_factor"], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def together(checkpoint: Any) -> dict[str, np.ndarray]:
    """Every tensor, the matrices of a layer's experts as one."""
    found: dict[str, list[np.ndarray]] = {}
    for name in checkpoint.tensors:
        layer, _, rest = name.partition(".experts.")
        expert, _, part = rest.partition(".")
        one = f"{layer}.experts.{part}" if rest else name
        found.setdefault(one, []).append(
            checkpoint.rows(f"{layer}.experts.{expert}.{part}" if rest else name)
        )
    return {name: parts[0] if len(parts) == 1 else np.stack(parts) for name, parts in found.items()}


@pytest.fixture(scope="module", params=list(FAMILIES))
def pair(
    request: pytest.FixtureRequest, twins: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """(the family, readers of the checkpoint and of the GGUF file)."""
    architecture, numbers, extra = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp("family")
    twins.write_checkpoint(twins.random_model(architecture, numbers), folder / "hf", tiny)
    checkpoint = open_weights(folder / "hf")
    write(folder / "model.gguf", request.param.partition(",")[0], checkpoint, extra, tiny)
    return request.param, checkpoint, open_weights(folder / "model.gguf")


def test_the_tensors_are_the_checkpoints(pair: Any) -> None:
    _, checkpoint, file = pair
    assert set(file.tensors) == set(checkpoint.tensors)
    for name in checkpoint.tensors:
        np.testing.assert_allclose(file.rows(name), checkpoint.rows(name), rtol=0, atol=2e-7)  # 1 + w - 1
    check(file, parameters(file.config, "file"), file.config)


def test_the_logits_are_the_checkpoints(pair: Any) -> None:
    """Longer than the window, so every number of the config has a say."""
    _, checkpoint, file = pair
    wanted, found = (model.logits(model.hidden(TOKENS)) for model in (Reference(checkpoint), Reference(file)))
    assert np.abs(found - wanted).max() < 1e-4 * wanted.std()


def test_the_header_alone_says_the_same(pair: Any) -> None:
    _, _, file = pair
    header = gguf_config(file.source)
    assert header["model_type"] == file.config["model_type"]
    assert {key: file.config[key] for key in header} == header


def test_it_is_packaged(pair: Any, tmp_path: Path) -> None:
    _, checkpoint, file = pair
    write_model(
        file, tmp_path, config=gguf_config(file.source), form=supported("q0f32"), quantizer="round",
        activations=Activations(), windows=PackageWindows(128, 32),
    )  # fmt: skip
    back = open_weights(tmp_path)
    wanted, found = (model.logits(model.hidden(TOKENS)) for model in (Reference(checkpoint), Reference(back)))
    assert np.abs(found - wanted).max() < 1e-4 * wanted.std()
    back.close()
