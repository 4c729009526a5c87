"""What can be asked of a state: whether something holds, which of several, where on a scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class YesNo:
    """Whether something holds. `yes` and `no` say when that would be the answer.

    `name`, here and in the others, is the caller's own; `instructions` may be empty where the rest says it.
    """

    name: str | None = None
    instructions: str = ""
    yes: str | None = None
    no: str | None = None

    @property
    def size(self) -> int:
        """How many probabilities answer it: those of no and yes."""
        return 2


@dataclass(frozen=True, slots=True)
class Option:
    """One of a choice. The text "true" and the boolean are different values."""

    value: str | bool
    description: str | None = None

    @property
    def text(self) -> str:
        """What a model reads and says for it."""
        return self.value if isinstance(self.value, str) else str(self.value).lower()


@dataclass(frozen=True, slots=True, init=False)
class Choice:
    """Which one of the options; a value stands for an option without a description, a mapping for values with
    theirs, or None."""

    name: str | None
    instructions: str
    options: tuple[Option, ...]

    def __init__(
        self,
        name: str | None = None,
        instructions: str = "",
        options: Sequence[Option | str | bool] | Mapping[str | bool, str | None] = (),
    ) -> None:
        _set(self, name, instructions)
        if isinstance(options, Mapping):
            options = [Option(value, description) for value, description in options.items()]
        object.__setattr__(
            self, "options", tuple(each if isinstance(each, Option) else Option(each) for each in options)
        )

    @property
    def size(self) -> int:
        return len(self.options)


@dataclass(frozen=True, slots=True)
class Level:
    """One step of a scale."""

    label: str
    description: str | None = None


@dataclass(frozen=True, slots=True, init=False)
class Scale:
    """Where on a scale; `levels` stand lowest first, and a text stands for one without a description."""

    name: str | None
    instructions: str
    levels: tuple[Level, ...]

    def __init__(
        self, name: str | None = None, instructions: str = "", levels: Sequence[Level | str] = ()
    ) -> None:
        _set(self, name, instructions)
        object.__setattr__(
            self, "levels", tuple(each if isinstance(each, Level) else Level(each) for each in levels)
        )

    @property
    def size(self) -> int:
        return len(self.levels)


Question: TypeAlias = YesNo | Choice | Scale


def _set(question: Choice | Scale, name: str | None, instructions: str) -> None:
    object.__setattr__(question, "name", name)
    object.__setattr__(question, "instructions", instructions)
