"""EXAONE 4: norms after attention and MLP only; in the larger ones three of four layers have a window.

Those that have none turn nothing by its position; where no layer has one, all do.
"""

from __future__ import annotations

from edge_router.architectures.description import Architecture
from edge_router.architectures.gguf_names import HEAD_NORMS, NORMS_AFTER, PROJECTIONS, GgufNames

EXAONE4 = Architecture(
    "exaone4",
    gguf=GgufNames("exaone4", PROJECTIONS | NORMS_AFTER | HEAD_NORMS),
    norms="after",
    head_norms="each",
    windowed="some",
    turns="near only",
    every=4,
    keys=("sliding_window", "layer_types"),
)
