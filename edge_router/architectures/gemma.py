"""Gemma 2 and 3 (text): norms around attention and MLP, embeddings made larger, most layers within a window.

Gemma 2 bends scores and logits to a cap; Gemma 3 normalises queries and keys, and turns layers with a window
faster.
"""

from __future__ import annotations

from edge_router.architectures.description import Architecture, ParameterNames
from edge_router.architectures.gguf_names import BLOCK, HEAD_NORMS, NORMS_AROUND, GgufNames

_KEYS = ("hidden_activation", "attention_bias", "query_pre_attn_scalar", "sliding_window", "layer_types")
_GELU = ("gelu_pytorch_tanh", "gelu_tanh")

GEMMA2 = Architecture(
    "gemma2",
    gguf=GgufNames("gemma2", BLOCK | NORMS_AROUND, largest=46),
    norms="around",
    plus_one=True,
    tied=True,
    embeds_by_root=True,
    gates=_GELU,
    windowed="some",
    every=2,
    keys=(*_KEYS, "attn_logit_softcapping", "final_logit_softcapping"),
)
GEMMA3 = Architecture(
    "gemma3_text",
    mlc_type="gemma3",
    names=ParameterNames(body="language_model.model"),
    gguf=GgufNames("gemma3", BLOCK | NORMS_AROUND | HEAD_NORMS, largest=62),
    norms="around",
    head_norms="each",
    split=True,
    plus_one=True,
    tied=True,
    embeds_by_root=True,
    gates=_GELU,
    windowed="some",
    turns="near and far",
    every=6,
    near_base=10000.0,
    keys=(*_KEYS, "rope_local_base_freq", "sliding_window_pattern"),
)
