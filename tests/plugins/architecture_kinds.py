"""Each architecture in small: its name in transformers, and what differs from `twins.COMMON`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# For a context of 128 on an original one of 64, or of 256.
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.01 * i for i in range(16)],
    "long_factor": [1.0 + 0.05 * i for i in range(16)],
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1000000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 4.0,
    "beta_slow": 1.0,
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 96}
KINDS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llama, llama3 rope": ("llama", {"rope_parameters": LLAMA3}),
    "deepseek-coder": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 100000.0}},
    ),
    "llama, proportional rope": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "proportional",
                "rope_theta": 100000.0,
                "partial_rotary_factor": 0.5,
            }
        },
    ),
    "mistral": ("mistral", {"sliding_window": 20, "rope_theta": 1000000.0}),
    "qwen2": ("qwen2", {"rope_theta": 1000000.0, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"rope_theta": 1000000.0}),
    "qwen3_moe": (
        "qwen3_moe",
        {**EXPERTS, "rope_theta": 1000000.0, "norm_topk_prob": True},
    ),
    "qwen3_moe, shares of all": ("qwen3_moe", {**EXPERTS, "rope_theta": 1000000.0}),
    "gemma2": (
        "gemma2",
        {
            "query_pre_attn_scalar": 48,
            "sliding_window": 20,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 3.0,
            "tie_word_embeddings": True,
        },
    ),
    "gemma3": (
        "gemma3_text",
        {
            "query_pre_attn_scalar": 48,
            "sliding_window": 20,  # shorter than a chunk of 32
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
            "tie_word_embeddings": True,
        },
    ),
    "smollm3": ("smollm3", {"num_hidden_layers": 4, "rope_theta": 2000000.0}),
    "granite": (
        "granite",
        {
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.0150,
            "logits_scaling": 0.125,
        },
    ),
    "olmo2": ("olmo2", {"rope_theta": 500000.0}),
    "olmo3": (
        "olmo3",
        {
            "sliding_window": 20,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {**YARN, "rope_theta": 500000.0, "attention_factor": 1.2},
                "sliding_attention": {"rope_type": "default", "rope_theta": 500000.0},
            },
        },
    ),
    "exaone4, some windows": (
        "exaone4",
        {
            "sliding_window": 20,
            "sliding_window_pattern": "LG",
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_theta": 1000000.0,
        },
    ),
    "exaone4, no window": (
        "exaone4",
        {
            "sliding_window": None,
            "layer_types": ["full_attention", "full_attention"],
            "rope_parameters": LLAMA3,
        },
    ),
    "ministral3": (
        "ministral3",
        {
            "rope_parameters": {
                **YARN,
                "original_max_position_embeddings": 128,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.1,
            },
        },
    ),
    "lfm2": (
        "lfm2",
        {
            "num_hidden_layers": 4,
            "layer_types": ["conv", "full_attention", "conv", "conv"],
            "norm_eps": 1e-6,
            "rope_theta": 1000000.0,
            "intermediate_size": 250,  # of which two thirds are taken
            "block_multiple_of": 32,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3.5": (
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
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 16,
        },
    ),
    "granite hybrid": (
        "granitemoehybrid",
        {
            "num_hidden_layers": 4,
            "layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"],
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "shared_intermediate_size": 192,
            "mamba_n_heads": 8,
            "mamba_n_groups": 2,
            "mamba_d_state": 16,
            "mamba_d_head": 32,
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.0150,
            "logits_scaling": 0.125,
            "tie_word_embeddings": True,
        },
    ),
    "granite 4, all attending": (
        "granitemoehybrid",
        {
            "layer_types": ["full_attention", "full_attention"],
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "shared_intermediate_size": 192,
            "mamba_n_heads": 8,
            "mamba_d_head": 32,
            "position_embedding_type": "rope",
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.0150,
        },
    ),
    "phi3": ("phi3", {"num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": 47}),
    "phi4, short longrope, in part": (
        "phi3",
        {
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": LONGROPE,
            "partial_rotary_factor": 0.5,
            "original_max_position_embeddings": 128,
            "max_position_embeddings": 256,
        },
    ),
}
