"""OpenAI's Responses without a server: bodies to requests, events to server-sent ones, answers kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from openai.types import responses as shapes
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from edge_router.chat.events import (
    Event,
    Finished,
    ForeignDelta,
    HiddenState,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.chat.message import (
    Audio,
    File,
    Foreign,
    Image,
    Message,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from edge_router.chat.reply import collect
from edge_router.chat.request import (
    ChatRequest,
    ForeignOutput,
    GrammarOutput,
    HostedTool,
    JsonOutput,
    Need,
    ReasoningOptions,
    Tool,
    ToolChoice,
)
from edge_router.errors import InvalidRequest, PreviousResponseGone, UnknownResponse
from edge_router.surfaces.base import Call, Failure, Head, Surface
from edge_router.surfaces.responses.store import ResponseStore
from edge_router.surfaces.responses.surface import OpenAIResponses
from edge_router.surfaces.responses.thoughts import sealed, unsealed
from edge_router.surfaces.responses.tools import flat_name
from edge_router.types import Decision, Reason

Body = dict[str, Any]
EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
USAGE = Usage(7, 5, cached_tokens=3, reasoning_tokens=2)
STOP = Finished("stop", USAGE)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}
SHELL = {
    "type": "custom",
    "name": "shell",
    "format": {"type": "grammar", "syntax": "regex", "definition": "ls .*"},
}
SEARCH = {"type": "web_search", "external_web_access": False}
AGENTS = {
    "type": "namespace",
    "name": "agents",
    "description": "Others",
    "tools": [{"type": "function", "name": "spawn", "parameters": SCHEMA}],
}
ASKED = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"Oslo"}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "rain"}


def head(id: str = "1") -> Head:
    return Head(id, 1_700_000_000, "small", Decision("weak", Reason.FORCED))


def parsed(*items: object, **fields: object) -> ChatRequest:
    return OpenAIResponses().parse("/v1/responses", {"input": list(items) or "hi", **fields}).request


# ---- bodies ------------------------------------------------------------------------------------------------


def test_it_is_a_surface() -> None:
    surface: Surface = OpenAIResponses()
    assert surface.paths == ("/v1/responses",)
    assert surface.comment("wait") == b": wait\n\n"


THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]}
SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "well"}]}


ITEMS: list[tuple[list[object], list[Message]]] = [
    ([ASKED], [Message("user", "hi")]),
    ([{"role": "user", "content": "hi"}], [Message("user", "hi")]),
    (
        [{"role": "developer", "content": "be brief"}, ASKED],
        [Message("developer", "be brief"), Message("user", "hi")],
    ),
    (  # one turn of the assistant
        [ASKED, THOUGHT, SAID, CALL, RESULT],
        [
            Message("user", "hi"),
            Message(
                "assistant",
                (Reasoning("hm"), Text("well"), ToolCall("c1", "weather", '{"city":"Oslo"}')),
            ),
            Message("tool", (ToolResult("c1", (Text("rain"),)),)),
        ],
    ),
    (  # two of them
        [ASKED, SAID, SAID],
        [Message("user", "hi"), Message("assistant", "well"), Message("assistant", "well")],
    ),
    (  # calls side by side
        [CALL, {**CALL, "call_id": "c2"}, {**RESULT, "call_id": "c2"}, RESULT],
        [
            Message(
                "assistant",
                [ToolCall(id, "weather", '{"city":"Oslo"}') for id in ("c1", "c2")],
            ),
            Message("tool", (ToolResult("c2", (Text("rain"),)),)),
            Message("tool", (ToolResult("c1", (Text("rain"),)),)),
        ],
    ),
    (  # what an endpoint signed a call with comes back; what is only OpenAI's does not
        [{**CALL, "id": "fc_1", "status": "completed", "extra_content": {"google": 1}}],
        [
            Message(
                "assistant",
                [ToolCall("c1", "weather", '{"city":"Oslo"}', extra={"extra_content": {"google": 1}})],
            )
        ],
    ),
    (
        [
            {"type": "custom_tool_call", "call_id": "c1", "name": "shell", "input": "ls x"},
            {
                "type": "custom_tool_call_output",
                "call_id": "c1",
                "output": [{"type": "input_image", "image_url": "data:,x", "detail": "low"}],
            },
        ],
        [
            Message("assistant", [ToolCall("c1", "shell", "ls x", free=True)]),
            Message("tool", [ToolResult("c1", (Image("data:,x", "low"),))]),
        ],
    ),
    (
        [{**CALL, "namespace": "agents", "name": "spawn"}],
        [Message("assistant", [ToolCall("c1", "agents__spawn", '{"city":"Oslo"}')])],
    ),
    (
        [
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "image_url": "https://x/y.png"},
                    {"type": "input_image", "file_id": "file_1"},
                    {"type": "input_file", "filename": "a.pdf", "file_data": "AAAA"},
                    {"type": "input_file", "file_id": "file_2"},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                ],
            }
        ],
        [
            Message(
                "user",
                (
                    Image("https://x/y.png"),
                    Foreign("input_image", {"type": "input_image", "file_id": "file_1"}),
                    File("data:application/octet-stream;base64,AAAA", None, "a.pdf"),
                    File(None, "file_2"),
                    Audio("AAAA", "wav"),
                ),
            )
        ],
    ),
    (
        [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, ASKED],
        [Message("assistant", (Refusal("no"),)), Message("user", "hi")],
    ),
    (
        [{"type": "web_search_call", "id": "ws"}, SAID, {"type": "computer_call_output", "x": 1}],
        [
            Message(
                "assistant",
                (Foreign("web_search_call", {"type": "web_search_call", "id": "ws"}), Text("well")),
            ),
            Message("tool", (Foreign("computer_call_output", {"type": "computer_call_output", "x": 1}),)),
        ],
    ),
    (
        [{**THOUGHT, "encrypted_content": "gAAA"}],
        [
            Message(
                "assistant",
                (
                    Reasoning(
                        "hm",
                        "encrypted_content",
                        {"id": "rs_1", "summary": THOUGHT["summary"], "encrypted_content": "gAAA"},
                    ),
                ),
            )
        ],
    ),
    (  # what other endpoints encrypted is never joined
        [{"type": "reasoning", "summary": [], "encrypted_content": text} for text in ("one", "two")],
        [
            Message(
                "assistant",
                [Reasoning("", "encrypted_content", {"encrypted_content": text}) for text in ("one", "two")],
            )
        ],
    ),
    (
        [
            {
                **THOUGHT,
                "encrypted_content": sealed(Reasoning("all of it", "thinking", {"signature": "s"})),
            }
        ],
        [Message("assistant", (Reasoning("all of it", "thinking", {"signature": "s"}),))],
    ),
]


def test_items_are_messages() -> None:
    for items, messages in ITEMS:
        assert list(parsed(*items).messages) == messages, items


def test_fields_are_read() -> None:
    body = {
        "model": "router-mf-0.3",
        "input": "hi",
        "instructions": "be brief",
        "max_output_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_logprobs": 2,
        "include": ["message.output_text.logprobs"],
        "stream": True,
        "user": "u",
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "parallel_tool_calls": False,
        "client_metadata": {"turn": "1"},
        "truncation": "auto",
    }
    call = OpenAIResponses().parse("/v1/responses", body)
    request = call.request
    assert call.stream
    assert request.target == "router-mf-0.3"
    assert request.messages == (Message("system", "be brief"), Message("user", "hi"))
    assert (request.max_tokens, request.logprobs, request.top_logprobs) == (9, True, 2)
    assert (request.sampling.temperature, request.sampling.top_p) == (0.5, 0.9)
    assert request.reasoning == ReasoningOptions(enabled=True, effort="low")
    assert request.tool_choice.parallel is False
    assert request.extra.protocol == "openai-responses"
    assert request.extra.fields == {
        "user": "u",
        "text": {"verbosity": "low"},
        "reasoning": {"summary": "auto"},
        "client_metadata": {"turn": "1"},
        "truncation": "auto",
        "include": ["message.output_text.logprobs"],
    }


def test_what_is_left_out_is_the_models_own() -> None:
    request = parsed()
    assert request == ChatRequest((Message("user", "hi"),), extra=request.extra)
    assert parsed(reasoning={"effort": "none"}).reasoning == ReasoningOptions(False)


def test_sampling_as_other_servers_know_it() -> None:
    request = parsed(top_k=-1, min_p=0.1, seed=3, stop=["x"], logit_bias={"5": 1})
    sampling = request.sampling
    assert (sampling.top_k, sampling.min_p, sampling.seed, sampling.logit_bias) == (0, 0.1, 3, {5: 1.0})
    assert request.stop == ("x",) and not request.extra.fields


def test_what_the_weak_model_cannot_serve_is_called_as_it_was_written() -> None:
    image = {"role": "user", "content": [{"type": "input_image", "image_url": "data:,x"}]}
    request = parsed(image, tools=[WEATHER], text={"format": {"type": "json_object"}})
    assert {request.name_of(need) for need in request.needs} == {"input", "tools", "text.format"}


@pytest.mark.parametrize(
    ("form", "output"),
    [
        ({"type": "json_object"}, JsonOutput()),
        (
            {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True, "description": "d"},
            JsonOutput(SCHEMA, "n", "d", True),
        ),
        ({"type": "grammar", "syntax": "lark", "definition": "s: x"}, GrammarOutput("lark", "s: x")),
        ({"type": "video"}, ForeignOutput({"type": "video"})),
    ],
)
def test_forms_of_answers(form: Body, output: object) -> None:
    assert parsed(text={"format": form}).output == output


TOOLS = [WEATHER, SHELL, AGENTS, SEARCH]


def test_tools() -> None:
    request = parsed(tools=TOOLS)
    assert request.tools == (
        Tool("weather", parameters=SCHEMA, strict=True),
        Tool("shell", free=True, form=GrammarOutput("regex", "ls .*")),
        Tool("agents__spawn", parameters=SCHEMA),
        HostedTool("web_search", SEARCH),
    )
    assert request.needs == {Need.TOOLS}
    later = parsed(
        {"type": "additional_tools", "role": "developer", "tools": [SHELL]}, ASKED, tools=[WEATHER]
    )
    assert [tool.name for tool in later.tools] == ["weather", "shell"]


def test_a_name_within_a_namespace_fits_endpoints() -> None:
    long = [flat_name("n" * 60, name) for name in ("one", "two")]
    assert len(set(long)) == 2
    assert all(len(name) == 64 for name in long)


CHOICES: list[tuple[object, ToolChoice]] = [
    ("auto", ToolChoice()),
    ("none", ToolChoice("none")),
    ("required", ToolChoice("required")),
    ({"type": "function", "name": "weather"}, ToolChoice("required", ("weather",))),
    ({"type": "function", "function": {"name": "weather"}}, ToolChoice("required", ("weather",))),
    ({"type": "function", "name": "spawn"}, ToolChoice("required", ("agents__spawn",))),
    ({"type": "namespace", "name": "agents"}, ToolChoice("required", ("agents__spawn",))),
    ({"type": "custom", "name": "shell"}, ToolChoice("required", ("shell",))),
    ({"type": "web_search"}, ToolChoice("required", ("web_search",))),
    (
        {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", "name": "weather"}, {"type": "web_search"}],
        },
        ToolChoice("auto", ("weather", "web_search")),
    ),
]


def test_choices_of_tools() -> None:
    for choice, read in CHOICES:
        assert parsed(tools=TOOLS, tool_choice=choice).tool_choice == read, choice


def test_a_choice_among_no_tools_is_none() -> None:
    for choice in ("auto", "none", {"type": "none"}):
        assert parsed(tool_choice=choice).tool_choice == ToolChoice(), choice


BAD: list[tuple[Body, str, str]] = [
    ({"input": None}, "input", "must be a string or a list"),
    ({"input": []}, "input", "not empty"),
    ({"input": 7}, "input", "must be a string"),
    ({"input": [7]}, "input[0]", "must be an object"),
    ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role", "must be one of"),
    ({"input": [{"role": "user"}]}, "input[0].content", "is missing"),
    ({"input": [{"role": "user", "content": 7}]}, "input[0].content", "must be a string or a list"),
    ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, "input[0].content[0].type", "must be"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
        "input[0].content[0].text",
        "must be a string",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
        "input[0].content[0].image_url",
        "address",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
        "input[0].content[0].file_data",
        "is missing",
    ),
    ({"input": [RESULT]}, "input[0].call_id", "no message before it makes"),
    ({"input": [CALL, {"type": "function_call_output", "call_id": "c1"}]}, "input[1].output", "missing"),
    ({"input": [{**CALL, "call_id": None}]}, "input[0].call_id", "is missing"),
    ({"input": [{**CALL, "name": ""}]}, "input[0].name", "is missing"),
    ({"input": [{**CALL, "arguments": {}}]}, "input[0].arguments", "must be a string"),
    ({"input": [{"type": "item_reference", "id": "msg_9"}]}, "input[0].id", "'msg_9'"),
    ({"input": [{**THOUGHT, "summary": "hm"}]}, "input[0].summary", "must be a list"),
    ({"input": [{**ASKED, "private": True}]}, "input[0].private", "not heard there"),
    ({"instructions": ["x"]}, "instructions", "must be a string"),
    ({"previous_response_id": "resp_9"}, "previous_response_id", "resp_9"),
    ({"background": True}, "background", "not supported"),
    ({"conversation": "conv_1"}, "conversation", "not supported"),
    ({"prompt": {"id": "p"}}, "prompt", "not supported"),
    ({"max_tokens": 5}, "max_tokens", "max_output_tokens"),
    ({"messages": []}, "messages", "write input"),
    ({"response_format": {}}, "response_format", "text.format"),
    ({"instrucktions": "x"}, "instrucktions", "did you mean instructions"),
    ({"base_url": "x"}, "base_url", "configuration"),
    ({"confidential": True}, "confidential", "did you mean private"),
    ({"max_output_tokens": 0}, "max_output_tokens", "between"),
    ({"temperature": 3}, "temperature", "between"),
    ({"stream": "yes"}, "stream", "true or false"),
    ({"include": [5]}, "include", "must be a string"),
    ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", "JSON schema"),
    ({"text": {"format": {"type": "grammar"}}}, "text.format.syntax", "lark or regex"),
    ({"tools": {}}, "tools", "must be a list"),
    ({"tools": [{}]}, "tools[0].type", "is missing"),
    ({"tools": [{"type": "function"}]}, "tools[0].name", "is missing"),
    ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools[0].name", "below function"),
    ({"tools": [{**WEATHER, "parameters": "x"}]}, "tools[0].parameters", "JSON schema"),
    ({"tools": [WEATHER, WEATHER]}, "tools[1].name", "another tool"),
    ({"tools": [{**WEATHER, "name": f"t{n}"} for n in range(1000)]}, "tools", "at most 512"),
    ({"tools": [{**AGENTS, "tools": [{"type": "function"}]}]}, "tools[0].tools[0].name", "is missing"),
    ({"tools": [{**SHELL, "format": {"type": "x"}}]}, "tools[0].format.type", "text or grammar"),
    ({"tools": [WEATHER], "tool_choice": "some"}, "tool_choice", "must be auto"),
    (
        {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "time"}},
        "tool_choice.name",
        "not among tools",
    ),
    ({"tool_choice": {"type": "web_search"}}, "tool_choice.type", "not among tools"),
    ({"tool_choice": {"type": "allowed_tools", "tools": []}}, "tool_choice.tools", "not empty"),
]


def test_bad_bodies_name_the_field() -> None:
    for body, param, says in BAD:
        with pytest.raises(InvalidRequest) as caught:
            OpenAIResponses().parse("/v1/responses", {"input": "hi", **body})
        assert (caught.value.param, says in caught.value.reason) == (param, True), (body, caught.value)


def test_a_mark_of_privacy_is_heard() -> None:
    for body in ({"private": True}, {"metadata": {"private": "yes", "a": "b"}}):
        request = parsed(**body)
        assert request.private
        assert "private" not in str(request.extra.fields)


def test_what_somebody_else_encrypted_is_not_ours() -> None:
    for content in (None, "gAAA", "edge_router.1:!", "edge_router.1:e30="):
        assert unsealed(content) is None
    thoughts = Reasoning("hm\ud800", "thinking", {"signature": ["s"]})
    assert unsealed(sealed(thoughts)) == thoughts


# ---- answers -----------------------------------------------------------------------------------------------

TOKEN = TokenLogprob("hi", -0.5, b"hi", (TokenLogprob("ho", float("-inf"), b"ho"),))
SPOKEN: list[Event] = [TextDelta("he", (TOKEN,)), TextDelta("llo"), STOP]
CALLING: list[Event] = [
    TextDelta("Let me see"),
    ToolCallStart(0, "c1", "weather", extra={"extra_content": 1}),
    ToolCallStart(1, "c2", "agents__spawn"),
    ToolCallArguments(1, "{"),
    ToolCallArguments(0, '{"city":'),
    ToolCallArguments(0, '"Oslo"}', {"more": 2}),
    ToolCallArguments(1, "}"),
    ToolCallStart(2, "c3", "shell", free=True),
    ToolCallArguments(2, "ls x"),
    Finished("tool_calls", USAGE),
]
THINKING: list[Event] = [
    ReasoningDelta("h"),
    ReasoningDelta("m", opaque={"signature": "s"}),
    TextDelta("yes"),
    ReasoningDelta("", "redacted", {"data": "d"}),
    TextDelta("no"),
    RefusalDelta("never"),
    STOP,
]
CASES: Mapping[str, tuple[Body, list[Event], str, list[str]]] = {
    "text": ({}, SPOKEN, "completed", ["message"]),
    "log probabilities": ({"top_logprobs": 1}, SPOKEN, "completed", ["message"]),
    "calls": (
        {"tools": TOOLS},
        CALLING,
        "completed",
        ["message", "function_call", "function_call", "custom_tool_call"],
    ),
    "thoughts": ({}, THINKING, "completed", ["reasoning", "message", "reasoning", "message"]),
    "thoughts as a summary": (
        {"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]},
        THINKING,
        "completed",
        ["reasoning", "message", "reasoning", "message"],
    ),
    "a refusal": ({}, [RefusalDelta("no"), STOP], "completed", ["message"]),
    "cut": ({}, [TextDelta("he"), Finished("length", USAGE)], "incomplete", ["message"]),
    "filtered": ({}, [TextDelta("he"), Finished("content_filter")], "incomplete", ["message"]),
    "cut before it began": ({}, [Finished("length")], "incomplete", []),
    "nothing": (
        {},
        [TextDelta(""), HiddenState((1.0,)), ForeignDelta({"x": 1}), STOP],
        "completed",
        ["message"],
    ),
    "nothing but thoughts": ({}, [ReasoningDelta("hm"), STOP], "completed", ["reasoning", "message"]),
}


def asked(surface: OpenAIResponses, body: Mapping[str, object]) -> Call:
    return surface.parse("/v1/responses", {"input": "hi", "stream": True, **body})


def streamed(
    events: Iterable[Event],
    body: Mapping[str, object],
    surface: OpenAIResponses | None = None,
    failure: Failure | None = None,
    id: str = "1",
) -> list[Body]:
    surface = surface or OpenAIResponses()
    encoder = surface.encoder(asked(surface, body), head(id))
    data = b"".join(encoder.feed(event) for event in events)
    return read(data + (encoder.end() if failure is None else encoder.fail(failure)))


def read(data: bytes) -> list[Body]:
    """The events of a stream, each of which is as openai-python's types want it."""
    found = []
    for chunk in data.decode().split("\n\n")[:-1]:
        name, line = chunk.split("\n")
        event = json.loads(line.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_python(event)
        assert event["sequence_number"] == len(found)
        found.append(event)
    return found


def named(events: Iterable[Body], kind: str) -> list[Body]:
    return [event for event in events if event["type"] == f"response.{kind}"]


@pytest.mark.parametrize("name", CASES)
def test_a_stream_and_a_whole_answer_say_the_same(name: str) -> None:
    body, events, status, kinds = CASES[name]
    sent = streamed(events, body)
    assert [event["type"] for event in sent[:2]] == ["response.created", "response.in_progress"]
    assert sent[0]["response"]["status"] == "in_progress" and sent[0]["response"]["output"] == []
    last = sent[-1]
    assert last["type"] == f"response.{status}"
    response = last["response"]
    assert [item["type"] for item in response["output"]] == kinds

    surface = OpenAIResponses()
    whole = surface.whole(asked(surface, body), head(), collect(events))
    shapes.Response.model_validate(whole)
    assert json.loads(json.dumps(whole)) == response
    for index, item in enumerate(response["output"]):
        (done,) = (one for one in named(sent, "output_item.done") if one["output_index"] == index)
        (added,) = (one for one in named(sent, "output_item.added") if one["output_index"] == index)
        assert done["item"] == item
        assert added["item"]["id"] == item["id"]
        assert added["item"].get("status") == "in_progress"


def test_words_before_a_call_are_no_answer_yet() -> None:
    for events, phases in (
        (CALLING, ["commentary", None, None, None]),
        (SPOKEN, [None]),
        (THINKING, [None] * 4),
    ):
        done = named(streamed(events, {"tools": TOOLS}), "output_item.done")
        assert [event["item"].get("phase") for event in done] == phases


def test_pieces_make_the_whole() -> None:
    sent = streamed(SPOKEN, {"top_logprobs": 1})
    assert "".join(event["delta"] for event in named(sent, "output_text.delta")) == "hello"
    (done,) = named(sent, "output_text.done")
    assert done["text"] == "hello"
    (token,) = done["logprobs"]
    assert token["token"] == "hi" and token["bytes"] == [104, 105]
    assert token["top_logprobs"] == [{"token": "ho", "bytes": [104, 111], "logprob": -9999.0}]
    assert named(streamed(SPOKEN, {}), "output_text.done")[0]["logprobs"] == []


def test_calls_keep_their_names_and_what_they_were_signed_with() -> None:
    sent = streamed(CALLING, {"tools": TOOLS})
    _, weather, spawn, shell = sent[-1]["response"]["output"]
    assert weather == {
        "id": "fc_1_1",
        "type": "function_call",
        "status": "completed",
        "call_id": "c1",
        "name": "weather",
        "arguments": '{"city":"Oslo"}',
        "extra_content": 1,
        "more": 2,
    }
    assert (spawn["namespace"], spawn["name"], spawn["arguments"]) == ("agents", "spawn", "{}")
    assert (shell["name"], shell["input"]) == ("shell", "ls x")
    assert named(sent, "custom_tool_call_input.done")[0]["input"] == "ls x"
    assert [event["arguments"] for event in named(sent, "function_call_arguments.done")] == [
        '{"city":"Oslo"}',
        "{}",
    ]


def test_thoughts_come_back_as_they_were() -> None:
    """Whichever form they were sent in, and although the client reads none of it."""
    thoughts = [part for part in collect(THINKING).parts if isinstance(part, Reasoning)]
    for body in ({}, {"reasoning": {"summary": "auto"}}, {"include": ["reasoning.encrypted_content"]}):
        output = streamed(THINKING, body)[-1]["response"]["output"]
        back = parsed(ASKED, *output, ASKED)
        found = [part for message in back.messages for part in message.parts if isinstance(part, Reasoning)]
        assert found == thoughts


def test_thoughts_may_be_signed_late() -> None:
    """After the text and the calls, as some endpoints do; the text stays in one piece."""
    events: list[Event] = [
        ReasoningDelta("hm", "thinking"),
        TextDelta("a"),
        ReasoningDelta("", "thinking", {"signature": "s"}),
        TextDelta("b"),
        ToolCallStart(0, "c1", "weather"),
        ReasoningDelta("", "thinking", {"signature": "t"}),
        Finished("tool_calls"),
    ]
    for body in ({}, {"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]}):
        output = streamed(events, body)[-1]["response"]["output"]
        assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "reasoning"]
        (message,) = parsed(*output).messages
        assert (
            message.parts
            == collect(events).parts
            == (
                Reasoning("hm", "thinking", {"signature": "st"}),
                Text("ab"),
                ToolCall("c1", "weather", ""),
            )
        )


def test_thoughts_are_shown_in_the_form_that_was_asked_for() -> None:
    sent = streamed(THINKING, {"reasoning": {"summary": "auto"}})
    assert [event["delta"] for event in named(sent, "reasoning_summary_text.delta")] == ["h", "m"]
    assert not named(sent, "reasoning_text.delta")
    sent = streamed(THINKING, {})
    assert [event["delta"] for event in named(sent, "reasoning_text.delta")] == ["h", "m"]
    assert named(sent, "reasoning_text.done")[0]["text"] == "hm"


@pytest.mark.parametrize(
    ("events", "reason", "state"),
    [
        ([TextDelta("he"), Finished("length", looped=True)], "max_output_tokens", "incomplete"),
        ([TextDelta("he"), Finished("content_filter")], "content_filter", "incomplete"),
    ],
)
def test_why_an_answer_is_cut_is_told(events: list[Event], reason: str, state: str) -> None:
    sent = streamed(events, {})
    assert sent[-1]["response"]["incomplete_details"] == {"reason": reason}
    assert named(sent, "output_item.done")[0]["item"]["status"] == state


def test_usage() -> None:
    assert streamed(SPOKEN, {})[-1]["response"]["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 12,
    }
    assert streamed([TextDelta("x"), Finished("stop")], {})[-1]["response"]["usage"] is None


def test_an_answer_repeats_what_was_asked() -> None:
    body = {
        "instructions": "be brief",
        "tools": TOOLS,
        "tool_choice": "auto",
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "text": {"verbosity": "low"},
        "reasoning": {"effort": "low"},
        "max_output_tokens": 4,
        "user": "u",
    }
    response = streamed(SPOKEN, body)[-1]["response"]
    told = {name: response[name] for name in body}
    assert told == {
        **body,
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": None},
    }
    assert (response["id"], response["created_at"], response["model"]) == ("resp_1", 1_700_000_000, "small")


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure(500, "It broke.", "server_error", "generation_failed"), "server_error"),
        (
            Failure(400, "Too long.", "invalid_request_error", "context_length_exceeded"),
            "context_length_exceeded",
        ),
        (Failure(429, "Wait.", "rate_limit_error", "rate_limit_exceeded"), "rate_limit_exceeded"),
        (Failure(400, "No.", "invalid_request_error", "strong_model_refused", "tools"), "invalid_prompt"),
    ],
)
def test_an_answer_that_breaks_off_says_so_twice(failure: Failure, code: str) -> None:
    surface = OpenAIResponses()
    for events in ([], [TextDelta("he")], [ToolCallStart(0, "c", "f"), ToolCallArguments(0, '{"a')]):
        encoder = surface.encoder(asked(surface, {}), head())
        data = b"".join(encoder.feed(event) for event in events) + encoder.fail(failure)
        lines = [chunk.split("\ndata: ")[1] for chunk in data.decode().split("\n\n")[:-1]]
        sent = [json.loads(line) for line in lines]
        assert sent[0]["type"] == "response.created"
        failed, error = sent[-2:]
        assert failed["type"] == "response.failed"
        assert failed["response"]["status"] == "failed"
        assert failed["response"]["error"] == {"code": code, "message": failure.message}
        assert failed["response"]["output"] == []
        assert EVENT.validate_python(error).type == "error"
        assert error["error"] == surface.error(failure)["error"]
        assert error["error"]["param"] == failure.param
    assert surface.store.get("resp_1") is None


