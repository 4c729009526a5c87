"""The weak model as its own judge in one pass: how hard is this? In time, or a learned router says it.

Nothing is written. The question stands behind the conversation.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from edge_router.chat.message import Message
from edge_router.engines.base import Decides, Engine
from edge_router.errors import EngineError, InvalidRequest, InvalidRouter
from edge_router.questions.inquiry import Answered, Inquiry
from edge_router.questions.question import Scale
from edge_router.routers.base import Router

NAME = "decision"
LIMIT_S = 2.0  # for one question; as long as a learned router never takes
# Yes or no ("too hard for a small model?", "difficult?", "an expert?", "several steps?", "easy?") said
# nothing of difficulty on the training pool's val split with SmolLM2: models/routers/LOG.md.
_HARD = Scale(None, "How hard is this question?", ("very easy", "easy", "medium", "hard", "very hard"))


class DecisionRouter:
    """Its score is the expected level, 0 for very easy, 1 for very hard. `use_weak` comes before the first.

    Where the weak model takes longer than `limit_s`, or fails, the score is that of `otherwise`, moved so
    that its own threshold falls on this one's. Raises `InvalidRouter` without a weak model, and for one that
    answers no typed questions.
    """

    name = NAME
    default_threshold = 0.41  # the mean on the val split with SmolLM2; every model has its own

    def __init__(self, otherwise: Callable[[], Router], limit_s: float = LIMIT_S) -> None:
        self._make, self._limit_s = otherwise, limit_s
        self._otherwise: Router | None = None
        self._weak: Callable[[], Engine] | None = None

    def use_weak(self, weak: Callable[[], Engine]) -> None:
        self._weak = weak

    def score(self, messages: Sequence[Message]) -> float:
        engine = self._engine()
        try:
            for event in engine.decide(Inquiry(messages, [_HARD], "middle"), _Deadline(self._limit_s)):
                if isinstance(event, Answered):
                    return _expected(event.probabilities)
        except (EngineError, InvalidRequest):  # too slow among them: see `Cancelled`
            pass
        if self._otherwise is None:
            self._otherwise = self._make()
        found = self._otherwise.score(messages)
        return moved(found, self._otherwise.default_threshold, self.default_threshold)

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        return [self.score((Message("user", text),)) for text in texts]

    def _engine(self) -> Decides:
        if self._weak is None:
            raise InvalidRouter(NAME, "it is the weak model's own judgement, and there is none here to ask")
        engine = self._weak()
        if not (engine.capabilities.decides and isinstance(engine, Decides)):
            raise InvalidRouter(NAME, f"the engine of {engine.model_id} answers no typed questions")
        return engine


class _Deadline(threading.Event):
    """A `types.Cancel` that is set once the time is over."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._end = time.monotonic() + seconds

    def is_set(self) -> bool:
        return super().is_set() or time.monotonic() > self._end


def _expected(probabilities: Sequence[float]) -> float:
    found = sum(level * probability for level, probability in enumerate(probabilities))
    return min(max(found / (len(probabilities) - 1), 0.0), 1.0)


def moved(score: float, threshold: float, onto: float) -> float:
    """`score` on a scale whose threshold is `onto` in place of `threshold`, both within 0 and 1."""
    if score >= threshold:
        return 1 - (1 - score) * (1 - onto) / (1 - threshold) if threshold < 1 else 1.0
    return score * onto / threshold
