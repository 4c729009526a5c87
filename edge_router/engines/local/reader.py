"""From chosen tokens to events: taken in the scheduler's thread, handed out in the caller's."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from edge_router.chat.events import (
    EngineTimings,
    Event,
    Finished,
    FinishReason,
    HiddenState,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    Usage,
)
from edge_router.engines.local.answer import Answer
from edge_router.engines.local.answer_parts import AnswerParts
from edge_router.engines.local.sampler import Choice
from edge_router.engines.local.scheduler import Scheduler
from edge_router.engines.local.worker import Job
from edge_router.engines.stops import StopStrings
from edge_router.errors import Cancelled, EngineError
from edge_router.types import Cancel

_POLL_S = 0.05  # how often a waiting reader looks at its cancel


class Reader:
    """The `worker.Sink` of one answer. `sorted_by` tells its parts apart; None where it is all text."""

    def __init__(self, answer: Answer, prompt_tokens: int, sorted_by: Sorting | None = None) -> None:
        self._answer, self._prompt_tokens, self._sorting = answer, prompt_tokens, sorted_by
        self._queue: queue.SimpleQueue[Event | EngineError] = queue.SimpleQueue()

    def push(self, choice: Choice, job: Job) -> bool:
        if choice.state:
            self._queue.put(HiddenState(choice.state))
        piece = self._answer.push(choice)
        reason = piece.finish_reason
        if self._sorting is None:
            if piece.text or piece.logprobs:
                self._queue.put(TextDelta(piece.text, piece.logprobs))
        else:
            for event in self._sorting.push(piece.text, piece.logprobs):
                self._queue.put(event)
            reason = "stop" if self._sorting.stopped else reason
            if reason is not None:
                for event in self._sorting.end():
                    self._queue.put(event)
                reason = self._sorting.reason(reason)
        if reason is None:
            return False
        self._queue.put(self._finished(reason, piece.looped, job))
        return True

    def ends(self, choice: Choice) -> bool:
        return self._answer.ends(choice)

    def fail(self, error: EngineError) -> None:
        self._queue.put(error)

    def limit(self, max_tokens: int) -> None:
        self._answer.shorten(self._answer.tokens + max_tokens)

    def events(self, cancel: Cancel, scheduler: Scheduler) -> Iterator[Event]:
        while True:
            item = self._next(cancel, scheduler)
            if isinstance(item, EngineError):
                raise item
            yield item
            if type(item) is Finished:
                return

    def _next(self, cancel: Cancel, scheduler: Scheduler) -> Event | EngineError:
        while not cancel.is_set():
            try:
                return self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                if not scheduler.running and self._queue.empty():
                    return scheduler.closed_error()
        return Cancelled()

    def _finished(self, reason: FinishReason, looped: bool, job: Job) -> Finished:
        cached = job.cached_tokens or 0
        thoughts = 0 if self._sorting is None else self._sorting.thoughts
        return Finished(
            reason,
            looped=looped,
            usage=Usage(self._prompt_tokens, self._answer.tokens, cached, thoughts),
            timings=EngineTimings(
                prefill_s=job.first_token - job.began,
                prefill_tokens=self._prompt_tokens - cached,
                decode_s=job.last_token - job.first_token,
                decode_tokens=len(job.tokens) - self._prompt_tokens - 1,
            ),
        )


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
