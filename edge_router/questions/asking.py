"""Typed questions as Python callers write them, made a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, Need, QuestionsOutput
from edge_router.errors import InvalidRequest
from edge_router.questions.checking import Words, check, check_count
from edge_router.questions.inquiry import Truncation, state_text
from edge_router.questions.question import Question


def inquiry_request(
    state: object,
    questions: Sequence[Question] | Mapping[str, Question],
    *,
    model: str = "auto",
    private: bool = False,
    truncation: Truncation = "refuse",
) -> ChatRequest:
    """`state` is a text, a list of messages (`chat.message.Message`) or any other JSON value.

    Questions in a mapping are called by their keys. Raises `InvalidRequest` that names the field.
    """
    if isinstance(questions, Mapping):
        questions = [replace(question, name=name) for name, question in questions.items()]
    check_count(len(questions))
    names = [question.name for question in questions if question.name is not None]
    for index, question in enumerate(questions):
        check(question, f"questions[{index}]", Words())
        if names.count(question.name or "") > 1:
            raise InvalidRequest(f"questions[{index}].name", "is another question's name, too")
    return ChatRequest(
        _messages(state),
        target=model,
        private=private,
        output=QuestionsOutput(tuple(questions), cuts=truncation == "middle"),
        names={Need.QUESTIONS: "questions", Need.FILES: "state"},
    )


def _messages(state: object) -> tuple[Message, ...]:
    if isinstance(state, Sequence) and state and all(isinstance(each, Message) for each in state):
        return tuple(state)
    try:
        return (Message("user", state_text(state)),)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest("state", f"is no JSON value: {error}") from error
