"""Answers and errors as both protocols have them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from edge_router.chat.events import Usage
from edge_router.questions.answer import NoAnswer, answer_of
from edge_router.questions.question import Choice, Level, Option, Question, Scale, YesNo
from edge_router.questions.result import Answers, Given
from edge_router.surfaces.base import Failure, Head
from edge_router.surfaces.decisions.encode import decisions, systemone
from edge_router.surfaces.decisions.surface import Decisions, SystemOne
from edge_router.surfaces.wire import dumps
from edge_router.types import Decision, Reason

HERE = Decision("weak", Reason.CONFIDENCE, confidence=0.4, threshold=0.3)
SENT = Decision("strong", Reason.CONFIDENCE, confidence=0.1, threshold=0.3, endpoint="cloud")
HEAD = Head("abc", 7, "small", HERE)


def given(question: Question, *probabilities: float, decision: Decision = HERE) -> Given:
    model = "small" if decision is HERE else "big"
    if not probabilities:
        return Given(NoAnswer(question), decision, model)
    return Given(answer_of(question, probabilities), decision, model)


ANSWERS = Answers(
    (
        given(YesNo("z"), 0.25, 0.75),
        given(Choice("10", "", (Option("b"), Option("a"))), 0.125, 0.875, decision=SENT),
        given(Scale("a", "", (Level("low"), Level("mid"), Level("high"))), 0.0, 0.5, 0.5),
        given(YesNo("no")),
    ),
    Usage(12, 3, cached_tokens=5, reasoning_tokens=1),
    cut=4,
)


def test_system_one() -> None:
    body = json.loads(dumps(systemone(HEAD, ANSWERS)))
    assert body["answers"] == {
        "z": {"type": "noul", "noul": 0.75},
        "10": {
            "type": "choice",
            "choice": "a",
            "probabilities": {"b": 0.125, "a": 0.875},
            "confidence": 0.75,
        },
        "a": {
            "type": "score",
            "score": 1.5,
            "legend": {"0": "low", "1": "mid", "2": "high"},
            "probabilities": {"0": 0.0, "1": 0.5, "2": 0.5},
            "confidence": 0.25,
        },
    }
    assert list(body["answers"]) == ["z", "10", "a"]  # their order
    assert (body["model"], body["usage"]) == ("small", {"input_tokens": 12, "output_tokens": 3})
    assert [each["name"] for each in body["edge_router"]["answers"]] == ["z", "10", "a", "no"]
    assert body["edge_router"]["answers"][1] == {
        "name": "10",
        "answered_by": "big",
        "model": "strong",
        "reason": "confidence",
        "confidence": 0.1,
        "threshold": 0.3,
        "endpoint": "cloud",
    }
    assert body["edge_router"]["truncated_tokens"] == 4


def test_decisions() -> None:
    body = json.loads(dumps(decisions(HEAD, ANSWERS)))
    assert body["answers"] == [
        {"type": "predicate", "name": "z", "probability": 0.75},
        {
            "type": "choice",
            "name": "10",
            "choice": "a",
            "probabilities": [{"value": "b", "probability": 0.125}, {"value": "a", "probability": 0.875}],
            "confidence": 0.75,
        },
        {
            "type": "score",
            "name": "a",
            "score": 1.5,
            "probabilities": [
                {"value": 0, "label": "low", "probability": 0.0},
                {"value": 1, "label": "mid", "probability": 0.5},
                {"value": 2, "label": "high", "probability": 0.5},
            ],
            "confidence": 0.25,
        },
        {"type": "refusal", "name": "no"},
    ]
    assert body["usage"] == {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 15,
    }


def test_no_number_is_outside_of_what_clients_take() -> None:
    """They drop the whole reply for one."""
    off = 1 + 1e-12
    odd = Answers(
        (
            given(YesNo("a"), -1e-15, off),
            given(Choice("b", "", [str(n) for n in range(49)]), *[1 / 49] * 49),
            given(Scale("c", "", ("x", "y")), -1e-15, off),
        ),
        Usage(1, 0),
    )

    def numbers(value: Any) -> list[float]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        own = [value] if isinstance(value, float) else []
        return [*own, *(each for one in inner for each in numbers(one))]

    for write in (systemone, decisions):
        found = numbers(write(HEAD, odd)["answers"])
        assert len(found) > 50 and all(math.isfinite(each) and 0 <= each <= 1 for each in found), write


@pytest.mark.parametrize(
    "param, loc",
    [
        ("questions.team.criteria", ["body", "questions", "team", "criteria"]),
        ("state.a[2].b", ["body", "state", "a", 2, "b"]),
        (None, ["body"]),
    ],
)
def test_errors_are_their_protocols_own(param: str | None, loc: list[object]) -> None:
    failure = Failure(400, "It is wrong.", "invalid_request_error", "invalid_request", param)
    assert SystemOne().error(failure) == {
        "detail": [{"type": "invalid_request", "loc": loc, "msg": "It is wrong."}]
    }
    assert SystemOne().status(failure) == 422
    limited = Failure(429, "Wait.", "rate_limit_error")
    assert (SystemOne().status(limited), SystemOne().error(limited)) == (429, {"detail": "Wait."})
    assert Decisions().error(failure)["error"]["param"] == param  # type: ignore[index]
