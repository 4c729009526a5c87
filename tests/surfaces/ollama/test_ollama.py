"""Ollama's API without a server: bodies to requests, events to lines."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from edge_router.chat.events import (
    EngineTimings,
    Event,
    Finished,
    ForeignDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.chat.message import Image, Message, Reasoning, Text, ToolCall
from edge_router.chat.model import ModelInfo
from edge_router.chat.reply import collect
from edge_router.chat.request import (
    ChatRequest,
    Extra,
    JsonOutput,
    Need,
    ReasoningOptions,
    SamplingParams,
    TextOutput,
    Tool,
    ToolChoice,
)
from edge_router.errors import GenerationFailed, InvalidRequest, UnknownModel
from edge_router.surfaces.base import Call, Errand, Failure, Head
from edge_router.surfaces.ollama.parse import CHAT, GENERATE
from edge_router.surfaces.ollama.surface import Ollama
from edge_router.types import Decision, Reason

HostOf = Callable[..., Any]
HEAD = Head("x", 1_700_000_000, "SmolLM2", Decision("weak", Reason.SCORE))
USER = {"role": "user", "content": "hello"}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()
JPEG = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(20)).decode()
WEBP = base64.b64encode(b"RIFF\0\0\0\0WEBPVP8 ").decode()
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def clock(*seconds: float) -> Ollama:
    """A surface whose clock shows these, one after the other, and goes on with the last."""

    def ticks() -> Iterator[float]:
        yield from seconds
        while True:
            yield seconds[-1]

    shown = ticks()
    return Ollama(lambda: next(shown))


OLLAMA = clock(100.0)


def parsed(body: dict[str, object], path: str = CHAT) -> Call:
    call = OLLAMA.parse(path, body)
    assert isinstance(call, Call)
    return call


def chat(*messages: object, **fields: object) -> ChatRequest:
    return parsed({"model": "auto", "messages": list(messages) or [USER], **fields}).request


def called(name: str, arguments: object, **more: object) -> dict[str, object]:
    return {"function": {"name": name, "arguments": arguments}, **more}


# ---- parse -------------------------------------------------------------------------------------------------


def test_a_chat_is_streamed_unless_it_says_otherwise() -> None:
    assert parsed({"model": "m", "messages": [USER]}).stream
    assert not parsed({"model": "m", "messages": [USER], "stream": False}).stream
    assert chat().messages == (Message("user", "hello"),)
    for body, target in (({"model": "weak"}, "weak"), ({"name": "weak"}, "weak"), ({}, "auto")):
        assert parsed({"messages": [USER], **body}).request.target == target, body


def test_options_become_what_they_mean() -> None:
    rows: list[tuple[dict[str, object], SamplingParams]] = [
        ({}, SamplingParams()),
        (
            {"temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "seed": 7},
            SamplingParams(temperature=0.5, top_p=0.9, top_k=40, min_p=0.1, seed=7),
        ),
        (
            {"repeat_penalty": 1.1, "presence_penalty": 1, "frequency_penalty": -1},
            SamplingParams(repetition_penalty=1.1, presence_penalty=1.0, frequency_penalty=-1.0),
        ),
        ({"top_k": -1, "seed": -1}, SamplingParams(top_k=0)),
        ({"temperature": None, "num_ctx": 4096, "mirostat": 1, "num_gpu": 99}, SamplingParams()),
    ]
    for options, sampling in rows:
        assert chat(options=options).sampling == sampling, options
    for count, most in ((5, 5), (0, None), (-1, None), (-2, None), (None, None)):
        assert chat(options={"num_predict": count}).max_tokens == most, count
    assert chat(options={"stop": ["a", "", "b"]}).stop == ("a", "b")
    assert chat(options={"stop": "a"}).stop == ("a",)


def test_what_only_ollama_knows_is_kept_for_its_own_endpoints() -> None:
    request = chat(options={"temperature": 1, "num_ctx": 4096}, keep_alive="5m", shift=True, think=None)
    assert request.extra == Extra("ollama", {"shift": True, "options": {"num_ctx": 4096}})
    assert chat().extra == Extra("ollama", {})


def test_form_and_thoughts() -> None:
    for form, output in (
        (None, TextOutput()),
        ("", TextOutput()),
        ("json", JsonOutput()),
        (SCHEMA, JsonOutput(SCHEMA)),
    ):
        assert chat(format=form).output == output, form
    for think, wanted in (
        (None, ReasoningOptions()),
        (True, ReasoningOptions(True)),
        (False, ReasoningOptions(False)),
        ("high", ReasoningOptions(True, "high")),
        ("false", ReasoningOptions(False)),
    ):
        assert chat(think=think).reasoning == wanted, think
    assert chat(private=True).private
    asked = chat(logprobs=True, top_logprobs=3)
    assert (asked.logprobs, asked.top_logprobs) == (True, 3)


def test_tools() -> None:
    function = {"name": "add", "description": "adds", "parameters": SCHEMA}
    tools = [{"type": "function", "function": function}, {"function": {"name": "now"}}]
    request = chat(tools=tools)
    assert request.tools == (Tool("add", "adds", SCHEMA), Tool("now"))
    assert Need.TOOLS in request.needs
    for choice, wanted in (
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "function": {"name": "add"}}, ToolChoice("required", ("add",))),
    ):
        assert chat(tools=tools, tool_choice=choice).tool_choice == wanted, choice


def test_calls_and_results_are_paired_in_their_order() -> None:
    two = {"role": "assistant", "tool_calls": [called("add", {"a": 1}), called("now", {})]}
    ids = ("call_0", "call_1")
    rows: list[tuple[str, list[dict[str, object]], list[str]]] = [
        ("no names", [{"content": "3"}, {"content": "noon"}], [*ids]),
        (
            "names, in another order",
            [{"content": "noon", "tool_name": "now"}, {"content": "3", "tool_name": "add"}],
            ["call_1", "call_0"],
        ),
        ("older name", [{"content": "noon", "name": "now"}], ["call_1"]),
        ("an id that we gave", [{"content": "noon", "tool_call_id": "call_1"}], ["call_1"]),
        ("an id of a client's own", [{"content": "3", "tool_call_id": "xyz"}], ["call_0"]),
    ]
    for what, results, order in rows:
        messages = chat(USER, two, *({"role": "tool", **result} for result in results)).messages
        assert messages[1].calls == (
            ToolCall("call_0", "add", '{"a":1}'),
            ToolCall("call_1", "now", "{}"),
        ), what
        found = [message.results[0] for message in messages[2:]]
        assert [each.call_id for each in found] == order, what
        assert [each.text for each in found] == [result["content"] for result in results], what
        assert all(each.name == ("add", "now")[ids.index(each.call_id)] for each in found), what


def test_two_calls_of_one_tool_get_their_results_one_after_the_other() -> None:
    turns = (
        {"role": "assistant", "tool_calls": [called("f", {"a": 1}), called("f", {"a": 2})]},
        {"role": "tool", "tool_name": "f", "content": "one"},
        {"role": "tool", "tool_name": "f", "content": "two"},
        {"role": "assistant", "tool_calls": [called("f", "{}", id="call_1"), called("f", None)]},
        {"role": "tool", "content": "three"},
    )
    messages = chat(USER, *turns).messages
    calls = [call for message in messages for call in message.calls]
    assert len({call.id for call in calls}) == 4
    assert [call.arguments for call in calls] == ['{"a":1}', '{"a":2}', "{}", "{}"]
    answered = {result.call_id: result.text for message in messages for result in message.results}
    assert [answered.get(call.id) for call in calls] == ["one", "two", "three", None]


def test_an_assistant_turn_has_thoughts_words_and_calls() -> None:
    turn = {"role": "assistant", "thinking": "hm", "content": "well", "tool_calls": [called("f", {}, id="a")]}
    parts = (Reasoning("hm"), Text("well"), ToolCall("a", "f", "{}"))
    assert chat(USER, turn).messages[1] == Message("assistant", parts)
    for last, goes_on in (({"role": "assistant", "content": "It is"}, True), (turn, False), (USER, False)):
        assert chat(USER, last).continue_final == goes_on, last


def test_pictures_become_urls_of_their_kind() -> None:
    for data, kind in ((PNG, "png"), (JPEG, "jpeg"), (WEBP, "webp"), (f"data:image/x;base64,{PNG}", "png")):
        request = chat({**USER, "images": [data]})
        plain = data.rpartition(",")[2]
        assert request.messages[0].parts == (
            Text("hello"),
            Image(f"data:image/{kind};base64,{plain}"),
        ), data[:20]
        assert Need.IMAGES in request.needs


def test_generate() -> None:
    def asked(**fields: object) -> ChatRequest:
        return parsed({"model": "m", **fields}, GENERATE).request

    user = Message("user", "go on")
    assert asked(prompt="go on").messages == (user,)
    assert asked(prompt="go on", system="be brief").messages == (Message("system", "be brief"), user)
    raw = asked(prompt="go on", system="be brief", raw=True)
    assert (raw.messages, raw.raw_prompt) == ((user,), "go on")
    picture = asked(prompt="what?", images=[PNG]).messages[0]
    assert picture.parts == (Text("what?"), Image(f"data:image/png;base64,{PNG}"))
    between = asked(prompt="def f(", system="be brief", suffix="return x")
    assert (between.messages[0].text, between.raw_prompt, between.suffix) == ("def f(", "def f(", "return x")
    assert asked(suffix="return x").suffix == "return x"
    assert asked(prompt="go on", suffix="", template="", context=[]).messages == (user,)


def test_bad_bodies_name_the_field() -> None:
    deep: list[object] = [{"role": "tool", "content": "3"}]
    rows: list[tuple[dict[str, object], str]] = [
        ({"messages": "hi"}, "messages"),
        ({"messages": [3]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content"),
        ({"messages": [{**USER, "private": True}]}, "messages[0].private"),
        ({"messages": [{**USER, "images": PNG}]}, "messages[0].images"),
        ({"messages": [{**USER, "images": [PNG, "http://x/y.png"]}]}, "messages[0].images[1]"),
        ({"messages": [{**USER, "images": ["aGVsbG8="]}]}, "messages[0].images[0]"),
        ({"messages": deep}, "messages[0]"),
        (
            {
                "messages": [
                    {"role": "assistant", "tool_calls": [called("f", {})]},
                    *({"role": "tool", "tool_name": name, "content": "x"} for name in ("f", "f")),
                ]
            },
            "messages[2]",
        ),
        ({"messages": [{"role": "assistant", "tool_calls": [3]}]}, "messages[0].tool_calls[0].function"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [called("", {})]}]},
            "messages[0].tool_calls[0].function.name",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [called("f", [1])]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"tools": {}}, "tools"),
        ({"tools": [3]}, "tools[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "f", "parameters": 3}}]}, "tools[0].function.parameters"),
        ({"tools": [{"function": {"name": "f"}}] * 1000}, "tools"),
        ({"format": "xml"}, "format"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"think": 3}, "think"),
        ({"stream": "no"}, "stream"),
        ({"keep_alive": "soon"}, "keep_alive"),
        ({"keep_alive": True}, "keep_alive"),
        ({"options": []}, "options"),
        ({"options": {"temperature": "hot"}}, "options.temperature"),
        ({"options": {"temperature": 9}}, "options.temperature"),
        ({"options": {"num_predict": 1.5}}, "options.num_predict"),
        ({"options": {"num_predict": 2**40}}, "options.num_predict"),
        ({"options": {"top_k": 2**40}}, "options.top_k"),
        ({"options": {"private": True}}, "options.private"),
        ({"options": {"base_url": "http://x"}}, "options.base_url"),
        ({"api_key": "k"}, "api_key"),
        ({"prvate": True}, "prvate"),
        ({"private": "maybe"}, "private"),
        ({"keepalive": 0}, "keepalive"),
        ({"model": 3}, "model"),
        ({"model": "m" * 300}, "model"),
        ({"prompt": "hi"}, "prompt"),
    ]
    for fields, param in rows:
        with pytest.raises(InvalidRequest) as caught:
            OLLAMA.parse(CHAT, {"model": "m", "messages": [USER], **fields})
        assert caught.value.param == param, fields
    for name, value in (
        *(("context", [1, 2]), ("template", "{{ .Prompt }}"), ("messages", [USER])),
        *(("images", ["?"]), ("prompt", ["a"]), ("raw", 1)),
    ):
        with pytest.raises(InvalidRequest) as caught:
            OLLAMA.parse(GENERATE, {"model": "m", "prompt": "hi", name: value})
        assert str(caught.value.param).startswith(name), name


def test_fields_that_ollama_has_are_no_slips_of_the_pen() -> None:
    fields = ("truncate", "shift", "width", "height", "steps", "dimensions", "insecure", "n", "logit_bias")
    for name in fields:
        assert name in chat(**{name: 1}).extra.fields, name


# ---- loading and unloading ---------------------------------------------------------------------------------


def test_an_empty_conversation_loads_and_without_time_unloads(host_of: HostOf) -> None:
    rows: list[tuple[str, dict[str, object], str]] = [
        (CHAT, {}, "load"),
        (CHAT, {"messages": []}, "load"),
        (CHAT, {"messages": [], "keep_alive": "5m"}, "load"),
        (CHAT, {"messages": [], "keep_alive": -1}, "load"),
        (CHAT, {"messages": [], "keep_alive": 0}, "unload"),
        (CHAT, {"messages": [], "keep_alive": "0s"}, "unload"),
        (GENERATE, {}, "load"),
        (GENERATE, {"prompt": "", "stream": False}, "load"),
        (GENERATE, {"keep_alive": "0"}, "unload"),
    ]
    for path, fields, done in rows:
        host = host_of()
        errand = OLLAMA.parse(path, {"model": "weak", **fields})
        assert isinstance(errand, Errand), fields
        body = errand.run(host)
        assert host.asked == [(done, "weak")], fields
        assert (body["done"], body["done_reason"], body["model"]) == (True, done, "weak"), fields
        said = body["message"] if path == CHAT else {"role": "assistant", "content": body["response"]}
        assert said == {"role": "assistant", "content": ""}, fields


def test_a_model_that_may_not_stay_is_unloaded_after_its_answer(host_of: HostOf) -> None:
    for keep, leaves in ((0, True), ("0m0s", True), (None, False), ("10m", False), (0.5, False)):
        call, host = parsed({"model": "weak", "messages": [USER], "keep_alive": keep}), host_of()
        assert (call.afterwards is not None) == leaves, keep
        if call.afterwards is not None:
            call.afterwards(host)
            assert host.asked == [("unload", "weak")]


# ---- answers -----------------------------------------------------------------------------------------------

CALLS: list[Event] = [
    ReasoningDelta("I should "),
    ReasoningDelta("look."),
    TextDelta("Let me see."),
    ToolCallStart(0, "a", "weather"),
    ToolCallArguments(0, '{"city": '),
    ToolCallArguments(0, '"Oslo"}'),
    ToolCallStart(1, "b", "now"),
    ForeignDelta({"x": 1}),
    Finished("tool_calls", Usage(10, 5), EngineTimings(0.25, 10, 0.5, 5)),
]


def lines(events: list[Event], path: str = CHAT, surface: Ollama = OLLAMA) -> list[dict[str, Any]]:
    call = surface.parse(path, {"messages": [USER]} if path == CHAT else {"prompt": "hi"})
    assert isinstance(call, Call)
    encoder = surface.encoder(call, HEAD)
    data = b"".join([*map(encoder.feed, events), encoder.end()])
    assert data.endswith(b"\n") and data.isascii()
    return [json.loads(line) for line in data.splitlines()]


def whole(events: list[Event], path: str = CHAT, surface: Ollama = OLLAMA) -> dict[str, Any]:
    call = surface.parse(path, {"messages": [USER]} if path == CHAT else {"prompt": "hi"})
    assert isinstance(call, Call)
    return surface.whole(call, HEAD, collect(events))


def test_a_stream_tells_thoughts_words_and_whole_calls() -> None:
    *told, last = lines(CALLS, surface=clock(100.0, 101.0, 102.0))
    opening = {"model": "SmolLM2", "created_at": "2023-11-14T22:13:20Z", "done": False}
    city = {"id": "a", "function": {"index": 0, "name": "weather", "arguments": {"city": "Oslo"}}}
    now = {"id": "b", "function": {"index": 1, "name": "now", "arguments": {}}}
    said = [
        {"content": "", "thinking": "I should "},
        {"content": "", "thinking": "look."},
        {"content": "Let me see."},
        {"content": "", "tool_calls": [city, now]},
    ]
    assert told == [{**opening, "message": {"role": "assistant", **each}} for each in said]
    assert last == {
        **opening,
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "stop",
        "total_duration": 2_000_000_000,
        "load_duration": 1_250_000_000,
        "prompt_eval_count": 10,
        "prompt_eval_duration": 250_000_000,
        "eval_count": 5,
        "eval_duration": 500_000_000,
    }


def test_calls_are_sent_once_they_all_are_whole() -> None:
    encoder = OLLAMA.encoder(parsed({"messages": [USER]}), HEAD)
    for event in (
        ToolCallStart(0, "a", "f"),
        ToolCallStart(1, "b", "g"),
        ToolCallArguments(1, '{"y": '),
        ToolCallArguments(0, '{"x": 1}'),
        ToolCallArguments(1, "2}"),
    ):
        assert encoder.feed(event) == b"", event
    calls = json.loads(encoder.feed(Finished("tool_calls")))["message"]["tool_calls"]
    found = [(each["id"], *each["function"].values()) for each in calls]
    assert found == [("a", 0, "f", {"x": 1}), ("b", 1, "g", {"y": 2})]


def test_a_whole_answer_holds_the_same() -> None:
    body = whole(CALLS, surface=clock(100.0, 102.0))
    *told, last = lines(CALLS, surface=clock(100.0, 101.0, 102.0))
    streamed = {"content": "", "thinking": "", "tool_calls": cast("list[object]", [])}
    for line in told:
        for name in streamed:
            streamed[name] += line["message"].get(name, type(streamed[name])())
    assert body == {**last, "message": {"role": "assistant", **streamed}}


def test_generate_says_the_same_in_its_own_words() -> None:
    events = [ReasoningDelta("hm"), TextDelta("yes"), Finished("length", Usage(1, 2))]
    thought, said, last = lines(events, GENERATE)
    assert (thought["response"], thought["thinking"], thought["done"]) == ("", "hm", False)
    assert (said["response"], said["done"]) == ("yes", False)
    assert (last["response"], last["done"], last["done_reason"]) == ("", True, "length")
    body = whole(events, GENERATE)
    assert (body["response"], body["thinking"], body["done_reason"]) == ("yes", "hm", "length")
    assert all("message" not in line for line in (thought, said, last, body))


def test_log_probabilities_refusals_and_odd_letters() -> None:
    token = TokenLogprob("é", -0.5, "é".encode(), (TokenLogprob("e", -1.0, b"e"),))
    expected = {
        "token": "é",
        "logprob": -0.5,
        "bytes": [195, 169],
        "top_logprobs": [{"token": "e", "logprob": -1.0, "bytes": [101]}],
    }
    events: list[Event] = [TextDelta("é\ud800", (token,)), Finished("stop")]
    first, _ = lines(events)
    assert first["logprobs"] == whole(events)["logprobs"] == [expected]
    assert first["message"]["content"] == "é\ud800"
    refused, _ = lines([RefusalDelta("No."), Finished("content_filter")])
    assert refused["message"]["content"] == whole([RefusalDelta("No.")])["message"]["content"] == "No."


def test_durations_are_above_zero_also_where_no_engine_measured() -> None:
    durations = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
    for ticks, seconds in (
        ((100.0, 101.0, 103.0), (3, 0, 1, 2)),
        ((100.0, 99.0, 98.0), (0, 0, 0, 0)),  # somebody has set the clock
    ):
        last = lines([TextDelta("a"), Finished("stop")], surface=clock(*ticks))[-1]
        assert [last[name] for name in durations] == [max(int(each * 1e9), 1) for each in seconds], ticks
        assert "eval_count" not in last
    assert all(whole([TextDelta("a"), Finished("stop")])[name] > 0 for name in durations)


def test_arguments_that_are_no_object_have_no_place() -> None:
    for arguments in ("[1]", '{"a": ', "3", '{"a": NaN}'):
        events = [ToolCallStart(0, "a", "f"), ToolCallArguments(0, arguments), Finished("tool_calls")]
        for made in (lines, whole):
            with pytest.raises(GenerationFailed, match="its call of 'f' has arguments that are not a JSON"):
                made(events)


def test_errors_are_strings_and_nothing_else_is_between_lines() -> None:
    failure = Failure(404, "There is no such model. GET /v1/models lists them.", "invalid_request_error")
    assert OLLAMA.error(failure) == {"error": "There is no such model. GET /api/tags lists them."}
    encoder = OLLAMA.encoder(parsed({"messages": [USER]}), HEAD)
    assert encoder.fail(failure) == b'{"error":"There is no such model. GET /api/tags lists them."}\n'
    assert OLLAMA.comment("still at it") == b""


# ---- questions ---------------------------------------------------------------------------------------------

MODELS = (
    ModelInfo("auto", False, 2048, local=True, loaded=True),
    ModelInfo(
        *("SmolLM2", True, 2048, frozenset({Need.TOOLS, Need.IMAGES}), True, True, 76_000_000, 90_000_000),
        form="mlc",
        architecture="llama",
        parameters=134_515_008,
        quantization="q4f16_1",
        created=1_700_000_000,
        reasons=True,
        on_gpu=True,
    ),
    ModelInfo("mf", local=True, size=15_000_000, dimension=3, parameters=20_000_000_000),
)


def ask(path: str, host: Any, **body: object) -> Any:
    query = next(each for each in OLLAMA.queries if each.path == path)
    return query.answer(body, host)


def test_models_are_listed_with_what_is_known_of_them(host_of: HostOf) -> None:
    host = host_of(*MODELS)
    tags = ask("/api/tags", host)["models"]
    assert [each["name"] for each in tags] == [each["model"] for each in tags] == ["auto", "SmolLM2", "mf"]
    for each in tags:
        assert each["size"] >= 0 and len(each["digest"]) == 64, each
    assert tags[1]["details"] == {
        "parent_model": "",
        "format": "mlc",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "135M",
        "quantization_level": "q4f16_1",
    }
    assert tags[1]["modified_at"] == "2023-11-14T22:13:20Z"
    assert tags[2]["details"]["parameter_size"] == "20.0B"
    assert tags[1]["size"] == 76_000_000
    (loaded,) = ask("/api/ps", host)["models"]
    assert (loaded["name"], loaded["size"], loaded["size_vram"]) == ("SmolLM2", 90_000_000, 90_000_000)
    assert loaded["context_length"] == 2048
    (loaded,) = ask("/api/ps", host_of(replace(MODELS[1], on_gpu=False)))["models"]
    assert (loaded["size"], loaded["size_vram"]) == (90_000_000, 0)


def test_one_model_is_shown(host_of: HostOf) -> None:
    host = host_of(*MODELS)
    shown = ask("/api/show", host, model="SmolLM2:latest")
    assert shown["capabilities"] == ["completion", "tools", "vision", "thinking"]
    assert shown["model_info"] == {
        "general.architecture": "llama",
        "general.basename": "SmolLM2",
        "general.parameter_count": 134_515_008,
        "llama.context_length": 2048,
    }
    embedder = ask("/api/show", host, name="mf")
    assert embedder["capabilities"] == ["embedding"]
    assert embedder["model_info"]["unknown.embedding_length"] == 3
    with pytest.raises(UnknownModel) as caught:
        ask("/api/show", host, model="llama3")
    assert caught.value.known == ("auto", "SmolLM2", "mf")


def test_pulling_what_is_here_succeeds_and_the_rest_names_the_command(host_of: HostOf) -> None:
    host = host_of(*MODELS)
    assert ask("/api/pull", host, name="SmolLM2:latest", stream=True) == {"status": "success"}
    with pytest.raises(InvalidRequest, match=r"'gpt-oss:20b' is not here; .*edge-router models pull"):
        ask("/api/pull", host, model="gpt-oss:20b")


def test_vectors(host_of: HostOf) -> None:
    host = host_of(*MODELS)
    found = ask("/api/embed", host, model="mf:latest", input=["a", "bc"])
    assert found["embeddings"] == [[1.0, 0.0, 0.5], [2.0, 0.0, 0.5]]
    assert (found["model"], found["prompt_eval_count"]) == ("mf", 3)
    assert ask("/api/embed", host, model="mf", input="a", truncate=False)["embeddings"] == [[1.0, 0.0, 0.5]]
    assert host.asked == [("embed", "mf", True), ("embed", "mf", False)]
    assert ask("/api/embeddings", host, model="mf", prompt="abc") == {"embedding": [3.0, 0.0, 0.5]}
    assert ask("/api/embed", host, model="mf", input=[])["embeddings"] == []
    assert ask("/api/embeddings", host, model="mf")["embedding"] == []
    assert host.asked[-2:] == [("load", "mf"), ("load", "mf")]
    for fields, param in (
        ({"input": [1, 2]}, "input"),
        ({"input": ["a", None]}, "input[1]"),
        ({"input": {"a": 1}}, "input"),
        ({"input": ["a"] * 3000}, "input"),
        ({"input": "a", "dimensions": 2}, "dimensions"),
        ({"input": "a", "truncate": 1}, "truncate"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            ask("/api/embed", host, model="mf", **fields)
        assert caught.value.param == param, fields


def test_the_version_is_one_that_clients_take(host_of: HostOf) -> None:
    host = host_of()
    major, minor, _ = ask("/api/version", host)["version"].split(".")
    assert (0, 14) <= (int(major), int(minor)) < (0, 35)  # what clients ask for, and what we lack
