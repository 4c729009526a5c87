"""Typed questions with known answers: read from a file, and put to the weak model."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edge_router.chat.request import ChatRequest, QuestionsOutput
from edge_router.control.inquiries import answers_of
from edge_router.engines.base import Engine
from edge_router.errors import InvalidLabels, InvalidRequest
from edge_router.parsing import strict_json
from edge_router.questions.answer import answer_of, likeliest
from edge_router.questions.inquiry import Answered
from edge_router.questions.question import Choice, Question, YesNo
from edge_router.records import dataclass
from edge_router.routing.thresholds.question_bounds import LabelledAnswer, kind_of
from edge_router.surfaces.decisions.parse_systemone import parse
from edge_router.types import Progress

MOST = 100_000  # lines
_ONE = "question"  # what the only one of a line is called
_OF_ONE = ("type", "instructions", "criteria")


@dataclass(frozen=True, slots=True)
class LabelledQuestions:
    """A request of typed questions, and the index of each right answer: an option's, a level's, 1 for yes."""

    request: ChatRequest
    right: tuple[int, ...]

    @property
    def questions(self) -> tuple[Question, ...]:
        assert isinstance(self.request.output, QuestionsOutput)
        return self.request.output.questions


def read_labelled(file: Path) -> tuple[LabelledQuestions, ...]:
    """Each line is a JSON object with `state`, `questions` as /v1/systemone has them and `answers` by name,
    or with one question's fields and its `answer`. Raises `InvalidLabels` that names the line.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else None
        raise InvalidLabels(file, f"cannot be read: {said or error}") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not 1 <= len(lines) <= MOST:
        raise InvalidLabels(file, f"must hold 1 to {MOST:,} lines of labelled questions, not {len(lines):,}")
    found: list[LabelledQuestions] = []
    for number, line in lines:
        try:
            found.append(_labelled(strict_json.parse_object(line, once=True)))
        except (strict_json.NotJson, InvalidRequest, _NoLabel) as error:
            raise InvalidLabels(file, f"line {number}: {error}") from error
    return tuple(found)


class _NoLabel(ValueError):
    """What is stated as the right answer is none."""


def _labelled(stated: Mapping[str, object]) -> LabelledQuestions:
    if "questions" not in stated:
        question = {name: stated[name] for name in _OF_ONE if name in stated}
        stated = {
            "state": stated.get("state"),
            "questions": {_ONE: question},
            "answers": {_ONE: stated.get("answer")},
        }
    answers = stated.get("answers")
    if not isinstance(answers, Mapping):
        raise _NoLabel("answers must be an object: the right answer by each question's name")
    request = parse({"state": stated.get("state"), "questions": stated["questions"], "truncation": "auto"})
    assert isinstance(request.output, QuestionsOutput)
    questions = request.output.questions
    return LabelledQuestions(
        request, tuple(_index(question, answers.get(question.name or "")) for question in questions)
    )


def _index(question: Question, label: object) -> int:
    if isinstance(question, YesNo):
        if not isinstance(label, bool):
            raise _NoLabel(f"answers.{question.name} must be true or false")
        return int(label)
    if isinstance(question, Choice):
        names: Sequence[object] = [option.value for option in question.options]
    else:
        names = [level.label for level in question.levels]
        if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(names):
            return label
    if label not in names:
        raise _NoLabel(f"answers.{question.name} must be one of: {', '.join(map(str, names[:10]))}")
    return names.index(label)


def measure(
    engine: Engine, labelled: Sequence[LabelledQuestions], progress: Progress
) -> Iterator[LabelledAnswer]:
    """How sure `engine` was of each, and whether it was right. Raises what the engine does."""
    never = threading.Event()
    with progress.step("answer", total=len(labelled), unit="texts") as step:
        for each in labelled:
            for event in answers_of(engine, each.request, never):
                if not isinstance(event, Answered):
                    continue
                question = each.questions[event.index]
                answer = answer_of(question, event.probabilities)
                right = likeliest(event.probabilities) == each.right[event.index]
                yield LabelledAnswer(kind_of(question), answer.confidence, right)
            step.advance()
