"""What is no question: none at all, too many or too few options, labels that nobody could tell apart."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from edge_router.errors import InvalidRequest, clipped
from edge_router.questions.question import Choice, Question, Scale, YesNo
from edge_router.records import dataclass

MOST_QUESTIONS = 400
MOST_OPTIONS = 255
FEWEST_LEVELS, MOST_LEVELS = 2, 10


@dataclass(frozen=True, slots=True)
class ProtocolWords:
    """What a protocol calls that which questions are made of, and how few options it takes."""

    options: str = "options"
    value: str = "value"
    levels: str = "levels"
    label: str = "label"
    fewest_options: int = 1


def check_count(count: int, where: str = "questions") -> None:
    """Raises `InvalidRequest`."""
    if not 1 <= count <= MOST_QUESTIONS:
        raise InvalidRequest(where, f"must hold 1 to {MOST_QUESTIONS} questions, not {count}")


def check(question: Question, where: str, words: ProtocolWords) -> None:
    """Raises `InvalidRequest` that names the field, of the question that stands at `where`."""
    if isinstance(question, YesNo):
        if not (question.instructions.strip() or question.yes or question.no):
            raise InvalidRequest(f"{where}.instructions", "must say what is asked")
    elif isinstance(question, Choice):
        at = f"{where}.{words.options}"
        _check_size(question.size, at, "options", words.fewest_options, MOST_OPTIONS)
        _check_labels(
            at, words.value, ((each.text, (type(each.value), each.value)) for each in question.options)
        )
    elif isinstance(question, Scale):
        at = f"{where}.{words.levels}"
        _check_size(question.size, at, "levels", FEWEST_LEVELS, MOST_LEVELS)
        _check_labels(at, words.label, ((each.label, each.label) for each in question.levels))


def _check_size(size: int, where: str, what: str, fewest: int, most: int) -> None:
    if not fewest <= size <= most:
        raise InvalidRequest(where, f"must hold {fewest} to {most} {what}, not {size}")


def _check_labels(where: str, word: str, labels: Iterable[tuple[str, Hashable]]) -> None:
    seen: set[Hashable] = set()
    for index, (text, value) in enumerate(labels):
        at = f"{where}[{index}].{word}" if word else where
        if not text.strip():
            raise InvalidRequest(at, "must not be empty")
        if value in seen:
            raise InvalidRequest(at, f"{clipped(text)!r} stands there twice")
        seen.add(value)
