"""The engines that ship, by name. A factory takes (config, paths, progress), and is imported when used."""

from __future__ import annotations

from edge_router.engines.base import Engine
from edge_router.registry import Registry


def weak_engines() -> Registry[Engine]:
    """Engines that can be the weak model."""
    registry: Registry[Engine] = Registry("weak engine")
    registry.add("tvm", "edge_router.engines.tvm:load")
    registry.add("scripted", "edge_router.engines.scripted:load_weak")
    return registry


def strong_engines() -> Registry[Engine]:
    """Engines that can be the strong model."""
    registry: Registry[Engine] = Registry("strong engine")
    registry.add("openai", "edge_router.engines.openai:load")
    registry.add("scripted", "edge_router.engines.scripted:load_strong")
    return registry
