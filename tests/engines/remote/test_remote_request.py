import threading

import pytest

from edge_router.chat.message import Message, Reasoning, Text, ToolCall, ToolResult
from edge_router.chat.request import (
    ChatRequest,
    Extra,
    HostedTool,
    JsonOutput,
    ReasoningOptions,
    SamplingParams,
    Tool,
    ToolChoice,
)
from edge_router.engines.remote.request import RESERVED, request_body
from edge_router.engines.remote.terms import Terms
from edge_router.surfaces.openai.parse import parse_chat, parse_messages

RAW = {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {}}]}


def ask(**fields):
    return ChatRequest((Message("system", "be brief"), *parse_messages([RAW])), **fields)


def test_the_least_request():
    assert request_body(ask(), "remote") == {
        "model": "remote",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "be brief"}, RAW],
    }


def test_every_field():
    sampling = SamplingParams(0.0, 0.9, 40, 0.1, 7, 1.1, 0.5, -0.5, {42: -100.0})
    body = request_body(
        ask(
            sampling=sampling,
            max_tokens=9,
            stop=("a", "b"),
            logprobs=True,
            top_logprobs=3,
            tools=(Tool("f"),),
            output=JsonOutput(),
        ),
        "remote",
    )
    del body["messages"]
    assert body == {
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "response_format": {"type": "json_object"},
        "model": "remote",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
        "seed": 7,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "logit_bias": {"42": -100.0},
        "max_tokens": 9,
        "stop": ["a", "b"],
        "logprobs": True,
        "top_logprobs": 3,
    }


def test_a_raw_prompt_goes_to_completions():
    body = request_body(
        ask(raw_prompt="once", max_tokens=3, logprobs=True, top_logprobs=2), "remote", newer=True
    )
    assert body == {
        "model": "remote",
        "stream": True,
        "stream_options": {"include_usage": True},
        "prompt": "once",
        "max_tokens": 3,
        "logprobs": 2,
    }
    assert request_body(ask(raw_prompt="once", suffix="end"), "remote")["suffix"] == "end"


def test_the_request_cannot_name_the_model_nor_reach_a_proxy_with_addresses_or_keys():
    extra = Extra("openai", dict.fromkeys(RESERVED, threading.TIMEOUT_MAX))
    body = request_body(ask(target="somebody else's", extra=extra), "remote")
    assert body["model"] == "remote"
    assert body["stream"] is True
    assert set(body) & RESERVED == {"model", "messages", "stream", "stream_options"}
    assert {"api_key", "base_url", "api_base", "extra_headers"} <= RESERVED


@pytest.mark.parametrize(
    ("refused", "newer", "field"),
    [
        ((), False, "max_tokens"),
        ((), True, "max_completion_tokens"),
        (("max_tokens",), False, "max_completion_tokens"),
        (("max_completion_tokens",), True, "max_tokens"),
    ],
)
def test_the_name_of_the_limit(refused, newer, field):
    body = request_body(ask(max_tokens=5), "remote", Terms(left_out=frozenset(refused)), newer=newer)
    assert {name: body[name] for name in ("max_tokens", "max_completion_tokens") if name in body} == {
        field: 5
    }


