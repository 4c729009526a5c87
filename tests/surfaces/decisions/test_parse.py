"""Bodies of both protocols of typed questions: what is read, and what is refused by which field."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest
from table import each

from edge_router.chat.message import Image, Text, ToolCall
from edge_router.chat.request import ChatRequest, Need, QuestionsOutput
from edge_router.errors import InvalidRequest
from edge_router.questions.question import Choice, Level, Option, Scale, YesNo
from edge_router.surfaces.base import FILES
from edge_router.surfaces.decisions.surface import Decisions, SystemOne

PNG = b"\x89PNG\r\n\x1a\n\0\1"
URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
NOUL = {"type": "noul", "instructions": "Is it urgent?"}
PREDICATE = {"type": "predicate", "instructions": "Is it urgent?"}


def systemone(**fields: Any) -> ChatRequest:
    body = {"state": "s", "model": "jev-latest", "questions": {"a": NOUL}, **fields}
    return SystemOne().parse("/v1/systemone", body).request


def decisions(**fields: Any) -> ChatRequest:
    body = {"input": "s", "model": "auto", "questions": [PREDICATE], **fields}
    return Decisions().parse("/v1/decisions", body).request


def questions(request: ChatRequest) -> tuple[object, ...]:
    assert isinstance(request.output, QuestionsOutput)
    return request.output.questions


def test_system_one_is_read() -> None:
    request = systemone(
        state={"mail": "My invoice is wrong.", "age": 1.5},
        questions={
            "urgent": {"type": "noul", "criteria": {"true": "It is.", "false": None}},
            "team": {"type": "choice", "instructions": {"ask": ["Which?"]}, "criteria": {"b": None, "a": {"x": 1}}},
            "anger": {"type": "score", "instructions": "How?", "criteria": ["calm", "furious"]},
        },
        truncation="auto",
    )  # fmt: skip
    assert request.messages[0].text == '{"mail": "My invoice is wrong.", "age": 1.5}'
    assert questions(request) == (
        YesNo("urgent", "", "It is.", None),
        Choice("team", '{"ask": ["Which?"]}', (Option("b"), Option("a", '{"x": 1}'))),
        Scale("anger", "How?", (Level("calm"), Level("furious"))),
    )
    assert isinstance(request.output, QuestionsOutput) and request.output.cuts
    assert request.target == "jev-latest" and request.needs == {Need.QUESTIONS}


def test_decisions_are_read() -> None:
    request = decisions(
        input=[
            {"role": "developer", "content": "Be strict."},
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "Hi"},
                {"type": "input_json", "data": {"a": [1, None]}}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_json", "data": True}]},
        ],
        questions=[
            {"type": "predicate", "instructions": "Is it?"},
            {"type": "choice", "name": "pick", "instructions": "", "choices": [
                {"value": "true", "description": "as text"}, {"value": True}]},
            {"type": "score", "name": "level", "levels": [{"label": "low", "description": "d"}, {"label": "high"}]},
        ],
        prompt_cache_key="k",
    )  # fmt: skip
    system, user, call, result = request.messages
    assert (system.role, user.text, result.text) == ("developer", 'Hi\n{"a": [1, null]}', "true")
    assert isinstance(call.parts[0], ToolCall)
    assert questions(request) == (
        YesNo(None, "Is it?"),
        Choice("pick", "", (Option("true", "as text"), Option(True))),
        Scale("level", "", (Level("low", "d"), Level("high"))),
    )
    assert request.extra.fields == {"prompt_cache_key": "k"}
    assert isinstance(request.output, QuestionsOutput) and not request.output.cuts


def test_images_stand_where_they_are_named() -> None:
    for asset, files in (
        ({"type": "image", "part": "asset-0"}, {"asset-0": PNG}),
        ({"type": "image", "format": "png", "data_base64": base64.b64encode(PNG).decode()}, {}),
    ):
        request = systemone(state="See <image:1>!", assets={"<image:1>": asset}, **{FILES: files})
        assert request.messages[0].parts == (Text("See "), Image(URL), Text("!"))
        assert request.needs == {Need.QUESTIONS, Need.IMAGES}
    behind = systemone(state="See", assets={"x": {"part": "p"}}, **{FILES: {"p": PNG}})
    assert behind.messages[0].parts == (Text("See"), Text("\nx: "), Image(URL))
    image = {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": URL}]}
    assert decisions(input=[image]).needs == {Need.QUESTIONS, Need.IMAGES}


def test_what_is_private_is_so_by_its_own_field_only() -> None:
    data = {"private": True, "private_notes": "x", "metadata": {"privat": 1}}
    assert not systemone(state=data, questions={"private": NOUL}).private
    assert not decisions(input=[{"role": "user", "content": [{"type": "input_json", "data": data}]}]).private
    for parse in (systemone, decisions):
        assert parse(private=True).private and parse(metadata={"private": "yes"}).private
        with pytest.raises(InvalidRequest, match="did you mean private"):
            parse(privat=True)


DEEP: Any = 1
for _ in range(65):
    DEEP = [DEEP]
MANY = {str(n): None for n in range(256)}


def choice(*values: object) -> dict[str, object]:
    return {"type": "choice", "choices": [{"value": value} for value in values]}


def score(*labels: object) -> dict[str, object]:
    return {"type": "score", "levels": [{"label": label} for label in labels]}


@each(
    "fields, param",
    [
        ({"state": None}, "state"),
        ({"questions": {}}, "questions"),
        ({"questions": None}, "questions"),
        ({"questions": [NOUL]}, "questions"),
        ({"questions": {str(n): NOUL for n in range(401)}}, "questions"),
        ({"questions": {"a": 1}}, "questions.a"),
        ({"questions": {"a": {}}}, "questions.a.type"),
        ({"questions": {"a": {"type": "rank"}}}, "questions.a.type"),
        ({"questions": {"a": {"type": "box", "instructions": "the cat"}}}, "questions.a.type"),
        ({"questions": {"a": {"type": "noul"}}}, "questions.a.instructions"),
        ({"questions": {"a": {"type": "noul", "criteria": {"true": None}}}}, "questions.a.instructions"),
        ({"questions": {"a": {"type": "noul", "criteria": []}}}, "questions.a.criteria"),
        (
            {"questions": {"a": {"type": "noul", "instructions": "x", "criteria": {"yes": "y"}}}},
            "questions.a.criteria.yes",
        ),
        ({"questions": {"a": {"type": "noul", "instructions": 7}}}, "questions.a.instructions"),
        ({"questions": {"a": {"type": "choice"}}}, "questions.a.criteria"),
        ({"questions": {"a": {"type": "choice", "criteria": {}}}}, "questions.a.criteria"),
        ({"questions": {"a": {"type": "choice", "criteria": {" ": None}}}}, "questions.a.criteria"),
        ({"questions": {"a": {"type": "choice", "criteria": {"x": 1}}}}, "questions.a.criteria.x"),
        ({"questions": {"a": {"type": "choice", "criteria": MANY}}}, "questions.a.criteria"),
        ({"questions": {"a": {"type": "score", "criteria": ["x"]}}}, "questions.a.criteria"),
        ({"questions": {"a": {"type": "score", "criteria": ["x", "x"]}}}, "questions.a.criteria"),
        ({"questions": {"a": {"type": "score", "criteria": list("abcdefghijk")}}}, "questions.a.criteria"),
        ({"questions": {"a": {"type": "score", "criteria": {"0": "x"}}}}, "questions.a.criteria"),
        ({"questions": {"a": {"type": "noul", "instruction": "x"}}}, "questions.a.instruction"),
        ({"state": DEEP}, None),
        ({"state": {"a": [float("nan")]}}, "state.a[0]"),
        ({"truncation": "start"}, "truncation"),
        ({"assets": {"x": {"part": "p"}}}, "assets.x.part"),
        ({"assets": {"x": {"data_base64": "?"}}}, "assets.x.data_base64"),
        ({"assets": {"x": {}}}, "assets.x.part"),
        ({"assets": {"x": {"type": "video"}}}, "assets.x.type"),
        ({"base_url": "http://x"}, "base_url"),
    ],
)
def test_system_one_refuses_by_the_field(fields: Mapping[str, Any], param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        systemone(**fields)
    if param is None:
        assert refused.value.param is not None and refused.value.param.startswith("state[0]")
    else:
        assert refused.value.param == param


@each(
    "fields, param",
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"input": [{"role": "judge", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"role": "user", "content": [{"type": "input_json"}]}]}, "input[0].content[0].data"),
        ({"questions": []}, "questions"),
        ({"questions": {"a": PREDICATE}}, "questions"),
        ({"questions": [PREDICATE] * 401}, "questions"),
        ({"questions": [7]}, "questions[0]"),
        ({"questions": [{"type": "noul"}]}, "questions[0].type"),
        ({"questions": [{"type": ["choice"]}]}, "questions[0].type"),
        ({"questions": [{"type": "predicate"}]}, "questions[0].instructions"),
        ({"questions": [{**PREDICATE, "name": 7}]}, "questions[0].name"),
        ({"questions": [PREDICATE, {"type": "choice"}]}, "questions[1].choices"),
        ({"questions": [choice("x")]}, "questions[0].choices"),
        ({"questions": [choice(*MANY)]}, "questions[0].choices"),
        ({"questions": [choice("x", "y", "x")]}, "questions[0].choices[2].value"),
        ({"questions": [choice("x", "")]}, "questions[0].choices[1].value"),
        ({"questions": [choice("x", 7)]}, "questions[0].choices[1].value"),
        ({"questions": [choice(True, True)]}, "questions[0].choices[1].value"),
        ({"questions": [score("x")]}, "questions[0].levels"),
        ({"questions": [score(*"abcdefghijk")]}, "questions[0].levels"),
        ({"questions": [score("x", "x")]}, "questions[0].levels[1].label"),
        ({"questions": [score("x", None)]}, "questions[0].levels[1].label"),
        ({"question": []}, "question"),
    ],
)
def test_decisions_refuse_by_the_field(fields: Mapping[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decisions(**fields)
    assert refused.value.param == param


@each("size, taken", [(254, True), (255, True), (256, False)])
def test_as_many_options_as_the_protocols_say(size: int, taken: bool) -> None:
    values = [str(number) for number in range(size)]
    bodies = (
        (systemone, {"questions": {"a": {"type": "choice", "criteria": dict.fromkeys(values)}}}),
        (decisions, {"questions": [choice(*values)]}),
    )
    for parse, fields in bodies:
        if taken:
            parse(**fields)
        else:
            with pytest.raises(InvalidRequest, match=" to 255 options"):
                parse(**fields)


@each(
    "data, what",
    [
        ([0] * 10_000, "10001 values"),
        ("x" * (256 * 1024 + 1), "bytes"),
        (json.loads("[" * 33 + "]" * 33), "33 levels"),
    ],
)
def test_json_in_an_input_has_the_protocols_limits(data: object, what: str) -> None:
    with pytest.raises(InvalidRequest, match=what) as refused:
        decisions(input=[{"role": "user", "content": [{"type": "input_json", "data": data}]}])
    assert refused.value.param == "input[0].content[0].data"
