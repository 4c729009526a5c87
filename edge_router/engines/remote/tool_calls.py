"""The tool calls of one answer, out of the pieces in which servers of many kinds send them. Pure.

Indices count from 0, no id comes twice, and the arguments are JSON text in parts. A call starts with the
first of its arguments behind its name, or with the answer's end: until then its name may go on.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import TypeAlias

from edge_router.chat.events import ToolCallArguments, ToolCallStart
from edge_router.engines.remote.outcomes import Garbled
from edge_router.parsing.strict_json import NotJson, parse_object
from edge_router.records import dataclass

Piece = Mapping[str, object]
CallEvent: TypeAlias = ToolCallStart | ToolCallArguments
TEXTS = {"function": "arguments", "custom": "input"}  # a call's type, and where its text stands
NO_IDS = ("", "null", "none")
ID_LENGTH = 9  # what Mistral's servers insist on when a call comes back; nobody else minds
EMPTY = "{}"
NOTHING = object()


@dataclass(slots=True)
class _Call:
    index: int
    id: str
    slot: int | None  # the index that the server gave it
    given_id: str | None  # by the server
    kind: str
    started: bool = False  # its name is told
    bare: bool = False  # it began with a name and nothing that tells calls apart, as whole ones do
    name: str = ""
    takes_nothing: bool = False  # `{}` came, which some servers send before the arguments
    parts: list[str] = field(default_factory=list)
    extra: dict[str, object] = field(default_factory=dict)
    body_extra: dict[str, object] = field(default_factory=dict)

    @property
    def value(self) -> object:
        """The arguments, once they are complete; `NOTHING` before."""
        if not self.parts or not self.parts[-1].rstrip().endswith("}"):
            return NOTHING
        self.parts = ["".join(self.parts)]
        return _parsed(self.parts[0])

    def start(self) -> Iterator[CallEvent]:
        """With what came of it so far. Fields of its function lie one level deeper than its own."""
        self.started = True
        extra = {**self.extra, self.kind: dict(self.body_extra)} if self.body_extra else dict(self.extra)
        yield ToolCallStart(self.index, self.id, self.name, self.kind == "custom", extra)
        if self.parts:
            yield ToolCallArguments(self.index, "".join(self.parts))


@dataclass(frozen=True, slots=True)
class _Arrived:
    """One piece as it came, taken apart."""

    kind: str
    given_id: str | None
    slot: int | None
    name: str
    text: str
    marked: bool  # it says which type of call it is, as a first piece does
    extra: Piece
    body_extra: Piece

    @classmethod
    def of(cls, piece: Piece) -> _Arrived:
        """Raises `Garbled`."""
        kind = "custom" if piece.get("custom") else "function"
        inner = piece.get(kind)
        body = piece if inner is None else inner
        if not isinstance(body, Mapping):
            raise Garbled("a tool call without a function")
        name = body.get("name")
        if not isinstance(name, str | None):
            raise Garbled("a tool call whose name is no text")
        spoken = {"name", TEXTS[kind]}
        return cls(
            kind=kind,
            given_id=_id(piece.get("id")),
            slot=_slot(piece.get("index")),
            name=name or "",
            text=_spelled(body.get(TEXTS[kind])),
            marked=bool(piece.get("type")),
            extra=_rest(piece, {"index", "id", "type", kind, *(spoken if body is piece else ())}),
            body_extra={} if body is piece else _rest(body, spoken),
        )

    @property
    def bare(self) -> bool:
        return self.given_id is None and self.slot is None and not self.marked

    @property
    def says_something(self) -> bool:
        return bool(self.given_id or self.name or self.text or self.extra or self.body_extra)


class ToolCallReader:
    """Tells which call each piece belongs to.

    Servers number and name calls in many ways: all with index 0, or with none; the id or the name in each
    piece, or no id at all. An id that is new begins a call, if a name is with it or the call before is
    complete. Without one, a name that follows upon complete arguments does.
    """

    def __init__(self) -> None:
        self.heard = False  # the last chunk said something of a call, which may not show yet
        self.held = 0  # characters of arguments in it that do not
        self._calls: list[_Call] = []
        self._started = 0  # of them
        # The last of each kind: nobody says how many there will be, and each piece asks for one.
        self._with_id: dict[str, _Call] = {}
        self._in_slot: dict[int | None, _Call] = {}
        self._at_position: dict[int, _Call] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def read(self, pieces: Sequence[Piece], *, whole: bool = False) -> list[CallEvent]:
        """What the calls of one chunk add. `whole`: each is a call of its own. Raises `Garbled`."""
        touched: set[int] = set()
        told: list[CallEvent] = []
        self.heard, self.held = False, 0
        for position, piece in enumerate(pieces):
            came = _Arrived.of(piece)
            if not came.says_something:
                continue
            self.heard = True
            call = None if whole else self._owner(came, position, alone=len(pieces) == 1, touched=touched)
            call = call or self._begin(came, position)
            text, extra = _go_on(call, came)
            if call.started and (text or extra):
                told.append(ToolCallArguments(call.index, text, extra))
            elif text:
                told += self._start(call.index)
                self.held += 0 if call.started else len(text)
            if call.given_id is not None:
                self._with_id[call.given_id] = call
            touched.add(call.index)
        return told

    def finish(self, *, cut: bool) -> list[CallEvent]:
        """What is lacking at the end: arguments are JSON, also where there are none.

        `cut`: the answer was too long, so that what did not come may have been about to.
        """
        told: list[CallEvent] = []
        for call in self._calls:
            if not call.started:
                told += call.start()
            if call.kind == "function" and not call.parts and (call.takes_nothing or not cut):
                told.append(ToolCallArguments(call.index, EMPTY))
        return told

    def _start(self, index: int) -> Iterator[CallEvent]:
        """Of the calls up to that index, and of those behind it that wait for them: in order, once named."""
        while self._started < len(self._calls):
            call = self._calls[self._started]
            if not call.name or not (call.parts or call.index <= index):
                return
            self._started += 1
            yield from call.start()

    def _owner(self, came: _Arrived, position: int, *, alone: bool, touched: set[int]) -> _Call | None:
        """The call that goes on with this piece; None where it begins one."""
        known = None if came.given_id is None else self._with_id.get(came.given_id)
        if known is not None:
            moved = None not in (came.slot, known.slot) and came.slot != known.slot
            return None if (moved and came.name) or _begins_anew(known, came) else known
        if came.slot is not None:
            call = self._in_slot.get(came.slot) or self._in_slot.get(None)
        elif alone:
            call = self._calls[-1] if self._calls else None
        else:
            call = self._at_position.get(position)
        if call is None:
            return None
        if None not in (came.given_id, call.given_id):
            # Some give each piece an id of its own; a call has a name, too.
            return call if call.name and not came.name and call.value is NOTHING else None
        if came.name and call.index in touched:
            return None
        return None if _begins_anew(call, came) else call

    def _begin(self, came: _Arrived, position: int) -> _Call:
        identifier = came.given_id
        if identifier is None or identifier in self._with_id:
            identifier = uuid.uuid4().hex[:ID_LENGTH]
        call = _Call(len(self._calls), identifier, came.slot, came.given_id, came.kind, bare=came.bare)
        self._calls.append(call)
        self._in_slot[came.slot] = self._at_position[position] = call
        return call


def _go_on(call: _Call, came: _Arrived) -> tuple[str, Piece]:
    """What `came` adds to `call`: more of its arguments, and fields. What is sent again is not told again."""
    told = call.started or (call.name and (call.parts or came.name == call.name))
    call.name += "" if told else came.name.removeprefix(call.name)
    added = ""
    is_json = call.kind == "function" and came.text.startswith("{")
    value = call.value if is_json else NOTHING
    if is_json and came.text == EMPTY and (not call.parts or value is not NOTHING):
        call.takes_nothing = True
    elif came.text and (value is NOTHING or value != _parsed(came.text)):
        # What begins as all before it did is all of it once more: no JSON goes on with its own beginning.
        added = (is_json and came.text.removeprefix("".join(call.parts))) or came.text
        call.parts.append(added)
    call.given_id = call.given_id or came.given_id
    fresh, inner = _fresh(call.extra, came.extra), _fresh(call.body_extra, came.body_extra)
    return added, {**fresh, call.kind: inner} if inner else fresh


def _begins_anew(call: _Call, came: _Arrived) -> bool:
    """Whether a piece with the same id, or the same place and no id, is another call's first one."""
    if not came.name or not call.name:
        return False
    if call.bare and came.bare and came.name != call.name:
        return True
    identified, started = came.given_id is not None, bool(call.parts) or call.takes_nothing
    if not came.name.startswith(call.name):
        # A name may come in parts, but not once there are arguments.
        return started or (not identified and (bool(came.text) or came.marked))
    if identified:
        value = call.value
        return came.text.startswith("{") and value is not NOTHING and value != _parsed(came.text)
    return bool(came.text) and (call.takes_nothing or call.value is not NOTHING)


def _fresh(known: dict[str, object], came: Piece) -> Piece:
    """What of `came` is not known yet, and is from now on."""
    fresh = {name: value for name, value in came.items() if known.get(name, NOTHING) != value}
    known |= fresh
    return fresh


def _rest(piece: Piece, known: set[str]) -> Piece:
    return {name: value for name, value in piece.items() if name not in known and value is not None}


def _id(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return None if str(value).strip().lower() in NO_IDS else str(value)


def _slot(value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) < ID_LENGTH:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _spelled(value: object) -> str:
    """Arguments as text; some servers send the object itself, and PHP's an empty list for an empty one."""
    if value is None or value == []:
        return "" if value is None else "{}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parsed(text: str) -> object:
    """`NOTHING` where it is not a complete object."""
    try:
        return parse_object(text)
    except NotJson:
        return NOTHING
