"""Anthropic's Messages: bodies to requests, events to bytes, errors; no socket."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from edge_router.chat.events import (
    Event,
    Finished,
    ForeignDelta,
    HiddenState,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.chat.message import File, Foreign, Image, Message, Reasoning, Text, ToolCall, ToolResult
from edge_router.chat.model import ModelInfo
from edge_router.chat.reply import collect
from edge_router.chat.request import (
    ChatRequest,
    Extra,
    ForeignOutput,
    HostedTool,
    JsonOutput,
    Need,
    ReasoningOptions,
    SamplingParams,
    Tool,
    ToolChoice,
)
from edge_router.errors import InvalidRequest, UnknownModel
from edge_router.surfaces.anthropic.surface import AnthropicMessages
from edge_router.surfaces.base import Call, Failure, Head, SurfaceHost
from edge_router.surfaces.limits import MAX_TOOLS
from edge_router.types import Decision, Reason

SURFACE = AnthropicMessages()
HEAD = Head("1", 0, "small", Decision("weak", Reason.SCORE))
HI = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "weather", "description": "of a city", "input_schema": SCHEMA}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
CALLS = {
    "role": "assistant",
    "content": [
        {"type": "text", "text": "let me see"},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
        {"type": "tool_use", "id": "t2", "name": "weather", "input": {}},
    ],
}
CACHED = {"cache_control": {"type": "ephemeral"}}


def parse(**fields: Any) -> Call:
    return SURFACE.parse("/v1/messages", {"model": "auto", "max_tokens": 9, "messages": HI} | fields)


def turns(*messages: Mapping[str, object]) -> tuple[Message, ...]:
    return parse(messages=list(messages)).request.messages


def said(*blocks: Mapping[str, object], role: str = "user") -> tuple[Any, ...]:
    """The parts of one message."""
    (message,) = turns({"role": role, "content": list(blocks)})
    return message.parts


# ---- requests ----------------------------------------------------------------------------------------------


def test_a_plain_question() -> None:
    call = parse(stream=True)
    assert call.stream and not parse().stream
    assert call.request == ChatRequest((Message("user", "hi"),), max_tokens=9, extra=Extra("anthropic"))


FIELDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"model": "weak"}, {"target": "weak"}),
    ({"system": "be brief"}, {"messages": (Message("system", "be brief"), Message("user", "hi"))}),
    ({"system": ""}, {}),
    (
        {"system": [{"type": "text", "text": "a", **CACHED}, {"type": "text", "text": "b"}]},
        {
            "messages": (Message("system", (Text("a", CACHED), Text("b"))), Message("user", "hi")),
            "keep": "cache_control",
        },
    ),
    (
        {"temperature": 0, "top_p": 0.5, "top_k": 40},
        {"sampling": SamplingParams(temperature=0, top_p=0.5, top_k=40)},
    ),
    ({"stop_sequences": ["\n", ""]}, {"stop": ("\n",)}),
    ({"private": True}, {"private": True}),
    ({"metadata": {"private": "yes"}}, {"private": True}),
    ({"metadata": {"user_id": "u"}}, {"extra": Extra("anthropic", {"metadata": {"user_id": "u"}})}),
    ({"tools": []}, {}),
    ({"tools": [WEATHER]}, {"tools": (Tool("weather", "of a city", SCHEMA),)}),
    (
        {"tools": [{"type": "custom", "strict": True, **CACHED, **WEATHER}]},
        {
            "tools": (Tool("weather", "of a city", SCHEMA, True, extra=CACHED),),
            "keep": "cache_control",
        },
    ),
    ({"tools": [SEARCH]}, {"tools": (HostedTool("web_search_20250305", SEARCH),)}),
    ({"tool_choice": {"type": "auto"}}, {}),
    ({"tool_choice": {"type": "none"}}, {"tool_choice": ToolChoice("none")}),
    ({"thinking": {"type": "disabled"}}, {"reasoning": ReasoningOptions(False)}),
    (
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"reasoning": ReasoningOptions(True, max_tokens=1024)},
    ),
    (
        {"thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"}},
        {"reasoning": ReasoningOptions(True, max_tokens=1024, shown=False)},
    ),
    ({"output_config": {"effort": "high"}}, {"reasoning": ReasoningOptions(False, "high")}),
    (
        {"thinking": {"type": "adaptive"}},
        {"extra": Extra("anthropic", {"thinking": {"type": "adaptive"}})},
    ),
    (
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        {
            "reasoning": ReasoningOptions(True, "high"),
            "extra": Extra("anthropic", {"thinking": {"type": "adaptive"}}),
        },
    ),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}, "newer": 1}},
        {
            "output": JsonOutput(SCHEMA, strict=True),
            "extra": Extra("anthropic", {"output_config": {"newer": 1}}),
        },
    ),
    ({"output_format": {"type": "json_schema", "schema": {}}}, {"output": JsonOutput({}, strict=True)}),
    ({"output_format": {"type": "newer"}}, {"output": ForeignOutput({"type": "newer"})}),
    (
        {"container": "c", "from_the_future": {"a": 1}, "speed": None},
        {"extra": Extra("anthropic", {"container": "c", "from_the_future": {"a": 1}})},
    ),
]


def test_fields_become_what_they_mean() -> None:
    plain = parse().request
    for fields, meant in FIELDS:
        assert parse(**fields).request == replace(plain, **meant), fields


CHOICES = [
    ({"type": "auto"}, ToolChoice()),
    ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(parallel=False)),
    ({"type": "any", "disable_parallel_tool_use": False}, ToolChoice("required", parallel=True)),
    ({"type": "tool", "name": "weather"}, ToolChoice("required", ("weather",))),
    ({"type": "tool", "name": "web_search"}, ToolChoice("required", ("web_search_20250305",))),
    ({"type": "none"}, ToolChoice("none")),
]


def test_which_tools_may_be_called() -> None:
    for choice, meant in CHOICES:
        request = parse(tools=[WEATHER, SEARCH], tool_choice=choice).request
        assert request.tool_choice == meant, choice
        named = {tool.name for tool in request.tools} & set(meant.names)
        assert len(request.callable_tools) == (0 if meant.mode == "none" else len(named) or 2), choice


BLOCKS: list[tuple[str, dict[str, Any], Any]] = [
    ("user", {"type": "text", "text": "a", **CACHED}, Text("a", CACHED)),
    (
        "user",
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}, **CACHED},
        Image("data:image/png;base64,AA==", extra=CACHED),
    ),
    (
        "user",
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        Image("https://x/y.png"),
    ),
    (
        "user",
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="}},
        File("data:application/pdf;base64,AA=="),
    ),
    (
        "user",
        {"type": "document", "title": "t", "source": {"type": "url", "url": "https://x"}, "context": "c"},
        File("https://x", name="t", extra={"context": "c"}),
    ),
    ("user", {"type": "document", "source": {"type": "file", "file_id": "f"}}, File(id="f")),
    ("assistant", {"type": "thinking", "thinking": "hm", "signature": ""}, Reasoning("hm")),
    ("assistant", {"type": "thinking", "thinking": "hm"}, Reasoning("hm")),
    (
        "assistant",
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        Reasoning("hm", "thinking_block", {"signature": "s"}),
    ),
    (
        "assistant",
        {"type": "redacted_thinking", "data": "d"},
        Reasoning("", "redacted_thinking", {"data": "d"}),
    ),
    (
        "assistant",
        {"type": "tool_use", "id": "t", "name": "n", "input": {"a": "é"}, **CACHED},
        ToolCall("t", "n", '{"a": "é"}'),
    ),
]
# What any model can read is text, and its own endpoint still gets it as it was.
READ_AS_TEXT: list[tuple[dict[str, Any], str]] = [
    (
        {"type": "document", "title": "t", "context": "c", "source": {"type": "text", "data": "words"}},
        "t\nc\nwords",
    ),
    ({"type": "document", "source": {"type": "content", "content": "words"}}, "words"),
    (
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "words"}]}},
        "words",
    ),
    (
        {
            "type": "search_result",
            "title": "t",
            "source": "https://x",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        },
        "t\nhttps://x\na\nb",
    ),
]
FOREIGN: list[tuple[str, dict[str, Any]]] = [
    ("user", {"type": "image", "source": {"type": "file", "file_id": "f"}}),
    (
        "user",
        {
            "type": "document",
            "source": {
                "type": "content",
                "content": [{"type": "image", "source": {"type": "url", "url": "https://x"}}],
            },
        },
    ),
    ("user", {"type": "container_upload", "file_id": "f"}),
    ("assistant", {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
    ("assistant", {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}),
]


def test_blocks_become_parts() -> None:
    for role, block, part in BLOCKS:
        assert said(block, role=role) == (part,), block
    for block, text in READ_AS_TEXT:
        assert said(block) == (Text(text, {"block": block}),), block
    for role, block in FOREIGN:
        assert said(block, role=role) == (Foreign(block["type"], block),), block


def test_what_only_anthropic_knows_is_needed() -> None:
    for role, block in FOREIGN:
        assert Need.FOREIGN in parse(messages=[{"role": role, "content": [block]}]).request.needs, block


def test_results_are_messages_of_their_own() -> None:
    found = turns(
        HI[0],
        CALLS,
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t2", "content": "rain", "is_error": True},
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "content": [
                        {"type": "text", "text": "sun"},
                        {"type": "image", "source": {"type": "url", "url": "https://x"}},
                        {"type": "tool_reference", "tool_name": "n"},
                    ],
                    **CACHED,
                },
                {"type": "text", "text": "so?"},
            ],
        },
        {"role": "user", "content": "well?"},
    )
    named = {"type": "tool_reference", "tool_name": "n"}
    picture = (Text("sun"), Image("https://x"), Foreign("tool_reference", named))
    assert found[2:] == (
        Message("tool", (ToolResult("t2", (Text("rain"),), True, "weather"),)),
        Message("tool", (ToolResult("t1", picture, False, "weather", CACHED),)),
        Message("user", (Text("so?"), Text("well?"))),
    )


def test_a_result_without_content() -> None:
    (*_, last) = turns(CALLS, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1"}]})
    assert last == Message("tool", (ToolResult("t1", (), name="weather"),))


def test_turns_of_one_role_are_one() -> None:
    asked = {"role": "user", "content": "a"}
    found = turns(asked, asked, {"role": "system", "content": "s"}, asked, CALLS, {**CALLS, "note": 1})
    assert [message.role for message in found] == ["user", "system", "user", "assistant"]
    assert found[0].parts == (Text("a"), Text("a"))
    assert len(found[3].calls) == 4 and found[3].extra == {"note": 1}


def test_an_answer_that_the_client_has_begun() -> None:
    begun = {"role": "assistant", "content": "The best answer is ("}
    assert parse(messages=[*HI, begun]).request.continue_final
    assert not parse(messages=HI).request.continue_final
    assert not parse(messages=[*HI, CALLS]).request.continue_final


def test_what_other_endpoints_sign_comes_back_from_the_client() -> None:
    """Claude Code hands back a thinking block as it is, and drops a call's unknown fields."""
    extra = {"extra_content": {"google": {"thought_signature": "xyz"}}}
    events = [
        ReasoningDelta("let me see", "reasoning_content", {"details": [1]}),
        ToolCallStart(0, "t1", "weather", extra=extra),
        ToolCallArguments(0, "{}", {"late": 1}),
        Finished("tool_calls"),
    ]
    whole = SURFACE.whole(parse(), HEAD, collect(events))
    for content in (whole["content"], streamed(events)["content"]):
        kept = [{k: v for k, v in block.items() if k not in extra} for block in content]
        (message,) = turns({"role": "assistant", "content": kept})
        assert message.parts == (
            Reasoning("let me see", "reasoning_content", {"details": [1]}),
            ToolCall("t1", "weather", "{}", extra={**extra, "late": 1}),
        )
    own = [ReasoningDelta("hm", "thinking_block", {"signature": "s"}), Finished("stop")]
    assert streamed(own)["content"] == [{"type": "thinking", "thinking": "hm", "signature": "s"}]


