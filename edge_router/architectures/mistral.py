"""Mistral and Ministral 3: Llama's layers, in many versions within a sliding window.

GGUF files call the older ones "llama". Ministral 3 stretches positions by YaRN, and scores of positions
beyond those that it began with grow; it is computed up to there.
"""

from __future__ import annotations

from edge_router.architectures.description import Architecture
from edge_router.architectures.gguf_names import GgufNames

MISTRAL = Architecture("mistral", windowed="all", keys=("sliding_window",))
MINISTRAL3 = Architecture(
    "ministral3", gguf=GgufNames("mistral3", turned=True), windowed="all", keys=("sliding_window",)
)
