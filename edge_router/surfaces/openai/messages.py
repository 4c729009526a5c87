"""Messages in OpenAI's form: read from what clients send, and written for endpoints that speak it. Pure.

What is read is written with the same meaning: fields that have no name among our parts are kept in `extra`,
thoughts go back under the name they came with, calls of 2023 (`function_call`) as such.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from edge_router.chat.message import (
    Audio,
    File,
    Foreign,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from edge_router.errors import InvalidRequest
from edge_router.surfaces.pairing import Pairing

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
THOUGHTS = ("reasoning_content", "reasoning", "reasoning_text", "thinking")  # what endpoints call them
_MEDIA = ("image_url", "input_audio", "file")
_TEXTS = {"function": "arguments", "custom": "input"}  # a call's type, and where its text stands
_CALLS, _OLDER_CALL, _OLDER_RESULT = "tool_calls", "function_call", "function"

Fields = Mapping[str, object]


# ---- reading -----------------------------------------------------------------------------------------------


def read_messages(value: object) -> tuple[Message, ...]:
    """Of a list in JSON's own types. Raises `InvalidRequest`."""
    if not isinstance(value, list):
        raise InvalidRequest("messages", "must be a list of messages")
    if not value:
        raise InvalidRequest("messages", "must hold at least one message")
    reader = _Reader()
    messages = tuple(reader.read(item, index) for index, item in enumerate(value))
    reader.pairing.end()
    return messages


class _Reader:
    """One conversation. Calls without an id get one that stays the same however long it goes on."""

    def __init__(self) -> None:
        self.pairing = Pairing()

    def read(self, item: object, index: int) -> Message:
        where = f"messages[{index}]"
        if not isinstance(item, Mapping):
            raise InvalidRequest(where, "must be an object with role and content")
        role = item.get("role")
        if not isinstance(role, str) or role not in ROLES:
            raise InvalidRequest(f"{where}.role", f"must be one of {', '.join(ROLES)}")
        rest = {name: value for name, value in item.items() if name not in ("role", "content")}
        parts = _content(item.get("content"), role, where)
        name = _text(rest, "name")
        if role in ("tool", _OLDER_RESULT):
            return Message("tool", (self._result(role, rest, parts, name, where),))
        if role == "assistant":
            refusal = _text(rest, "refusal")
            refused = () if refusal is None else (Refusal(refusal),)
            parts = (*_thoughts(rest), *parts, *refused, *self._calls(rest, index, where))
        return Message(cast(Role, role), parts, name, rest)

    def _result(
        self, role: str, rest: dict[str, object], parts: tuple[Part, ...], name: str | None, where: str
    ) -> ToolResult:
        field, stated = f"{where}.tool_call_id", None
        if role == _OLDER_RESULT:
            rest["role"] = role
        else:
            stated = _text(rest, "tool_call_id")
            if stated is None and "tool_call_id" in rest:
                raise InvalidRequest(field, "must be a string")
        answered, _ = self.pairing.result(stated or "", field, name=name, of=where)
        return ToolResult(answered, parts, name=name, extra=rest)

    def _calls(self, rest: dict[str, object], index: int, where: str) -> Iterator[Part]:
        for number, item in enumerate(_stated_calls(rest)):
            place = f"{where}.{_CALLS}[{number}]"
            if not isinstance(item, Mapping):
                raise InvalidRequest(place, "must be an object")
            call = _call(item, f"call_{index}_{number}", place)
            if isinstance(call, Foreign):
                self.pairing.call(str(item.get("id")), "")
            else:
                text = "" if call.free else call.arguments
                field, made_up = f"{place}.function.arguments", call.id != item.get("id")
                self.pairing.call(call.id, call.name, text, field, made_up=made_up)
            yield call


def _stated_calls(rest: dict[str, object]) -> list[object]:
    """Takes the calls out of `rest`; the one of 2023 only where there are no others."""
    calls, older = rest.get(_CALLS), rest.get(_OLDER_CALL)
    if calls is None or isinstance(calls, list):
        rest.pop(_CALLS, None)
    if older is None or (isinstance(older, Mapping) and not calls):
        rest.pop(_OLDER_CALL, None)
    if isinstance(calls, list) and calls:
        return calls
    return [{"type": _OLDER_CALL, "function": older}] if isinstance(older, Mapping) and not calls else []