def test_it_is_on_the_endpoints_terms():
    terms = Terms(
        left_out=frozenset({"stream_options", "top_k", "logprobs"}),
        left_out_values=frozenset({("reasoning_effort", "'none'")}),
        left_out_of_messages=frozenset({"name"}),
        limits={"max_tokens": (None, 9), "temperature": (0.01, 1), "stop": (None, 1)},
        refused_roles=frozenset({"system"}),
        streams=False,
    )
    request = ChatRequest(
        (
            Message("system", "be brief"),
            Message("user", "hi", name="me"),
        ),
        sampling=SamplingParams(temperature=0.0, top_k=3, min_p=0.1),
        max_tokens=500,
        stop=("a", "b"),
        logprobs=True,
        top_logprobs=2,
        extra=Extra("openai", {"reasoning_effort": "none"}),
    )
    assert request_body(request, "remote", terms) == {
        "model": "remote",
        "stream": False,
        "temperature": 0.01,
        "max_tokens": 9,
        "stop": ["a"],
        "min_p": 0.1,
        "messages": [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi"}],
    }
    nobody = Terms(refused_roles=frozenset({"system", "developer"}))
    assert [m["role"] for m in request_body(request, "remote", nobody)["messages"]] == ["user", "user"]


def test_completions_know_one_name_of_the_limit():
    terms = Terms(left_out=frozenset({"max_tokens", "max_completion_tokens"}))
    assert request_body(ask(raw_prompt="once", max_tokens=3), "remote", terms)["max_tokens"] == 3


def sent(**fields):
    """What reaches an endpoint of what a client sends beside its messages."""
    call = parse_chat({"messages": [{"role": "user", "content": "hi"}], **fields})
    body = request_body(call.request, "remote")
    return {k: v for k, v in body.items() if k not in ("messages", "model", "stream", "stream_options")}


FUNCTION = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "Does it.",
        "parameters": {"type": "object"},
        "strict": False,
        "a": 1,
    },
    "cache_control": {"type": "ephemeral"},
}
FREE = {
    "type": "custom",
    "custom": {
        "name": "run",
        "format": {"type": "grammar", "grammar": {"definition": "a", "syntax": "regex"}},
    },
}
FIELDS = [
    {
        "chat_template_kwargs": {"enable_thinking": False},
        "top_a": 0.1,
        "thinking": {},
        "store": True,
        "new": [None],
    },
    {"reasoning_effort": "low", "reasoning": {"effort": "low"}, "think": True, "enable_thinking": True},
    {"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}},
    {"web_search_options": {"search_context_size": "low"}},
    {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": {}}}},
    {"response_format": {"type": "grammar", "grammar": "root ::= x"}},
    {"tools": [FUNCTION, FREE, {"type": "web_search", "max_uses": 1}], "parallel_tool_calls": False},
    *(
        {"tools": [FUNCTION, FREE, {"type": "web_search"}], "tool_choice": choice}
        for choice in (
            *("auto", "none", "required", "any", {"type": "function"}, {"type": "web_search"}),
            {"type": "function", "function": {"name": "f"}},
            {"type": "custom", "custom": {"name": "run"}},
            {"type": "tool", "name": "f"},
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
        )
    ),
    {"functions": [{"name": "f", "odd": 1}]},
    {"functions": [{"name": "f"}], "function_call": {"name": "f"}},
]


def test_what_a_client_asks_for_arrives_as_it_was_asked():
    for fields in FIELDS:
        assert sent(**fields) == fields, fields


def test_what_another_protocol_asks_for_is_written_in_openais():
    request = ChatRequest(
        (Message("user", [Text("hi", {"cache_control": {}})]),),
        tools=(Tool("f", parameters={}, extra={"cache_control": {}}), HostedTool("s", {"a": 1}), Tool("g")),
        tool_choice=ToolChoice("required", ("f",), parallel=False),
        reasoning=ReasoningOptions(enabled=True),
        extra=Extra("elsewhere", {"betas": ["x"]}),
    )
    body = request_body(request, "remote")
    assert body.pop("messages") == [{"role": "user", "content": "hi"}]
    assert body == {
        "model": "remote",
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {}}},
            {"type": "function", "function": {"name": "g"}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "reasoning_effort": "medium",
    }


def test_what_another_protocol_asks_of_thoughts_is_written_in_openais_word():
    for options, effort in (
        (ReasoningOptions(), None),
        (ReasoningOptions(True), "medium"),
        (ReasoningOptions(False), "none"),
        (ReasoningOptions(None, "minimal"), "minimal"),
        (ReasoningOptions(True, "high", 2000), "high"),
    ):
        body = request_body(ChatRequest((Message("user", "hi"),), reasoning=options), "remote")
        assert body.get("reasoning_effort") == effort, options


CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":  1}'}}
HISTORY = {
    "a text": {"role": "user", "content": "hi"},
    "a name": {"role": "system", "content": "be brief", "name": "me"},
    "nothing said": {"role": "assistant", "content": ""},
    "unknown fields": {"role": "assistant", "content": "a", "odd": {"b": [None]}, "audio": {"id": "x"}},
    "a refusal": {
        "role": "assistant",
        "content": None,
        "refusal": "no",
        "reasoning_details": [{"data": "x"}],
    },
    "thoughts": {"role": "assistant", "content": "a", "reasoning_content": "hm"},
    "thoughts by another name": {"role": "assistant", "content": "a", "reasoning": "hm", "thinking": ""},
    "thoughts that are no text": {"role": "assistant", "content": "a", "thinking": {"type": "x"}},
    "a call": {"role": "assistant", "content": None, "tool_calls": [CALL]},
    "a call and words": {"role": "assistant", "content": "", "reasoning": "hm", "tool_calls": [CALL, CALL]},
    "a signed call": {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {**CALL, "index": 0, "extra_content": {"google": {"thought_signature": "s"}}},
            {**CALL, "function": {**CALL["function"], "strict": True}},
        ],
    },
    "a free call": {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "custom", "custom": {"name": "run", "input": "ls -l"}}],
    },
    "a call of who knows what": {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}, CALL]},
    "a call of 2023": {
        "role": "assistant",
        "content": None,
        "function_call": {"name": "look", "arguments": "{}", "odd": 1},
    },
    "a result of 2023": {"role": "function", "name": "look", "content": "42"},
    "a result": {"role": "tool", "tool_call_id": "c1", "content": "42", "odd": 1},
    "a result in parts": {
        "role": "tool",
        "tool_call_id": "c1",
        "content": [{"type": "text", "text": "4"}] * 2,
    },
    "an empty result": {"role": "tool", "tool_call_id": "c1", "content": ""},
    "a cache mark": {
        "role": "user",
        "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}],
    },
    "media": {
        "role": "user",
        "content": [
            {"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "data:,", "detail": "low", "odd": 1}, "odd": 2},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            {"type": "file", "file": {"file_data": "data:,", "filename": "a.pdf"}},
            {"type": "file", "file": {"file_id": "f1"}, "cache_control": {}},
            {"type": "image_url", "image_url": {"odd": 1}},
        ],
    },
}


