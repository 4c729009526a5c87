"""Reasoning items: thoughts of ours and of others, as they come, and sealed as they go. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from edge_router.chat.message import Reasoning
from edge_router.parsing import strict_json
from edge_router.parsing.fields import Fields, fields_at
from edge_router.surfaces.wire import dumps

SIGNED = "edge_router.1:"  # begins an `encrypted_content` of ours
CONTENT = "encrypted_content"  # the label of thoughts that another endpoint encrypted, too


def foreign_thoughts(item: Fields, encrypted: str | None) -> Reasoning:
    """Of a reasoning item that is not ours. What is encrypted goes back to whoever did it as it came."""
    text = "\n\n".join(_inner_texts(item, "content")) or "\n\n".join(_inner_texts(item, "summary"))
    if encrypted is None:
        return Reasoning(text)
    kept = {name: item.get(name) for name in ("id", "summary", CONTENT) if item.get(name)}
    return Reasoning(text, CONTENT, kept)


def _inner_texts(item: Fields, name: str) -> Iterator[str]:
    value = item.get(name)
    if value is None:
        return
    if not isinstance(value, list):
        raise item.refuse(name, "must be a list")
    for index, part in enumerate(value):
        yield fields_at(part, f"{item.within}.{name}[{index}]").needed_text("text")


def sealed(thoughts: Reasoning) -> str:
    """Thoughts as `encrypted_content`: clients that keep the conversation themselves send it back unread."""
    if thoughts.label == CONTENT:
        return str(thoughts.opaque.get(CONTENT, ""))
    body = {"text": thoughts.text, "label": thoughts.label, "opaque": dict(thoughts.opaque)}
    return SIGNED + base64.b64encode(dumps(body)).decode("ascii")


def unsealed(content: str | None) -> Reasoning | None:
    """The thoughts that `sealed` made it from; None where it is of somebody else."""
    if content is None or not content.startswith(SIGNED):
        return None
    try:
        body = strict_json.parse_object(base64.b64decode(content.removeprefix(SIGNED), validate=True))
    except (ValueError, strict_json.NotJson):
        return None
    text, label, opaque = (body.get(name) for name in ("text", "label", "opaque"))
    if not isinstance(text, str) or not isinstance(label, str) or not isinstance(opaque, dict):
        return None
    return Reasoning(text, label, opaque)
