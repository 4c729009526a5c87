"""Calls of tools one after the other, out of events in which they may grow side by side.

Not all clients keep them apart: LangChain takes what comes for an earlier call of Responses for a new one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import field

from edge_router.chat.events import Event, Finished, ToolCallArguments, ToolCallStart
from edge_router.records import dataclass


class Nesting:
    """How deep a JSON object is open, told from its pieces, each looked at once."""

    def __init__(self) -> None:
        self.closed = False
        self._depth = 0
        self._quoted = self._escaped = False

    def read(self, text: str) -> None:
        """Takes the next piece of the text."""
        for letter in text:
            if self._escaped:
                self._escaped = False
            elif letter == '"':
                self._quoted = not self._quoted
            elif self._quoted:
                self._escaped = letter == "\\"
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                self.closed = self._depth == 0


@dataclass(slots=True)
class _Waiting:
    """A call, its events that were not given yet, and the pieces in which nobody has looked for its end."""

    start: ToolCallStart
    events: list[Event]
    unread: list[str] = field(default_factory=list)
    nesting: Nesting = field(default_factory=Nesting)

    @property
    def is_whole(self) -> bool:
        """What a free tool takes has no end to be seen: it ends where another call begins."""
        for text in self.unread:
            self.nesting.read(text)
        self.unread.clear()
        return self.nesting.closed or self.start.free


class InTurn:
    """Of one answer: what comes for a later call waits until the one before is whole, or all is finished."""

    def __init__(self) -> None:
        self._calls: deque[_Waiting] = deque()  # the first is being given

    def feed(self, event: Event) -> Iterator[Event]:
        """The events that may be given once `event` has come."""
        if isinstance(event, ToolCallStart):
            self._calls.append(_Waiting(event, [event]))
            yield from self._given()
        elif isinstance(event, ToolCallArguments):
            call = next((each for each in self._calls if each.start.index == event.index), None)
            if call is None:
                yield event  # it was whole already
                return
            call.events.append(event)
            call.unread.append(event.text)
            yield from self._given()
        else:
            if isinstance(event, Finished):
                yield from (each for call in self._calls for each in call.events)
                self._calls.clear()
            yield event

    def _given(self) -> Iterator[Event]:
        while self._calls:
            first = self._calls[0]
            yield from first.events
            first.events.clear()
            if len(self._calls) == 1 or not first.is_whole:
                return
            self._calls.popleft()
