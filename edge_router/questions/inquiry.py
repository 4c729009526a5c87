"""Typed questions with the state that they are about, and what an engine says of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal, TypeAlias

from edge_router.chat.events import Finished
from edge_router.chat.message import Message
from edge_router.questions.question import Question
from edge_router.records import dataclass

Truncation = Literal["refuse", "middle"]


@dataclass(frozen=True, slots=True, init=False)
class Inquiry:
    """A state, read once, and the questions about it. A text in place of messages is what the user says.

    A state that is longer than the context is refused, or loses its `middle`.
    """

    state: tuple[Message, ...]
    questions: tuple[Question, ...]
    truncation: Truncation = "refuse"

    def __init__(
        self, state: str | Sequence[Message], questions: Sequence[Question], truncation: Truncation = "refuse"
    ) -> None:
        messages = (Message("user", state),) if isinstance(state, str) else tuple(state)
        for attribute, value in (
            ("state", messages),
            ("questions", tuple(questions)),
            ("truncation", truncation),
        ):
            object.__setattr__(self, attribute, value)


@dataclass(frozen=True, slots=True)
class Answered:
    """The question with that index: a probability for each option or level in their order, or (no, yes).

    They are none below 0 and add up to 1.
    """

    index: int
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Declined:
    """The question with that index gets no answer."""

    index: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class StateCut:
    """So many `tokens` were taken out of the state's middle, before any answer."""

    tokens: int


InquiryEvent: TypeAlias = StateCut | Answered | Declined | Finished
"""In any order of the questions, each of them once; `Finished` comes last, with the usage that is known."""


def state_text(value: object) -> str:
    """A state that is text, or any other JSON value in the one way in which models read it.

    The order of an object's members is kept, for it may mean something. Raises `ValueError` for NaN and for
    infinity, `TypeError` for what JSON has no form for.
    """
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
