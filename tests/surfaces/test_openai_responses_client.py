"""OpenAI's own Python client, over the surface of Responses on a socket."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, JsonOutput
from edge_router.errors import EdgeRouterError, GenerationFailed
from edge_router.server.errors import failure
from edge_router.surfaces.base import Failure, Head
from edge_router.surfaces.openai_responses import OpenAIResponses
from edge_router.surfaces.wire import dumps
from edge_router.types import Decision, Reason

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


@dataclass
class Service:
    """What answers: scripted events, one list after the other; it remembers requests."""

    answers: list[Sequence[Event | EdgeRouterError]] = field(default_factory=list)
    requests: list[ChatRequest] = field(default_factory=list)
    surface: OpenAIResponses = field(default_factory=OpenAIResponses)

    def reply(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, str, bytes]:
        try:
            if (method, path) == ("POST", "/v1/responses"):
                return self._answer(path, body)
            for query in self.surface.queries:
                named = re.fullmatch(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", query.path), path)
                if named and query.method == method:
                    answered = query.answer({**body, **named.groupdict()}, None)  # type: ignore[arg-type]
                    assert isinstance(answered, dict)
                    return 200, "application/json", dumps(answered)
            raise AssertionError(f"nobody answers {method} {path}")
        except EdgeRouterError as error:
            told = told_as(error)
            return told.status, "application/json", dumps(self.surface.error(told))

    def _answer(self, path: str, body: dict[str, Any]) -> tuple[int, str, bytes]:
        call = self.surface.parse(path, body)
        self.requests.append(call.request)
        head = Head(f"n{len(self.requests)}", 0, "small", Decision("weak", Reason.SCORE))
        script = self.answers.pop(0)
        events = [event for event in script if not isinstance(event, EdgeRouterError)]
        if not call.stream:
            return 200, "application/json", dumps(self.surface.whole(call, head, collect(events)))
        encoder = self.surface.encoder(call, head)
        data = self.surface.comment("waiting for the model")
        data += b"".join(encoder.feed(event) for event in events)
        last = script[-1]
        data += encoder.fail(told_as(last)) if isinstance(last, EdgeRouterError) else encoder.end()
        return 200, self.surface.media_type, data


def told_as(error: EdgeRouterError) -> Failure:
    told = failure(error)
    return Failure(told.status, told.message, told.type, told.code, told.param, told.headers)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def client(service: Service) -> Iterator[Any]:
    import openai

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            return None

        def do_GET(self) -> None:
            data = self.rfile.read(int(self.headers.get("content-length") or 0))
            body = json.loads(data) if data else {}
            status, kind, reply = service.reply(self.command, self.path.partition("?")[0], body)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        do_POST = do_DELETE = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/v1"
        with openai.OpenAI(base_url=address, api_key="dummy", max_retries=0) as made:
            yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_conversation_goes_on_where_it_was_kept(client: Any, service: Service) -> None:
    service.answers = [SAYS, SAYS]
    first = client.responses.create(model="auto", instructions="be brief", input="hi")
    assert (first.output_text, first.status, first.usage.total_tokens) == ("hello", "completed", 10)
    second = client.responses.create(model="auto", input="and?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert service.requests[1].messages == (
        Message("user", "hi"),
        Message("assistant", "hello"),
        Message("user", "and?"),
    )
    assert client.responses.retrieve(second.id) == second
    assert [item.content[0].text for item in client.responses.input_items.list(second.id)] == ["and?"]
    client.responses.delete(second.id)


def test_what_is_gone_is_told(client: Any, service: Service) -> None:
    import openai

    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.retrieve("resp_9")
    assert missing.value.code == "response_not_found"
    with pytest.raises(openai.BadRequestError) as gone:
        client.responses.create(model="auto", input="hi", previous_response_id="resp_9")
    assert (gone.value.code, gone.value.param) == ("previous_response_not_found", "previous_response_id")
    service.answers = [SAYS]
    unkept = client.responses.create(model="auto", input="hi", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(unkept.id)


@pytest.mark.parametrize("stored", [True, False])
def test_two_calls_at_the_same_time_and_their_results(client: Any, service: Service, stored: bool) -> None:
    """The helper's snapshots of a stream, then both results, by id or with the whole conversation."""
    service.answers = [CALLS, SAYS]
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
    assert list(service.requests[1].messages) == [Message("user", "weather?"), spoken, *rain]


def test_an_answer_held_to_a_schema(client: Any, service: Service) -> None:
    service.answers = [[TextDelta('{"answer":'), TextDelta(" 42}"), DONE]]
    with client.responses.stream(model="auto", input="hi", text_format=Answer) as stream:
        assert stream.get_final_response().output_parsed == Answer(answer=42)
    output = service.requests[0].output
    assert isinstance(output, JsonOutput)
    assert (output.name, output.strict) == ("Answer", True)


def test_an_answer_that_is_cut_says_why(client: Any, service: Service) -> None:
    service.answers = [[TextDelta("hel"), Finished("length")]]
    with client.responses.stream(model="auto", input="hi") as stream:
        last = list(stream)[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.output_text == "hel"


def test_an_answer_that_breaks_off_raises_the_reason(client: Any, service: Service) -> None:
    import openai

    service.answers = [[TextDelta("hel"), GenerationFailed("tvm", "it broke")]] * 2
    with pytest.raises(openai.APIError, match="it broke"):
        list(client.responses.create(model="auto", input="hi", stream=True))
    with client.responses.stream(model="auto", input="hi") as stream:
        with pytest.raises(openai.APIError, match="it broke"):
            stream.get_final_response()
