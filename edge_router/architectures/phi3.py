"""Phi 3, 3.5 and 4 mini: Llama's layers under names of their own, turned by "longrope", perhaps in part."""

from __future__ import annotations

from edge_router.architectures.description import Architecture, ParameterNames
from edge_router.architectures.gguf_names import BLOCK, FUSED, GgufNames

PHI3 = Architecture(
    "phi3",
    names=ParameterNames("transformer", "embd", "h", "mixer", out="out_proj", before="ln"),
    gguf=GgufNames("phi3", BLOCK | FUSED),
    fused=True,
    windowed="all",
    keys=(
        "max_position_embeddings",
        "original_max_position_embeddings",
        "partial_rotary_factor",
        "sliding_window",
    ),
)
