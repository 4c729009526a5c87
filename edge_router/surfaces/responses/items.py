"""The items of a Responses request, read into turns and parts. Pure.

What an assistant's turn consists of stands side by side there, and is one message here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import cast

from edge_router.chat.joining import join_pieces
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
from edge_router.errors import UnknownResponse
from edge_router.parsing.fields import Fields, fields_at
from edge_router.records import dataclass
from edge_router.surfaces.pairing import Pairing
from edge_router.surfaces.responses.store import Item
from edge_router.surfaces.responses.thoughts import CONTENT, foreign_thoughts, unsealed
from edge_router.surfaces.responses.tools import Tools, flat_name, tool_name

_ROLES = ("user", "assistant", "system", "developer")
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}  # and where their text stands
_RESULTS = ("function_call_output", "custom_tool_call_output")
# Fields of a call that its endpoint did not sign it with.
_CALL_FIELDS = frozenset(
    {"type", "id", "call_id", "name", "namespace", "status", "arguments", "input", "async", "caller"}
)


@dataclass(slots=True)
class ItemReader:
    """Items to messages. What an assistant said, thought and called without a break is one message."""

    tools: Tools
    kept: Callable[[str], Item | None]
    messages: list[Message] = field(default_factory=list)
    _turn: list[Part] = field(default_factory=list)  # of the assistant, under way
    _spoke: bool = False  # and whether a message of its is in it
    _thoughts: dict[str, int] = field(default_factory=dict)  # and where its last ones of each label are
    _pairing: Pairing = field(default_factory=Pairing)

    def read(self, items: Sequence[Item], where: str) -> None:
        for index, item in enumerate(items):
            self._read(fields_at(item, f"{where}[{index}]"))
        self._close()

    def end(self) -> None:
        """Nothing more is read. Raises `InvalidRequest` for a call that is none."""
        self._pairing.end()

    def _read(self, item: Fields) -> None:
        kind = item.string("type", default="message" if "role" in item.body else "item_reference")
        if kind == "message":
            self._message(item)
        elif kind == "reasoning":
            self._think(item)
        elif kind in _CALLS:
            call = _call(item, _CALLS[kind], free=kind == "custom_tool_call")
            text = "" if call.free else call.arguments
            self._pairing.call(call.id, call.name, text, f"{item.within}.arguments")
            self._turn.append(call)
        elif kind in _RESULTS:
            self._result(item)
        elif kind == "item_reference":
            self._reference(item)
        elif kind == "additional_tools":
            self.tools.read(item.get("tools"), f"{item.within}.tools")
        else:
            self._foreign(kind, item)

    def _message(self, item: Fields) -> None:
        role = item.get("role")
        if role not in _ROLES:
            raise item.refuse("role", f"must be one of {', '.join(_ROLES)}")
        parts = _content(item, "content", asked=role == "user")
        if role != "assistant":
            self._close()
            self.messages.append(Message(cast(Role, role), parts))
            return
        if self._spoke:
            self._close()
        self._spoke = True
        self._turn += parts

    def _think(self, item: Fields) -> None:
        """What only signs thoughts, once, belongs to the last ones that go by the same name."""
        text = item.text(CONTENT)
        ours = unsealed(text)
        if ours is not None and not ours.text and ours.label in self._thoughts:
            index = self._thoughts.pop(ours.label)
            known = cast(Reasoning, self._turn[index])
            opaque = dict(known.opaque)
            join_pieces(opaque, ours.opaque)
            self._turn[index] = replace(known, opaque=opaque)
            return
        thoughts = ours or foreign_thoughts(item, text)
        self._thoughts[thoughts.label] = len(self._turn)
        self._turn.append(thoughts)

    def _result(self, item: Fields) -> None:
        call_id = item.string("call_id", default="")
        if not call_id:
            raise item.refuse("call_id", "is missing: it names the call")
        self._pairing.result(call_id, f"{item.within}.call_id")
        self._close()
        result = ToolResult(call_id, _content(item, "output", asked=True))
        self.messages.append(Message("tool", (result,)))

    def _reference(self, item: Fields) -> None:
        id = item.string("id", default="")
        kept = self.kept(id)
        if kept is None:
            raise UnknownResponse(f"{item.within}.id", id)
        self._read(Fields(kept, within=item.within))

    def _foreign(self, kind: str, item: Fields) -> None:
        """What a tool of its endpoint said is a turn of its own, what was asked of it the assistant's."""
        part = Foreign(kind, item.body)
        if kind.endswith("_output") or kind == "mcp_approval_response":
            self._close()
            self.messages.append(Message("tool", (part,)))
        else:  # some of these calls are answered as a function's is
            self._pairing.call(item.text("call_id") or "", "")
            self._turn.append(part)

    def _close(self) -> None:
        if self._turn or self._spoke:
            self.messages.append(Message("assistant", tuple(self._turn)))
        self._turn, self._spoke, self._thoughts = [], False, {}


def _call(item: Fields, text: str, *, free: bool) -> ToolCall:
    id, name = item.string("call_id", default=""), tool_name(item)
    if not id:
        raise item.refuse("call_id", "is missing: the call's result names it")
    namespace = item.get("namespace")
    if isinstance(namespace, str) and namespace:
        name = flat_name(namespace, name)
    extra = {key: value for key, value in item.body.items() if key not in _CALL_FIELDS}
    return ToolCall(id, name, item.text(text) or "", free, extra)


def _content(item: Fields, name: str, *, asked: bool) -> tuple[Part, ...]:
    """A string, or a list of parts. `asked`: what is missing may have got lost."""
    value = item.get(name)
    if value is None and asked:
        raise item.refuse(name, "is missing")
    if value is None or isinstance(value, str):
        return () if value is None else (Text(value),)
    if not isinstance(value, list):
        raise item.refuse(name, "must be a string or a list of parts")
    where = f"{item.within}.{name}"
    return tuple(_part(fields_at(part, f"{where}[{index}]")) for index, part in enumerate(value))


def _part(part: Fields) -> Part:
    kind = part.string("type", default="")
    if kind in ("input_text", "output_text", "text"):
        return Text(part.needed_text("text"))
    if kind == "refusal":
        return Refusal(part.needed_text("refusal"))
    if kind == "input_image":
        return _image(part)
    if kind == "input_file":
        return _file(part)
    if kind == "input_audio":
        sound = part.object("input_audio") or part
        return Audio(sound.needed_text("data"), sound.needed_text("format"))
    taken = "input_text, input_image, input_file, input_audio, output_text or refusal"
    raise part.refuse("type", f"must be {taken}")


def _image(part: Fields) -> Part:
    """One that is only an id at its endpoint has no address."""
    url = part.get("image_url")
    if isinstance(url, Mapping):  # as in chat completions
        url = url.get("url")
    if url is None and part.get("file_id") is not None:
        return Foreign("input_image", part.body)
    if not isinstance(url, str) or not url:
        raise part.refuse("image_url", "must be the address of an image, or hold it as a data: URL")
    return Image(url, part.text("detail"))


def _file(part: Fields) -> File:
    url, data, id = (part.text(name) for name in ("file_url", "file_data", "file_id"))
    if not (url or data or id):
        raise part.refuse("file_data", "is missing: a file has file_data, file_url or file_id")
    if data and not data.startswith("data:"):
        data = f"data:application/octet-stream;base64,{data}"
    return File(data or url, id, part.text("filename"))
