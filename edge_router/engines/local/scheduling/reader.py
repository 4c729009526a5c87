"""From chosen tokens to events: taken in the scheduler's thread, handed out in the caller's."""

from __future__ import annotations

import queue
from collections.abc import Iterator

from edge_router.chat.events import (
    EngineTimings,
    Event,
    Finished,
    FinishReason,
    HiddenState,
    TextDelta,
    Usage,
)
from edge_router.engines.local.reading.answer import AnswerDecoder
from edge_router.engines.local.reading.sorting import Sorting
from edge_router.engines.local.sampler import SampledToken
from edge_router.engines.local.scheduling.jobs import GenerationTask
from edge_router.engines.local.scheduling.scheduler import Scheduler
from edge_router.errors import Cancelled, EngineError
from edge_router.types import Cancel

_POLL_S = 0.05  # how often a waiting reader looks at its cancel


class Reader:
    """The `worker.Sink` of one answer. `sorting` tells its parts apart; None where it is all text."""

    def __init__(self, answer: AnswerDecoder, prompt_tokens: int, sorting: Sorting | None = None) -> None:
        self._answer, self._prompt_tokens, self._sorting = answer, prompt_tokens, sorting
        self._queue: queue.SimpleQueue[Event | EngineError] = queue.SimpleQueue()

    def push(self, choice: SampledToken, job: GenerationTask) -> bool:
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

    def ends(self, choice: SampledToken) -> bool:
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

    def _finished(self, reason: FinishReason, looped: bool, job: GenerationTask) -> Finished:
        cached = job.cached_tokens or 0
        thoughts = 0 if self._sorting is None else self._sorting.thoughts
        return Finished(
            reason,
            looped=looped,
            stop_sequence=(self._sorting or self._answer).stop,
            usage=Usage(self._prompt_tokens, self._answer.tokens, cached, thoughts),
            timings=EngineTimings(
                prefill_s=job.first_token - job.began,
                prefill_tokens=self._prompt_tokens - cached,
                decode_s=job.last_token - job.first_token,
                decode_tokens=len(job.tokens) - self._prompt_tokens - 1,
            ),
        )
