"""JSON and server-sent events as bytes, for every surface."""

from __future__ import annotations

import json
from collections.abc import Mapping

_string = json.encoder.encode_basestring_ascii
_JSON = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def dumps(body: Mapping[str, object] | str) -> bytes:
    """ASCII, since a model's text may hold half a surrogate pair, which UTF-8 has no bytes for."""
    return _JSON.encode(body).encode("ascii")


def string(text: str) -> bytes:
    """One JSON string, as `dumps` writes it."""
    return _string(text).encode("ascii")


def event(data: bytes, name: str = "") -> bytes:
    """One server-sent event, whose data is one line."""
    return (
        b"event: " + name.encode("ascii") + b"\ndata: " + data + b"\n\n"
        if name
        else b"data: " + data + b"\n\n"
    )


def comment(text: str = "") -> bytes:
    """What no client takes for a part of the answer. `text` is ours, in one line."""
    return b": " + text.encode("ascii") + b"\n\n"
