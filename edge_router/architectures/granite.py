"""Granite 3 and 4 (dense): Llama's layers, with scales of its own for embeddings, sums, scores, logits."""

from __future__ import annotations

from edge_router.architectures.description import Architecture
from edge_router.architectures.gguf_names import GgufNames

_GGUF_KEYS = {
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "attention.scale": "attention_multiplier",
    "logit_scale": "logits_scaling",
}

GRANITE = Architecture(
    "granite",
    gguf=GgufNames("granite", turned=True, numbers=_GGUF_KEYS),
    keys=tuple(_GGUF_KEYS.values()),
)
