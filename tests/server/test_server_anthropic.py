"""Anthropic's own client against a server that listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pydantic
import pytest

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
from edge_router.chat.request import JsonOutput, ReasoningOptions, ToolChoice
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import GenerationFailed

pytestmark = pytest.mark.integration

HI: Any = [{"role": "user", "content": "hi"}]
DONE = Finished("stop", Usage(7, 3, cached_tokens=2))
SIGNED = {"signature": "s"}
CALLS: list[Event] = [
    ReasoningDelta("let me see", "thinking_block"),
    ReasoningDelta("", "thinking_block", SIGNED),
    ToolCallStart(0, "t0", "weather"),
    ToolCallStart(1, "t1", "weather"),
    ToolCallArguments(1, '{"city":'),
    ToolCallArguments(0, '{"city": "Oslo"}'),
    ToolCallArguments(1, ' "Bergen"}'),
    Finished("tool_calls", Usage(7, 3)),
]
WEATHER: Any = {
    "name": "weather",
    "description": "of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
def service(serve: Callable[..., Any]) -> Any:
    return serve(weak=ScriptedEngine(model_id="small", context_window_size=2048), api_key="k")


@pytest.fixture
def client(service: Any) -> Iterator[Any]:
    import anthropic

    with anthropic.Anthropic(base_url=service.url, api_key="k", max_retries=0) as made:
        yield made


def asked(client: Any, *, stream: bool, **fields: Any) -> Any:
    """The message, whole or put together by the client."""
    given = {"model": "auto", "max_tokens": 99, "messages": HI} | fields
    if not stream:
        return client.messages.create(**given)
    with client.messages.stream(**given) as events:
        return events.get_final_message()


def test_a_chat(client: Any, service: Any) -> None:
    for stream in (False, True):
        service.weak.queue([TextDelta("It "), TextDelta("rains."), DONE])
        message = asked(client, stream=stream, system="be brief", stop_sequences=["x"])
        assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "It rains."}]
        assert (message.id[:4], message.model, message.stop_reason) == ("msg_", "auto", "end_turn")
        assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (5, 2)
        assert message.usage.output_tokens == 3
        request = service.weak.calls[-1]
        assert request.messages == (Message("system", "be brief"), Message("user", "hi")) and request.stop


def test_which_stop_string_was_met_is_told(client: Any, service: Any) -> None:
    for stream in (False, True):
        service.weak.queue("One two. Three four.")
        message = asked(client, stream=stream, stop_sequences=["!", "Three"])
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "Three")
        assert [block.text for block in message.content] == ["One two. "]


def test_text_as_it_comes(client: Any, service: Any) -> None:
    service.weak.queue([TextDelta("It "), TextDelta("rains."), DONE])
    with client.messages.stream(model="auto", max_tokens=9, messages=HI) as stream:
        assert list(stream.text_stream) == ["It ", "rains."]


def test_two_calls_at_once_there_and_back(client: Any, service: Any) -> None:
    for stream in (False, True):
        service.weak.queue(CALLS, [TextDelta("Rain."), DONE])
        first = asked(
            client,
            stream=stream,
            tools=[WEATHER],
            tool_choice={"type": "any"},
            thinking={"type": "enabled", "budget_tokens": 1024},
            max_tokens=2000,
        )
        assert first.stop_reason == "tool_use"
        assert [block.type for block in first.content] == ["thinking", "tool_use", "tool_use"]
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": f"rain in {block.input['city']}"}
            for block in first.content[1:]
        ]
        turns = [*HI, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
        last = asked(client, stream=stream, tools=[WEATHER], messages=turns)
        assert last.content[0].text == "Rain."
        asking, answering = service.weak.calls[-2:]
        assert asking.tool_choice == ToolChoice("required")
        assert asking.reasoning == ReasoningOptions(True, max_tokens=1024)
        assert answering.messages == (
            Message("user", "hi"),
            Message(
                "assistant",
                (
                    Reasoning("let me see", "thinking_block", SIGNED),
                    ToolCall("t0", "weather", '{"city": "Oslo"}'),
                    ToolCall("t1", "weather", '{"city": "Bergen"}'),
                ),
            ),
            Message("tool", (ToolResult("t0", (Text("rain in Oslo"),), name="weather"),)),
            Message("tool", (ToolResult("t1", (Text("rain in Bergen"),), name="weather"),)),
        )


def test_thinking_off_and_thoughts_that_nobody_signed(client: Any, service: Any) -> None:
    service.weak.queue([ReasoningDelta("hm"), TextDelta("a"), DONE])
    message = asked(client, stream=True, thinking={"type": "disabled"})
    assert service.weak.calls[-1].reasoning == ReasoningOptions(False)
    assert (message.content[0].thinking, message.content[0].signature) == ("hm", "")


class City(pydantic.BaseModel):
    name: str
    people: int


def test_json_against_a_schema(client: Any, service: Any) -> None:
    service.weak.queue([TextDelta('{"name": "Oslo", "people": 700000}'), DONE])
    message = client.messages.parse(model="auto", max_tokens=99, messages=HI, output_format=City)
    assert message.parsed_output == City(name="Oslo", people=700000)
    output = service.weak.calls[-1].output
    assert isinstance(output, JsonOutput) and output.schema is not None
    assert {*output.schema["properties"]} == {"name", "people"}  # type: ignore[misc]


def test_an_answer_that_breaks_off_is_raised(client: Any, service: Any) -> None:
    import anthropic

    for begun in ([TextDelta("It ")], CALLS[:5], []):
        service.weak.queue([*begun, GenerationFailed("small", "it broke")])
        with pytest.raises(anthropic.APIStatusError) as caught:
            asked(client, stream=True, model="weak")
        assert caught.value.type == "api_error" and "it broke" in str(caught.value.message)


def test_errors_are_its_own(client: Any) -> None:
    import anthropic

    tool_result: Any = {"type": "tool_result", "tool_use_id": "gone", "content": ""}
    with pytest.raises(anthropic.BadRequestError) as caught:
        asked(client, stream=False, messages=[{"role": "user", "content": [tool_result]}])
    assert caught.value.type == "invalid_request_error"
    assert "messages[0].content[0].tool_use_id: answers the call 'gone'" in str(caught.value)
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("gone")


def test_its_other_questions(client: Any) -> None:
    count = client.messages.count_tokens(model="auto", messages=HI, system="be brief", tools=[WEATHER])
    assert count.input_tokens == 3  # words, to this engine
    assert {"auto", "weak", "small"} <= {model.id for model in client.models.list()}
    model = client.models.retrieve("small")
    assert (model.display_name, model.max_input_tokens) == ("small", 2048)
