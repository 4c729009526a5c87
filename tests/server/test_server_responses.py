"""OpenAI's own client and its Responses against a server that listens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pydantic
import pytest
from openai import APIError

from edge_router.chat.events import (
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.chat.message import Message, Reasoning, Text, ToolCall, ToolResult
from edge_router.chat.request import JsonOutput
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import GenerationFailed

pytestmark = pytest.mark.integration

DONE = Finished("stop", Usage(7, 3))
SAYS: list[Event] = [TextDelta("hel"), TextDelta("lo"), DONE]
CALLS: list[Event] = [
    ReasoningDelta("let me "),
    ReasoningDelta("see"),
    TextDelta("Two cities"),
    ToolCallStart(0, "c0", "weather"),
    ToolCallStart(1, "c1", "weather"),
    ToolCallArguments(1, '{"city":'),
    ToolCallArguments(0, '{"city":"Oslo"}'),
    ToolCallArguments(1, '"Bergen"}'),
    Finished("tool_calls", Usage(7, 3)),
]
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Answer(pydantic.BaseModel):
    answer: int


@pytest.fixture
def service(serve: Callable[..., Any]) -> Any:
    return serve(weak=ScriptedEngine(model_id="small"))


@pytest.fixture
def client(service: Any) -> Any:
    return service.client()


def test_a_conversation_goes_on_where_it_was_kept(client: Any, service: Any) -> None:
    service.weak.queue(SAYS, SAYS)
    first = client.responses.create(model="auto", instructions="be brief", input="hi")
    assert (first.output_text, first.status, first.usage.total_tokens) == ("hello", "completed", 10)
    second = client.responses.create(model="auto", input="and?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert service.weak.calls[1].messages == (
        Message("user", "hi"),
        Message("assistant", "hello"),
        Message("user", "and?"),
    )
    assert client.responses.retrieve(second.id) == second
    assert [item.content[0].text for item in client.responses.input_items.list(second.id)] == ["and?"]
    pages = client.responses.input_items.list(
        client.responses.create(model="auto", input=[{"role": "user", "content": text} for text in "abc"]).id,
        limit=1,
        order="asc",
    )
    assert [item.content[0].text for item in pages] == ["a", "b", "c"]
    client.responses.delete(second.id)
    assert second._request_id.startswith("req_")


def test_what_is_gone_is_told(client: Any, service: Any) -> None:
    import openai

    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.retrieve("resp_9")
    assert missing.value.code == "response_not_found"
    with pytest.raises(openai.BadRequestError) as gone:
        client.responses.create(model="auto", input="hi", previous_response_id="resp_9")
    assert (gone.value.code, gone.value.param) == ("previous_response_not_found", "previous_response_id")
    service.weak.queue(SAYS)
    unkept = client.responses.create(model="auto", input="hi", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(unkept.id)


@pytest.mark.parametrize("stored", [True, False])
def test_two_calls_at_the_same_time_and_their_results(client: Any, service: Any, stored: bool) -> None:
    """The helper's snapshots of a stream, then both results, by id or with the whole conversation."""
    service.weak.queue(CALLS, SAYS)
    more = {"include": ["reasoning.encrypted_content"], "store": stored, "reasoning": {"summary": "auto"}}
    with client.responses.stream(model="auto", input="weather?", tools=[WEATHER], **more) as stream:
        kinds = {event.type for event in stream}
        response = stream.get_final_response()
    assert {"response.reasoning_summary_text.delta", "response.function_call_arguments.delta"} <= kinds
    calls = [item for item in response.output if item.type == "function_call"]
    assert [call.parsed_arguments for call in calls] == [{"city": "Oslo"}, {"city": "Bergen"}]
    results: list[Any] = [
        {"type": "function_call_output", "call_id": call.call_id, "output": "rain"} for call in calls
    ]
    if stored:
        after = {"input": results, "previous_response_id": response.id}
    else:
        said = [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in response.output]
        after = {"input": [{"role": "user", "content": "weather?"}, *said, *results]}
    assert client.responses.create(model="auto", tools=[WEATHER], **after).output_text == "hello"
    spoken = Message(
        "assistant",
        (
            Reasoning("let me see"),
            Text("Two cities"),
            ToolCall("c0", "weather", '{"city":"Oslo"}'),
            ToolCall("c1", "weather", '{"city":"Bergen"}'),
        ),
    )
    rain = [Message("tool", (ToolResult(id, (Text("rain"),)),)) for id in ("c0", "c1")]
    assert list(service.weak.calls[1].messages) == [Message("user", "weather?"), spoken, *rain]


def test_an_answer_held_to_a_schema(client: Any, service: Any) -> None:
    service.weak.queue([TextDelta('{"answer":'), TextDelta(" 42}"), DONE])
    with client.responses.stream(model="auto", input="hi", text_format=Answer) as stream:
        assert stream.get_final_response().output_parsed == Answer(answer=42)
    output = service.weak.calls[0].output
    assert isinstance(output, JsonOutput)
    assert (output.name, output.strict) == ("Answer", True)


def test_an_answer_that_is_cut_says_why(client: Any, service: Any) -> None:
    service.weak.queue([TextDelta("hel"), Finished("length")])
    with client.responses.stream(model="auto", input="hi") as stream:
        last = list(stream)[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.output_text == "hel"


def test_an_answer_that_breaks_off_raises_the_reason(client: Any, service: Any) -> None:
    import openai

    service.weak.queue(*[[TextDelta("hel"), GenerationFailed("tvm", "it broke")]] * 2)
    with pytest.raises(openai.APIError, match="it broke"):
        list(client.responses.create(model="auto", input="hi", stream=True))
    with client.responses.stream(model="auto", input="hi") as stream:
        with pytest.raises(openai.APIError, match="it broke"):
            stream.get_final_response()


def test_a_stop_fails_the_answer_that_was_begun(service: Any) -> None:
    service.weak.queue(["one ", "two ", 3600.0])
    events, client = [], service.client()
    with client.responses.create(model="weak", input="hi", stream=True) as stream, pytest.raises(APIError):
        for event in stream:
            events.append(event)
            if event.type == "response.output_text.delta" and event.delta == "two ":
                threading.Thread(target=service.stop).start()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events].count("response.created") == 1
    assert events[-1].type == "response.failed" and events[-1].response.id == events[0].response.id