# ---- what is kept ------------------------------------------------------------------------------------------


def query(surface: OpenAIResponses, method: str, path: str) -> Callable[[Mapping[str, object]], Any]:
    (found,) = (one for one in surface.queries if (one.method, one.path) == (method, path))
    return lambda body: found.answer(body, None)  # type: ignore[arg-type]


ONE = "/v1/responses/{response_id}"


def test_a_conversation_goes_on_from_what_was_kept() -> None:
    surface = OpenAIResponses()
    streamed(CALLING, {"tools": TOOLS, "instructions": "be brief"}, surface, id="a")
    results = [
        {"type": "function_call_output", "call_id": "c1", "output": "rain"},
        {"type": "function_call_output", "call_id": "c2", "output": "ok"},
        {"type": "custom_tool_call_output", "call_id": "c3", "output": "x"},
    ]
    call = surface.parse("/v1/responses", {"input": results, "previous_response_id": "resp_a"})
    spoken = Message(
        "assistant",
        (
            Text("Let me see"),
            ToolCall("c1", "weather", '{"city":"Oslo"}', extra={"extra_content": 1, "more": 2}),
            ToolCall("c2", "agents__spawn", "{}"),
            ToolCall("c3", "shell", "ls x", free=True),
        ),
    )
    answered = [
        Message("tool", (ToolResult(id, (Text(text),)),))
        for id, text in (("c1", "rain"), ("c2", "ok"), ("c3", "x"))
    ]
    assert list(call.request.messages) == [Message("user", "hi"), spoken, *answered]
    surface.whole(call, head("b"), collect(SPOKEN))
    third = surface.parse("/v1/responses", {"input": "so?", "previous_response_id": "resp_b"}).request
    assert list(third.messages) == [
        *call.request.messages,
        Message("assistant", "hello"),
        Message("user", "so?"),
    ]
    again = surface.parse("/v1/responses", {"previous_response_id": "resp_b"}).request
    assert again.messages == third.messages[:-1]
    for referred in ({"type": "item_reference", "id": "msg_b_0"}, {"id": "msg_b_0"}):
        assert surface.parse("/v1/responses", {"input": [ASKED, referred]}).request.messages == (
            Message("user", "hi"),
            Message("assistant", "hello"),
        )


