"""One answer's events as text, and back: in pieces, so that what is given again streams again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from edge_router.chat.events import (
    Answering,
    Event,
    Finished,
    FinishReason,
    ForeignDelta,
    HiddenState,
    ReasoningDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.parsing import strict_json

PIECE = 24  # characters: a few words, as endpoints send them
MOST = 4 << 20  # characters of one answer; a longer one is not kept
_WHOLE: tuple[FinishReason, ...] = ("stop", "tool_calls")


class Transcript:
    """What was said so far. Give it each event, then ask for the whole."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._size = 0
        self._good = True  # as far as it came it may be kept
        self._end: Finished | None = None

    def read(self, event: Event) -> None:
        if not self._good:
            return
        if isinstance(event, Finished):
            self._end = event
        elif isinstance(event, TextDelta | ReasoningDelta | ToolCallArguments):
            self._size += len(event.text)
            self._add(event)
        elif isinstance(event, ToolCallStart | ForeignDelta):
            self._size += len(str(event))
            self._events.append(event)
        elif not isinstance(event, Answering | HiddenState):  # a refusal
            self.spoil()
        if self._size > MOST:
            self.spoil()

    def spoil(self) -> None:
        """It is not kept, whatever comes."""
        self._good, self._events = False, []

    def _add(self, event: TextDelta | ReasoningDelta | ToolCallArguments) -> None:
        last = self._events[-1] if self._events else None
        if isinstance(event, TextDelta) and event.logprobs:
            self.spoil()
        elif (
            type(last) is type(event)
            and isinstance(last, TextDelta | ReasoningDelta | ToolCallArguments)
            and len(last.text) < PIECE
            and _about(last) == _about(event)
        ):
            self._events[-1] = replace(last, text=last.text + event.text)
        else:
            self._events.append(event)

    @property
    def text(self) -> str:
        """All that was written, thoughts and arguments of calls included."""
        return "".join(
            event.text
            for event in self._events
            if isinstance(event, TextDelta | ReasoningDelta | ToolCallArguments)
        )

    @property
    def whole(self) -> bool:
        """Whether it is an answer that ended by itself, and said something."""
        end = self._end
        if not self._good or end is None or end.reason not in _WHOLE or end.looped:
            return False
        return any(
            isinstance(event, ToolCallStart) or (isinstance(event, TextDelta) and event.text)
            for event in self._events
        )

    def dump(self) -> str:
        """As text, for `load`. Only of one that is whole."""
        assert self._end is not None
        end, usage = self._end, self._end.usage
        counted = usage and [usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens]
        told = [end.reason, counted, end.stop_sequence]
        return json.dumps([[*map(_written, self._events)], told], separators=(",", ":"))


def load(text: str) -> list[Event]:
    """The events again; all of the prompt's tokens are told as kept. Raises `ValueError`, `TypeError`."""
    events, (reason, counted, stop_sequence) = strict_json.parse(text)
    if reason not in _WHOLE:
        raise ValueError(reason)
    prompt, completion, thoughts = map(int, counted or (0, 0, 0))
    usage = Usage(prompt, completion, prompt, thoughts) if counted else None
    end = Finished(cast(FinishReason, reason), usage, stop_sequence=stop_sequence)
    return [*map(_read, events), end]


def _about(event: TextDelta | ReasoningDelta | ToolCallArguments) -> object:
    """What two pieces share that may become one."""
    if isinstance(event, ReasoningDelta):
        return event.label if not event.opaque else object()
    if isinstance(event, ToolCallArguments):
        return event.index if not event.extra else object()
    return None


def _written(event: Event) -> list[object]:
    match event:
        case TextDelta(text):
            return ["text", text]
        case ReasoningDelta(text, label, opaque):
            return ["thought", text, label, dict(opaque)]
        case ToolCallStart(index, id, name, free, extra):
            return ["call", index, id, name, free, dict(extra)]
        case ToolCallArguments(index, text, extra):
            return ["arguments", index, text, dict(extra)]
        case ForeignDelta(fields):
            return ["foreign", dict(fields)]
    raise TypeError(type(event).__name__)


def _read(item: list[object]) -> Event:
    match item:
        case ["text", str(text)]:
            return TextDelta(text)
        case ["thought", str(text), str(label), Mapping() as opaque]:
            return ReasoningDelta(text, label, opaque)
        case ["call", int(index), str(id), str(name), bool(free), Mapping() as extra]:
            return ToolCallStart(index, id, name, free, extra)
        case ["arguments", int(index), str(text), Mapping() as extra]:
            return ToolCallArguments(index, text, extra)
        case ["foreign", Mapping() as fields]:
            return ForeignDelta(fields)
    raise ValueError(str(item)[:40])
