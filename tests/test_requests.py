"""Bodies of OpenAI's API: every field's borders, and never another error than `InvalidRequest`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.completions import Function, ReplyMessage, ToolCall
from edge_router.errors import InvalidRequest
from edge_router.requests import (
    FORBIDDEN,
    INT64,
    MAX_TOKENS,
    STRONG_ONLY,
    Call,
    conversation,
    parse_chat,
    parse_completion,
    parse_messages,
)
from edge_router.types import Message

HI = [{"role": "user", "content": "hi"}]


def chat(**fields: object) -> Call:
    return parse_chat({"messages": HI, **fields})


def completion(**fields: object) -> Call:
    return parse_completion({"prompt": "hi", **fields})


def refused(call: Callable[..., object], *arguments: object, **fields: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        call(*arguments, **fields)
    return caught.value


def test_a_bare_request() -> None:
    call = chat()
    assert call == Call(call.request, stream=False, include_usage=False)
    assert call.request.messages == (Message("user", "hi"),)
    assert call.request.model == "auto"
    assert call.request.max_tokens is None
    assert call.request.sampling.temperature is None
    assert not call.request.needs_tools


def test_null_means_absent() -> None:
    names = [
        "model",
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "n",
        "logprobs",
        "top_logprobs",
        "stream",
        "stream_options",
        "private",
        *STRONG_ONLY,
    ]
    assert chat(**dict.fromkeys(names)) == chat()


BORDERS = [
    ("temperature", 0, 2, 0.001),
    ("top_p", 0, 1, 0.001),
    ("top_k", 1, MAX_TOKENS, 1),
    ("seed", -INT64, INT64 - 1, 1),
    ("presence_penalty", -2, 2, 0.001),
    ("frequency_penalty", -2, 2, 0.001),
]


@pytest.mark.parametrize(("name", "low", "high", "step"), BORDERS)
def test_sampling_borders(name: str, low: float, high: float, step: float) -> None:
    for value in (low, high):
        assert getattr(chat(**{name: value}).request.sampling, name) == value
    for value in (low - step, high + step, float("nan"), True, "1", [1]):
        assert refused(chat, **{name: value}).param == name


def test_repetition_penalty_is_above_zero() -> None:
    assert chat(repetition_penalty=10).request.sampling.repetition_penalty == 10
    for value in (0, -1, 10.5, True):
        assert refused(chat, repetition_penalty=value).param == "repetition_penalty"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_borders(name: str) -> None:
    for value in (1, MAX_TOKENS):
        assert chat(**{name: value}).request.max_tokens == value
    for value in (0, -1, MAX_TOKENS + 1, INT64, float("nan"), True, "5", 1.5):
        assert refused(chat, **{name: value}).param == name


def test_the_newer_name_of_max_tokens_wins_and_both_are_checked() -> None:
    assert chat(max_tokens=5, max_completion_tokens=7).request.max_tokens == 7
    assert refused(chat, max_tokens=-5, max_completion_tokens=7).param == "max_tokens"


def test_logit_bias() -> None:
    assert chat(logit_bias={"5": -100, 7: 100}).request.sampling.logit_bias == {5: -100.0, 7: 100.0}
    assert chat(logit_bias={"5": None}).request.sampling.logit_bias == {5: 0.0}
    for value in ([1], {"x": 1}, {"-1": 1}, {"1" * 5000: 1}, {"²": 1}):
        assert refused(chat, logit_bias=value).param == "logit_bias"
    for amount in (101, -101, "1", True):
        assert refused(chat, logit_bias={"5": amount}).param == "logit_bias.5"


def test_logprobs() -> None:
    assert chat(logprobs=True, top_logprobs=20).request.top_logprobs == 20
    assert refused(chat, top_logprobs=2).param == "top_logprobs"
    assert refused(chat, logprobs=True, top_logprobs=21).param == "top_logprobs"
    assert refused(chat, logprobs=1).param == "logprobs"


def test_one_answer_only() -> None:
    assert chat(n=1) == chat()
    for value in (0, 2, 129, True, "1"):
        assert refused(chat, n=value).param == "n"


def test_stop() -> None:
    assert chat(stop="a").request.stop == ("a",)
    assert chat(stop=["a", "b", "c", "d"]).request.stop == ("a", "b", "c", "d")
    assert chat(stop=[]).request.stop == ()
    for value in ("", ["a"] * 5, [""], [1], 5, {"a": "b"}):
        assert refused(chat, stop=value).param == "stop"


def test_streaming_options() -> None:
    assert chat(stream=True).stream and not chat(stream=True).include_usage
    assert chat(stream=True, stream_options={"include_usage": True}).include_usage
    assert not chat(stream=True, stream_options={}).include_usage
    assert refused(chat, stream_options={"include_usage": True}).param == "stream_options"
    assert refused(chat, stream=True, stream_options=[1]).param == "stream_options"
    assert (
        refused(chat, stream=True, stream_options={"include_usage": 1}).param
        == "stream_options.include_usage"
    )
    assert refused(chat, stream="yes").param == "stream"


@pytest.mark.parametrize("name", FORBIDDEN)
def test_where_the_strong_model_lives_is_not_for_requests(name: str) -> None:
    for value in ("http://elsewhere", None):
        assert refused(chat, **{name: value}).param == name
        assert refused(completion, **{name: value}).param == name


def test_only_known_fields_travel_on() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    request = chat(tools=tools, user="me", base="x", extra_body={"api_key": "k"}, unknown=1).request
    assert request.passthrough == {"tools": tools, "user": "me"}


def test_tools_and_formats() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert chat(tools=tools).request.needs_tools and not chat(tools=tools).request.tools_required
    assert not chat(tools=[]).request.needs_tools
    assert chat(tools=tools, tool_choice="required").request.tools_required
    assert chat(tools=tools, tool_choice={"type": "function"}).request.tools_required
    assert not chat(tools=tools, tool_choice="auto").request.tools_required
    assert chat(response_format={"type": "json_object"}).request.tools_required
    assert not chat(response_format={"type": "text"}).request.tools_required
    assert refused(chat, tools={}).param == "tools"
    assert refused(chat, response_format="json").param == "response_format"


def test_private() -> None:
    assert chat(private=True).request.private
    assert refused(chat, private="yes").param == "private"


def test_model() -> None:
    assert chat(model="weak").request.model == "weak"
    for value in ("", 5, ["weak"]):
        assert refused(chat, model=value).param == "model"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ("hi", "messages"),
        ({}, "messages"),
        (5, "messages"),
        ([5], "messages[0]"),
        (["hi"], "messages[0]"),
        ([{"content": "hi"}], "messages[0].role"),
        ([{"role": "king", "content": "hi"}], "messages[0].role"),
        ([{"role": ["user"], "content": "hi"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "assistant", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": []}], "messages[0].content"),
        ([{"role": "user", "content": ["hi"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "song"}]}], "messages[0].content[0].type"),
        ([*HI, {"role": "user", "content": "\ud800"}], "messages[1].content"),
    ],
)
def test_bad_messages(messages: object, param: str) -> None:
    assert refused(parse_messages, messages).param == param
    assert refused(parse_chat, {"messages": messages}).param == param


def test_missing_messages() -> None:
    assert refused(parse_chat, {}).param == "messages"


def test_parts_are_joined_and_media_is_noticed() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:,"}},
        {"type": "text", "text": "b"},
    ]
    (message,) = parse_messages([{"role": "user", "content": parts}])
    assert (message.text, message.has_media) == ("a\nb", True)
    assert message.to_openai() == {"role": "user", "content": parts}
    assert chat(messages=[{"role": "user", "content": parts}]).request.needs_tools


def test_a_message_keeps_what_the_caller_wrote() -> None:
    said = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    answer = {"role": "tool", "tool_call_id": "1", "content": "42"}
    messages = parse_messages((said, answer))
    assert [message.to_openai() for message in messages] == [said, answer]
    assert [message.text for message in messages] == ["", "42"]


def test_a_replys_message_may_be_said_again() -> None:
    calls = (ToolCall("1", Function("f", "{}")),)
    plain, called = parse_messages([ReplyMessage("hello"), ReplyMessage(None, calls)])
    assert (plain.role, plain.text) == ("assistant", "hello")
    assert called.to_openai()["tool_calls"] == [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]


def test_a_string_is_one_user_turn() -> None:
    assert conversation("hi") == HI
    assert conversation(HI) is HI


def test_a_completion() -> None:
    request = completion(logprobs=0).request
    assert request.raw_prompt == "hi"
    assert request.max_tokens == 16
    assert (request.logprobs, request.top_logprobs) == (True, 0)
    assert completion(prompt=["hi"]) == completion()
    assert completion(best_of=1, echo=False, suffix="", n=1) == completion()
    assert completion(logprobs=5, max_tokens=3).request.top_logprobs == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", ""),
        ("prompt", None),
        ("prompt", ["a", "b"]),
        ("prompt", [1, 2]),
        ("prompt", [[1]]),
        ("prompt", "\udfff"),
        ("best_of", 2),
        ("echo", True),
        ("suffix", "x"),
        ("logprobs", True),
        ("logprobs", 6),
        ("max_tokens", 0),
        ("n", 2),
        ("temperature", 3),
    ],
)
def test_bad_completions(name: str, value: object) -> None:
    assert refused(completion, **{name: value}).param == name


NAMES = [
    *("messages", "model", "temperature", "top_p", "top_k", "seed", "repetition_penalty", "n", "stop"),
    *("presence_penalty", "frequency_penalty", "logit_bias", "max_tokens", "max_completion_tokens"),
    *("logprobs", "top_logprobs", "stream", "stream_options", "private", "prompt", "best_of", "echo"),
    *("suffix", "tools", "tool_choice", "response_format", "user", "metadata"),
]
words = st.sampled_from(["role", "content", "type", "text", "user", "assistant", "tool_calls", "required"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, INT64, 10**400, 1e308, float("inf"), float("nan"), "", "\ud83d"])
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=5)
    | words
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "king"]), "content": values},
        optional={"name": values, "tool_calls": values},
    ),
    max_size=3,
)
bodies = st.builds(
    lambda fields, said: {**fields, **said},
    st.dictionaries(st.sampled_from(NAMES), values, max_size=5),
    st.just({}) | st.builds(lambda turns: {"messages": turns}, st.just(HI) | messages),
)


@given(bodies, st.sampled_from([parse_chat, parse_completion]))
def test_nothing_but_invalid_request(body: dict[str, Any], parse: Callable[[dict[str, Any]], Call]) -> None:
    try:
        call = parse(body)
    except InvalidRequest as error:
        assert str(error) and len(str(error)) < 2000
    else:
        assert call.request.messages
        hash(call.request.model)


@given(values)
def test_messages_from_anything(value: object) -> None:
    try:
        assert parse_messages(value)
    except InvalidRequest as error:
        assert error.param is not None and error.param.startswith("messages")
