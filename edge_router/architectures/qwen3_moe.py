"""Qwen 3 with experts: Qwen 3's attention, and an MLP of many of which each token takes a few."""

from __future__ import annotations

from edge_router.architectures.description import Architecture, ParameterNames
from edge_router.architectures.experts import Experts
from edge_router.architectures.gguf_names import BLOCK, EXPERT_COUNTS, EXPERTS, HEAD_NORMS, GgufNames

_EXPERTS = Experts()

QWEN3_MOE = Architecture(
    "qwen3_moe",
    names=ParameterNames(qkv="c_attn"),
    gguf=GgufNames(
        "qwen3moe",
        BLOCK | HEAD_NORMS | EXPERTS,
        counts=EXPERT_COUNTS,
        unsaid={"norm_topk_prob": True},
    ),
    head_norms="each",
    experts=_EXPERTS,
    keys=("hidden_act", "rope_theta", "attention_bias", *_EXPERTS.keys),
)