def test_kept_answers_can_be_asked_for() -> None:
    surface = OpenAIResponses()
    body = {"input": [{"role": "user", "content": "one"}, SAID, {**ASKED, "id": "mine"}]}
    last = streamed(SPOKEN, body, surface)[-1]["response"]
    found = query(surface, "GET", ONE)({"response_id": "resp_1"})
    assert json.loads(json.dumps(found)) == last
    shapes.Response.model_validate(found)
    for order, ids in (("asc", ["in_1_0", "in_1_1", "mine"]), ("desc", ["mine", "in_1_1", "in_1_0"])):
        items = query(surface, "GET", ONE + "/input_items")({"response_id": "resp_1", "order": order})
        assert [item["id"] for item in items["data"]] == ids
        shapes.ResponseItemList.model_validate(items)
    for given, ids, more in (
        ({"limit": "2"}, ["mine", "in_1_1"], True),
        ({"limit": "2", "after": "in_1_1"}, ["in_1_0"], False),
        ({"after": "in_1_0"}, [], False),
    ):
        page = query(surface, "GET", ONE + "/input_items")({"response_id": "resp_1", **given})
        assert ([item["id"] for item in page["data"]], page["has_more"]) == (ids, more), given
    for limit in ("0", "101", "x", "²", "9" * 5000):
        with pytest.raises(InvalidRequest):
            query(surface, "GET", ONE + "/input_items")({"response_id": "resp_1", "limit": limit})
    gone = query(surface, "DELETE", ONE)({"response_id": "resp_1"})
    assert gone == {"id": "resp_1", "object": "response", "deleted": True}
    for method, path in (("GET", ONE), ("GET", ONE + "/input_items"), ("DELETE", ONE)):
        with pytest.raises(UnknownResponse):
            query(surface, method, path)({"response_id": "resp_1"})
    with pytest.raises(PreviousResponseGone):
        surface.parse("/v1/responses", {"input": "x", "previous_response_id": "resp_1"})


