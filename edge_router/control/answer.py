"""One answer under way: its events, the decision behind it, and the clock that ran along."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from edge_router.chat.events import Answering, EngineTimings, Event, Finished, Usage
from edge_router.chat.request import ChatRequest
from edge_router.engines.base import Arriving
from edge_router.errors import Cancelled, EdgeRouterError, GenerationFailed, InternalError
from edge_router.types import Cancel, Decision, Timings

_WAKE_S = 0.01  # how soon a linked event is seen


class Clock:
    """What one request took, on `time.perf_counter`."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.score_s: float | None = None
        self._first: float | None = None
        self._ended: float | None = None

    def scoring(self) -> _Scoring:
        """A block in which the router works."""
        return _Scoring(self)

    def first_event(self) -> None:
        self._first = time.perf_counter()

    def stop(self) -> None:
        self._ended = time.perf_counter()

    def timings(self, engine: EngineTimings | None = None) -> Timings:
        engine = engine or EngineTimings()
        return Timings(
            score_ms=None if self.score_s is None else self.score_s * 1e3,
            ttft_ms=None if self._first is None else (self._first - self._started) * 1e3,
            total_ms=None if self._ended is None else (self._ended - self._started) * 1e3,
            prefill_tokens_per_s=_rate(engine.prefill_tokens, engine.prefill_s),
            decode_tokens_per_s=_rate(engine.decode_tokens, engine.decode_s),
        )


class _Scoring:
    """A class, since `contextmanager` costs four times as much."""

    __slots__ = ("_begun", "_clock")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __enter__(self) -> None:
        self._begun = time.perf_counter()

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self._clock.score_s = time.perf_counter() - self._begun


def _rate(tokens: int, seconds: float | None) -> float | None:
    return tokens / seconds if tokens and seconds else None


class Answer:
    """Iterate over it once, for its events. `decision` and `model` stand from the start and never change.

    `cancel` and `close` may be called from any thread. Who leaves a `for` loop over it early, or drops it,
    has ended it too, so that no model writes what nobody reads; `next` takes one event and ends nothing.

    `fallback_cause` is the error that made the controller ask the other model, if it did. `truncated` is how
    many of the oldest messages were left out to make the conversation fit. `spent` is what the weak model had
    read and written before it was found too unsure, if it was. `arriving` is where its events come from, if
    they come by themselves: while one is `here`, or the first was not read, `next` does not wait.
    """

    def __init__(
        self,
        events: Iterator[Event],
        *,
        request: ChatRequest,
        decision: Decision,
        model: str,
        cancel: Cancel | None = None,
        clock: Clock,
        fallback_cause: EdgeRouterError | None = None,
        truncated: int = 0,
        spent: Usage | None = None,
        finished: Callable[[Answer, EdgeRouterError | None], None] = lambda answer, error: None,
        arriving: Arriving[Event] | None = None,
    ) -> None:
        self.request, self.decision, self.model = request, decision, model
        self.fallback_cause, self.truncated, self.spent = fallback_cause, truncated, spent
        self.arriving = arriving
        self.finished: Finished | None = None  # the last event, once it was read
        self.record_id: int | None = None  # of its row in the ledger, once it has ended
        self._cancel, self._clock, self._told = cancel or threading.Event(), clock, finished
        self._source, self._reading = events, threading.Lock()
        self._ended = self._cut = self.closed = False
        self.left = False  # in mid-loop; who reads on after that gets `Cancelled`

    def __iter__(self) -> Generator[Event]:
        # Not the answer itself: what a loop holds is dropped when it is left, which is how we learn of it.
        try:
            while True:
                try:
                    event = next(self)
                except StopIteration:
                    return
                yield event
        finally:
            self.leave()

    def __next__(self) -> Event:
        """One at a time: another thread that asks meanwhile waits."""
        with self._reading:
            try:
                event = self._read()
            except Cancelled:
                if self.closed:
                    raise StopIteration from None
                raise
        if self.closed:  # by another thread, which could not do it itself while this one was reading
            self.close()
        return event

    def _read(self) -> Event:
        if self._ended:
            if self.left:
                raise Cancelled  # not the end that the answer would have had
            raise StopIteration
        try:
            if self._cancel.is_set() and self.finished is None:  # some engine may not look
                raise Cancelled
            event = next(self._source)
            if type(event) is Finished:
                self.finished = event
        except StopIteration:
            self._end(None)
            raise
        except EdgeRouterError as failure:
            self._end(failure)
            raise
        except BaseException:  # an interrupt
            self._end(Cancelled())
            raise
        return event

    def _end(self, error: EdgeRouterError | None) -> None:
        if not self._ended:
            # Not the error itself, whose traceback holds whoever reads this.
            self._ended, self._cut = True, isinstance(error, Cancelled)
            self._clock.stop()
            _close(self._source)
            self._told(self, error)

    def cancel(self) -> None:
        """End it within one token: who reads it gets `Cancelled`. Safe from any thread."""
        self._cancel.set()

    def close(self) -> None:
        """Done with it, read to its end or not: who reads on finds nothing more. Safe from any thread."""
        self.closed, self.left = True, False
        self._stop()

    def leave(self) -> None:
        """A loop over it is over, perhaps before its time."""
        if not self._ended:
            self.left = True
            self._stop()

    def _stop(self) -> None:
        self._cancel.set()
        if self._reading.acquire(blocking=False):  # else whoever reads finds it cancelled, and ends it
            try:
                self._end(Cancelled())
            finally:
                self._reading.release()

    def __del__(self) -> None:
        # This may be any place in any thread, one that holds a lock of ours too: only the model is told here.
        if not getattr(self, "_ended", True):
            self._cancel.set()
            with suppress(RuntimeError):  # the interpreter ends, and with it all that could be told
                threading.Thread(target=self.close, name="edge_router dropped", daemon=True).start()

    @property
    def cancelled(self) -> bool:
        """Whether it was cut short because its caller no longer wanted it."""
        return self._cancel.is_set() and (not self._ended or self._cut)

    @property
    def usage(self) -> Usage | None:
        """None before the end, and where its engine does not know."""
        return None if self.finished is None else self.finished.usage

    @property
    def timings(self) -> Timings:
        return self._clock.timings(None if self.finished is None else self.finished.timings)


