"""The weak model as its own judge: how hard does it find what it is asked, from 1 to 5?

The question stands behind the conversation, so whatever the model has read for it is kept in its KV cache
and need not be read again where the answer comes from it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence

from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.engines.base import Engine, Prompt, Weighing
from edge_router.errors import InvalidRouter
from edge_router.routing.routers.text import LONGEST, conversation_text, shorten

NAME = "causal_llm"
# Of five wordings the one whose scores went best with difficulty on the training pool's val split: SmolLM2's
# "yes" to "is this too hard for a small model?" said nothing there.
_ASK = Message(
    "user", "How hard is this question, from 1 (very easy) to 5 (very hard)? Reply with the number only."
)
_GRADES = ("1", "2", "3", "4", "5")


class CausalRouter:
    """Its score is the expected grade, 0 for 1 and 1 for 5, from one constrained token; nothing is generated.

    It waits its turn behind the answers that the weak model is giving. `use_weak` comes before the first
    score. Raises `InvalidRouter` without it, and for an engine that cannot weigh replies.
    """

    name = NAME
    default_threshold = 0.11  # the mean on the val split with SmolLM2; every model has its own

    def __init__(self) -> None:
        self._weak: Callable[[], Engine] | None = None

    def use_weak(self, weak: Callable[[], Engine]) -> None:
        self._weak = weak

    def score(self, messages: Sequence[Message]) -> float:
        engine = self._engine()
        logits = engine.score_choices(_fitting(engine, messages), _GRADES, threading.Event())
        highest = max(logits)
        weights = [math.exp(logit - highest) for logit in logits]
        grade = math.fsum(place * weight for place, weight in enumerate(weights)) / math.fsum(weights)
        return grade / (len(_GRADES) - 1)

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        return [self.score((Message("user", text),)) for text in texts]

    def _engine(self) -> Weighing:
        if self._weak is None:
            raise InvalidRouter(NAME, "it is the weak model's own judgement, and there is none here to ask")
        engine = self._weak()
        if not isinstance(engine, Weighing):
            raise InvalidRouter(NAME, f"the engine of {engine.model_id} cannot say how likely a reply is")
        return engine


def _fitting(engine: Weighing, messages: Sequence[Message]) -> Prompt:
    """The question behind the conversation, or behind its gist where that does not fit the context."""
    request, length = ChatRequest((*messages, _ASK)), LONGEST
    prompt = engine.prepare(request)
    while _is_too_long(prompt, engine.capabilities.context_window) and length:
        gist = shorten(conversation_text(messages), length)
        request, length = ChatRequest((Message("user", gist), _ASK)), length // 2
        prompt = engine.prepare(request)
    return prompt


def _is_too_long(prompt: Prompt, window: int | None) -> bool:
    return prompt.count is not None and window is not None and prompt.count >= window