def _text(rest: dict[str, object], name: str) -> str | None:
    """Takes a text out of `rest`, and what says that there is none; anything else stays, as it is no text."""
    if rest.get(name) is None or isinstance(rest[name], str):
        return cast("str | None", rest.pop(name, None))
    return None


def _thoughts(rest: dict[str, object]) -> Iterator[Reasoning]:
    for label in THOUGHTS:
        thought = _text(rest, label)
        if thought is not None:
            yield Reasoning(thought, label)


def _content(content: object, role: str, where: str) -> tuple[Part, ...]:
    if content is None and role == "user":  # what somebody asks may have got lost, other turns may be empty
        raise InvalidRequest(f"{where}.content", "is missing")
    if content is None or isinstance(content, str):
        return () if content is None else (Text(content),)
    if not isinstance(content, list):
        raise InvalidRequest(f"{where}.content", "must be a string or a list of parts")
    return tuple(_part(part, f"{where}.content[{index}]") for index, part in enumerate(content))


def _part(part: object, where: str) -> Part:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or not isinstance(kind, str):
        raise InvalidRequest(where, "must be an object with a type")
    if kind in ("text", "refusal"):
        text = part.get(kind)
        if not isinstance(text, str):
            raise InvalidRequest(f"{where}.{kind}", "must be a string")
        return Text(text, _but(part, "type", kind)) if kind == "text" else Refusal(text)
    if kind not in _MEDIA:
        raise InvalidRequest(f"{where}.type", "must be text, refusal, image_url, input_audio or file")
    return _media(kind, part, f"{where}.{kind}")


def _media(kind: str, part: Fields, where: str) -> Part:
    """One that lacks what it should have stays what it is: its endpoint may know other fields."""
    held = part.get(kind)
    if kind == "image_url" and isinstance(held, str):  # as some clients write it
        held = {"url": held}
    if not isinstance(held, Mapping):
        raise InvalidRequest(where, "must be an object")
    for name in _HELD[kind]:
        if not isinstance(held.get(name), str | None):
            raise InvalidRequest(f"{where}.{name}", "must be a string")
    given = [cast("str | None", held.get(name)) for name in _HELD[kind]]
    inner = _but(held, *_HELD[kind])
    extra = {**_but(part, "type", kind), **({kind: inner} if inner else {})}
    first, second, *third = given
    if kind == "image_url" and first is not None:
        return Image(first, second, extra)
    if kind == "input_audio" and first is not None and second is not None:
        return Audio(first, second, extra)
    if kind == "file" and (first is not None or second is not None):
        return File(first, second, third[0], extra)
    return Foreign(kind, part)


_HELD = {
    "image_url": ("url", "detail"),
    "input_audio": ("data", "format"),
    "file": ("file_data", "file_id", "filename"),
}


def _call(item: Fields, made_up: str, where: str) -> ToolCall | Foreign:
    """A call that says nothing of what it calls is its endpoint's own."""
    kind = "custom" if isinstance(item.get("custom"), Mapping) else "function"
    held = item.get(kind)
    if held is None:
        return Foreign(_CALLS, item)
    if not isinstance(held, Mapping):
        raise InvalidRequest(f"{where}.{kind}", "must be an object")
    named, text = held.get("name"), held.get(_TEXTS[kind])
    if not isinstance(text, str | Mapping | None):
        raise InvalidRequest(f"{where}.{kind}.{_TEXTS[kind]}", "must be a string")
    inner = _but(held, "name", _TEXTS[kind])
    known = ("custom", "input") if kind == "custom" else ("function", "arguments")
    extra = _but(item, "id", "type", known[0])
    if item.get("type") == _OLDER_CALL:
        extra[_OLDER_CALL] = inner
    elif inner:
        extra[kind] = inner
    identifier = item.get("id")
    return ToolCall(
        identifier if isinstance(identifier, str) and identifier else made_up,
        "" if named is None else str(named),
        _arguments(text),
        kind == "custom",
        extra,
    )


