"""Bodies of OpenAI's API: every field's borders, and never another error than `InvalidRequest`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.chat.message import Image, Message, Reasoning, Text, ToolCall, ToolResult
from edge_router.chat.request import (
    Extra,
    ForeignOutput,
    GrammarOutput,
    HostedTool,
    JsonOutput,
    Need,
    ReasoningOptions,
    Tool,
    ToolChoice,
)
from edge_router.errors import InvalidRequest
from edge_router.parsing.field_names import FORBIDDEN
from edge_router.surfaces.base import Call
from edge_router.surfaces.limits import (
    INT64,
    LONGEST_MODEL,
    LONGEST_STOP,
    MAX_FIELDS,
    MAX_STOPS,
    MAX_TOKENS,
)
from edge_router.surfaces.openai.messages import written_messages
from edge_router.surfaces.openai.objects import Function, ReplyMessage
from edge_router.surfaces.openai.objects import ToolCall as ToolCallOfReply
from edge_router.surfaces.openai.output import written_output
from edge_router.surfaces.openai.parse import (
    INCLUDE_USAGE,
    PASSED_ON,
    conversation,
    marked,
    parse_chat,
    parse_completion,
    parse_messages,
)

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
    assert call == Call(call.request, options={INCLUDE_USAGE: False})
    assert call.request.messages == (Message("user", "hi"),)
    assert call.request.target == "auto"
    assert call.request.max_tokens is None
    assert call.request.sampling.temperature is None
    assert not call.request.needs


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
        "extra_body",
        "extra_headers",
        "extra_query",
        "timeout",
        *PASSED_ON,
    ]
    assert chat(**dict.fromkeys(names)) == chat()


BORDERS = [
    ("temperature", 0, 2, 0.001),
    ("top_p", 0, 1, 0.001),
    ("top_k", 0, MAX_TOKENS, 2),
    ("presence_penalty", -2, 2, 0.001),
    ("frequency_penalty", -2, 2, 0.001),
]


@pytest.mark.parametrize(("name", "low", "high", "step"), BORDERS)
def test_sampling_borders(name: str, low: float, high: float, step: float) -> None:
    for value in (low, high):
        assert getattr(chat(**{name: value}).request.sampling, name) == value
    for value in (low - step, high + step, float("nan"), True, "1", [1]):
        assert refused(chat, **{name: value}).param == name


def test_all_tokens_may_come_where_top_k_says_so() -> None:
    assert chat(top_k=-1).request.sampling.top_k == chat(top_k=0).request.sampling.top_k == 0


@pytest.mark.parametrize("seed", [INT64, 2**64 - 1, -INT64 - 1, 2**200, 1e300])
def test_a_large_seed_is_folded(seed: float) -> None:
    one, again, other = (chat(seed=value).request.sampling.seed for value in (seed, seed, int(seed) + 1))
    assert one is not None and -INT64 <= one < INT64 and one == again != other


def test_seed_borders() -> None:
    for value in (-INT64, 0, INT64 - 1):
        assert chat(seed=value).request.sampling.seed == value
    for wrong in (1.5, "1", True, [1]):
        assert refused(chat, seed=wrong).param == "seed"


def test_repetition_penalty_is_above_zero() -> None:
    assert chat(repetition_penalty=10).request.sampling.repetition_penalty == 10
    for value in (0, -1, 10.5, True):
        assert refused(chat, repetition_penalty=value).param == "repetition_penalty"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_borders(name: str) -> None:
    for value in (1, MAX_TOKENS):
        assert chat(**{name: value}).request.max_tokens == value
    for value in (0, -2, MAX_TOKENS + 1, INT64, float("nan"), True, "5", 1.5):
        assert refused(chat, **{name: value}).param == name
    assert chat(**{name: -1}).request.max_tokens is None


def test_the_newer_name_of_max_tokens_wins_and_both_are_checked() -> None:
    assert chat(max_tokens=5, max_completion_tokens=7).request.max_tokens == 7
    assert refused(chat, max_tokens=-5, max_completion_tokens=7).param == "max_tokens"


def test_what_goes_on_with_an_answer_needs_one() -> None:
    begun = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "It is"}]
    assert chat(messages=begun, continue_final_message=True).request.continue_final
    assert not chat(messages=begun).request.continue_final
    with pytest.raises(InvalidRequest) as caught:
        chat(messages=begun[:1], continue_final_message=True)
    assert caught.value.param == "continue_final_message"


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
    many = [f"<{n}>" for n in range(MAX_STOPS)]
    assert chat(stop=many).request.stop == tuple(many)
    assert chat(stop=["x" * LONGEST_STOP]).request.stop == ("x" * LONGEST_STOP,)
    for nothing in ([], "", ["", ""], None):
        assert chat(stop=nothing).request.stop == completion(stop=nothing).request.stop == ()
    assert chat(stop=["", "a"]).request.stop == ("a",)
    for value in (["a"] * (MAX_STOPS + 1), ["x" * (LONGEST_STOP + 1)], [1], [None], 5, {"a": "b"}):
        assert refused(chat, stop=value).param == "stop"


def test_streaming_options() -> None:
    assert chat(stream=True).stream and not chat(stream=True).options[INCLUDE_USAGE]
    assert chat(stream=True, stream_options={"include_usage": True}).options[INCLUDE_USAGE]
    assert not chat(stream=True, stream_options={}).options[INCLUDE_USAGE]
    assert refused(chat, stream_options={"include_usage": True}).param == "stream_options"
    assert refused(chat, stream=True, stream_options=[1]).param == "stream_options"
    assert (
        refused(chat, stream=True, stream_options={"include_usage": 1}).param
        == "stream_options.include_usage"
    )
    assert refused(chat, stream="yes").param == "stream"


STEERING = [
    *FORBIDDEN,
    *("API_KEY", "apiKey", "api-key", "api key", "openai_api_key", "Base-URL", "baseURL", "azure_endpoint"),
    *("base_url_", "aws_secret_access_key", "vertex_credentials", "litellm_params", "custom_llm_provider"),
    *("azure_ad_token", "Authorization", "api\u200b_key", "ａｐｉ_key", "organisation"),
]


@pytest.mark.parametrize("name", STEERING)
@pytest.mark.parametrize("parse", [chat, completion])
def test_where_the_strong_model_lives_is_not_for_requests(parse: Callable[..., Call], name: str) -> None:
    for value in ("http://elsewhere", None, {}):
        assert "configuration" in refused(parse, **{name: value}).reason
        assert refused(parse, extra_body={name: value}).param.startswith("extra_body.")  # type: ignore[union-attr]
        assert refused(parse, extra_body={"extra_body": {name: value}}).reason
        assert refused(parse, fallbacks=[{"model": "x", name: value}]).param.startswith("fallbacks.")  # type: ignore[union-attr]
        assert "configuration" in refused(parse, router={"deep": [[{name: value}]]}).reason


def test_a_schema_may_have_such_names() -> None:
    schema = {"type": "object", "properties": {"api_key": {"type": "string"}, "endpoint": {}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    for fields in ({"guided_json": schema}, {"structured_outputs": {"json": schema}}):
        assert chat(**fields).request.extra == Extra("openai", fields)
    assert chat(tools=tools).request.tools == (Tool("f", parameters=schema),)


UNKNOWN: dict[str, object] = {
    "chat_template_kwargs": {"enable_thinking": False},
    "typical_p": 0.05,
    "thinking": {"type": "disabled"},
    "reasoning": {"effort": "low"},
    "store": True,
    "prompt_cache_key": "k",
    "safety_identifier": "s",
    "models": ["a", "b"],
    "provider": {"order": ["x"]},
    "repeat_penalty": 1.1,
    "min_tokens": 3,
    "top_a": 0.1,
    "ignore_eos": False,
    "stop_token_ids": [1],
    "mode": "chat",
    "speed": "fast",
    "chat_id": "c",
    "message_id": "m",
    "task": "x",
    "think": True,
}


@pytest.mark.parametrize("parse", [chat, completion])
def test_what_nobody_here_knows_travels_on(parse: Callable[..., Call]) -> None:
    assert parse(**UNKNOWN, user="me").request.extra.fields == {**UNKNOWN, "user": "me"}
    assert parse(extra_body=UNKNOWN, top_p=0.5).request.extra.fields == UNKNOWN
    half = {"top_a": 1, "extra_body": {"top_a": 2, "extra_body": {"top_a": 3, "top_p": 0.25}}}
    request = parse(**half, top_p=0.5).request
    assert request.extra.fields == {"top_a": 3} and request.sampling.top_p == 0.25
    assert parse(unknown=None, extra_body={}).request.extra.fields == {}


def test_what_is_read_here_does_not_travel_twice() -> None:
    fields = {
        "temperature": 1,
        "top_p": 1,
        "top_k": 1,
        "seed": 1,
        "max_tokens": 1,
        "stop": "x",
        "logprobs": True,
    }
    more = {
        "min_p": 0.1,
        "top_logprobs": 1,
        "presence_penalty": 1,
        "frequency_penalty": 1,
        "repetition_penalty": 1,
    }
    last = {"logit_bias": {}, "n": 1, "best_of": 1, "echo": False, "stream": True, "stream_options": {}}
    assert chat(**fields, **more, **last, private=True, model="weak").request.extra.fields == {}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *[
            (name, "private")
            for name in ("privat", "Private", "PRIVATE", "is_private", "privacy", "private_")
        ],
        *[(name, "private") for name in ("pirvate", "prvate", "priavte", "privte", "privatee", "isPrivate")],
        *[
            (name, "private")
            for name in ("private-mode", "keep private", "local_only", "offline", "on_device")
        ],
        *[(name, "mask") for name in ("Mask", "msk", "maskk", "_mask", "maks")],
        *[(name, "model") for name in ("Model", "modle", "modell", "MODEL", "mdel")],
        *[(name, "temperature") for name in ("temprature", "Temperature", "temperatur", "tempreature")],
        *[
            (name, "max_tokens")
            for name in ("maxTokens", "max-tokens", "max_token", "MAX_TOKENS", "maxtokens")
        ],
        *[("topP", "top_p"), ("topk", "top_k"), ("stops", "stop"), ("sed", "seed"), ("tool", "tools")],
        *[("streem", "stream"), ("responseFormat", "response_format"), ("respons_format", "response_format")],
        *[("tol_choice", "tool_choice"), ("extraBody", "extra_body"), ("timout", "timeout"), ("usr", "user")],
        *[("reasoning_efort", "reasoning_effort"), ("extra_header", "extra_headers"), ("cancle", "cancel")],
    ],
)
@pytest.mark.parametrize("parse", [chat, completion])
def test_slips_of_the_pen_are_refused_with_the_right_name(
    parse: Callable[..., Call], name: str, meant: str
) -> None:
    for fields in ({name: True}, {name: None}, {"extra_body": {name: True}}):
        error = refused(parse, **fields)
        assert error.param is not None and error.param.endswith(name)
        assert f"did you mean {meant}?" in error.reason


@pytest.mark.parametrize("name", ["mask", "cancel"])
def test_arguments_of_the_python_api_are_no_fields(name: str) -> None:
    for fields in ({name: "x"}, {"extra_body": {name: True}}):
        assert "Python" in refused(chat, **fields).reason
    assert chat(**{name: None}) == chat()


FUNCTION = {"type": "function", "function": {"name": "f"}}
FREE = {"type": "custom", "custom": {"name": "run", "description": "Runs it."}}
GRAMMAR = {"type": "grammar", "grammar": {"syntax": "lark", "definition": 'start: "a"'}}


def test_tools() -> None:
    """As they are read; `request_body` writes them back (tests/engines/remote)."""
    schema = {"type": "object", "properties": {}}
    whole = {"name": "f", "description": "Does it.", "parameters": schema, "strict": True, "odd": 1}
    for stated, read in (
        (FUNCTION, Tool("f")),
        ({"type": "function", "name": "f", "parameters": schema}, Tool("f", parameters=schema)),
        ({"function": {"name": "f", "parameters": {}}}, Tool("f", parameters={})),
        (
            {"type": "function", "function": whole, "cache_control": {}},
            Tool("f", "Does it.", schema, True, extra={"cache_control": {}, "function": {"odd": 1}}),
        ),
        (FREE, Tool("run", "Runs it.", free=True)),
        (
            {"type": "custom", "custom": {"name": "run", "format": GRAMMAR}},
            Tool("run", free=True, form=GrammarOutput("lark", 'start: "a"')),
        ),
        (
            {"type": "web_search", "max_uses": 3},
            HostedTool("web_search", {"type": "web_search", "max_uses": 3}),
        ),
    ):
        request = chat(tools=[stated]).request
        assert request.tools == (read,) and Need.TOOLS in request.needs and not request.extra.fields, stated
    assert chat(tools=[]).request == chat().request
    assert chat(web_search_options={}).request.needs == {Need.TOOLS, Need.HOSTED_TOOLS}
    assert chat(web_search_options={}, tools=[FUNCTION]).request.needs == {Need.TOOLS}


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ({}, "tools"),
        (["f"], "tools[0]"),
        ([FUNCTION, {"type": 7}], "tools[1].type"),
        ([{"type": "function"}], "tools[0].function"),
        ([{"type": "custom", "custom": []}], "tools[0].custom"),
        ([{"type": "function", "function": {}}], "tools[0].function.name"),
        ([{"type": "function", "name": ""}], "tools[0].name"),
        (
            [{"type": "function", "function": {"name": "f", "description": 7}}],
            "tools[0].function.description",
        ),
        (
            [{"type": "function", "function": {"name": "f", "parameters": "{}"}}],
            "tools[0].function.parameters",
        ),
        ([{"type": "function", "function": {"name": "f", "strict": "yes"}}], "tools[0].function.strict"),
    ],
)
def test_bad_tools(tools: object, param: str) -> None:
    assert refused(chat, tools=tools).param == param


def test_which_tools_may_be_called() -> None:
    tools = [FUNCTION, FREE, {"type": "web_search"}]
    allowed = {"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "web_search"}]}
    for stated, read in (
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ("any", ToolChoice("required")),
        ({"type": "auto"}, ToolChoice()),
        ({"type": "function"}, ToolChoice("required")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("required", ("f",))),
        ({"type": "tool", "name": "f"}, ToolChoice("required", ("f",))),
        ({"type": "custom", "custom": {"name": "run"}}, ToolChoice("required", ("run",))),
        ({"type": "web_search"}, ToolChoice("required", ("web_search",))),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", **allowed}},
            ToolChoice("auto", ("f", "web_search")),
        ),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required"}}, ToolChoice("required")),
    ):
        request = chat(tools=tools, tool_choice=stated).request
        assert request.tool_choice == read, stated
        assert (Need.TOOL_CALL in request.needs) == (read.mode == "required"), stated
        assert (Need.TOOLS in request.needs) == (read.mode != "none"), stated
    assert chat(tools=tools, parallel_tool_calls=False).request.tool_choice == ToolChoice(parallel=False)
    assert refused(chat, tools=tools, parallel_tool_calls="no").param == "parallel_tool_calls"
    for stated in ({"type": "function", "function": {"name": "g"}}, {"function": {"name": "g"}}):
        error = refused(chat, tools=tools, tool_choice=stated)
        assert error.param == "tool_choice" and "'g'" in error.reason


def test_functions_are_tools_too() -> None:
    functions = [{"name": "f", "parameters": {}}]
    request = chat(functions=functions).request
    assert request.tools == (Tool("f", parameters={}),) and request.needs == {Need.TOOLS}
    assert request.extra.fields == {"functions": functions}
    request = chat(functions=functions, function_call={"name": "f"}).request
    assert request.tool_choice == ToolChoice("required", ("f",)) and Need.TOOL_CALL in request.needs
    assert chat(functions=functions, function_call="auto").request.tool_choice == ToolChoice()
    assert refused(chat, functions="f").param == "functions"
    assert refused(chat, functions=functions, tools=[FUNCTION]).param == "functions"


@pytest.mark.parametrize("none", [{}, {"tools": []}, {"functions": []}, {"tools": None}])
def test_without_tools_none_can_be_demanded(none: dict[str, object]) -> None:
    for choice in ("required", "auto", "none", {"type": "auto"}):
        request = chat(**none, tool_choice=choice, parallel_tool_calls=True, function_call="auto").request
        assert request == chat().request
    for name, choice in (("tool_choice", {"function": {"name": "f"}}), ("function_call", {"name": "f"})):
        assert refused(chat, **none, **{name: choice}).param == name


def test_thoughts_are_asked_for_in_many_words() -> None:
    for fields, read in (
        ({}, ReasoningOptions()),
        ({"reasoning_effort": "high"}, ReasoningOptions(True, "high")),
        ({"reasoning_effort": "minimal"}, ReasoningOptions(None, "minimal")),
        ({"reasoning_effort": "none"}, ReasoningOptions(False)),
        ({"reasoning": {"effort": "low", "exclude": True}}, ReasoningOptions(True, "low", shown=False)),
        ({"reasoning": {"max_tokens": 100}}, ReasoningOptions(True, max_tokens=100)),
        ({"reasoning": {"enabled": False}}, ReasoningOptions(False)),
        ({"include_reasoning": False}, ReasoningOptions(shown=False)),
        ({"chat_template_kwargs": {"enable_thinking": False}}, ReasoningOptions(False)),
        ({"chat_template_kwargs": {"reasoning_effort": "low"}}, ReasoningOptions(True, "low")),
        ({"thinking": {"type": "enabled", "budget_tokens": 99}}, ReasoningOptions(True, max_tokens=99)),
        ({"thinking": {"type": "disabled"}}, ReasoningOptions(False)),
        ({"think": True}, ReasoningOptions(True)),
        ({"think": "low"}, ReasoningOptions(True, "low")),
        ({"think": "false"}, ReasoningOptions(False)),
        ({"enable_thinking": False, "thinking_budget": 5}, ReasoningOptions(False, max_tokens=5)),
        ({"thinking_budget": 0}, ReasoningOptions(False)),
        ({"reasoning_effort": True}, ReasoningOptions(True)),
        ({"reasoning_effort": "default"}, ReasoningOptions(True)),
        ({"thinking": False, "reasoning_effort": ""}, ReasoningOptions(False)),
    ):
        request = chat(**fields).request
        assert request.reasoning == read, fields
        assert request.extra.fields == fields, "each endpoint knows its own"


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def described(schema: object, **more: object) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": "answer", **more, "schema": schema}}


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (described(SCHEMA, name="x", strict=True), described(SCHEMA, name="x", strict=True)),
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA}}, described(SCHEMA)),
        ({"type": "json_schema", "schema": SCHEMA}, described(SCHEMA)),
        ({"type": "json_schema", "name": "y", "strict": False, "schema": SCHEMA},
         described(SCHEMA, name="y", strict=False)),
        ({"type": "json_object", "schema": SCHEMA}, described(SCHEMA)),
        ({"type": "json_object", "json_schema": {"schema": SCHEMA}}, described(SCHEMA)),
        ({"type": "json_schema", "json_schema": SCHEMA}, described(SCHEMA)),
        ({"schema": SCHEMA}, described(SCHEMA)),
        ({"json_schema": {"name": "z", "schema": SCHEMA}}, described(SCHEMA, name="z")),
        (SCHEMA, described(SCHEMA)),
        ({"type": ["object", "null"]}, described({"type": ["object", "null"]})),
        ({"anyOf": [SCHEMA]}, described({"anyOf": [SCHEMA]})),
        ({"type": "json_object"}, {"type": "json_object"}),
        (described(True), described({})),
        (described({}), described({})),
        (described(None), described({})),
        ({"type": "json_schema"}, described({})),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, described({}, name="x")),
        ({"type": "json_schema", "schema": True}, described({})),
    ],
)  # fmt: skip
def test_formats_in_every_shape(given: dict[str, object], taken: dict[str, object]) -> None:
    request = chat(response_format=given).request
    assert written_output(request.output) == {"response_format": taken}
    assert isinstance(request.output, JsonOutput) and request.needs == {Need.JSON}
    if taken["type"] == "json_object":
        assert request.output.schema is None
    else:
        assert request.output.schema == taken["json_schema"]["schema"]  # type: ignore[index]


def test_plain_text_is_no_format() -> None:
    for nothing in ({"type": "text"}, None):
        assert chat(response_format=nothing) == chat()


def test_an_answer_is_held_to_a_grammar_that_says_its_syntax() -> None:
    request = chat(response_format=GRAMMAR).request
    assert request.output == GrammarOutput("lark", 'start: "a"')
    assert [request.name_of(need) for need in request.needs] == ["response_format"]
    with pytest.raises(InvalidRequest, match=r"response_format\.grammar\.syntax: must be lark or regex"):
        chat(response_format={"type": "grammar", "grammar": {"definition": "a+"}})


def test_a_form_that_only_others_know_needs_a_strong_model() -> None:
    form = {"type": "grammar", "grammar": "root ::= 'a'"}
    request = chat(response_format=form).request
    assert request.output == ForeignOutput(form) and request.needs == {Need.FOREIGN}
    assert written_output(request.output) == {"response_format": form}


@pytest.mark.parametrize(
    ("form", "param"),
    [
        *[(form, "response_format") for form in ("json", True, 5, [], [SCHEMA])],
        *[(form, "response_format.type") for form in ({}, {"type": 5}, {"type": {}}, {"type": []}, {"a": 1})],
        *[
            (described(bad), "response_format.json_schema.schema")
            for bad in (False, [], [1], "{}", "x", 5, 1.5)
        ],
        *[({"type": "json_object", "schema": bad}, "response_format.schema") for bad in (False, [], "x", 5)],
        *[
            ({"type": "json_schema", "json_schema": bad}, "response_format.json_schema")
            for bad in (True, [], "x")
        ],
    ],
)
def test_what_is_no_format(form: object, param: str) -> None:
    assert refused(chat, response_format=form).param == param


YES = [True, "true", "True", " TRUE ", 1, 1.0, "1", "yes", "on"]
NO = [False, "false", "False", 0, 0.0, "0", "no", "off"]
UNREADABLE = ["maybe", "", " ", "nope", "privat", 2, -1, 0.5, [], [True], {}, {"private": True}, "null", "ja"]


def everywhere(value: object) -> list[dict[str, object]]:
    """Each place in a body where a client may put it."""
    return [
        {"private": value},
        {"extra_body": {"private": value}},
        {"extra_body": {"extra_body": {"private": value}}},
        {"metadata": {"private": value}},
        {"extra_body": {"metadata": {"private": value, "other": "x"}}},
        {"extra_headers": {"X-Edge-Router-Private": value}},
        {"extra_query": {"private": value}},
    ]


@pytest.mark.parametrize("place", range(len(everywhere(None))))
@pytest.mark.parametrize("parse", [chat, completion])
def test_private_in_every_form_and_place(parse: Callable[..., Call], place: int) -> None:
    for value in YES:
        assert parse(**everywhere(value)[place]).request.private, value
    for value in (*NO, None):
        assert not parse(**everywhere(value)[place]).request.private, value
    for value in UNREADABLE:
        error = refused(parse, **everywhere(value)[place])
        assert error.param is not None and "private" in error.param.lower()


def test_one_mark_of_privacy_is_enough() -> None:
    for one in everywhere(True):
        for other in everywhere(False):
            if one.keys() != other.keys():
                assert chat(**one, **other).request.private
    assert chat(private=True, extra_body={"private": False}).request.private
    assert chat(private=False, extra_body={"private": True}).request.private


@pytest.mark.parametrize("wrong", ["private", [{"private": True}], [], "", 0, True])
def test_metadata_that_cannot_be_read(wrong: object) -> None:
    assert refused(chat, metadata=wrong).param == "metadata"
    assert refused(chat, extra_body={"metadata": wrong}).param == "extra_body.metadata"


def test_a_mark_of_privacy_does_not_travel() -> None:
    assert chat(metadata={"private": "false", "a": "b"}).request.extra.fields == {"metadata": {"a": "b"}}
    assert chat(metadata={"private": "false"}).request.extra.fields == {}


@pytest.mark.parametrize("name", ["private", "Private", "is_private", "private_mode"])
@pytest.mark.parametrize("value", [True, "yes", 1, "false", {"a": 1}])
def test_a_mark_where_nobody_looks_for_one_is_no_field_to_pass_on(name: str, value: object) -> None:
    for place, body in {
        f"options.{name}": {"options": {name: value}},
        f"provider.{name}": {"extra_body": {"provider": [{"order": []}, {name: value}]}},
        f"params.{name}": {"params": {"a": [{"b": {"c": 1, name: value}}]}},
        f"metadata.app.{name}": {"metadata": {"app": {name: value}}},
        f"messages[0].{name}": {"messages": [{"role": "user", "content": "x", name: value}]},
    }.items():
        error = refused(chat, **body)
        assert error.param is not None and error.param.split(".")[-1] == name == place.split(".")[-1]
        assert "write private beside messages" in error.reason
    for none in (None, False, ""):
        assert not chat(options={name: none}).request.private
    schema = {"type": "object", "properties": {name: {"type": "boolean"}}, "required": [name]}
    assert "guided_json" in chat(guided_json=schema).request.extra.fields
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    assert chat(tools=[tool]).request.tools == (Tool("f", parameters=schema),)


@pytest.mark.parametrize("name", ["Private", "privat", "is_private", "privacy", "local_only"])
def test_metadata_that_was_meant_to_be_private(name: str) -> None:
    for value in ("true", None):
        error = refused(chat, metadata={name: value})
        assert error.param == f"metadata.{name}" and "metadata.private" in error.reason


@pytest.mark.parametrize("parse", [chat, completion])
def test_private_around_the_body(parse: Callable[..., Call]) -> None:
    for name in ("X-Edge-Router-Private", "x-edge-router-private", "X-EDGE-ROUTER-PRIVATE"):
        for value in (value for value in YES if isinstance(value, str)):
            assert marked(parse(), [("Host", "x"), (name, value)], []).request.private
            assert marked(parse(), [(name, "false"), (name, value)], []).request.private
            assert marked(parse(), [], [("private", value)]).request.private
        for value in (value for value in NO if isinstance(value, str)):
            assert not marked(parse(), [(name, value)], [("private", value)]).request.private
            assert marked(parse(private=True), [(name, value)], []).request.private
        for value in (value for value in UNREADABLE if isinstance(value, str)):
            assert refused(marked, parse(), [(name, value)], []).param == "x-edge-router-private"
            assert refused(marked, parse(), [], [("private", value)]).param == "private"
    theirs = (
        "Private",
        "X-Private",
        "Edge-Router-Private",
        "X_Edge_Router_Private",
        "edge-router-local-only",
    )
    for near in ("X-Edge-Router-Privat", "x-edge-router-is-private", "X-Edge-Router-Privacy", *theirs):
        assert "x-edge-router-private" in refused(marked, parse(), [(near, "true")], []).reason
    assert "private" in refused(marked, parse(), [], [("Private", "true")]).reason
    harmless = [
        ("User-Agent", "x"),
        ("X-Stainless-Lang", "python"),
        ("X-Edge-Router-Other", "x"),
        ("Privacy", "1"),
        ("Access-Control-Request-Private-Network", "true"),
        ("Sec-Private-State-Token", "x"),
    ]
    assert marked(parse(), harmless, [("beta", "true")]) == parse()


@pytest.mark.parametrize("name", ["extra_headers", "extra_query"])
def test_headers_and_queries_are_the_configurations(name: str) -> None:
    assert chat(**{name: {}}) == chat(**{name: None}) == chat()
    for pairs in (
        {"Authorization": "Bearer x"},
        {"Host": "evil"},
        {"a": "b", "private": "true"},
        {"privat": "1"},
    ):
        assert refused(chat, **{name: pairs}).param.startswith(f"{name}.")  # type: ignore[union-attr]
    for wrong in ("x", 5, [1]):
        assert refused(chat, **{name: wrong}).param == name


def test_what_openais_client_takes_beside_a_body() -> None:
    assert "strong.timeout_s" in refused(chat, timeout=5).reason
    assert refused(chat, extra_body=[1]).param == "extra_body"
    assert refused(chat, extra_body={"extra_body": "x"}).param == "extra_body.extra_body"
    openai = pytest.importorskip("openai")
    assert chat(temperature=openai.NOT_GIVEN, private=openai.omit) == chat()


def deep(levels: int) -> object:
    value: object = {}
    for _ in range(levels):
        value = {"a": [value]}
    return value


@pytest.mark.parametrize(
    "value",
    [
        deep(100),
        deep(3000),
        float("1e999"),
        float("nan"),
        -float("inf"),
        10**5000,
        "\ud83d",
        {"\udc00": 1},
        b"x",
    ],
    ids=range(9),
)
@pytest.mark.parametrize(
    "name",
    [
        *(
            "messages",
            "model",
            "temperature",
            "seed",
            "stop",
            "max_tokens",
            "logit_bias",
            "stream_options",
            "n",
        ),
        *(
            "tools",
            "response_format",
            "metadata",
            "extra_body",
            "extra_headers",
            "private",
            "unknown",
            "prompt",
        ),
    ],
)
def test_broken_data_is_one_sentence(name: str, value: object) -> None:
    for parse in (chat, completion):
        for fields in (
            {name: value},
            {name: [value]},
            {name: {"type": value}},
            {"extra_body": {name: value}},
        ):
            error = refused(parse, **fields)
            assert "\n" not in str(error) and len(str(error)) < 400 and str(error).isascii()


def test_a_request_has_bounds() -> None:
    assert refused(chat, **{f"f{n}": 1 for n in range(MAX_FIELDS + 1)}).param is None
    assert refused(chat, metadata={f"f{n}": 1 for n in range(MAX_FIELDS + 1)}).param == "metadata"
    assert chat(model="x" * LONGEST_MODEL).request.target
    error = refused(chat, model="x" * (LONGEST_MODEL + 1))
    assert error.param == "model" and len(str(error)) < 100


def test_the_other_apis_question_is_not_lost() -> None:
    assert refused(chat, prompt="hi").param == "prompt"
    assert refused(completion, messages=HI).param == "messages"
    assert chat(prompt="") == chat(prompt=None) == chat()


def test_model() -> None:
    assert chat(model="weak").request.target == "weak"
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
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "system", "content": {}}], "messages[0].content"),
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


CALLED = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}


@pytest.mark.parametrize("role", ["system", "developer", "assistant", "tool", "function"])
def test_a_turn_may_be_empty(role: str) -> None:
    for turn in ({"role": role}, {"role": role, "content": None}, {"role": role, "content": []}):
        _, message = parse_messages([CALLED, turn])
        assert message.text == "" and message.role == ("tool" if role == "function" else role)
        call = {"tool_call_id": "c"} if role == "tool" else {}
        assert written_messages([message]) == [{"role": role, **call, "content": ""}]
    (asked,) = parse_messages([{"role": "user", "content": []}])
    assert asked == Message("user")


@pytest.mark.parametrize("roles", ["a", "au", "aua", "sau", "ua", "uaa", "s"])
def test_turns_may_come_in_any_order(roles: str) -> None:
    names = {"a": "assistant", "u": "user", "s": "system"}
    turns = parse_messages([{"role": names[role], "content": "x"} for role in roles])
    assert [turn.role for turn in turns] == [names[role] for role in roles]


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
    assert message.parts == (Text("a"), Image("data:,"), Text("b"))
    assert chat(messages=[{"role": "user", "content": parts}]).request.needs == {Need.IMAGES}


def test_calls_thoughts_and_results_are_parts() -> None:
    said = {
        "role": "assistant",
        "content": "Let me see.",
        "reasoning_content": "hm",
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "odd": 1}
        ],
    }
    call, result = parse_messages((said, {"role": "tool", "tool_call_id": "1", "content": "42"}))
    made = (
        Reasoning("hm", "reasoning_content"),
        Text("Let me see."),
        ToolCall("1", "f", "{}", extra={"odd": 1}),
    )
    assert call == Message("assistant", made)
    assert result == Message("tool", (ToolResult("1", (Text("42"),)),))
    assert [message.text for message in (call, result)] == ["Let me see.", "42"]
    assert refused(parse_messages, [{**said, "tool_calls": [7]}]).param == "messages[0].tool_calls[0]"


def test_a_replys_message_may_be_said_again() -> None:
    calls = (ToolCallOfReply("1", Function("f", "{}")),)
    plain, called = parse_messages([ReplyMessage("hello"), ReplyMessage(None, calls)])
    assert plain == Message("assistant", "hello")
    assert called == Message("assistant", (ToolCall("1", "f", "{}"),))


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
    between = completion(prompt="", suffix="end").request
    assert (between.raw_prompt, between.suffix) == ("", "end") and Need.SUFFIX in between.needs
    assert completion(logprobs=5, max_tokens=3).request.top_logprobs == 5
    assert completion(max_tokens=-1).request.max_tokens is None


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
        ("suffix", 3),
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
    *("suffix", "tools", "tool_choice", "response_format", "user", "metadata", "extra_body", "functions"),
    *("extra_headers", "function_call", "unknown", "fallbacks"),
]
words = st.sampled_from(
    [
        *(
            "role",
            "content",
            "type",
            "text",
            "user",
            "assistant",
            "tool_calls",
            "required",
            "schema",
            "json_schema",
        ),
        *("json_object", "object", "private", "extra_body", "metadata", "true", "function", "name"),
    ]
)
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
        hash(call.request.target)


@given(values)
def test_messages_from_anything(value: object) -> None:
    try:
        assert parse_messages(value)
    except InvalidRequest as error:
        assert error.param is not None and error.param.startswith("messages")
