"""The router for tests, yours and ours: it scores what it was told to, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_router.chat.message import Message


class ScriptedRouter:
    """One score for everything, or a function from the text of the last turn to its score."""

    def __init__(
        self, score: float | Callable[[str], float], *, name: str = "scripted", default_threshold: float = 0.5
    ) -> None:
        self.answer = score  # may be changed between two calls
        self.name, self.default_threshold = name, default_threshold
        self.calls: list[Sequence[Message]] = []

    def score(self, messages: Sequence[Message]) -> float:
        self.calls.append(messages)
        return self._of(messages[-1].text)

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        return [self._of(text) for text in texts]

    def _of(self, text: str) -> float:
        return self.answer(text) if callable(self.answer) else self.answer
