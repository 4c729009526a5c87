"""Typed questions as Python callers write them: taken as they are meant, or refused by field."""

from __future__ import annotations

import math
from typing import Any

from edge_router.chat.request import QuestionsOutput
from edge_router.errors import InvalidRequest
from edge_router.questions.asking import inquiry_request
from edge_router.questions.question import Choice, Level, Option, Question, Scale, YesNo

IS_IT = YesNo("u", "Is it?")


def asked(questions: Any) -> tuple[Question, ...]:
    output = inquiry_request("x", questions).output
    assert isinstance(output, QuestionsOutput)
    return output.questions


def test_questions_come_as_a_list_or_by_their_names() -> None:
    described = Choice("c", "Which?", {"a": "the first", "b": None})
    assert described.options == (Option("a", "the first"), Option("b"))
    assert asked(each for each in (IS_IT, described)) == (IS_IT, described)
    assert asked({"urgent": IS_IT}) == (YesNo("urgent", "Is it?"),)
    assert asked([Scale("s", "How?", ["low", Level("high", "above all")])])


def test_what_is_no_question_is_refused_by_its_field() -> None:
    def of(question: Question) -> dict[str, Any]:
        return {"questions": [question]}

    unknown: Any = 5
    table: list[tuple[dict[str, Any], str, str]] = [
        ({"questions": IS_IT}, "questions", "must be a list"),
        ({"questions": "Is it?"}, "questions[0]", "must be a YesNo"),
        ({"questions": {"u": "Is it?"}}, "questions[0]", "must be a YesNo"),
        ({"questions": [IS_IT, {"type": "noul"}]}, "questions[1]", "must be a YesNo"),
        ({"questions": []}, "questions", "1 to 400"),
        ({"questions": {unknown: IS_IT}}, "questions[0].name", "not 5"),
        ({"questions": [IS_IT, IS_IT]}, "questions[0].name", "another question's"),
        (of(YesNo("u", unknown)), "questions[0].instructions", "not 5"),
        (of(YesNo("u", "Is it?", yes=unknown)), "questions[0].yes", "not 5"),
        (of(Choice("c", "Which?", ["a", unknown])), "questions[0].options[1].value", "not 5"),
        (of(Choice("c", "Which?", {"a": unknown})), "questions[0].options[0].description", "not 5"),
        (of(Scale("s", "How?", [unknown, "high"])), "questions[0].levels[0].label", "not 5"),
        (of(Scale("s", "How?", ["low"])), "questions[0].levels", "2 to 10"),
        ({"state": None}, "state", "is missing"),
        ({"state": math.nan}, "state", "no JSON value"),
        ({"state": b"x"}, "state", "no JSON value"),
        ({"truncation": "auto"}, "truncation", "refuse or middle"),
    ]
    for given, field, told in table:
        arguments = {"state": "x", "questions": [IS_IT], **given}
        try:
            inquiry_request(arguments.pop("state"), arguments.pop("questions"), **arguments)
        except InvalidRequest as error:
            assert error.param == field and told in error.reason, (given, error)
        else:
            raise AssertionError(f"taken: {given}")
