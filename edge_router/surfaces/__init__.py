"""The protocols that clients speak to us, a file each: bytes in, bytes out, no web framework."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_router.registry import Registry

if TYPE_CHECKING:
    from edge_router.surfaces.base import Surface


def surfaces() -> Registry[Surface]:
    """Those that ship, by name. A factory takes nothing."""
    registry: Registry[Surface] = Registry("surface")
    registry.add("openai-chat", "edge_router.surfaces.openai_chat:OpenAIChat")
    registry.add("openai-completions", "edge_router.surfaces.openai_completions:OpenAICompletions")
    registry.add("openai-responses", "edge_router.surfaces.openai_responses:OpenAIResponses")
    registry.add("anthropic-messages", "edge_router.surfaces.anthropic_messages:AnthropicMessages")
    registry.add("ollama", "edge_router.surfaces.ollama:Ollama")
    return registry
