"""The weak model as its own judge: asked whether a stronger one should answer, how likely does it say yes?

The question stands behind the conversation, so whatever the model has read for it is kept in its KV cache
and need not be read again where the answer comes from it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence

from edge_router.engines.base import Engine, Weighing
from edge_router.errors import ContextOverflow, InvalidRouter
from edge_router.routers.text import LONGEST, conversation_text, shorten
from edge_router.types import ChatRequest, Message

NAME = "causal_llm"
_ASK = Message(
    "user",
    "Do not answer yet. Is this too hard for a small language model, so that a much larger one should answer "
    "it? Reply with Yes or No only.",
)
_YES, _NO = ("Yes", "yes"), ("No", "no")


class CausalRouter:
    """Its score is P(yes) / (P(yes) + P(no)), from one pass over the prompt; nothing is generated.

    It waits its turn behind the answers that the weak model is giving. `use_weak` comes before the first
    score. Raises `InvalidRouter` without it, and for an engine that cannot weigh replies.
    """

    name = NAME
    default_threshold = 0.5

    def __init__(self) -> None:
        self._weak: Callable[[], Engine] | None = None

    def use_weak(self, weak: Callable[[], Engine]) -> None:
        self._weak = weak

    def score(self, messages: Sequence[Message]) -> float:
        engine = self._engine()
        request = _fitting(engine, messages)
        logits = engine.weigh(request, (*_YES, *_NO), threading.Event())
        yes, no = (math.fsum(map(math.exp, _less(logits, part))) for part in (slice(0, 2), slice(2, 4)))
        return yes / (yes + no)

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        return [self.score((Message("user", text),)) for text in texts]

    def _engine(self) -> Weighing:
        if self._weak is None:
            raise InvalidRouter(NAME, "it is the weak model's own judgement, and there is none here to ask")
        engine = self._weak()
        if not isinstance(engine, Weighing):
            raise InvalidRouter(NAME, f"the engine of {engine.model_id} cannot say how likely a reply is")
        return engine


def _less(logits: Sequence[float], part: slice) -> list[float]:
    """Those in `part` less the highest of all, which is the same to a quotient and overflows nothing."""
    highest = max(logits)
    return [value - highest for value in logits[part]]


def _fitting(engine: Weighing, messages: Sequence[Message]) -> ChatRequest:
    """The question behind the conversation, or behind its gist where that does not fit the context."""
    request, length = ChatRequest((*messages, _ASK)), LONGEST
    while _is_too_long(engine, request) and length:
        gist = shorten(conversation_text(messages), length)
        request, length = ChatRequest((Message("user", gist), _ASK)), length // 2
    return request


def _is_too_long(engine: Weighing, request: ChatRequest) -> bool:
    try:
        tokens, window = engine.count_tokens(request), engine.context_window_size
    except ContextOverflow:
        return True
    return tokens is not None and window is not None and tokens >= window
