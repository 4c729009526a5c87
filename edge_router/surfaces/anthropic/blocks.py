"""An answer's parts, written as Anthropic's content blocks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edge_router.chat.message import Fields, Part, Reasoning, Refusal, Text, ToolCall
from edge_router.parsing import strict_json
from edge_router.surfaces.anthropic.signatures import REDACTED, sealed, signed
from edge_router.surfaces.base import Body

NO_JSON = "INVALID_JSON"  # holds arguments that are none, as Anthropic advises for what a model cut short


def written_blocks(parts: Iterable[Part], *, thoughts: bool) -> list[Body]:
    """The content of an answer. Without `thoughts` only what they are signed with is written.

    Text of blanks alone, as models write before a call, is none: Anthropic takes no such block back, and
    clients that wait for the first text would take it for the answer.
    """
    return [block for part in parts for block in _written(part, thoughts=thoughts)]


def _written(part: Part, *, thoughts: bool) -> Iterator[Body]:
    if isinstance(part, Text | Refusal):
        if part.text.strip():
            yield text_block(part.text)
    elif isinstance(part, Reasoning) and part.label == REDACTED:
        yield redacted_block(part.opaque)
    elif isinstance(part, Reasoning):
        signature = signed(part.label, part.opaque)
        if thoughts or signature:
            yield thinking_block(part.text if thoughts else "", signature)
    elif isinstance(part, ToolCall):
        if part.extra:
            yield hung_block(part.id, part.extra)
        yield tool_block(part.id, part.name, tool_input(part.arguments))


def text_block(text: str) -> Body:
    return {"type": "text", "text": text}


def thinking_block(text: str, signature: str) -> Body:
    return {"type": "thinking", "thinking": text, "signature": signature}


def redacted_block(opaque: Fields) -> Body:
    return {"type": "redacted_thinking", "data": str(opaque.get("data", ""))}


def hung_block(call_id: str, extra: Fields) -> Body:
    """What an endpoint hung on a call, such as a signature of its own, and wants back with it."""
    return {"type": "redacted_thinking", "data": sealed({call_id: dict(extra)})}


def tool_block(call_id: str, name: str, given: Fields) -> Body:
    return {"type": "tool_use", "id": call_id, "name": name, "input": given}


def tool_input(arguments: str) -> Body:
    """Arguments as the object that they should be."""
    if not arguments.strip():
        return {}
    try:
        return strict_json.parse_object(arguments)
    except strict_json.NotJson:
        return {NO_JSON: arguments}
