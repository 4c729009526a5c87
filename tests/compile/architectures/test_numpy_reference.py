"""The numpy model of each architecture, held against transformers on the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.compile.readers import open_weights
from edge_router.compile.weights.parameters import parameters
from edge_router.compile.weights.reference import Reference

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.01 * i for i in range(16)],
    "long_factor": [1.0 + 0.05 * i for i in range(16)],
}
GEMMA = {"query_pre_attn_scalar": 48, "sliding_window": 20, "tie_word_embeddings": True}
KINDS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llama": ("llama", {}),
    "mistral within a window": ("mistral", {"sliding_window": 20}),
    "qwen2": ("qwen2", {"rope_theta": 1000000.0, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {}),
    "gemma2": ("gemma2", {**GEMMA, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0}),
    "gemma3": (
        "gemma3_text",
        {
            **GEMMA,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                "sliding_attention": ROPE,
            },
        },
    ),
    "phi3": ("phi3", {"num_attention_heads": 2, "num_key_value_heads": 1}),
    "phi4, turned in part": (
        "phi3",
        {
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": LONG,
            "partial_rotary_factor": 0.5,
            "original_max_position_embeddings": 128,
            "max_position_embeddings": 256,
        },
    ),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_it_computes_what_transformers_does(kind: str, twins: Any, tiny: Any, tmp_path: Path) -> None:
    import torch

    architecture, numbers = KINDS[kind]
    theirs = twins.random_model(architecture, numbers)
    twins.write_checkpoint(theirs, tmp_path, tiny)
    model = Reference(open_weights(tmp_path))
    tokens = np.random.default_rng(1).integers(0, 288, 60).tolist()
    with torch.no_grad():
        wanted = theirs(torch.tensor([tokens])).logits[0].numpy()
    parts = [model.hidden(tokens[:25]), model.hidden(tokens[25:])]
    found = model.logits(np.concatenate(parts))
    assert np.abs(found - wanted).max() < 2e-4 * wanted.std()


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_each_parameter_meets_is_seen_once_a_text(
    kind: str, twins: Any, tiny: Any, tmp_path: Path
) -> None:
    architecture, numbers = KINDS[kind]
    twins.write_checkpoint(twins.random_model(architecture, numbers), tmp_path, tiny)
    reader = open_weights(tmp_path)
    wanted = {p.name: p.shape for p in parameters(reader.config, kind) if p.kind in ("linear", "head")}
    wanted.setdefault("lm_head", (288, 128))
    seen: list[tuple[str, int, int]] = []
    texts = [[5, 6, 7], [8, 9]]
    for _ in Reference(reader).observe(texts, lambda name, inputs: seen.append((name, *inputs.shape))):
        pass
    assert sorted(seen) == sorted(
        (name, len(text), shape[1]) for name, shape in wanted.items() for text in texts
    )