@pytest.mark.parametrize("body", [{"store": False}, {"private": True}])
def test_some_answers_are_never_kept(body: Body) -> None:
    surface = OpenAIResponses()
    streamed(SPOKEN, body, surface)
    surface.whole(asked(surface, body), head(), collect(SPOKEN))
    assert len(surface.store) == 0 and surface.store.bytes == 0


def test_the_prompts_tokens_are_counted() -> None:
    class Counting:
        def count_tokens(self, request: ChatRequest) -> int:
            return len(request.messages[-1].text)

    (found,) = (one for one in OpenAIResponses().queries if one.method == "POST")
    counted = found.answer({"input": "hello"}, Counting())  # type: ignore[arg-type]
    assert counted == {"object": "response.input_tokens", "input_tokens": 5}


def item(id: str, size: int = 10) -> Body:
    return {"id": id, "text": "x" * size}


def keep(store: ResponseStore, id: str, size: int = 10, before: str | None = None) -> None:
    earlier = store.get(before) if before else None
    store.add(id, {"output": [item(f"msg_{id}", size)]}, [{"given": id}], earlier)


def test_the_store_forgets_what_nobody_asked_for_the_longest() -> None:
    store = ResponseStore(most_entries=3)
    for id in "abc":
        keep(store, id)
    assert store.get("a") is not None
    keep(store, "d")
    assert [store.get(id) is not None for id in "abcd"] == [True, False, True, True]
    assert store.item("msg_a") == item("msg_a") and store.item("msg_b") is None


