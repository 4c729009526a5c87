"""What probabilities say: the yes, the choice, the level, and how sure that is. The formulas' one home."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from edge_router.questions.question import Choice, Question, Scale, YesNo
from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class YesNoAnswer:
    """`probability` of yes."""

    question: YesNo
    probability: float

    @property
    def yes(self) -> bool:
        return self.probability >= 0.5

    @property
    def confidence(self) -> float:
        """1 where it is certain, 0 where both are as likely."""
        return choice_confidence((1 - self.probability, self.probability))


@dataclass(frozen=True, slots=True)
class ChoiceAnswer:
    """`probabilities` stand in the order of the options."""

    question: Choice
    probabilities: tuple[float, ...]

    @property
    def choice(self) -> str | bool:
        """The likeliest; the first of several."""
        return self.question.options[likeliest(self.probabilities)].value

    @property
    def confidence(self) -> float:
        return choice_confidence(self.probabilities)


@dataclass(frozen=True, slots=True)
class ScaleAnswer:
    """`probabilities` stand in the order of the levels."""

    question: Scale
    probabilities: tuple[float, ...]

    @property
    def score(self) -> float:
        """The expected level; the lowest is 0."""
        found = math.fsum(level * probability for level, probability in enumerate(self.probabilities))
        return min(max(found, 0.0), len(self.probabilities) - 1.0)

    @property
    def level(self) -> int:
        """The likeliest; the lowest of several."""
        return likeliest(self.probabilities)

    @property
    def confidence(self) -> float:
        return scale_confidence(self.probabilities)


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Whoever was asked said none."""

    question: Question
    text: str = ""


Answer: TypeAlias = YesNoAnswer | ChoiceAnswer | ScaleAnswer | NoAnswer


def answer_of(question: Question, probabilities: Sequence[float]) -> YesNoAnswer | ChoiceAnswer | ScaleAnswer:
    """The answer to `question` that these say, each held to 0..1. Raises `ValueError` for too many or few."""
    if len(probabilities) != question.size:
        raise ValueError(f"{len(probabilities)} probabilities for {question.size}")
    held = tuple(min(max(float(probability), 0.0), 1.0) for probability in probabilities)
    if isinstance(question, YesNo):
        return YesNoAnswer(question, held[1])
    if isinstance(question, Choice):
        return ChoiceAnswer(question, held)
    return ScaleAnswer(question, held)


def normalized(weights: Sequence[float]) -> tuple[float, ...]:
    """`weights`, none below 0, as probabilities; all alike where they are all 0."""
    most = max(weights)
    if most <= 0 or not math.isfinite(most):
        return (1 / len(weights),) * len(weights)
    shares = [weight / most for weight in weights]  # whose sum is no infinity
    total = math.fsum(shares)
    return tuple(share / total for share in shares)


def likeliest(probabilities: Sequence[float]) -> int:
    """The index of the largest; the first of several."""
    return max(range(len(probabilities)), key=lambda index: probabilities[index])


def choice_confidence(probabilities: Sequence[float]) -> float:
    """How far the largest is above what it would be if all were as likely; 1 where it is certain."""
    n = len(probabilities)
    if n == 1:
        return 1.0
    return _held((n * max(probabilities) - 1) / (n - 1))


def scale_confidence(probabilities: Sequence[float]) -> float:
    """How close to the likeliest level all is, beside levels that are as likely; 1 where it is certain."""
    mode, n = likeliest(probabilities), len(probabilities)
    if n == 1:
        return 1.0
    spread = math.fsum(p * abs(level - mode) for level, p in enumerate(probabilities))
    uniform = math.fsum(abs(level - mode) for level in range(n)) / n
    return _held(1 - spread / uniform)


def _held(value: float) -> float:
    return min(max(value, 0.0), 1.0)
