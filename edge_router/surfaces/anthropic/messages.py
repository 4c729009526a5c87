"""Anthropic's messages and their content blocks, read into turns and parts. Pure.

A block's fields that have no name among our parts are kept in `extra`. A block that any model can read as
text, such as a document that is one, is a `Text`, and its `extra` has the block itself under BLOCK.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from edge_router.chat.message import (
    Fields,
    File,
    Foreign,
    Image,
    Message,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from edge_router.errors import InvalidRequest
from edge_router.parsing.fields import shown
from edge_router.surfaces.anthropic.signatures import REDACTED, THINKING, opened
from edge_router.surfaces.base import Body
from edge_router.surfaces.pairing import Pairing

ROLES = ("user", "assistant", "system")
BLOCK = "block"
# Blocks that only Anthropic's endpoint makes something of: mostly what its own tools were asked and gave.
FOREIGN = frozenset(
    {
        *("server_tool_use", "web_search_tool_result", "web_fetch_tool_result", "code_execution_tool_result"),
        *("bash_code_execution_tool_result", "text_editor_code_execution_tool_result"),
        *("tool_search_tool_result", "advisor_tool_result", "mcp_tool_use", "mcp_tool_result"),
        *("mcp_tool_listing", "container_upload", "compaction", "fallback", "tool_addition", "tool_removal"),
        *("tool_reference", "browser_state"),
    }
)
_CACHE = "cache_control"


def read_system(value: object) -> tuple[Message, ...]:
    """Of the field `system`. Raises `InvalidRequest`."""
    if value is None:
        return ()
    parts = _content(value, "system", {"text": _text})
    return (Message("system", parts),) if parts else ()


def read_messages(value: object) -> tuple[Message, ...]:
    """Of a list in JSON's own types: each result of a tool a message of its own, and turns of one role, which
    are one to Anthropic, joined. Raises `InvalidRequest`."""
    if not isinstance(value, list):
        raise InvalidRequest("messages", "must be a list of messages")
    if not value:
        raise InvalidRequest("messages", "must hold at least one message")
    pairing = Pairing()
    turns: list[list[Message]] = []
    for index, item in enumerate(value):
        for message in _messages(item, f"messages[{index}]", pairing):
            if turns and turns[-1][0].role == message.role in ("user", "assistant"):
                turns[-1].append(message)
            else:
                turns.append([message])
    return tuple(_joined(turn) for turn in turns)


def _joined(turn: Sequence[Message]) -> Message:
    if len(turn) == 1:
        return turn[0]
    extra: Body = {}
    for message in turn:
        extra.update(message.extra)
    return Message(turn[0].role, tuple(part for message in turn for part in message.parts), extra=extra)


def _messages(item: object, where: str, pairing: Pairing) -> Iterator[Message]:
    if not isinstance(item, Mapping):
        raise InvalidRequest(where, "must be an object with role and content")
    role = item.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidRequest(f"{where}.role", f"must be one of {', '.join(ROLES)}")
    if item.get("content") is None:
        raise InvalidRequest(f"{where}.content", "is missing")
    parts = _unsealed(_content(item["content"], f"{where}.content", _READERS[role]))
    for part in parts:
        if isinstance(part, ToolCall):
            pairing.call(part.id, part.name)
    extra = _but(item, "role", "content")
    said: list[Part] = []
    for number, part in enumerate(parts):
        if not isinstance(part, ToolResult):
            said.append(part)
            continue
        _, tool = pairing.result(part.call_id, f"{where}.content[{number}].tool_use_id")
        if said:
            yield Message("user", said)
            said = []
        yield Message("tool", (replace(part, name=tool),))
    if said or not parts:
        yield Message(cast(Role, role), said, extra=extra)


Reader = Callable[[Fields, str], Part]


def _content(content: object, where: str, readers: Mapping[str, Reader]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),) if content else ()
    if not isinstance(content, list):
        raise InvalidRequest(where, "must be a string or a list of blocks")
    return tuple(_block(block, f"{where}[{index}]", readers) for index, block in enumerate(content))


def _block(block: object, where: str, readers: Mapping[str, Reader]) -> Part:
    kind = block.get("type") if isinstance(block, Mapping) else None
    if not isinstance(block, Mapping) or not isinstance(kind, str):
        raise InvalidRequest(where, "must be an object with a type")
    reader = readers.get(kind)
    if reader is None:
        known = any(kind in others for others in (*_READERS.values(), _IN_RESULT))
        reason = "does not belong there" if known else "is not known"
        taken = ", ".join(sorted(readers.keys() - FOREIGN))
        raise InvalidRequest(f"{where}.type", f"{shown(kind)!r} {reason}; taken are {taken}")
    return reader(block, where)


def _string(block: Fields, name: str, where: str, *, empty: bool = True) -> str:
    value = block.get(name)
    if not isinstance(value, str) or not (value or empty):
        raise InvalidRequest(f"{where}.{name}", "must be a string" + ("" if empty else " that is not empty"))
    return value


def _object(block: Fields, name: str, where: str) -> Fields:
    value = block.get(name)
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{where}.{name}", "must be an object")
    return value


def _text(block: Fields, where: str) -> Part:
    return Text(_string(block, "text", where), _but(block, "type", "text"))


def _image(block: Fields, where: str) -> Part:
    source, inner = _object(block, "source", where), f"{where}.source"
    extra = _but(block, "type", "source")
    kind = source.get("type")
    if kind == "base64":
        return Image(_data(source, inner), extra=extra)
    if kind == "url":
        return Image(_string(source, "url", inner, empty=False), extra=extra)
    if kind == "file":
        _string(source, "file_id", inner, empty=False)
        return Foreign("image", block)  # a picture that only lies at its endpoint
    raise InvalidRequest(f"{inner}.type", "must be base64, url or file")


def _data(source: Fields, where: str) -> str:
    kind = _string(source, "media_type", where, empty=False)
    return f"data:{kind};base64,{_string(source, 'data', where, empty=False)}"


def _document(block: Fields, where: str) -> Part:
    source, inner = _object(block, "source", where), f"{where}.source"
    title = block.get("title")
    name = title if isinstance(title, str) else None
    extra = _but(block, "type", "source", "title")
    kind = source.get("type")
    if kind == "base64":
        return File(url=_data(source, inner), name=name, extra=extra)
    if kind == "url":
        return File(url=_string(source, "url", inner, empty=False), name=name, extra=extra)
    if kind == "file":
        return File(id=_string(source, "file_id", inner, empty=False), name=name, extra=extra)
    if kind == "text":
        return _read_as((name, block.get("context"), _string(source, "data", inner)), block)
    if kind == "content":
        held = _content(source.get("content"), f"{inner}.content", {"text": _text, "image": _image})
        texts = [part.text for part in held if isinstance(part, Text)]
        return (
            _read_as((name, block.get("context"), *texts), block)
            if len(texts) == len(held)
            else Foreign("document", block)
        )
    raise InvalidRequest(f"{inner}.type", "must be base64, url, file, text or content")


def _search_result(block: Fields, where: str) -> Part:
    held = _content(block.get("content"), f"{where}.content", {"text": _text})
    texts = [part.text for part in held if isinstance(part, Text)]
    return _read_as((_string(block, "title", where), _string(block, "source", where), *texts), block)


def _read_as(texts: Iterable[object], block: Fields) -> Text:
    return Text("\n".join(text for text in texts if isinstance(text, str) and text), {BLOCK: block})


def _thinking(block: Fields, where: str) -> Part:
    text, signature = _string(block, "thinking", where), block.get("signature")
    if not signature:
        return Reasoning(text)
    if not isinstance(signature, str):
        raise InvalidRequest(f"{where}.signature", "must be a string")
    held = opened(signature)
    if held is None:
        return Reasoning(text, THINKING, {"signature": signature})
    label, opaque = held.get("label"), held.get("opaque")
    return Reasoning(
        text, label if isinstance(label, str) else "", opaque if isinstance(opaque, Mapping) else {}
    )


def _redacted(block: Fields, where: str) -> Part:
    return Reasoning("", REDACTED, {"data": _string(block, "data", where)})


def _tool_use(block: Fields, where: str) -> Part:
    given = _object(block, "input", where)
    return ToolCall(
        _string(block, "id", where, empty=False),
        _string(block, "name", where, empty=False),
        json.dumps(given, ensure_ascii=False),
        extra=_but(block, "type", "id", "name", "input", _CACHE),
    )


def _tool_result(block: Fields, where: str) -> Part:
    content = block.get("content")
    failed = block.get("is_error")
    if not isinstance(failed, bool | None):
        raise InvalidRequest(f"{where}.is_error", "must be true or false")
    return ToolResult(
        _string(block, "tool_use_id", where, empty=False),
        () if content is None else _content(content, f"{where}.content", _IN_RESULT),
        bool(failed),
        extra=_but(block, "type", "tool_use_id", "content", "is_error"),
    )


def _foreign(block: Fields, where: str) -> Part:
    return Foreign(str(block["type"]), block)


_FOREIGN: Mapping[str, Reader] = dict.fromkeys(FOREIGN, _foreign)
_SHOWN: Mapping[str, Reader] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
}
_IN_RESULT: Mapping[str, Reader] = {**_SHOWN, **_FOREIGN}
_READERS: Mapping[str, Mapping[str, Reader]] = {
    "system": {"text": _text, **_FOREIGN},
    "user": {**_SHOWN, "tool_result": _tool_result, **_FOREIGN},
    "assistant": {
        **_SHOWN,
        "thinking": _thinking,
        "redacted_thinking": _redacted,
        "tool_use": _tool_use,
        **_FOREIGN,
    },
}


def _but(fields: Fields, *names: str) -> Body:
    return {name: value for name, value in fields.items() if name not in names}


def _unsealed(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Calls with what their endpoint hung on them, which came in blocks of their own."""
    kept: list[Part] = []
    hung: dict[str, Body] = {}
    for part in parts:
        data = part.opaque.get("data") if isinstance(part, Reasoning) and part.label == REDACTED else ""
        held = opened(str(data))
        if held is None:
            kept.append(part)
        else:
            for call_id, extra in held.items():
                if isinstance(extra, Mapping):
                    hung.setdefault(call_id, {}).update(extra)
    if not hung:
        return tuple(kept)
    return tuple(
        replace(part, extra={**part.extra, **hung[part.id]})
        if isinstance(part, ToolCall) and part.id in hung
        else part
        for part in kept
    )
