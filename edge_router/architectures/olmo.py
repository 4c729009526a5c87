"""Olmo 2 and 3: norms after attention and MLP only, all of a token's queries normalised as one, and its keys.

Most layers of Olmo 3 have a window, and turn by no scaling. GGUF files call both "olmo2".
"""

from __future__ import annotations

from dataclasses import replace

from edge_router.architectures.description import Architecture
from edge_router.architectures.gguf_names import HEAD_NORMS, NORMS_AFTER, PROJECTIONS, GgufNames

OLMO2 = Architecture(
    "olmo2",
    gguf=GgufNames("olmo2", PROJECTIONS | NORMS_AFTER | HEAD_NORMS, windowed="olmo3"),
    norms="after",
    head_norms="all",
)
OLMO3 = replace(
    OLMO2,
    model_type="olmo3",
    gguf=None,
    windowed="some",
    turns="near and far",
    every=4,
    keys=("sliding_window", "layer_types", "rope_local_base_freq"),
)
