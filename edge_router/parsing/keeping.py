"""What says of a request that the beginning of its prompt may stay on this machine's disk: a field of ours.

Anthropic's `cache_control` asks for what is forgotten in minutes, so that it is a word of its own, which the
user's settings may hear.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from edge_router.errors import InvalidRequest
from edge_router.parsing.fields import shown

FIELD: Final = "cache"
_KEEP = "keep"
_CONTROL = "cache_control"

Mark: TypeAlias = Literal["cache", "cache_control"]  # the field that says so


def taken_mark(layer: dict[str, object], within: str = "") -> Mark | None:
    """What the field says, which is taken out of a body. Other servers have an object of that name, which
    stays. Raises `InvalidRequest` for a word that is not known."""
    value = layer.get(FIELD)
    if not isinstance(value, str):
        return None
    del layer[FIELD]
    if value != _KEEP:
        raise InvalidRequest(f"{within}{FIELD}", f"knows {_KEEP}, not {shown(value)}")
    return FIELD


def controls(body: Mapping[str, object]) -> bool:
    """Whether Anthropic's `cache_control` stands in a body: then the system message lies before it."""
    inner = (body.get(name) for name in ("system", "tools", "messages"))
    return body.get(_CONTROL) is not None or any(map(_controlled, inner))


def _controlled(value: object) -> bool:
    if not isinstance(value, list):
        return False
    return any(
        isinstance(item, Mapping) and (item.get(_CONTROL) is not None or _controlled(item.get("content")))
        for item in value
    )
