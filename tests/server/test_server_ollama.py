"""Ollama's own client against a server that listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge_router.chat.events import (
    EngineTimings,
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.chat.message import Image, Message, Reasoning, Text, ToolCall, ToolResult
from edge_router.chat.request import JsonOutput, ReasoningOptions
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import GenerationFailed

pytestmark = pytest.mark.integration

HI: Any = [{"role": "user", "content": "hi"}]
HARD: Any = [{"role": "user", "content": "a hard one"}]
DONE = Finished("stop", Usage(7, 3), EngineTimings(0.25, 7, 0.5, 3))
CALLS: list[Event] = [
    ReasoningDelta("let me see"),
    ToolCallStart(0, "t0", "weather"),
    ToolCallStart(1, "t1", "weather"),
    ToolCallArguments(1, '{"city":'),
    ToolCallArguments(0, '{"city": "Oslo"}'),
    ToolCallArguments(1, ' "Bergen"}'),
    Finished("tool_calls", Usage(7, 3)),
]
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: Its name.
    """
    return f"rain in {city}"


@pytest.fixture
def service(serve: Callable[..., Any]) -> Any:
    return serve(weak=ScriptedEngine(model_id="small", context_window_size=2048))


@pytest.fixture
def client(service: Any) -> Iterator[Any]:
    import ollama

    with ollama.Client(service.url) as made:
        yield made


def asked(client: Any, *, stream: bool, **fields: Any) -> Any:
    """The last piece of an answer, and its message whole."""
    given = {"model": "weak", "messages": HI} | fields
    if not stream:
        whole = client.chat(**given)
        return whole, whole.message
    *pieces, last = client.chat(stream=True, **given)
    message = last.message
    for piece in pieces:
        assert not piece.done
    told = [piece.message for piece in pieces]
    message.content = "".join(each.content for each in told) + message.content
    message.thinking = "".join(each.thinking or "" for each in told) or None
    message.tool_calls = [call for each in told for call in each.tool_calls or ()] or None
    return last, message


def test_chats_are_routed(client: Any, service: Any) -> None:
    for messages, model in ((HI, "small"), (HARD, "big")):
        engine = service.weak if model == "small" else service.strong
        engine.queue("Paris is it.", "Paris is it.")
        whole = client.chat("auto", messages)
        *pieces, last = client.chat("auto:latest", messages, stream=True)
        assert whole.message.content == "".join(each.message.content for each in pieces) == "Paris is it."
        for each in (whole, last):
            assert (each.model, each.done_reason, each.eval_count) == (model, "stop", 3), model


def test_a_chat(client: Any, service: Any) -> None:
    for stream in (False, True):
        service.weak.queue([TextDelta("It "), TextDelta("rains."), DONE])
        last, message = asked(
            client, stream=stream, options={"num_predict": 9, "stop": ["x"], "num_ctx": 4096}
        )
        assert (message.role, message.content) == ("assistant", "It rains.")
        assert (last.model, last.done, last.done_reason) == ("small", True, "stop")
        assert (last.prompt_eval_count, last.eval_count) == (7, 3)
        assert (last.prompt_eval_duration, last.eval_duration) == (250_000_000, 500_000_000)
        request = service.weak.calls[-1]
        assert request.messages == (Message("user", "hi"),)
        assert (request.target, request.max_tokens, request.stop) == ("weak", 9, ("x",))


def test_two_calls_at_once_there_and_back(client: Any, service: Any) -> None:
    for stream in (False, True):
        service.weak.queue(CALLS, [TextDelta("Rain."), DONE])
        _, first = asked(client, stream=stream, tools=[weather], think=True)
        assert first.thinking == "let me see"
        results = [
            {"role": "tool", "tool_name": call.function.name, "content": weather(**call.function.arguments)}
            for call in first.tool_calls
        ]
        _, last = asked(client, stream=stream, tools=[weather], messages=[*HI, first, *results])
        assert last.content == "Rain."
        asking, answering = service.weak.calls[-2:]
        assert asking.reasoning == ReasoningOptions(True)
        assert asking.tools[0].name == "weather" and "city" in asking.tools[0].parameters["properties"]
        thoughts, *calls = answering.messages[1].parts
        assert thoughts == Reasoning("let me see")
        assert calls == [
            ToolCall("call_0", "weather", '{"city":"Oslo"}'),
            ToolCall("call_1", "weather", '{"city":"Bergen"}'),
        ]
        assert [message.parts for message in answering.messages[2:]] == [
            (ToolResult("call_0", (Text("rain in Oslo"),), name="weather"),),
            (ToolResult("call_1", (Text("rain in Bergen"),), name="weather"),),
        ]


