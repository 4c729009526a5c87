"""GGUF files: their container, the parts of a model, and their metadata as a Hugging Face config."""

from __future__ import annotations

from edge_router.catalog.gguf.file import GgufTensor
from edge_router.catalog.gguf.model import GgufModel, gguf_config, gguf_in
from edge_router.catalog.gguf.names import first_part, models_among, parts_of, title_of

__all__ = [
    "GgufModel",
    "GgufTensor",
    "first_part",
    "gguf_config",
    "gguf_in",
    "models_among",
    "parts_of",
    "title_of",
]
