"""Typed questions as Python callers write them, made a request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import get_args

from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, Need, QuestionsOutput
from edge_router.errors import InvalidRequest, clipped
from edge_router.questions.checking import ProtocolWords, check, check_count
from edge_router.questions.inquiry import Truncation, state_text
from edge_router.questions.question import Choice, Question, Scale, YesNo

_QUESTION = (YesNo, Choice, Scale)


def inquiry_request(
    state: object,
    questions: Sequence[Question] | Mapping[str, Question],
    *,
    model: str = "auto",
    private: bool = False,
    truncation: Truncation = "refuse",
) -> ChatRequest:
    """`state` is a text, a list of messages (`chat.message.Message`) or any other JSON value but null.

    Questions in a mapping are called by their keys. Raises `InvalidRequest` that names the field.
    """
    if isinstance(questions, Mapping):
        questions = [
            replace(each, name=name) if isinstance(each, _QUESTION) else each
            for name, each in questions.items()
        ]
    if not isinstance(questions, Iterable):
        raise InvalidRequest("questions", "must be a list of questions, or questions by their names")
    asked = tuple(_checked(each, f"questions[{index}]") for index, each in enumerate(questions))
    check_count(len(asked))
    names = [question.name for question in asked if question.name is not None]
    for index, question in enumerate(asked):
        if names.count(question.name or "") > 1:
            raise InvalidRequest(f"questions[{index}].name", "is another question's name, too")
    if truncation not in get_args(Truncation):
        raise InvalidRequest("truncation", f"must be {' or '.join(get_args(Truncation))}")
    return ChatRequest(
        _messages(state),
        target=model,
        private=private,
        output=QuestionsOutput(asked, cuts=truncation == "middle"),
        names={Need.QUESTIONS: "questions", Need.FILES: "state"},
    )


def _checked(question: object, where: str) -> Question:
    if not isinstance(question, _QUESTION):
        raise InvalidRequest(where, "must be a YesNo, a Choice or a Scale")
    for name, value in _texts(question):
        if not isinstance(value, str):
            raise InvalidRequest(f"{where}.{name}", f"must be a text, not {clipped(repr(value))}")
    check(question, where, ProtocolWords())
    return question


def _texts(question: Question) -> Iterator[tuple[str, object]]:
    """What must be one, by its field's name."""
    yield "name", "" if question.name is None else question.name
    yield "instructions", question.instructions
    if isinstance(question, YesNo):
        optional = {"yes": question.yes, "no": question.no}
    elif isinstance(question, Choice):
        for index, option in enumerate(question.options):
            yield f"options[{index}].value", "" if isinstance(option.value, bool) else option.value
        optional = {f"options[{n}].description": each.description for n, each in enumerate(question.options)}
    else:
        for index, level in enumerate(question.levels):
            yield f"levels[{index}].label", level.label
        optional = {f"levels[{n}].description": each.description for n, each in enumerate(question.levels)}
    yield from ((name, value) for name, value in optional.items() if value is not None)


def _messages(state: object) -> tuple[Message, ...]:
    if isinstance(state, Sequence) and state and all(isinstance(each, Message) for each in state):
        return tuple(state)
    if state is None:
        raise InvalidRequest("state", "is missing: it is what the questions are about")
    try:
        return (Message("user", state_text(state)),)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest("state", f"is no JSON value: {error}") from error