def test_thinking_off_and_as_much_as_is_said(client: Any, service: Any) -> None:
    for think, wanted in ((False, ReasoningOptions(False)), ("low", ReasoningOptions(True, "low"))):
        service.weak.queue([ReasoningDelta("hm"), TextDelta("a"), DONE])
        _, message = asked(client, stream=True, think=think)
        assert (message.thinking, message.content) == ("hm", "a")
        assert service.weak.calls[-1].reasoning == wanted


def test_json_pictures_and_log_probabilities(client: Any, service: Any) -> None:
    service.weak.queue(*[[TextDelta('{"name": "Oslo"}'), DONE]] * 2)
    asked(client, stream=False, format=SCHEMA)
    asked(client, stream=False, messages=[{**HI[0], "images": [PNG]}])
    formed, seen = service.weak.calls
    assert formed.output == JsonOutput(SCHEMA)
    (picture,) = (part for part in seen.messages[0].parts if isinstance(part, Image))
    assert picture.url.startswith("data:image/png;base64,iVBOR")
    likely = TokenLogprob("a", -0.5, b"a", (TokenLogprob("b", -1.0, b"b"),))
    service.weak.queue([TextDelta("a", (likely,)), DONE])
    last, _ = asked(client, stream=False, logprobs=True, top_logprobs=1)
    assert (last.logprobs[0].logprob, last.logprobs[0].top_logprobs[0].token) == (-0.5, "b")


def test_generate(client: Any, service: Any) -> None:
    service.weak.queue(*[[ReasoningDelta("hm"), TextDelta("on "), TextDelta("and on"), DONE]] * 2)
    whole = client.generate("weak", "go", system="be brief", think=True)
    assert (whole.response, whole.thinking, whole.eval_count) == ("on and on", "hm", 3)
    pieces = list(client.generate("weak", "go", raw=True, stream=True))
    assert "".join(piece.response for piece in pieces) == "on and on"
    assert [piece.done for piece in pieces] == [False, False, False, True]
    assert (service.weak.calls[0].raw_prompt, service.weak.calls[1].raw_prompt) == (None, "go")


def test_loading_unloading_and_models(client: Any, service: Any) -> None:
    assert client.chat("weak").done_reason == "load"
    assert list(client.generate("weak", stream=True, keep_alive=0))[-1].done_reason == "unload"
    names = [model.model for model in client.list().models]
    assert {"auto", "weak", "strong", "mf"} <= {*names}
    assert client.ps().models is not None
    shown = client.show("weak")
    assert {"completion", "tools"} <= {*shown.capabilities}
    assert [value for name, value in shown.modelinfo.items() if name.endswith("context_length")] == [2048]
    assert [piece.status for piece in client.pull("weak", stream=True)] == ["success"]


def test_vectors(client: Any) -> None:
    found = client.embed("static", ["a", "bc"])
    assert [len(vector) for vector in found.embeddings] == [64, 64] and found.prompt_eval_count
    assert len(client.embeddings("static", "abc").embedding) == 64


def test_errors_are_raised_with_our_sentence(client: Any, service: Any) -> None:
    import ollama

    broken: list[Event | Exception] = [TextDelta("It "), GenerationFailed("small", "it broke")]
    service.weak.queue(broken)
    for ask, words in (
        (lambda: list(client.chat("weak", HI, stream=True)), "it broke"),
        (lambda: client.chat("weak", [{"role": "tool", "content": "3"}]), "messages[0]: is the result"),
        (lambda: list(client.chat("weak", [{"role": "x"}], stream=True)), "messages[0].role: must be one of"),
        (lambda: client.show("gone"), "there is no model named 'gone'"),
        (lambda: client.delete("weak"), "There is no /api/delete here"),
        (lambda: client.pull("gone"), "edge-router models pull"),
        (lambda: client.embed("static", "a", dimensions=2), "dimensions: must be 64"),
    ):
        with pytest.raises(ollama.ResponseError) as caught:
            ask()
        assert words in caught.value.error, words