class LinkedCancel(threading.Event):
    """Set by itself, or by an event of the caller's, which may be about more than one answer."""

    def __init__(self, other: Cancel) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or self._other.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        end = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = _WAKE_S if end is None else min(_WAKE_S, end - time.monotonic())
            if left <= 0:
                break
            super().wait(left)
        return self.is_set()


def primed(
    events: Iterator[Event],
    clock: Clock,
    model: str,
    *,
    component: str = "model",
    found: Callable[[Answering], object] = lambda answering: None,
) -> Iterator[Event]:
    """`events` with the first one already taken, so that an error before it is raised here and now.

    `found` is told who answers, where that is an event of its own. Whatever the `component` raises without
    meaning to is an `InternalError`.
    """
    guarded = _guarded(events, component)
    first = next(guarded, None)
    if isinstance(first, Answering):
        found(first)
        first = next(guarded, None)  # which comes with it
    if first is None:
        raise GenerationFailed(model, "it ended without an answer")
    clock.first_event()
    chain = _chain(first, guarded)
    next(chain)  # a generator that has not begun closes nothing when it is closed
    return chain


def _guarded(events: Iterator[Event], component: str) -> Iterator[Event]:
    """An engine's own mistake must look neither like an answer that ended well nor like a failure of its
    model, for which another may be asked."""
    try:
        yield from events
    except EdgeRouterError:
        raise
    except Exception as error:
        raise InternalError.of(component, error) from error
    finally:
        _close(events)


def _chain(first: Event, events: Iterator[Event]) -> Iterator[Event]:
    try:
        yield first  # to `primed`
        yield first
        yield from events
    finally:
        _close(events)


def _close(events: Iterator[Event]) -> None:
    if isinstance(events, Generator):
        events.close()


def by_whom(answering: Sequence[Answering], model: str, decision: Decision) -> tuple[str, Decision]:
    """Whose answer it is: of `model`, unless one of several says that it is its own."""
    for who in answering:
        return who.model, replace(decision, endpoint=who.endpoint)
    return model, decision
