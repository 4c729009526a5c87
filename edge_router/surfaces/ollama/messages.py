"""Ollama's messages, read into turns and parts. Pure.

Its calls have no ids and its results name a tool at most, so both are paired in the order they stand in.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping

from edge_router.chat.message import Image, Message, Part, Reasoning, Text, ToolCall, ToolResult
from edge_router.errors import InvalidRequest
from edge_router.parsing import strict_json
from edge_router.parsing.fields import Fields
from edge_router.surfaces.pairing import Pairing
from edge_router.surfaces.wire import dumps

_ROLES = ("system", "user", "assistant", "tool")
# A picture's first bytes, where they stand, and what it is.
_PICTURES = (
    (0, b"\x89PNG", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftyphei", "image/heic"),
)
_SNIFFED = 24  # characters of base64, 18 bytes


class MessageReader:
    """Reads messages, gives each call an id and each result its call's."""

    def __init__(self) -> None:
        self._pairing, self._count = Pairing(), 0

    def read(self, items: Iterable[object]) -> Iterator[Message]:
        for index, item in enumerate(items):
            yield self._message(item, f"messages[{index}]")

    def _message(self, item: object, where: str) -> Message:
        if not isinstance(item, Mapping):
            raise InvalidRequest(where, "must be an object with role and content")
        fields = Fields(item, within=where)
        role = item.get("role")
        text = fields.text("content") or ""
        said: tuple[Part, ...] = ((Text(text),) if text else ()) + read_images(fields, where)
        if role == "tool":
            return Message("tool", (self._result(fields, where, said),))
        if role == "assistant":
            thoughts = fields.text("thinking") or ""
            begun: tuple[Part, ...] = (Reasoning(thoughts),) if thoughts else ()
            return Message("assistant", (*begun, *said, *self._calls(fields, where)))
        if role == "system" or role == "user":
            return Message(role, said)
        raise InvalidRequest(f"{where}.role", f"must be one of {', '.join(_ROLES)}")

    def _calls(self, fields: Fields, where: str) -> Iterator[ToolCall]:
        given = fields.get("tool_calls") or []
        if not isinstance(given, list):
            raise fields.refuse("tool_calls", "must be a list")
        for index, item in enumerate(given):
            place = f"{where}.tool_calls[{index}]"
            function = item.get("function") if isinstance(item, Mapping) else None
            if not isinstance(item, Mapping) or not isinstance(function, Mapping):
                raise InvalidRequest(f"{place}.function", "must be an object with name and arguments")
            inner = Fields(function, within=f"{place}.function")
            name = inner.string("name", default="")
            if not name:
                raise inner.refuse("name", "is missing")
            identity = self._identity(Fields(item, within=place).string("id", default=""))
            arguments = _arguments(inner)
            self._pairing.call(identity, name)
            yield ToolCall(identity, name, arguments)

    def _identity(self, given: str) -> str:
        """The id that it has, or one that no call before it has."""
        identity = given
        while not identity or self._pairing.knows(identity):
            identity, self._count = f"call_{self._count}", self._count + 1
        return identity

    def _result(self, fields: Fields, where: str, said: tuple[Part, ...]) -> ToolResult:
        """Of the call that it names by id or by tool; of the first that waits where it names none."""
        name = fields.text("tool_name") or fields.text("name") or ""
        wanted = fields.text("tool_call_id") or ""
        found, tool = self._pairing.result(
            wanted if self._pairing.waits(wanted) else "", f"{where}.tool_call_id", name=name, of=where
        )
        return ToolResult(found, said, name=tool)


def _arguments(function: Fields) -> str:
    """JSON, as it stands there or as some clients write it, in a string."""
    value = function.get("arguments")
    if value is None or isinstance(value, Mapping):
        return dumps(value or {}).decode()
    if not isinstance(value, str) or read_arguments(value) is None:
        raise function.refuse("arguments", "must be an object")
    return value


def read_arguments(arguments: str) -> dict[str, object] | None:
    """None where it is no object. Endpoints write nothing for a call without arguments."""
    if not arguments.strip():
        return {}
    try:
        return strict_json.parse_object(arguments)
    except strict_json.NotJson:
        return None


def read_images(fields: Fields, where: str) -> tuple[Image, ...]:
    given = fields.get("images")
    if given is None:
        return ()
    if not isinstance(given, list):
        raise fields.refuse("images", "must be a list of pictures in base64")
    before = f"{where}.images" if where else "images"
    return tuple(_image(item, f"{before}[{index}]") for index, item in enumerate(given))


def _image(item: object, where: str) -> Image:
    """In base64, or as a `data:` URL already."""
    if not isinstance(item, str):
        raise InvalidRequest(where, "must be a picture in base64")
    data = "".join(item.partition(";base64,")[2].split() if item.startswith("data:") else item.split())
    try:
        base64.b64decode(data, validate=True)
    except ValueError as error:  # also for letters that are not ASCII
        raise InvalidRequest(where, "is not base64") from error
    begin = base64.b64decode(data[:_SNIFFED])
    kinds = (kind for place, mark, kind in _PICTURES if begin[place : place + len(mark)] == mark)
    kind = next(kinds, None)
    if kind is None:
        raise InvalidRequest(
            where, "is no picture that is known here: PNG, JPEG, GIF, WebP, BMP, TIFF, AVIF, HEIC"
        )
    return Image(f"data:{kind};base64,{data}")
