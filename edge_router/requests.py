"""`edge_router.surfaces.openai.parse` under the name by which programs have imported it so far."""

from edge_router.surfaces.openai.parse import parse_chat, parse_messages

__all__ = ["parse_chat", "parse_messages"]
