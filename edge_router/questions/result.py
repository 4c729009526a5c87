"""The answers to an inquiry: each with who gave it, and why that one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import overload

from edge_router.chat.events import Usage
from edge_router.errors import EdgeRouterError
from edge_router.questions.answer import Answer
from edge_router.records import dataclass
from edge_router.types import Decision, Timings


@dataclass(frozen=True, slots=True)
class Given:
    """An answer, by the model with that id."""

    answer: Answer
    decision: Decision
    model: str

    @property
    def name(self) -> str | None:
        return self.answer.question.name


@dataclass(frozen=True, slots=True)
class Answers(Sequence[Answer]):
    """In the order of the questions; by index, or by name.

    `usage` is of all models together. `cut`: so many tokens were taken out of the state's middle.
    `decision` and `model` are the strong model's where any question was sent to it.
    """

    given: tuple[Given, ...]
    usage: Usage
    cut: int = 0
    timings: Timings = field(default_factory=Timings)
    fallback_cause: EdgeRouterError | None = None
    record_id: int | None = None

    @overload
    def __getitem__(self, place: int | str) -> Answer: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Answer, ...]: ...

    def __getitem__(self, place: int | str | slice) -> Answer | tuple[Answer, ...]:
        if isinstance(place, str):
            return self.by_name[place]
        if isinstance(place, slice):
            return tuple(each.answer for each in self.given[place])
        return self.given[place].answer

    def __iter__(self) -> Iterator[Answer]:
        return iter([each.answer for each in self.given])

    def __len__(self) -> int:
        return len(self.given)

    @property
    def by_name(self) -> Mapping[str, Answer]:
        """Of the questions that have one."""
        return {each.name: each.answer for each in self.given if each.name is not None}

    @property
    def truncated(self) -> int:
        """As a chat's answer has it: that something was left out."""
        return self.cut

    @property
    def decision(self) -> Decision:
        return self._told.decision

    @property
    def model(self) -> str:
        return self._told.model

    @property
    def _told(self) -> Given:
        return next((each for each in self.given if each.decision.model == "strong"), self.given[0])
