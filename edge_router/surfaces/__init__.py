"""The protocols that clients speak to us, a folder for each family: bytes in, bytes out, no web framework.

In each, `surface` is what the server sees, `parse` makes a `ChatRequest` of a body, `encode` writes answers
and errors, and `queries` answers what is asked beside chats. What all have in common stands beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_router.registry import Registry

if TYPE_CHECKING:
    from edge_router.surfaces.base import Surface


def surfaces() -> Registry[Surface]:
    """Those that ship, by name. A factory takes nothing."""
    registry: Registry[Surface] = Registry("surface")
    registry.add("openai-chat", "edge_router.surfaces.openai.surface:OpenAIChat")
    registry.add("openai-completions", "edge_router.surfaces.openai.surface:OpenAICompletions")
    registry.add("openai-responses", "edge_router.surfaces.responses.surface:OpenAIResponses")
    registry.add("anthropic-messages", "edge_router.surfaces.anthropic.surface:AnthropicMessages")
    registry.add("ollama", "edge_router.surfaces.ollama.surface:Ollama")
    registry.add("typesafe-systemone", "edge_router.surfaces.decisions.surface:SystemOne")
    registry.add("openai-decisions", "edge_router.surfaces.decisions.surface:Decisions")
    return registry
