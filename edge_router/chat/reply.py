"""A whole answer, collected from its events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field

from edge_router.chat.events import (
    EngineTimings,
    Event,
    Finished,
    FinishReason,
    ForeignDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.chat.joining import join_pieces, update_fields
from edge_router.chat.message import Part, Reasoning, Refusal, Text, ToolCall, text_of
from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its parts in the order in which they began, and how it ended.

    `foreign` are the fields that its endpoint sent beside what has a name here, in the order they came.
    """

    parts: tuple[Part, ...]
    finish_reason: FinishReason
    usage: Usage | None = None
    timings: EngineTimings | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    looped: bool = False
    foreign: tuple[ForeignDelta, ...] = ()
    stop_sequence: str | None = None

    @property
    def text(self) -> str:
        """The words to show: the answer, or the refusal where the model gave one instead."""
        return text_of(self.parts)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls of tools among its parts, in their order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))


@dataclass(slots=True)
class _Open:
    """A part under way: pieces of text are joined once, at its end."""

    kind: type[TextDelta | ReasoningDelta | RefusalDelta | ToolCallStart]
    label: str = ""
    start: ToolCallStart | None = None
    pieces: list[str] = field(default_factory=list)
    extra: dict[str, object] = field(default_factory=dict)

    def part(self) -> Part:
        """The part, once no more of it comes."""
        text = "".join(self.pieces)
        if self.start is not None:
            return ToolCall(self.start.id, self.start.name, text, self.start.free, self.extra)
        if self.kind is ReasoningDelta:
            return Reasoning(text, self.label, self.extra)
        return Refusal(text) if self.kind is RefusalDelta else Text(text)


def collect(events: Iterable[Event]) -> Reply:
    """The reply that `events` make. One without an end ended by itself ("stop")."""
    return next(reply for reply in gathered(events) if reply is not None)


def gathered(events: Iterable[Event]) -> Iterator[Reply | None]:
    """None for each of `events`, then the reply that they make: whoever reads it may pause between."""
    parts: list[_Open] = []
    calls: dict[int, _Open] = {}
    logprobs: list[TokenLogprob] = []
    foreign: list[ForeignDelta] = []
    end = Finished("stop")
    for event in events:
        if isinstance(event, TextDelta):
            logprobs += event.logprobs
            if event.text:
                _open(parts, TextDelta).pieces.append(event.text)
        elif isinstance(event, ReasoningDelta):
            thoughts = _thoughts(parts, event)
            thoughts.pieces.append(event.text)
            join_pieces(thoughts.extra, event.opaque)
        elif isinstance(event, RefusalDelta):
            if event.text:
                _open(parts, RefusalDelta).pieces.append(event.text)
        elif isinstance(event, ToolCallStart):
            calls[event.index] = call = _Open(ToolCallStart, start=event)
            parts.append(call)
            update_fields(call.extra, event.extra)
        elif isinstance(event, ToolCallArguments):
            calls[event.index].pieces.append(event.text)
            update_fields(calls[event.index].extra, event.extra)
        elif isinstance(event, ForeignDelta):
            foreign.append(event)
        elif isinstance(event, Finished):
            end = event
        yield None
    made = tuple(part.part() for part in parts)
    yield Reply(
        made,
        end.reason,
        end.usage,
        end.timings,
        tuple(logprobs),
        end.looped,
        tuple(foreign),
        end.stop_sequence,
    )


def _open(
    parts: list[_Open], kind: type[TextDelta | ReasoningDelta | RefusalDelta], label: str = ""
) -> _Open:
    """The part that a delta of this kind goes on with; a new one where another has begun since."""
    if not parts or parts[-1].kind is not kind or parts[-1].label != label:
        parts.append(_Open(kind, label))
    return parts[-1]


def _thoughts(parts: list[_Open], event: ReasoningDelta) -> _Open:
    """The part that `event` goes on with. What signs thoughts may come after text that came between."""
    if not event.text:
        for part in reversed(parts):
            if part.kind is ReasoningDelta and part.label == event.label:
                return part
    return _open(parts, ReasoningDelta, event.label)
