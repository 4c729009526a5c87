"""Ollama's own client against a server that listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge_router.chat.events import Finished, ReasoningDelta, ToolCallArguments, ToolCallStart
from edge_router.engines.scripted import ScriptedEngine

pytestmark = pytest.mark.integration
HI: Any = [{"role": "user", "content": "hi"}]
HARD: Any = [{"role": "user", "content": "a hard one"}]
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}},
}
CALLS = [
    ReasoningDelta("let me see"),
    *(ToolCallStart(0, "a", "weather"), ToolCallArguments(0, '{"city": "Oslo"}')),
    *(ToolCallStart(1, "b", "weather"), ToolCallArguments(1, '{"city": "Rome"}')),
    Finished("tool_calls"),
]


@pytest.fixture
def service(serve: Callable[..., Any]) -> Any:
    return serve(weak=ScriptedEngine(model_id="small"))


@pytest.fixture
def client(service: Any) -> Iterator[Any]:
    import ollama

    with ollama.Client(service.url) as made:
        yield made


def test_chats_are_routed(client: Any, service: Any) -> None:
    for messages, model in ((HI, "small"), (HARD, "big")):
        engine = service.weak if model == "small" else service.strong
        engine.queue("Paris is it.", "Paris is it.")
        whole = client.chat("auto", messages)
        *pieces, last = client.chat("auto:latest", messages, stream=True)
        assert whole.message.content == "".join(each.message.content for each in pieces) == "Paris is it."
        for each in (whole, last):
            assert (each.model, each.done_reason, each.eval_count) == (model, "stop", 3), model


def test_two_calls_at_once_there_and_back(client: Any, service: Any) -> None:
    for stream in (False, True):
        service.weak.queue(CALLS, "Rain.")
        told = client.chat("weak", HI, tools=[TOOL], think=True, stream=stream)
        messages = [piece.message for piece in told] if stream else [told.message]
        assert "".join(each.thinking or "" for each in messages) == "let me see"
        calls = [call for each in messages for call in each.tool_calls or ()]
        assert [call.function.arguments for call in calls] == [{"city": "Oslo"}, {"city": "Rome"}]
        turn = {"role": "assistant", "tool_calls": [call.model_dump() for call in calls]}
        results = [{"role": "tool", "tool_name": "weather", "content": text} for text in ("wet", "dry")]
        assert client.chat("weak", [*HI, turn, *results], tools=[TOOL]).message.content == "Rain."
        found = [result.text for message in service.weak.calls[-1].messages for result in message.results]
        assert found == ["wet", "dry"]


def test_models_vectors_and_errors(client: Any) -> None:
    import ollama

    names = [model.model for model in client.list().models]
    assert {"auto", "weak", "strong", "mf"} <= {*names}
    assert client.show("weak").capabilities[0] == "completion"
    assert client.chat("weak").done_reason == "load"
    assert client.pull("weak").status == "success"
    assert len(client.embed("mf", ["a", "b"]).embeddings[0]) == 384
    for ask, status, words in (
        (lambda: client.chat("gone", HI), 404, "there is no model named 'gone'"),
        (lambda: list(client.chat("weak", [{"role": "x"}], stream=True)), 400, "messages[0].role"),
        (lambda: client.delete("weak"), 404, "There is no /api/delete here"),
    ):
        with pytest.raises(ollama.ResponseError) as caught:
            ask()
        assert caught.value.status_code == status and words in caught.value.error, words
