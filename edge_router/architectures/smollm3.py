"""SmolLM3: Llama's layers, of which each fourth turns nothing by its position."""

from __future__ import annotations

from edge_router.architectures.description import Architecture
from edge_router.architectures.gguf_names import GgufNames

SMOLLM3 = Architecture(
    "smollm3",
    gguf=GgufNames("smollm3", turned=True),
    tied=True,
    turns="listed",
    every=4,
    keys=("no_rope_layers", "no_rope_layer_interval"),
)
