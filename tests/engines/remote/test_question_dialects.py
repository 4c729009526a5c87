"""Typed questions in the words of both protocols, and what their endpoints may answer."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from table import each

from edge_router.chat.message import Audio, File, Image, Message, Text, ToolCall, ToolResult
from edge_router.chat.request import ChatRequest, QuestionsOutput
from edge_router.config.questions import QuestionsConfig
from edge_router.config.settings import Config
from edge_router.engines.remote.question_dialects import DecisionsDialect, SystemOneDialect
from edge_router.engines.remote.question_endpoint import QuestionEndpoint
from edge_router.engines.remote.terms import NO_TERMS
from edge_router.errors import InvalidRequest, StrongUnreachable
from edge_router.questions.inquiry import Answered, Declined, Inquiry
from edge_router.questions.question import Choice, Level, Option, Question, Scale, YesNo
from edge_router.surfaces.decisions.surface import Decisions, SystemOne

ALL: tuple[Question, ...] = (
    YesNo("x", "Is it?", yes="It is.", no="It is not."),
    Choice("x", "", (Option("true", "as text"), Option(True))),
    Scale(None, "How?", (Level("low", "d"), Level("high"))),
)
IMAGE = Image("data:image/png;base64,AAAA")
BOTH: tuple[Any, ...] = (DecisionsDialect(), SystemOneDialect())


def body(dialect: Any, *messages: Message, questions: tuple[Question, ...] = ALL) -> Any:
    request = ChatRequest(messages, output=QuestionsOutput(questions))
    return json.loads(json.dumps(dialect.body(request, "m", NO_TERMS)))


def test_decisions_are_asked() -> None:
    asked = body(DecisionsDialect(), Message("user", "Hi"))
    assert (asked["model"], asked["input"], set(asked)) == ("m", "Hi", {"model", "input", "questions"})
    assert asked["questions"] == [
        {
            "type": "predicate",
            "name": "q1",
            "instructions": "Is it?\nAnswer true when: It is.\nAnswer false when: It is not.",
        },
        {
            "type": "choice",
            "name": "q2",
            "instructions": "Which of these is it?",
            "choices": [{"value": "true", "description": "as text"}, {"value": True}],
        },
        {
            "type": "score",
            "name": "q3",
            "instructions": "How?",
            "levels": [{"label": "low", "description": "d"}, {"label": "high"}],
        },
    ]


def test_system_one_is_asked() -> None:
    asked = body(SystemOneDialect(), Message("user", (Text("See "), IMAGE, Text("!"))))
    assert asked["state"] == "See <image:1>!"
    assert asked["assets"] == {"<image:1>": {"type": "image", "format": "png", "data_base64": "AAAA"}}
    assert asked["questions"] == {
        "q1": {
            "type": "noul",
            "instructions": "Is it?",
            "criteria": {"true": "It is.", "false": "It is not."},
        },
        "q2": {
            "type": "choice",
            "instructions": "Which of these is it?",
            "criteria": {"true": "as text", "true (2)": None},
        },
        "q3": {"type": "score", "instructions": "How?", "criteria": ["low: d", "high"]},
    }


CALL = ToolCall("c", "look", '{"at": "it"}')
TALK = (
    Message("system", "s"),
    Message("user", (Text("a"), IMAGE)),
    Message("assistant", (Text("b"), CALL)),
    Message("tool", (ToolResult("c", (Text("seen"), IMAGE)),)),
    Message("tool", (ToolResult("of none", (Text("lost"),)),)),
)


def test_calls_and_what_they_gave_are_told() -> None:
    *_, said, call, result, lost = body(DecisionsDialect(), *TALK)["input"]
    assert said["content"] == [{"type": "output_text", "text": "b"}]
    assert call == {"type": "function_call", "call_id": "c", "name": "look", "arguments": '{"at": "it"}'}
    assert result["call_id"] == "c" and [each["type"] for each in result["output"]] == [
        "input_text",
        "input_image",
    ]
    assert lost == {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "lost"}]}
    asked = body(SystemOneDialect(), *TALK)
    assert asked["state"][2]["calls"] == [{"name": "look", "arguments": '{"at": "it"}'}]
    assert asked["state"][3]["content"] == "seen<image:2>" and len(asked["assets"]) == 2


def test_what_is_asked_is_what_our_own_server_takes() -> None:
    talk = TALK
    for messages in ((Message("user", "Hi"),), talk):
        one = SystemOne().parse("/v1/systemone", body(SystemOneDialect(), *messages)).request
        other = Decisions().parse("/v1/decisions", body(DecisionsDialect(), *messages)).request
        for request in (one, other):
            assert isinstance(request.output, QuestionsOutput) and len(request.output.questions) == 3
            assert any(message.has_media for message in request.messages) == (messages is talk)


DECISIONS = [
    {"type": "predicate", "name": "q1", "probability": 0.75},
    {
        "type": "choice",
        "probabilities": [{"value": True, "probability": 3}, {"value": "true", "probability": 1}],
    },
    {"type": "score", "probabilities": [{"value": 1, "probability": 0.5}, {"value": 0, "probability": 0.5}]},
]
SYSTEMONE = {
    "q3": {"type": "score", "probabilities": {"0": 0.5, "1": 0.5}},
    "q2": {"type": "choice", "probabilities": {"true": 0.25, "true (2)": 0.75}},
    "q1": {"type": "noul", "noul": 0.75},
}


def read(dialect: Any, answers: object) -> list[Any]:
    chunk = dialect.chunk(
        {"answers": answers, "usage": {"input_tokens": 7, "output_tokens": 0}, "model": "m"}
    )
    assert chunk["usage"]["prompt_tokens"] == 7
    return list(dialect.read(chunk["choices"][0]["message"]["content"], ALL))


@each("dialect, answers", [(DecisionsDialect(), DECISIONS), (SystemOneDialect(), SYSTEMONE)])
def test_answers_are_read(dialect: Any, answers: object) -> None:
    assert read(dialect, answers) == [
        Answered(0, (0.25, 0.75)),
        Answered(1, (0.25, 0.75)),
        Answered(2, (0.5, 0.5)),
    ]


@each(
    "answer",
    [
        None,
        {"type": "refusal"},
        {"type": "noul", "noul": None},
        {"type": "noul", "noul": True},
        {"type": "noul", "noul": "0.5"},
        {"type": "predicate", "probability": float("nan")},
        7,
    ],
)
def test_what_is_no_answer_is_declined(answer: object) -> None:
    assert read(DecisionsDialect(), [answer, *DECISIONS[1:]])[0] == Declined(0)
    assert read(SystemOneDialect(), {**SYSTEMONE, "q1": answer})[0] == Declined(0)


@each(
    "probabilities",
    [None, [], {}, [1, 2], {"true": 1}, {"0": 0.0, "1": 0.0}, {"true": -1, "true (2)": 0}, [{"value": True}]],
)
def test_probabilities_that_are_none_are_declined(probabilities: object) -> None:
    for dialect, answers in (
        (DecisionsDialect(), [{"probabilities": probabilities}] * 3),
        (SystemOneDialect(), {f"q{n}": {"probabilities": probabilities} for n in (1, 2, 3)}),
    ):
        assert read(dialect, answers) == [Declined(0), Declined(1), Declined(2)]


def test_names_go_before_places() -> None:
    yes = [{"type": "predicate", "name": f"q{n}", "probability": n / 10} for n in (3, 2, 1)]
    questions = (YesNo(None, "a"), YesNo(None, "b"), YesNo(None, "c"))
    text = json.dumps(yes)
    found = list(DecisionsDialect().read(text, questions))
    assert [each.probabilities[1] for each in found if isinstance(each, Answered)] == [0.1, 0.2, 0.3]
    other = json.dumps([{**yes[0], "name": "theirs"}, *yes[1:]])
    assert next(iter(DecisionsDialect().read(other, questions))) == Answered(0, (0.9, 0.1))
    assert list(DecisionsDialect().read(json.dumps(yes[1:]), questions))[2] == Declined(2)
    odd = json.dumps([{**each, "name": name} for each, name in zip(yes, ([], "a", None), strict=True)])
    assert next(iter(DecisionsDialect().read(odd, questions))) == Answered(0, (0.7, 0.3))


def test_weights_are_made_probabilities_however_large() -> None:
    huge = [
        {},
        {"probabilities": [{"value": True, "probability": 1e308}, {"value": "true", "probability": 1e308}]},
    ]
    assert read(DecisionsDialect(), huge)[1] == Answered(1, (0.5, 0.5))


def test_too_few_answers_are_declined_and_errors_are_left_to_others() -> None:
    assert read(DecisionsDialect(), DECISIONS[:1])[1:] == [Declined(1), Declined(2)]
    assert read(SystemOneDialect(), {})[0] == Declined(0)
    for dialect in BOTH:
        error = {"error": {"message": "no"}}
        assert dialect.chunk(error) == error


@pytest.mark.parametrize("value, expected", [(1.2, 1.0), (-0.1, 0.0)])
def test_numbers_are_held_within_what_they_mean(value: float, expected: float) -> None:
    answered = read(SystemOneDialect(), {**SYSTEMONE, "q1": {"noul": value}})[0]
    assert answered == Answered(0, (1 - expected, expected))


@each("section", ["questions", "judge"])
def test_what_fails_names_the_settings_of_its_own(section: str) -> None:
    config = Config().replace(offline=True)
    own = QuestionsConfig("http://127.0.0.1:9/v1", model="m")
    endpoint = QuestionEndpoint(config, own, setting=f"{section}.base_url")
    try:
        with pytest.raises(StrongUnreachable) as caught:
            list(endpoint.decide(Inquiry("x", ALL), threading.Event()))
        settings = [caught.value.setting_of(name) for name in ("base_url", "model")]
        assert settings == [f"{section}.base_url", f"{section}.model"]
    finally:
        endpoint.close()


@each(
    "protocol, part",
    [
        ("decisions", File(url="data:application/pdf;base64,AAAA")),
        ("systemone", Audio("AAAA", "wav")),
        ("systemone", Image("https://example.com/a.png")),
    ],
)
def test_what_a_protocol_has_no_form_for_is_not_left_out(protocol: str, part: Any) -> None:
    own = {"base_url": "http://127.0.0.1:9/v1", "protocol": protocol, "model": "m"}
    endpoint = QuestionEndpoint(Config(), QuestionsConfig(**own))
    try:
        with pytest.raises(InvalidRequest, match=r"m takes text|not addresses"):
            list(endpoint.decide(Inquiry([Message("user", (Text("See."), part))], ALL), threading.Event()))
    finally:
        endpoint.close()
