"""Model definitions: one file each, found by the `model_type` of their configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edge_router import plugins
from edge_router.errors import UnsupportedArchitecture
from edge_router.registry import Registry

# (model_config, the parts of the target, a name for errors) -> the model, ready to be exported
Define = Callable[[Mapping[str, object], Any, str], Any]


def architectures() -> Registry[Any]:
    """`model_type` to definition, of those here. They import TVM, so they are loaded when asked for."""
    registry: Registry[Any] = Registry("architecture")
    for name in ("gemma2", "llama", "mistral", "phi3", "qwen2", "qwen3"):
        registry.add(name, f"edge_router.compile.architectures.{name}:{name}")
    for name in ("gemma3", "gemma3_text"):  # MLC's name, and Hugging Face's where the model only reads
        registry.add(name, "edge_router.compile.architectures.gemma3:gemma3")
    return registry


def known(model_type: str) -> bool:
    """Whether it is defined here or by another package."""
    return model_type in plugins.extend(architectures(), plugins.ARCHITECTURES)


def definition(model_type: str, registry: Registry[Any] | None = None) -> Define:
    """By default from all that is here or in the entry points of other installed packages.

    Raises `UnsupportedArchitecture`, `DuplicateName` where two have the same name.
    """
    known = registry or plugins.extend(architectures(), plugins.ARCHITECTURES)
    if model_type not in known:
        raise UnsupportedArchitecture(model_type, tuple(known))
    return known.get(model_type)
