"""Anthropic's own Python client, over the surface on a socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

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
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, JsonOutput, ReasoningOptions, ToolChoice
from edge_router.errors import EdgeRouterError
from edge_router.server.errors import failure
from edge_router.surfaces.anthropic_messages import VERSION_HEADER, AnthropicMessages
from edge_router.surfaces.base import Failure, Head, ModelInfo
from edge_router.surfaces.wire import dumps
from edge_router.types import Decision, Reason

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


class BreaksOff(Exception):
    """In the midst of an answer."""


@dataclass
class Service:
    """What answers: scripted events, one list after the other; it remembers requests and headers."""

    host: Any
    answers: list[Sequence[Event | BreaksOff]] = field(default_factory=list)
    requests: list[ChatRequest] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    surface = AnthropicMessages()

    def reply(
        self, method: str, path: str, headers: Mapping[str, str], body: dict[str, Any]
    ) -> tuple[int, str, bytes]:
        self.headers.append(headers)
        try:
            for query in self.surface.queries:
                folder, _, parameter = query.path.partition("{")
                fits = path.startswith(folder) if parameter else path == folder
                if query.method == method and fits and (not query.header or query.header in headers):
                    named = {"model": path.removeprefix(folder)} if parameter else {}
                    answer = query.answer({**body, **named}, self.host)
                    assert isinstance(answer, dict)
                    return 200, "application/json", dumps(answer)
            return self._chat(path, body)
        except EdgeRouterError as error:
            told = failure(error)
            return told.status, "application/json", dumps(self.surface.error(_failure(error)))

    def _chat(self, path: str, body: dict[str, Any]) -> tuple[int, str, bytes]:
        call = self.surface.parse(path, body)
        self.requests.append(call.request)
        head = Head("1", 0, "small", Decision("weak", Reason.SCORE))
        script = self.answers.pop(0)
        events = [event for event in script if not isinstance(event, BreaksOff)]
        if not call.stream:
            return 200, "application/json", dumps(self.surface.whole(call, head, collect(events)))
        encoder = self.surface.encoder(call, head)
        data = self.surface.comment("waiting for the model")
        for event in events:
            data += encoder.feed(event) + self.surface.comment("still at it")
        broken = len(events) < len(script)
        data += encoder.fail(_failure(EdgeRouterError("it broke"))) if broken else encoder.end()
        return 200, self.surface.media_type, data


def _failure(error: EdgeRouterError) -> Failure:
    told = failure(error)
    return Failure(told.status, told.message, told.type, told.code, told.param, told.headers)


@pytest.fixture
def service(host_of: Any) -> Service:
    return Service(host_of(ModelInfo("auto"), ModelInfo("a/b", context_window=2048)))


@pytest.fixture
def client(service: Service) -> Iterator[Any]:
    import anthropic

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            return None

        def do_GET(self) -> None:
            data = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            path = unquote(self.path.partition("?")[0])
            body = json.loads(data) if data else {}
            status, kind, reply = service.reply(self.command, path, headers, body)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        do_POST = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        with anthropic.Anthropic(base_url=address, api_key="k", max_retries=0) as made:
            yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def asked(client: Any, *, stream: bool, **fields: Any) -> Any:
    """The message, whole or put together by the client."""
    given = {"model": "auto", "max_tokens": 99, "messages": HI} | fields
    if not stream:
        return client.messages.create(**given)
    with client.messages.stream(**given) as events:
        return events.get_final_message()


def test_a_chat(client: Any, service: Service) -> None:
    for stream in (False, True):
        service.answers.append([TextDelta("It "), TextDelta("rains."), DONE])
        message = asked(client, stream=stream, system="be brief", stop_sequences=["x"])
        assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "It rains."}]
        assert (message.id, message.model, message.stop_reason) == ("msg_1", "auto", "end_turn")
        assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (5, 2)
        assert message.usage.output_tokens == 3
        request = service.requests[-1]
        assert request.messages == (Message("system", "be brief"), Message("user", "hi")) and request.stop
    assert {"authorization", "x-api-key"} & {*service.headers[0]} and service.headers[0][VERSION_HEADER]


def test_text_as_it_comes(client: Any, service: Service) -> None:
    service.answers.append([TextDelta("It "), TextDelta("rains."), DONE])
    with client.messages.stream(model="auto", max_tokens=9, messages=HI) as stream:
        assert list(stream.text_stream) == ["It ", "rains."]


def test_two_calls_at_once_there_and_back(client: Any, service: Service) -> None:
    for stream in (False, True):
        service.answers += [CALLS, [TextDelta("Rain."), DONE]]
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
        asking, answering = service.requests[-2:]
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


def test_thinking_off_and_thoughts_that_nobody_signed(client: Any, service: Service) -> None:
    service.answers.append([ReasoningDelta("hm"), TextDelta("a"), DONE])
    message = asked(client, stream=True, thinking={"type": "disabled"})
    assert service.requests[-1].reasoning == ReasoningOptions(False)
    assert (message.content[0].thinking, message.content[0].signature) == ("hm", "")


class City(pydantic.BaseModel):
    name: str
    people: int


def test_json_against_a_schema(client: Any, service: Service) -> None:
    service.answers.append([TextDelta('{"name": "Oslo", "people": 700000}'), DONE])
    message = client.messages.parse(model="auto", max_tokens=99, messages=HI, output_format=City)
    assert message.parsed_output == City(name="Oslo", people=700000)
    output = service.requests[-1].output
    assert isinstance(output, JsonOutput) and output.schema is not None
    assert {*output.schema["properties"]} == {"name", "people"}  # type: ignore[misc]


def test_an_answer_that_breaks_off_is_raised(client: Any, service: Service) -> None:
    import anthropic

    for begun in ([TextDelta("It ")], CALLS[:5], []):
        service.answers.append([*begun, BreaksOff()])
        with pytest.raises(anthropic.APIStatusError) as caught:
            asked(client, stream=True)
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
    assert count.input_tokens == 2  # messages, to this host
    assert [model.id for model in client.models.list()] == ["auto", "a/b"]
    model = client.models.retrieve("a/b")
    assert (model.display_name, model.max_input_tokens, model.created_at.year) == ("a/b", 2048, 1970)
