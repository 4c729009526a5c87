"""Qwen 2 and 2.5, and the models distilled into them: queries, keys and values have a bias."""

from __future__ import annotations

from edge_router.architectures.description import Architecture, ParameterNames
from edge_router.architectures.gguf_names import GgufNames

QWEN2 = Architecture(
    "qwen2",
    names=ParameterNames(qkv="c_attn"),
    gguf=GgufNames("qwen2"),
    bias=True,
    keys=("hidden_act", "rope_theta"),
)