def _arguments(stated: object) -> str:
    """Some write the object itself, or nothing for none."""
    if isinstance(stated, str):
        return stated
    return json.dumps({} if stated is None else stated, ensure_ascii=False)


def _but(fields: Fields, *names: str) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name not in names}


# ---- writing -----------------------------------------------------------------------------------------------


def written_messages(messages: Iterable[Message]) -> list[dict[str, object]]:
    """For an endpoint that speaks OpenAI's protocol; each result of a tool is a message of its own."""
    return [fields for message in messages for fields in _written(message)]


def _written(message: Message) -> Iterator[dict[str, object]]:
    for result in message.results:
        yield _result(result)
    rest = tuple(part for part in message.parts if not isinstance(part, ToolResult))
    if not rest and message.results:
        return
    fields: dict[str, object] = {"role": message.role, "content": _shown(rest)}
    if message.name is not None:
        fields["name"] = message.name
    refusals = [part.text for part in rest if isinstance(part, Refusal)]
    if refusals:
        fields["refusal"] = "\n".join(refusals)
    for part in rest:
        if isinstance(part, Reasoning):
            _think(fields, part)
        elif isinstance(part, ToolCall) and _OLDER_CALL in part.extra:
            older = cast(Fields, part.extra[_OLDER_CALL])
            fields[_OLDER_CALL] = {"name": part.name, "arguments": part.arguments, **older}
    calls = [call for part in rest if (call := _called(part)) is not None]
    if calls:
        fields[_CALLS] = calls
    yield {**fields, **message.extra}


def _result(result: ToolResult) -> dict[str, object]:
    fields: dict[str, object] = {"role": "tool"}
    if result.call_id and result.extra.get("role") != _OLDER_RESULT:
        fields["tool_call_id"] = result.call_id
    if result.name is not None:
        fields["name"] = result.name
    return {**fields, "content": _shown(result.parts), **result.extra}


def _shown(parts: tuple[Part, ...]) -> object:
    """The content: one plain text as a string, nothing beside a call or a refusal as null."""
    shown = [part for part in parts if not isinstance(part, Reasoning | Refusal) and not _is_call(part)]
    if len(shown) == 1 and isinstance(shown[0], Text) and not shown[0].extra:
        return shown[0].text
    if shown:
        return [_written_part(part) for part in shown]
    return None if any(isinstance(part, Refusal) or _is_call(part) for part in parts) else ""


def _is_call(part: Part) -> bool:
    return isinstance(part, ToolCall) or (isinstance(part, Foreign) and part.kind == _CALLS)


def _written_part(part: Part) -> dict[str, object]:
    if isinstance(part, Foreign):
        return dict(part.body)
    if isinstance(part, Text):
        return {"type": "text", "text": part.text, **part.extra}
    if isinstance(part, Image):
        return _held("image_url", (part.url, part.detail), part.extra)
    if isinstance(part, Audio):
        return _held("input_audio", (part.data, part.form), part.extra)
    assert isinstance(part, File)
    return _held("file", (part.url, part.id, part.name), part.extra)


def _held(kind: str, values: tuple[str | None, ...], extra: Fields) -> dict[str, object]:
    named = zip(_HELD[kind], values, strict=True)
    held = {name: value for name, value in named if value is not None}
    return {"type": kind, **extra, kind: {**held, **cast(Fields, extra.get(kind, {}))}}


def _think(fields: dict[str, object], part: Reasoning) -> None:
    """Those of another protocol get the name that most endpoints know, without what it signed them with."""
    label = part.label if part.label in THOUGHTS else THOUGHTS[0]
    before = fields.get(label)
    fields[label] = f"{before}\n{part.text}" if isinstance(before, str) and before else part.text
    if label == part.label:
        fields |= part.opaque


def _called(part: Part) -> dict[str, object] | None:
    """None where it is no call, or one of 2023."""
    if isinstance(part, Foreign) and part.kind == _CALLS:
        return dict(part.body)
    if not isinstance(part, ToolCall) or _OLDER_CALL in part.extra:
        return None
    kind = "custom" if part.free else "function"
    inner = cast(Fields, part.extra.get(kind, {}))
    held = {"name": part.name, _TEXTS[kind]: part.arguments, **inner}
    return {"id": part.id, "type": kind, **part.extra, kind: held}
