"""Mistral: Llama's layers, in many versions within a sliding window. GGUF files call it "llama"."""

from __future__ import annotations

from edge_router.architectures.description import Architecture

MISTRAL = Architecture("mistral", windowed="all", keys=("sliding_window",))
