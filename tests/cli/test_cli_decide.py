"""`decide`: typed questions from the command line, as a table, as bars and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from table import each

from edge_router.cli.verbs.decide import BAR, _asked
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import WeightsUnavailable
from edge_router.questions.inquiry import Inquiry
from edge_router.questions.question import Choice, Question, Scale, YesNo

ASK = (
    *("--choice", "Whose is it? billing, technical,sales", "--yes-no", "Is it urgent?"),
    *("--score", "How angry: calm,furious"),
)


def judge(inquiry: Inquiry, question: Question) -> tuple[float, ...]:
    return (0.25, 0.75) if question.size == 2 else (0.125, 0.75, 0.125)


@pytest.fixture
def decided(cli: Any, models: Any) -> Callable[..., Any]:
    models.weak = ScriptedEngine(model_id="small", context_window_size=100, serves=(), judge=judge)
    return cli


def test_a_table_says_what_each_question_came_to(decided: Any, models: Any) -> None:
    done = decided("decide", "My invoice is wrong.", *ASK)
    assert done.code == 0 and done.err == ""
    head, *rows = done.out.splitlines()
    assert head.split() == ["question", "answer", "probability", "confidence", "model", "reason"]
    assert [row.split()[-5:] for row in rows] == [
        ["technical", "0.750", "0.625", "small", "confidence"],
        ["yes", "0.750", "0.500", "small", "confidence"],
        ["furious", "0.750", "0.500", "small", "confidence"],
    ]
    (inquiry,) = models.weak.inquiries
    assert inquiry.state[0].text == "My invoice is wrong."
    assert inquiry.questions == (
        Choice(None, "Whose is it?", ("billing", "technical", "sales")),
        YesNo(None, "Is it urgent?"),
        Scale(None, "How angry", ("calm", "furious")),
    )


def test_json_is_what_the_server_would_say(decided: Any) -> None:
    body = json.loads(decided("decide", "--json", *ASK, stdin="My invoice is wrong.\n").out)
    assert [answer["type"] for answer in body["answers"]] == ["choice", "predicate", "score"]
    assert body["answers"][0]["choice"] == "technical" and body["usage"]["input_tokens"] > 0


def test_on_a_terminal_bars_are_drawn(decided: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_router.cli.verbs.decide.drawn", lambda: True)
    done = decided("decide", "My invoice is wrong.", *ASK)
    lines = done.out.splitlines()
    assert lines[0] == "Whose is it?"
    assert lines[2] == f"  technical  {'█' * 18}{'·' * (BAR - 18)} 0.750"
    assert "small, confidence 0.62: how sure the weak model is decides" in done.err


def test_a_named_model_answers_and_a_private_text_stays(decided: Any, models: Any) -> None:
    done = decided("decide", "hi", "--yes-no", "Is it?", "-m", "strong")
    assert "big" in done.out and "forced" in done.out
    done = decided("decide", "hi", "--yes-no", "Is it?", "-m", "strong", "--private")
    assert done.code != 0 and "private" in done.err


def test_a_text_that_is_too_long_is_refused_or_cut(decided: Any, models: Any) -> None:
    text = "word " * 200
    assert decided("decide", text, "--yes-no", "Is it?", "-m", "weak").code != 0
    done = decided("decide", text, "--yes-no", "Is it?", "-m", "weak", "--cut")
    assert done.code == 0 and "100 tokens were left out" in done.err


def test_what_the_weak_model_cannot_is_told(decided: Any, models: Any) -> None:
    models.weak = ScriptedEngine(before_verdicts=[WeightsUnavailable("m", "no network")])
    done = decided("decide", "hi", "--yes-no", "Is it?", "-m", "weak")
    assert done.code == 1 and "no network" in done.err


@each(
    "words, told",
    [
        (("hi",), "there is no question"),
        (("--yes-no", "Is it?"), "nothing to ask about"),
        (("hi", "--score", "one"), "2 to 10 levels"),
        (("hi", "--choice", "a,,b"), "must not be empty"),
        (("hi", "--choice", "a,b,a"), "stands there twice"),
    ],
)
def test_what_is_no_question_is_said(decided: Any, words: tuple[str, ...], told: str) -> None:
    done = decided("decide", *words)
    assert done.code == 2 or done.code == 1, done
    assert told in done.err, done.err


@each(
    "text, asked, listed",
    [
        ("a,b", "", ["a", "b"]),
        ("Which? a, b", "Which?", ["a", "b"]),
        ("Which: a,b", "Which", ["a", "b"]),
        ("Is it: so? a,b", "Is it: so?", ["a", "b"]),
    ],
)
def test_the_words_before_a_list_are_the_question(text: str, asked: str, listed: list[str]) -> None:
    assert _asked(text) == (asked, listed)
