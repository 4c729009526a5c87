"""What the weak model cannot do goes to the strong one, or is an error that names it; never prose instead."""

from __future__ import annotations

from typing import Any

import pytest

from edge_router import Controller, ScriptedEngine, ScriptedRouter
from edge_router.chat.request import TokenMask, Vocabulary
from edge_router.errors import (
    ContextOverflow,
    InvalidRequest,
    StrongUnreachable,
    UnsupportedRequest,
)

FUNCTION = {"name": "f", "parameters": {}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
BEYOND: list[tuple[str, dict[str, Any]]] = [
    ("tools", {"tools": [{"type": "function", "function": FUNCTION}]}),
    ("tools", {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "auto"}),
    ("tool_choice", {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "required"}),
    ("functions", {"functions": [FUNCTION]}),
    ("function_call", {"functions": [FUNCTION], "function_call": {"name": "f"}}),
    ("messages", {"messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": "what?"}]}]}),
    ("messages", {"messages": [{"role": "user", "content": [IMAGE]}, {"role": "user", "content": "and?"}]}),
    ("modalities", {"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}}),
    ("web_search_options", {"web_search_options": {}}),
    ("response_format", {"response_format": {"type": "json_object"}}),
    (
        "response_format",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
    ),
    ("response_format", {"response_format": {"type": "grammar", "grammar": "root ::= x"}}),
]
IDS = [f"{param}-{number}" for number, (param, _) in enumerate(BEYOND)]


def weak(*replies: Any) -> ScriptedEngine:
    return ScriptedEngine(*replies, model_id="small", serves=())


def strong(*replies: Any) -> ScriptedEngine:
    return ScriptedEngine(*replies, model_id="big")


def ask(controller: Controller, **fields: Any) -> tuple[str, str]:
    reply = controller.chat.completions.create(**{"messages": "hello", **fields})
    return reply.model, str(reply.decision.reason)


@pytest.mark.parametrize(("param", "fields"), BEYOND, ids=IDS)
@pytest.mark.parametrize(
    ("settings", "more"),
    [({}, {"private": True}), ({}, {"model": "weak"}), ({"offline": True}, {}), ({"alone": True}, {})],
    ids=["private", "named", "offline", "no strong model"],
)
def test_where_only_the_weak_model_may_answer_it_is_an_error(
    param: str, fields: dict[str, Any], settings: dict[str, Any], more: dict[str, Any]
) -> None:
    small, big = weak(), strong()
    given: dict[str, Any] = {} if settings.get("alone") else {"strong": big}
    given |= {"offline": True} if settings.get("offline") else {}
    with Controller(weak=small, router=ScriptedRouter(0.1), **given) as controller:
        with pytest.raises(UnsupportedRequest) as caught:
            ask(controller, **fields, **more)
    assert caught.value.param == param and "weak model" in caught.value.reason
    assert small.calls == big.calls == []


@pytest.mark.parametrize(("param", "fields"), BEYOND, ids=IDS)
def test_else_it_goes_to_the_strong_model(param: str, fields: dict[str, Any]) -> None:
    with Controller(weak=weak(), strong=strong(), router=ScriptedRouter(0.1)) as controller:
        reason = "needs_media" if param == "messages" else "needs_tools"
        assert ask(controller, **fields) == ("big", reason)
    small = weak()
    unreachable = StrongUnreachable("http://x", "refused")
    with Controller(weak=small, strong=strong(unreachable), router=ScriptedRouter(0.1)) as controller:
        with pytest.raises(StrongUnreachable):
            ask(controller, **fields)
    assert small.calls == [], "no prose instead of what was asked for"


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "none"},
        {"functions": [FUNCTION], "function_call": "none"},
        {"tools": []},
        {"response_format": {"type": "text"}},
        {"modalities": ["text"]},
    ],
)
def test_what_asks_for_nothing_more_than_text_is_answered_here(fields: dict[str, Any]) -> None:
    with Controller(weak=weak(), router=ScriptedRouter(0.1)) as controller:
        assert ask(controller, private=True, **fields) == ("small", "score")


REFUSALS = [
    InvalidRequest("top_logprobs", "the engine gives at most 5"),
    InvalidRequest("messages", "the prompt is empty"),
    UnsupportedRequest("response_format", "cannot be followed"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: str(error.param))
def test_what_only_the_weak_model_refuses_the_strong_one_answers(refusal: InvalidRequest) -> None:
    with Controller(weak=weak(refusal), strong=strong("S"), router=ScriptedRouter(0.1)) as controller:
        reply = controller.chat.completions.create(messages="hello")
        assert (reply.model, str(reply.decision.reason)) == ("big", "needs_tools")
        assert reply.fallback_cause is refusal


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: str(error.param))
@pytest.mark.parametrize("fields", [{"private": True}, {"model": "weak"}])
def test_where_it_may_not_the_refusal_is_said(refusal: InvalidRequest, fields: dict[str, Any]) -> None:
    big = strong()
    with Controller(weak=weak(refusal), strong=big, router=ScriptedRouter(0.1)) as controller:
        with pytest.raises(InvalidRequest) as caught:
            ask(controller, **fields)
    assert caught.value is refusal and big.calls == []


def test_what_the_weak_model_refused_it_is_not_asked_again() -> None:
    small, refusal = weak(REFUSALS[2], "prose"), StrongUnreachable("http://x", "refused")
    with Controller(weak=small, strong=strong(refusal), router=ScriptedRouter(0.1)) as controller:
        with pytest.raises(StrongUnreachable) as caught:
            ask(controller)
    assert len(small.calls) == 1 and caught.value.__cause__ is REFUSALS[2]


@pytest.mark.parametrize("error", [*REFUSALS, ContextOverflow(9, 8)])
def test_a_mask_keeps_a_question_here(error: InvalidRequest) -> None:
    def never(vocabulary: Vocabulary) -> TokenMask:
        raise AssertionError("a scripted engine has no tokens")

    big = strong()
    with Controller(weak=weak(error), strong=big, router=ScriptedRouter(0.1)) as controller:
        with pytest.raises(type(error)):
            ask(controller, mask=never)
    assert big.calls == []