def test_a_history_goes_out_as_it_came():
    for name, turn in HISTORY.items():
        request = ChatRequest(parse_messages([HISTORY["a call"], turn]))
        assert request_body(request, "remote")["messages"][1] == turn, name


def test_what_means_the_same_goes_out_in_one_way():
    for turn, sent in (
        ({"role": "user", "content": [{"type": "text", "text": "hi"}]}, {"role": "user", "content": "hi"}),
        ({"role": "user", "content": []}, {"role": "user", "content": ""}),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "tool_calls": []},
            {"role": "assistant", "content": None, "refusal": "no"},
        ),
        (
            {"role": "assistant", "content": "a", "refusal": None, "function_call": None, "reasoning": None},
            {"role": "assistant", "content": "a"},
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": "é"}}}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_0_0",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"a": "é"}'},
                    }
                ],
            },
        ),
    ):
        assert request_body(ChatRequest(parse_messages([turn])), "remote")["messages"] == [sent], turn


def test_calls_and_results_without_ids_find_each_other():
    calls = [{"type": "function", "function": {"name": name, "arguments": "{}"}} for name in "fgf"]
    results = [{"role": "tool", "content": name, "name": name} for name in "gf"]
    turns = [{"role": "assistant", "tool_calls": calls}, *results, {"role": "tool", "content": "f"}]
    first, *others = request_body(ChatRequest(parse_messages(turns)), "remote")["messages"]
    assert [call["id"] for call in first["tool_calls"]] == ["call_0_0", "call_0_1", "call_0_2"]
    assert [other["tool_call_id"] for other in others] == ["call_0_1", "call_0_0", "call_0_2"]


def test_a_turn_of_another_protocol_is_written_in_openais():
    """Results stand in one turn of the user there, and thoughts have no name."""
    turns = (
        Message("assistant", (Reasoning("hm", "", {"signature": "s"}), ToolCall("c1", "f", "{}"))),
        Message("user", (ToolResult("c1", (Text("42"),)), ToolResult("c2", ()), Text("And?"))),
    )
    assert request_body(ChatRequest(turns), "remote")["messages"] == [
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "tool", "tool_call_id": "c2", "content": ""},
        {"role": "user", "content": "And?"},
    ]
