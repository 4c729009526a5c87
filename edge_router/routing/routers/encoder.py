"""A router that is an encoder of Laya's kind: one question about the text, answered at marks in it.

What it reads is `[CLS] question [SEP] [MASK] level 0 [MASK] level 1 ... [SEP] text [SEP]`; at each mark it
says how likely that level is. Its numbers are those of laya 0.4.15, for texts that fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_router.catalog import RouterCard
from edge_router.chat.message import Message
from edge_router.errors import InvalidRouter
from edge_router.questions.question import Scale
from edge_router.routing.routers.decision import HARD, expected
from edge_router.routing.routers.graph import (
    IDS,
    MASK,
    described_inputs,
    open_graph,
    outputs,
    session_options,
)
from edge_router.routing.routers.providers import CPU, Provider, named
from edge_router.routing.routers.text import LONGEST, conversation_text, shorten
from edge_router.routing.routers.tokens import open_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_INT, _BOOL = "tensor(int64)", "tensor(bool)"
MARKS, MARKED, TYPE = "marker_pos", "marker_mask", "qtype"
INPUTS = {IDS: _INT, MASK: _INT, MARKS: _INT, MARKED: _BOOL, TYPE: _INT}
_SCORE = 1  # choice, score, noul
_HEAD_TOKENS, _OPTION_TOKENS, _LEAST_HEAD = 192, 48, 16  # as it was trained
_COLDEST, _HOTTEST = 0.5, 5.0  # a temperature beyond these makes a coin flip a certainty


class EncoderRouter:
    """Its score is the expected level of difficulty, 0 for the easiest, 1 for the hardest.

    Raises `InvalidRouter` for files that are none, and `ProviderUnavailable` or `MissingExtra` for another
    provider than the CPU. `note`: why it does not run where it was asked to, if so.
    """

    note = ""

    def __init__(self, card: RouterCard, *, threads: int = 1, provider: Provider | None = None) -> None:
        self._card, provider = card, provider or named(CPU)
        graph = card.directory / card.graph
        self._session = open_graph(graph, session_options(threads, provider), provider)
        inputs, found = described_inputs(self._session), outputs(self._session)
        if inputs != INPUTS:
            wanted = ", ".join(INPUTS)
            raise InvalidRouter(str(graph), f"its inputs are {', '.join(inputs)}; of kind decision: {wanted}")
        if found.get("logits") != "tensor(float)":
            raise InvalidRouter(str(graph), f"its outputs are {', '.join(found)}; wanted is logits, float32")
        self._tokenizer = open_tokenizer(card.directory / card.tokenizer)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._temperature = min(max(card.temperature, _COLDEST), _HOTTEST)
        self._mask = card.special_tokens[2]
        self._begin, self._end, mark = _special(card, self._tokenizer)
        self._head, self._marks = self._question(HARD, mark)
        if len(self._head) + 2 > card.max_tokens:
            raise InvalidRouter(str(graph), f"its question alone takes more than {card.max_tokens} tokens")
        self.score_texts(["How many primes are there?"])

    @property
    def name(self) -> str:
        return self._card.name

    @property
    def default_threshold(self) -> float:
        return self._card.default_threshold

    @property
    def typical_scores(self) -> tuple[float, ...]:
        return self._card.typical_scores

    @property
    def provider(self) -> str:
        """What really runs the graph."""
        return str(self._session.get_providers()[0])

    def score(self, messages: Sequence[Message]) -> float:
        return self._score(conversation_text(messages))

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        return [self._score(text) for text in texts]

    def probabilities(self, text: str) -> list[float]:
        """Of the levels, the easiest first. Raises `InvalidRouter` where they are none."""
        (logits,) = self._session.run(["logits"], self.prepare(text))
        scaled = np.asarray(logits, np.float64).reshape(-1)[: len(self._marks)] / self._temperature
        if len(scaled) != len(self._marks) or not np.isfinite(scaled).all():
            raise InvalidRouter(str(self._card.directory / self._card.graph), "its logits are no numbers")
        weights = np.exp(scaled - scaled.max())
        return [float(each) for each in weights / weights.sum()]

    def prepare(self, text: str) -> dict[str, np.ndarray]:
        """What is fed for one text. Of one that is too long the head and the tail."""
        ids, room = self._ids(shorten(text, LONGEST)), self._card.max_tokens - len(self._head) - 1
        if len(ids) > room:
            tail = room // 3
            ids = [*ids[: room - tail], *ids[len(ids) - tail :]]
        whole = np.array([[*self._head, *ids, self._end]], np.int64)
        marks = np.array([self._marks], np.int64)
        fed = {IDS: whole, MASK: np.ones_like(whole), MARKS: marks, MARKED: np.ones(marks.shape, np.bool_)}
        return {**fed, TYPE: np.array([_SCORE], np.int64)}

    def _score(self, text: str) -> float:
        return expected(self.probabilities(text))

    def _ids(self, text: str) -> list[int]:
        """What is written as the mark itself is none; half of a surrogate pair is no text to a tokenizer."""
        plain = text.replace(self._mask, " ").encode("utf-8", "replace").decode("utf-8")
        found: list[int] = self._tokenizer.encode(plain, add_special_tokens=False).ids
        return found

    def _question(self, question: Scale, mark: int) -> tuple[list[int], list[int]]:
        """The question with its levels, and where their marks stand."""
        labels = (level.label for level in question.levels)
        levels = [
            [mark, *self._ids(f" level {at}: {label}")[:_OPTION_TOKENS]] for at, label in enumerate(labels)
        ]
        left = _HEAD_TOKENS - sum(map(len, levels))
        if left < _LEAST_HEAD:
            each = max(4, (_HEAD_TOKENS - _LEAST_HEAD) // len(levels))
            levels = [level[:each] for level in levels]
            left = _HEAD_TOKENS - sum(map(len, levels))
        asked = self._ids(f"score question: {question.instructions}")[: max(8, left)]
        ids, marks = [self._begin, *asked, self._end], list[int]()
        for level in levels:
            marks.append(len(ids))
            ids += level
        return [*ids, self._end], marks


def _special(card: RouterCard, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids of what begins, ends and marks. Raises `InvalidRouter`."""
    found = []
    for token in card.special_tokens:
        number = tokenizer.token_to_id(token)
        if number is None:
            raise InvalidRouter(str(card.directory / card.tokenizer), f"it has no token {token!r}")
        found.append(number)
    return tuple(found)
