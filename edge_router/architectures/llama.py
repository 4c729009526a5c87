"""Llama 2 and 3, SmolLM2, TinyLlama, DeepSeek Coder, Gorilla and whatever shares their layers."""

from __future__ import annotations

from edge_router.architectures.description import Architecture
from edge_router.architectures.gguf_names import GgufNames

LLAMA = Architecture("llama", gguf=GgufNames("llama", turned=True))
