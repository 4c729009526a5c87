"""Qwen 3: each query and key is normalised before it is turned."""

from __future__ import annotations

from edge_router.architectures.description import Architecture, ParameterNames
from edge_router.architectures.gguf_names import BLOCK, HEAD_NORMS, GgufNames

QWEN3 = Architecture(
    "qwen3",
    names=ParameterNames(qkv="c_attn"),
    gguf=GgufNames("qwen3", BLOCK | HEAD_NORMS),
    head_norms="each",
    keys=("hidden_act", "rope_theta", "attention_bias"),
)
