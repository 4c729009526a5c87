"""Tiny random models of every architecture, and a conversation with which two devices are compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_router.compile.random_model import write_random_model
from edge_router.compile.weights.package import PackageWindows
from edge_router.engines.tvm.engine import TvmRunner

# Largest difference of a logit over the standard deviation of all. The processor rounds activations to 16-bit
# integers, the GPU's tensor cores to float16.
CLOSE = 0.02
COMMON: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "num_hidden_layers": 2,
    "rms_norm_eps": 1e-6,
    "vocab_size": 288,
    "max_position_embeddings": 256,
    "rope_theta": 10000.0,
}
GEMMA = {"query_pre_attn_scalar": 48, "sliding_window": 20}
CAPS = {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 24},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {},
    "gemma2": {**GEMMA, **CAPS, "hidden_activation": "gelu_pytorch_tanh"},
    "gemma3_text": {**GEMMA, "layer_types": ["sliding_attention", "full_attention"], "rope_local_base_freq": 10000.0},
    "phi3": {"num_attention_heads": 2, "num_key_value_heads": 1},
    "ministral3": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}},
    "smollm3": {"no_rope_layers": [1, 0]},
    "granite": {"embedding_multiplier": 12.0, "residual_multiplier": 0.5, "attention_multiplier": 0.1},
    "olmo2": {},
    "olmo3": {"sliding_window": 20, "layer_types": ["sliding_attention", "full_attention"]},
    "exaone4": {"sliding_window": 20, "layer_types": ["sliding_attention", "full_attention"]},
}  # fmt: skip


def make(folder: Path, name: str, tiny: Any) -> Path:
    """An MLC directory in q4f16_1; `tiny` is tests/compile/tiny_llama.py, which has a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(tiny.tokenizer()), encoding="utf-8")
    described = {"eos_token": "<|im_end|>", "chat_template": tiny.TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")
    target = folder / name
    if not target.is_dir():
        target.mkdir()
        write_random_model(
            target, {"model_type": name, **COMMON, **MODELS[name]}, folder, PackageWindows(128, 32, 2)
        )
    return target


def chat(model_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((model_dir / "mlc-chat-config.json").read_text(encoding="utf-8"))
    return found


def conversation() -> list[tuple[str, tuple[Any, ...]]]:
    """Calls of a `TvmRunner`: chunks, decoding, a fork in the middle, two sequences at once, tokens taken back."""
    tokens = np.random.default_rng(1).integers(0, 250, 100).tolist()
    return [
        ("add_sequence", (0,)),
        ("prefill", (0, tokens[:32])),
        ("prefill", (0, tokens[32:64])),
        ("prefill", (0, tokens[64:70])),
        ("decode", ([0], tokens[70:71])),
        ("fork_sequence", (0, 1, 57)),
        ("prefill", (1, tokens[:12])),
        ("decode", ([0, 1], [tokens[71], tokens[12]])),
        ("pop_tokens", (0, 1)),  # of what models with a window forget nothing comes back
        ("decode", ([0], tokens[72:73])),
    ]


def questions() -> list[tuple[str, tuple[Any, ...]]]:
    """Behind the conversation: two forks of what its first sequence holds, read in one call."""
    tokens = np.random.default_rng(2).integers(0, 250, 30).tolist()
    forks: list[tuple[str, tuple[Any, ...]]] = [("fork_sequence", (0, child, 71)) for child in (2, 3)]
    return [*forks, ("prefill_many", ([2, 3], [tokens[:5], tokens[5:18]]))]


def answers(runner: TvmRunner, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[np.ndarray | None]:
    """The logits that each call returns, if it does."""
    found = [getattr(runner, name)(*arguments) for name, arguments in calls]
    return [None if logits is None else np.array(logits) for logits in found]


def largest_error(found: Sequence[Any], wanted: Sequence[np.ndarray | None]) -> float:
    """Of a logit, over the standard deviation of all."""
    pairs = [(a, b) for a, b in zip(found, wanted, strict=True) if b is not None]
    assert len(pairs) in (7, 8)
    return max(float(np.abs(a - b).max() / b.std()) for a, b in pairs)