def test_signatures_that_only_look_like_ours_are_kept() -> None:
    for signature in ("edge_router.", "edge_router.%%%", "edge_router.e30", "edge_router.W10="):
        (part,) = said({"type": "thinking", "thinking": "a", "signature": signature}, role="assistant")
        assert part.opaque in ({"signature": signature}, {}), signature


def block(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": fields.pop("role", "user"), "content": [fields]}]}


def result(**fields: Any) -> dict[str, Any]:
    answer = {"type": "tool_result", "tool_use_id": "t1"} | fields
    return {"messages": [CALLS, {"role": "user", "content": [answer]}]}


def tool(**fields: Any) -> dict[str, Any]:
    return {"tools": [WEATHER | fields]}


SOURCE = "messages[0].content[0].source"
BAD: list[tuple[dict[str, Any], str | None, str]] = [
    ({"max_tokens": None}, "max_tokens", "is missing"),
    ({"max_tokens": 0}, "max_tokens", "between 1 and"),
    ({"max_tokens": "9"}, "max_tokens", "whole number"),
    ({"messages": None}, "messages", "must be a list"),
    ({"messages": []}, "messages", "at least one"),
    ({"messages": ["hi"]}, "messages[0]", "object"),
    ({"messages": [{"content": "hi"}]}, "messages[0].role", "user, assistant, system"),
    ({"messages": [{"role": "tool", "content": "hi"}]}, "messages[0].role", "must be one of"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "is missing"),
    ({"messages": [{"role": "user", "content": {}}]}, "messages[0].content", "list of blocks"),
    ({"messages": [{"role": "user", "content": ["hi"]}]}, "messages[0].content[0]", "with a type"),
    ({"messages": [{"role": "user", "content": "a", "private": True}]}, "messages[0].private", "not heard"),
    (block(type="newer"), "messages[0].content[0].type", "'newer' is not known"),
    (block(type="tool_use", id="t", name="n", input={}), "messages[0].content[0].type", "not belong there"),
    (block(type="thinking", thinking="a"), "messages[0].content[0].type", "not belong there"),
    (block(type="tool_result", role="assistant"), "messages[0].content[0].type", "not belong there"),
    (block(type="text"), "messages[0].content[0].text", "must be a string"),
    (block(type="text", text="a", private=True), "messages[0].content[0].private", "not heard"),
    (block(type="image"), SOURCE, "must be an object"),
    (block(type="image", source={"type": "disk"}), f"{SOURCE}.type", "base64, url or file"),
    (block(type="image", source={"type": "url"}), f"{SOURCE}.url", "must be a string"),
    (block(type="image", source={"type": "base64", "data": "A"}), f"{SOURCE}.media_type", "a string"),
    (block(type="document", source={"type": "file"}), f"{SOURCE}.file_id", "must be a string"),
    (
        block(role="assistant", type="tool_use", id="t", name="n", input="{}"),
        "messages[0].content[0].input",
        "must be an object",
    ),
    (block(role="assistant", type="tool_use", id="", name="n", input={}), "messages[0].content[0].id", ""),
    (block(role="assistant", type="thinking"), "messages[0].content[0].thinking", "must be a string"),
    (
        block(role="assistant", type="thinking", thinking="a", signature=1),
        "messages[0].content[0].signature",
        "must be a string",
    ),
    (result(tool_use_id="gone"), "messages[1].content[0].tool_use_id", "'gone', which no message before"),
    (result(is_error="no"), "messages[1].content[0].is_error", "true or false"),
    (result(content=3), "messages[1].content[0].content", "list of blocks"),
    (result(content=[{"type": "tool_result"}]), "messages[1].content[0].content[0].type", "not belong"),
    ({"system": [{"type": "image"}]}, "system[0].type", "not belong there; taken are text"),
    ({"system": 1}, "system", "list of blocks"),
    ({"tools": {}}, "tools", "must be a list"),
    ({"tools": [1]}, "tools[0]", "must be an object"),
    ({"tools": [{"name": "n"}]}, "tools[0].input_schema", "is missing"),
    (tool(input_schema=[]), "tools[0].input_schema", "must be a JSON schema"),
    (tool(input_schema={"type": "string"}), "tools[0].input_schema.type", "must be object"),
    (tool(name=""), "tools[0].name", "1 to 128"),
    (tool(name="n" * 129), "tools[0].name", "1 to 128"),
    (tool(description=1), "tools[0].description", "must be a string"),
    (tool(strict="yes"), "tools[0].strict", "true or false"),
    (tool(type="function", function={}), "tools[0].type", "is OpenAI's"),
    (tool(type=1), "tools[0].type", "must be a string"),
    ({"tools": [WEATHER, WEATHER]}, "tools[1].name", "'weather' is another tool's"),
    ({"tools": [WEATHER] * (MAX_TOOLS + 1)}, "tools", "at most 512"),
    ({"tool_choice": "auto"}, "tool_choice", "must be an object"),
    ({"tool_choice": {"type": "required"}}, "tool_choice.type", "auto, any, tool or none"),
    ({"tool_choice": {"type": "tool", "name": "gone"}}, "tool_choice.name", "'gone', and no tool"),
    ({"tool_choice": {"type": "tool"}, **tool()}, "tool_choice.name", "nothing, and no tool"),
    ({"thinking": True}, "thinking", "must be an object"),
    ({"thinking": {"type": "loud"}}, "thinking.type", "must be enabled, disabled"),
    ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens", "between 1"),
    ({"output_config": {"format": {}}}, "output_config.format.type", "must be json_schema"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema", "JSON schema"),
    ({"output_format": {"type": "json_schema", "schema": 1}}, "output_format.schema", "JSON schema"),
    ({"temperature": 3}, "temperature", "between 0 and 2"),
    ({"stop_sequences": "a" * 1001}, "stop_sequences", "1000 characters"),
    ({"stream": "yes"}, "stream", "true or false"),
    ({"model": ""}, "model", "not empty"),
    ({"model": "m" * 257}, "model", "more than 256"),
    ({"privat": True}, "privat", "did you mean private"),
    ({"private": "perhaps"}, "private", "true or false"),
    ({"metadata": {"privat": True}}, "metadata.privat", "did you mean"),
    ({"base_url": "http://x"}, "base_url", "configuration only"),
    ({"from_the_future": {"api_key": "k"}}, "from_the_future.api_key", "configuration only"),
    ({"max_token": 1}, "max_token", "did you mean max_tokens"),
    ({str(n) * 9: n for n in range(101)}, None, "more than 100 fields"),
]


def test_bad_input_is_refused_by_name() -> None:
    for fields, param, reason in BAD:
        with pytest.raises(InvalidRequest) as caught:
            parse(**fields)
        assert caught.value.param == param, (fields, str(caught.value))
        assert reason in str(caught.value), (fields, str(caught.value))
        assert len(str(caught.value)) < 1000, fields


# ---- answers -----------------------------------------------------------------------------------------------


def written(events: Iterable[Event], call: Call | None = None) -> list[dict[str, Any]]:
    """The data of all that is sent; names of events and empty lines are as they must be."""
    encoder = SURFACE.encoder(call or parse(), HEAD)
    data = b"".join([*(encoder.feed(event) for event in events), encoder.end()])
    return [*parsed(data)]


def parsed(data: bytes) -> Iterable[dict[str, Any]]:
    *pieces, rest = data.decode("ascii").split("\n\n")
    assert rest == ""
    for piece in pieces:
        name, body = piece.split("\n")
        event = json.loads(body.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        yield event


def streamed(events: Iterable[Event], call: Call | None = None) -> dict[str, Any]:
    """The message that a client puts together, which also sees that blocks come one after the other."""
    first, *rest = written(events, call)
    assert first["type"] == "message_start"
    message, last = first["message"], rest[-1]
    assert message["content"] == [] and message["stop_reason"] is None and last == {"type": "message_stop"}
    open_block: dict[str, Any] | None = None
    for event in rest[:-1]:
        content = message["content"]
        if event["type"] == "content_block_start":
            assert open_block is None and event["index"] == len(content)
            content.append(event["content_block"])
            open_block = content[-1]
        elif event["type"] == "content_block_delta":
            assert open_block is not None and event["index"] == len(content) - 1
            delta = event["delta"]
            name = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
            if delta["type"] == "input_json_delta":
                open_block["input"] = (open_block["input"] or "") + delta["partial_json"]
            else:
                key = name[delta["type"]]
                assert key != "signature" or not open_block[key]
                open_block[key] += delta[key]
        elif event["type"] == "content_block_stop":
            assert open_block is not None and event["index"] == len(content) - 1
            if isinstance(open_block.get("input"), str):
                open_block["input"] = json.loads(open_block["input"])
            open_block = None
        else:
            assert event["type"] == "message_delta" and open_block is None and event is rest[-2]
            message |= event["delta"]
            message["usage"] |= event["usage"]
    return message


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def use(call_id: str, **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "weather", "input": given}


def start(index: int) -> ToolCallStart:
    return ToolCallStart(index, f"t{index}", "weather")


ANSWERS: list[tuple[list[Event], list[dict[str, Any]], str]] = [
    ([TextDelta("a"), TextDelta(""), TextDelta("\ud800é"), Finished("stop")], [text("a\ud800é")], "end_turn"),
    ([Finished("stop")], [], "end_turn"),
    ([TextDelta("a"), Finished("length")], [text("a")], "max_tokens"),
    ([TextDelta("\n"), TextDelta(" "), start(0), Finished("tool_calls")], [use("t0")], "tool_use"),
    ([TextDelta("\n"), TextDelta(" "), TextDelta(" a\n"), Finished("stop")], [text("\n  a\n")], "end_turn"),
    ([TextDelta("a"), Finished("length", looped=True)], [text("a")], "max_tokens"),
    ([TextDelta("a"), Finished("content_filter")], [text("a")], "refusal"),
    ([RefusalDelta("I "), RefusalDelta("won't"), Finished("stop")], [text("I won't")], "refusal"),
    ([TextDelta("a"), Finished("stop", stop_sequence="\n")], [text("a")], "stop_sequence"),
    (
        [ReasoningDelta("h"), ReasoningDelta("m"), TextDelta("a"), ReasoningDelta("x"), Finished("stop")],
        [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            text("a"),
            {"type": "thinking", "thinking": "x", "signature": ""},
        ],
        "end_turn",
    ),
    (
        [
            ReasoningDelta("", "redacted_thinking", {"data": "d"}),
            ReasoningDelta("hm", "thinking_block"),
            ReasoningDelta("", "thinking_block", {"signature": "s"}),
            Finished("stop"),
        ],
        [
            {"type": "redacted_thinking", "data": "d"},
            {"type": "thinking", "thinking": "hm", "signature": "s"},
        ],
        "end_turn",
    ),
    (
        [
            TextDelta("a"),
            start(0),
            ToolCallArguments(0, '{"a":'),
            ToolCallArguments(0, "1}"),
            Finished("tool_calls"),
        ],
        [text("a"), use("t0", a=1)],
        "tool_use",
    ),
    ([start(0), Finished("stop")], [use("t0")], "tool_use"),
    (
        [start(0), ToolCallArguments(0, "{}"), start(1), ToolCallArguments(1, "{}"), Finished("tool_calls")],
        [use("t0"), use("t1")],
        "tool_use",
    ),
    (  # at the same time
        [
            start(0),
            start(1),
            ToolCallArguments(1, '{"b":'),
            ToolCallArguments(0, '{"a":{},"c":["}\\'),
            TextDelta("then"),
            ToolCallArguments(1, "2}"),
            ToolCallArguments(0, '"}"]'),
            ToolCallArguments(0, "}"),
            start(2),
            Finished("tool_calls"),
        ],
        [use("t0", a={}, c=['}"}']), use("t1", b=2), text("then"), use("t2")],
        "tool_use",
    ),
    (
        [HiddenState((1.0,)), ForeignDelta({"a": 1}), TextDelta("a"), Finished("stop")],
        [text("a")],
        "end_turn",
    ),
]


def test_an_answer_is_the_same_streamed_and_whole() -> None:
    usage = Usage(10, 5, cached_tokens=4, reasoning_tokens=2)
    for events, content, reason in ANSWERS:
        *before, end = events
        assert isinstance(end, Finished)
        events = [*before, replace(end, usage=usage)]
        expected = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "auto",
            "content": content,
            "stop_reason": reason,
            "stop_sequence": "\n" if reason == "stop_sequence" else None,
            "usage": {
                "input_tokens": 6,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 4,
                "output_tokens": 5,
                "output_tokens_details": {"thinking_tokens": 2},
            },
        }
        assert streamed(events) == expected, events
        assert SURFACE.whole(parse(), HEAD, collect(events)) == expected, events


def test_text_is_sent_at_once_and_a_call_while_it_is_written() -> None:
    encoder = SURFACE.encoder(parse(), HEAD)
    kinds = [
        [event["type"].removeprefix("content_block_") for event in parsed(encoder.feed(event))]
        for event in (
            TextDelta("a"),
            TextDelta("b"),
            start(0),
            ToolCallArguments(0, '{"a":'),
            start(1),
            ToolCallArguments(1, "{}"),
            ToolCallArguments(0, "1}"),
        )
    ]
    one = ["message_start", "start", "delta"]
    assert kinds == [
        one,
        ["delta"],
        ["stop", "start"],
        ["delta"],
        [],
        [],
        ["delta", "stop", "start", "delta"],
    ]


def test_thoughts_that_are_not_to_be_shown() -> None:
    call = parse(thinking={"type": "enabled", "budget_tokens": 99, "display": "omitted"})
    signed = ReasoningDelta("hm", "thinking_block", {"signature": "s"})
    for thought, kept in (
        (ReasoningDelta("hm"), []),
        (signed, [{"type": "thinking", "thinking": "", "signature": "s"}]),
    ):
        events = [thought, TextDelta("a"), Finished("stop")]
        assert streamed(events, call)["content"] == [*kept, text("a")]
        assert SURFACE.whole(call, HEAD, collect(events))["content"] == [*kept, text("a")]


def test_arguments_that_are_no_object_are_told_as_such() -> None:
    for arguments, given in (
        ("", {}),
        (" ", {}),
        ("{", {"INVALID_JSON": "{"}),
        ("[1]", {"INVALID_JSON": "[1]"}),
    ):
        events = [start(0), ToolCallArguments(0, arguments), Finished("length")]
        assert SURFACE.whole(parse(), HEAD, collect(events))["content"] == [use("t0", **given)]


def test_an_answer_without_a_count_of_tokens() -> None:
    for message in (
        streamed([Finished("stop")]),
        SURFACE.whole(parse(), HEAD, collect([Finished("stop")])),
    ):
        assert message["usage"] == {"input_tokens": 0, "output_tokens": 0}


def test_an_answer_that_breaks_off_ends_in_an_error() -> None:
    failure = Failure(502, "It broke.", "server_error")
    for events in ([], [TextDelta("a")], [start(0), ToolCallArguments(0, '{"a":')]):
        encoder = SURFACE.encoder(parse(), HEAD)
        sent = [*parsed(b"".join([*(encoder.feed(event) for event in events), encoder.fail(failure)]))]
        assert [event["type"] for event in sent].count("error") == 1
        assert sent[-1] == SURFACE.error(failure)
        assert not {"message_stop", "message_delta"} & {event["type"] for event in sent}


def test_errors_have_anthropics_types() -> None:
    for status, kind in (
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (408, "timeout_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
    ):
        failure = Failure(status, "No.", "x", headers={"Request-Id": "r"})
        error = {"type": kind, "message": "No."}
        assert SURFACE.error(failure) == {"type": "error", "error": error, "request_id": "r"}, status
    assert SURFACE.error(Failure(500, "No.", "x"))["request_id"] is None


def test_a_comment_is_a_ping() -> None:
    comment, *event = SURFACE.comment("waiting: 2 answers are before this one").split(b"\n", 1)
    assert comment == b": waiting: 2 answers are before this one"
    assert event == [b'event: ping\ndata: {"type":"ping"}\n\n']


# ---- queries -----------------------------------------------------------------------------------------------


class Models:
    """A host that has models and counts words."""

    def models(self) -> tuple[ModelInfo, ...]:
        return (
            ModelInfo("auto"),
            ModelInfo("a/b", context_window=2048, created=1_700_000_000),
            ModelInfo("vectors", dimension=3),
        )

    def count_tokens(self, request: ChatRequest) -> int:
        return sum(len(message.text.split()) for message in request.messages)


HOST: Any = Models()


def asked(path: str, **body: Any) -> Any:
    host: SurfaceHost = HOST
    (query,) = [query for query in SURFACE.queries if query.path == path]
    return query.answer(body, host)


def test_tokens_are_counted_without_a_limit_for_the_answer() -> None:
    path = "/v1/messages/count_tokens"
    assert asked(path, model="auto", messages=HI, system="be very brief", tools=[WEATHER]) == {
        "input_tokens": 4
    }
    with pytest.raises(InvalidRequest, match="messages"):
        asked(path, model="auto")


def test_models_in_anthropics_form() -> None:
    listed = asked("/v1/models")
    assert {key: listed[key] for key in ("has_more", "first_id", "last_id")} == {
        "has_more": False,
        "first_id": "auto",
        "last_id": "a/b",
    }
    first, second = listed["data"]
    assert first == {
        "type": "model",
        "id": "auto",
        "display_name": "auto",
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
    }
    assert second["created_at"] == "2023-11-14T22:13:20Z" and second["max_input_tokens"] == 2048
    assert asked("/v1/models/{model:path}", model="a/b") == second
    with pytest.raises(UnknownModel, match="gone"):
        asked("/v1/models/{model:path}", model="gone")
    by_header = {query.path: query.header for query in SURFACE.queries}
    assert by_header["/v1/models"] == by_header["/v1/models/{model:path}"] == "anthropic-version"
    assert by_header["/v1/messages/count_tokens"] is None
