"""An answer's text, as it streams, into events of its parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field

from edge_router.chat.events import Event, FinishReason, ReasoningDelta, TextDelta, TokenLogprob
from edge_router.engines.local.reading.answer_parts import AnswerParts
from edge_router.engines.stops import StopStrings
from edge_router.records import dataclass


@dataclass(slots=True)
class Sorting:
    """An answer's parts as they stream, with what belongs to its text alone: stop strings and log
    probabilities. Thoughts that are not `shown` are only counted.
    """

    parts: AnswerParts
    stops: Sequence[str] = ()
    shown: bool = True
    thoughts: int = 0  # tokens
    stopped: bool = False  # by a stop string; nothing follows
    _stops: StopStrings = field(init=False)
    _logprobs: tuple[TokenLogprob, ...] = ()  # of tokens whose text is not out yet

    def __post_init__(self) -> None:
        self._stops = StopStrings(self.stops)

    @property
    def stop(self) -> str | None:
        """The stop string that ended it."""
        return self._stops.found

    def push(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> Iterator[Event]:
        """Of one token, at least."""
        if self.parts.thinking:
            self.thoughts += 1
        else:
            self._logprobs += logprobs
        yield from self._told(self.parts.push(text))
        if self.parts.thinking or self.parts.calling:
            self._logprobs = ()

    def end(self) -> Iterator[Event]:
        if self.stopped:
            return
        yield from self._told(self.parts.end())
        if rest := self._stops.rest():
            yield self._text(rest)
        elif self._logprobs and not self.parts.calls:
            yield self._text("")

    def reason(self, own: FinishReason) -> FinishReason:
        """Why it ended, where `own` is what its tokens say."""
        if self.parts.cut:
            return "length"
        return "tool_calls" if own == "stop" and self.parts.calls and not self.stopped else own

    def _told(self, events: Sequence[Event]) -> Iterator[Event]:
        for event in events:
            if self.stopped:
                return
            if isinstance(event, TextDelta):
                text, self.stopped = self._stops.push(event.text)
                if text:
                    yield self._text(text)
                continue
            if rest := self._stops.rest():
                yield self._text(rest)
            self._logprobs = ()
            if self.shown or not isinstance(event, ReasoningDelta):
                yield event

    def _text(self, text: str) -> TextDelta:
        logprobs, self._logprobs = self._logprobs, ()
        return TextDelta(text, logprobs)