def test_the_store_is_bounded_in_bytes() -> None:
    store = ResponseStore(most_bytes=1000)
    keep(store, "large", 2000)
    assert store.get("large") is None
    for id in "abcdefgh":
        keep(store, id, 300)
        assert 0 < store.bytes <= 1000
    assert [store.get(id) is not None for id in "efgh"] == [False, False, True, True]
    for id in "gh":
        assert store.remove(id)
    assert store.bytes == 0 and not store.remove("h") and store.item("msg_h") is None


def test_a_conversation_keeps_its_beginning() -> None:
    store = ResponseStore(most_entries=1)
    for before, id in ((None, "a"), ("a", "b"), ("b", "c")):
        keep(store, id, before=before)
    assert store.get("a") is None
    kept = store.get("c")
    assert kept is not None
    texts = [str(one.get("given", one.get("id"))) for one in kept.history]
    assert texts == ["a", "msg_a", "b", "msg_b", "c", "msg_c"]
    assert store.item("msg_a") is not None
    size = store.bytes
    store.remove("c")
    assert store.bytes == 0 and store.item("msg_a") is None
    store.add("d", {"output": []}, [], kept)  # a request under way goes on from what is gone by now
    assert store.bytes > size and store.item("msg_a") is not None
    assert store.remove("d") and store.bytes == 0


def test_a_conversation_larger_than_the_store_is_not_kept() -> None:
    store = ResponseStore(most_bytes=1000)
    for before, id in ((None, "a"), ("a", "b"), ("b", "c")):
        keep(store, id, 400, before)
    assert store.bytes == 0 and len(store) == 0


def test_an_answer_that_breaks_off_is_not_repeated() -> None:
    """Endpoints that never end send all that an answer may hold; what was sent is not built up again."""
    surface = OpenAIResponses()
    call = surface.parse("/v1/responses", {"input": "hi"})
    encoder = surface.encoder(call, Head("1", 0, "m", Decision("strong", Reason.FORCED)))
    text = "y" * 1000
    for _ in range(1000):
        encoder.feed(TextDelta(text))
    last = encoder.fail(Failure(502, "it went on and on", "server_error"))
    assert b"response.failed" in last and b"it went on and on" in last and len(last) < 10_000
