"""What was hidden, put back into an answer while it streams, wherever a placeholder is cut by its chunks."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from edge_router.chat.events import (
    Event,
    Finished,
    ForeignDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
)
from edge_router.guard.screening import mapped, put_back

T = TypeVar("T")


_BEGUN = re.compile(r"\[[A-Za-z]*\\{0,2}(?:_[0-9]*)?")
_BACKSLASHES = 2  # that may stand in one


class _Channel:
    """One text that grows. What may be the beginning of a placeholder waits for what follows."""

    def __init__(self, values: Mapping[str, str], *, json_text: bool = False) -> None:
        self._values = {name: _in_json(value) for name, value in values.items()} if json_text else values
        self._longest = max(map(len, values)) + _BACKSLASHES
        self._held = ""

    def feed(self, text: str) -> str:
        text = put_back(self._held + text, self._values)
        start = text.rfind("[", -self._longest)
        begun = start >= 0 and self._may_become_one(text[start:])
        self._held, text = (text[start:], text[:start]) if begun else ("", text)
        return text

    def _may_become_one(self, text: str) -> bool:
        plain = text.replace("\\", "").upper()
        return _BEGUN.fullmatch(text) is not None and any(name.startswith(plain) for name in self._values)

    def rest(self) -> str:
        held, self._held = self._held, ""
        return held


def _in_json(value: str) -> str:
    """As it stands within a string of JSON."""
    return json.dumps(value)[1:-1]


class Restorer:
    """For one answer. `values` by placeholder; `json_text`: the answer's text is JSON."""

    def __init__(self, values: Mapping[str, str], *, json_text: bool) -> None:
        self._values, self._json_text = values, json_text
        self._channels: dict[Hashable, _Channel] = {}
        self._free: dict[int, bool] = {}  # by call
        self._last: TextDelta | ReasoningDelta | RefusalDelta | None = None  # whose text may be held

    def feed(self, event: Event) -> Iterator[Event]:
        """What can be told by now."""
        if not self._values:
            yield event
        elif isinstance(event, TextDelta | ReasoningDelta | RefusalDelta):
            yield from self._words(event)
        elif isinstance(event, ToolCallStart):
            yield from self._end_words()
            self._free[event.index] = event.free
            yield self._whole(event)
        elif isinstance(event, ToolCallArguments):
            channel = self._channel(event.index, json_text=not self._free.get(event.index, False))
            text = channel.feed(event.text)
            if text or event.extra or not event.text:
                yield replace(event, text=text, extra=self._whole(event.extra))
        elif isinstance(event, Finished):
            yield from self._end_words()
            for index in self._free:
                if rest := self._channel(index, json_text=not self._free[index]).rest():
                    yield ToolCallArguments(index, rest)
            yield self._whole(event)
        elif isinstance(event, ForeignDelta):
            yield self._whole(event)
        else:
            yield event

    def _words(self, event: TextDelta | ReasoningDelta | RefusalDelta) -> Iterator[Event]:
        if event.text and self._last is not None and _name(self._last) != _name(event):
            yield from self._end_words()
        if event.text:
            self._last = event
        text = self._channel(_name(event), json_text=self._json_text and isinstance(event, TextDelta)).feed(
            event.text
        )
        more: object = None
        if isinstance(event, ReasoningDelta):
            event = replace(event, opaque=self._whole(event.opaque))
            more = event.opaque
        elif isinstance(event, TextDelta):
            more = event.logprobs
        if text or more or not event.text:
            yield replace(event, text=text)

    def _end_words(self) -> Iterator[Event]:
        """What was held back was no placeholder: its text ends, or another begins."""
        last, self._last = self._last, None
        rest = self._channels[_name(last)].rest() if last is not None else ""
        if isinstance(last, TextDelta):
            if rest:
                yield TextDelta(rest)
        elif last is not None and rest:
            yield ReasoningDelta(rest, last.label) if isinstance(last, ReasoningDelta) else RefusalDelta(rest)

    def _channel(self, name: Hashable, *, json_text: bool) -> _Channel:
        if name not in self._channels:
            self._channels[name] = _Channel(self._values, json_text=json_text)
        return self._channels[name]

    def _whole(self, value: T) -> T:
        """With what stands in its texts, none of which is cut."""
        return mapped(value, lambda text: put_back(text, self._values))


def _name(event: TextDelta | ReasoningDelta | RefusalDelta) -> Hashable:
    return (type(event), event.label if isinstance(event, ReasoningDelta) else "")
