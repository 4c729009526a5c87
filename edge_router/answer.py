"""One answer under way: its deltas, the decision behind it, and the clock that ran along."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

from edge_router.errors import Cancelled, EdgeRouterError, GenerationFailed
from edge_router.types import Cancel, ChatRequest, Decision, Delta, EngineTimings, Timings, Usage


class Clock:
    """What one request took, on `time.perf_counter`."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._score_s: float | None = None
        self._first: float | None = None
        self._ended: float | None = None

    @contextmanager
    def scoring(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self._score_s = time.perf_counter() - begin

    def first_delta(self) -> None:
        self._first = time.perf_counter()

    def stop(self) -> None:
        self._ended = time.perf_counter()

    def timings(self, engine: EngineTimings | None = None) -> Timings:
        engine = engine or EngineTimings()
        return Timings(
            score_ms=None if self._score_s is None else self._score_s * 1e3,
            ttft_ms=None if self._first is None else (self._first - self._started) * 1e3,
            total_ms=None if self._ended is None else (self._ended - self._started) * 1e3,
            prefill_tokens_per_s=_rate(engine.prefill_tokens, engine.prefill_s),
            decode_tokens_per_s=_rate(engine.decode_tokens, engine.decode_s),
        )


def _rate(tokens: int, seconds: float | None) -> float | None:
    return tokens / seconds if tokens and seconds else None


class Answer:
    """Iterate over it once, for its deltas. `decision` and `model` stand from the start and never change.

    `fallback_cause` is the error that made the controller ask the other model, if it did. `truncated` is how
    many of the oldest messages were left out to make the conversation fit. `spent` is what the weak model had
    read and written before it was found too unsure, if it was.
    """

    def __init__(
        self,
        deltas: Iterator[Delta],
        *,
        request: ChatRequest,
        decision: Decision,
        model: str,
        cancel: Cancel,
        clock: Clock,
        fallback_cause: EdgeRouterError | None = None,
        truncated: int = 0,
        spent: Usage | None = None,
        finished: Callable[[Answer, EdgeRouterError | None], None] = lambda answer, error: None,
    ) -> None:
        self.request, self.decision, self.model = request, decision, model
        self.fallback_cause, self.truncated, self.spent = fallback_cause, truncated, spent
        self.last = Delta()
        self.record_id: int | None = None  # of its row in the ledger, once it has ended
        self._cancel, self._clock, self._finished = cancel, clock, finished
        self._source, self._ended = deltas, False
        self._deltas = self._run()

    def __iter__(self) -> Generator[Delta]:
        return self._deltas

    def _run(self) -> Generator[Delta]:
        error: EdgeRouterError | None = Cancelled()  # also what a consumer that walks away means
        try:
            for delta in self._source:
                self.last = delta
                yield delta
            error = None
        except EdgeRouterError as failure:
            error = failure
            raise
        finally:
            self._end(error)

    def _end(self, error: EdgeRouterError | None) -> None:
        if not self._ended:
            self._ended = True
            self._clock.stop()
            _close(self._source)
            self._finished(self, error)

    def cancel(self) -> None:
        """End it within one token. Safe from any thread."""
        self._cancel.set()

    def close(self) -> None:
        """Done with it, read to its end or not. Not while another thread iterates: use `cancel` there."""
        self._cancel.set()
        self._deltas.close()
        self._end(Cancelled())  # a generator that never began runs nothing when it is closed

    @property
    def timings(self) -> Timings:
        return self._clock.timings(self.last.timings)


def primed(deltas: Iterator[Delta], clock: Clock, model: str) -> Iterator[Delta]:
    """`deltas` with the first one already taken, so that an error before it is raised here and now."""
    guarded = _guarded(deltas, model)
    first = next(guarded, None)
    if first is None:
        raise GenerationFailed(model, "it ended without an answer")
    clock.first_delta()
    chain = _chain(first, guarded)
    next(chain)  # a generator that has not begun closes nothing when it is closed
    return chain


def _guarded(deltas: Iterator[Delta], model: str) -> Iterator[Delta]:
    """An engine's own mistake must look neither like an answer that ended well nor like ours."""
    try:
        yield from deltas
    except EdgeRouterError:
        raise
    except Exception as error:
        raise GenerationFailed(model, f"{type(error).__name__}: {error}") from error
    finally:
        _close(deltas)


def _chain(first: Delta, deltas: Iterator[Delta]) -> Iterator[Delta]:
    try:
        yield first  # to `primed`
        yield first
        yield from deltas
    finally:
        _close(deltas)


def _close(deltas: Iterator[Delta]) -> None:
    if isinstance(deltas, Generator):
        deltas.close()
