"""A model asked how hard a query is: its word where it comes in time, else a learned router's.

The model is the weak one, behind whose conversation the question stands, or one at an endpoint for typed
questions. Nothing is written: it costs one pass.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.engines.base import Decides, Engine
from edge_router.errors import EngineError, InternalError, InvalidRequest, InvalidRouter
from edge_router.questions.inquiry import Answered, Inquiry, InquiryEvent
from edge_router.questions.question import Scale
from edge_router.routing.routers.base import Judge, Router

NAME = "decision"
LIMIT_S = 2.0  # for one question; as long as a learned router never takes
# Yes or no ("too hard for a small model?", "difficult?", "an expert?", "several steps?", "easy?") said
# nothing of difficulty on the training pool's val split with SmolLM2: models/routers/LOG.md.
HARD = Scale(None, "How hard is this question?", ("very easy", "easy", "medium", "hard", "very hard"))


class _Timed:
    """A router whose score is the expected level, 0 for very easy, 1 for very hard.

    Where that takes longer than `limit_s`, or fails, the score is that of `otherwise`, moved so that its own
    threshold falls on `at`, or on this one's.
    """

    name = NAME
    default_threshold: float

    def __init__(
        self, otherwise: Callable[[], Router], limit_s: float = LIMIT_S, at: float | None = None
    ) -> None:
        self._make, self._limit_s, self._at = otherwise, limit_s, at
        self._otherwise: Router | None = None

    def score(self, messages: Sequence[Message]) -> float:
        raise NotImplementedError

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        return [self.score((Message("user", text),)) for text in texts]

    def _score(
        self, messages: Sequence[Message], ask: Callable[[threading.Event], Iterable[InquiryEvent]]
    ) -> float:
        try:
            for event in ask(_Deadline(self._limit_s)):
                if isinstance(event, Answered):
                    return expected(event.probabilities)
        except InternalError:
            raise
        except (EngineError, InvalidRequest):  # too slow among them: see `Cancelled`
            pass
        if self._otherwise is None:
            self._otherwise = self._make()
        onto = self.default_threshold if self._at is None else self._at
        return moved(self._otherwise.score(messages), self._otherwise.default_threshold, onto)


class DecisionRouter(_Timed):
    """The weak model as its own judge. `use_weak` comes before the first score.

    Raises `InvalidRouter` without a weak model, and for one that answers no typed questions.
    """

    default_threshold = 0.41  # the mean on the val split with SmolLM2; every model has its own

    _weak: Callable[[], Engine] | None = None

    def use_weak(self, weak: Callable[[], Engine]) -> None:
        self._weak = weak

    def score(self, messages: Sequence[Message]) -> float:
        engine, asked = self._engine(), Inquiry(messages, [HARD], "middle")
        return self._score(messages, lambda cancel: engine.decide(asked, cancel))

    def _engine(self) -> Decides:
        if self._weak is None:
            raise InvalidRouter(NAME, "it is the weak model's own judgement, and there is none here to ask")
        engine = self._weak()
        if not (engine.capabilities.decides and isinstance(engine, Decides)):
            raise InvalidRouter(NAME, f"the engine of {engine.model_id} answers no typed questions")
        return engine


class EndpointRouter(_Timed):
    """A model elsewhere, or in another program, as the judge. `use_judge` comes before the first score.

    What must not leave this machine, and what the guard or a rule keeps here, is scored by the learned one.
    """

    default_threshold = 0.5  # the middle of the scale; every model has its own: calibrate

    _judge: Judge | None = None

    def use_judge(self, judge: Judge) -> None:
        self._judge = judge

    def score(self, messages: Sequence[Message]) -> float:
        return self.score_request(ChatRequest(tuple(messages)), stays=False)

    def score_request(self, request: ChatRequest, *, stays: bool) -> float:
        judge = self._judge
        if judge is None:
            raise InvalidRouter(NAME, "it asks an endpoint, and none was given to it")
        return self._score(request.messages, lambda cancel: judge.ask(request, HARD, cancel, stays=stays))

    def close(self) -> None:
        if self._judge is not None:
            self._judge.close()


class _Deadline(threading.Event):
    """A `types.Cancel` that is set once the time is over."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._end = time.monotonic() + seconds

    def is_set(self) -> bool:
        return super().is_set() or time.monotonic() > self._end


def expected(probabilities: Sequence[float]) -> float:
    """The level that these say, 0 for the first, 1 for the last."""
    found = sum(level * probability for level, probability in enumerate(probabilities))
    return min(max(found / (len(probabilities) - 1), 0.0), 1.0)


def moved(score: float, threshold: float, onto: float) -> float:
    """`score` on a scale whose threshold is `onto` in place of `threshold`, both within 0 and 1."""
    if score >= threshold:
        return 1 - (1 - score) * (1 - onto) / (1 - threshold) if threshold < 1 else 1.0
    return score * onto / threshold
