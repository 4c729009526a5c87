"""Conversations over the server: loops of tools in every protocol, names of conversations, other endpoints, and
one edge-router in front of another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge_router import AsyncController, Config, Controller, ScriptedEngine, ScriptedRouter
from edge_router.chat.events import Event, Finished, ToolCallArguments, ToolCallStart, Usage
from edge_router.chat.request import ChatRequest
from edge_router.config.sections import ServerConfig
from edge_router.engines.scripted import Reply
from edge_router.ledger import Ledger
from edge_router.server.app import create_app
from edge_router.system.paths import Paths

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
LONG = Usage(90_000, 1)
PRICES = {"strong.price_in": 1.0, "strong.price_out": 4.0}
JSON = dict[str, Any]


def calling(request: ChatRequest) -> Reply:
    """Calls its tool until two results are there. Its ids are those of models that count in each answer."""
    if sum(len(message.results) for message in request.messages) >= 2:
        return ["It is sunny.", Finished("stop", LONG)]
    steps: list[Event] = [ToolCallStart(0, "call_0", "weather"), ToolCallArguments(0, '{"city": "Paris"}')]
    return ["Let me see. ", *steps, Finished("tool_calls", LONG)]


class Side:
    """A server in this process whose two models call tools, and whose scores are set."""

    def __init__(self, setup: Any, **settings: object) -> None:
        self.score = 0.0
        self.weak = ScriptedEngine(default=calling, model_id="small")
        self.strong = ScriptedEngine(default=calling, model_id="big")
        self.controller = Controller(
            Config().replace(**settings),
            weak=self.weak,
            strong=self.strong,
            router=ScriptedRouter(lambda text: self.score),
        )
        self.app = create_app(AsyncController(self.controller), ServerConfig(port=0), api_key=None)
        self._setup = setup()

    def post(self, path: str, body: JSON, score: float, *headers: tuple[str, str]) -> tuple[str, str, Any]:
        """The model, why, and the body."""
        self.score = score
        reply = self._setup.call(
            path=path, body=body, app=self.app, headers=[("host", "localhost"), *headers]
        )
        assert reply.status == 200, reply.body
        told = {name: reply.header(f"x-edge-router-{name}") for name in ("model", "reason", "held")}
        assert (told["held"] is not None) == (told["reason"] == "session")
        return str(told["model"]), str(told["reason"]), reply


@pytest.fixture
def side(setup: Any) -> Iterator[Callable[..., Side]]:
    made: list[Side] = []

    def make(**settings: object) -> Side:
        made.append(Side(setup, **settings))
        return made[-1]

    yield make
    for each_side in made:
        each_side.controller.close()


# ---- one loop of tools, as clients of each protocol write it -----------------------------------------------


def openai_loop(post: Callable[[str, JSON], Any]) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
    messages: list[JSON] = [{"role": "user", "content": "weather?"}]
    for _ in range(3):
        body = post("/v1/chat/completions", {"model": "auto", "messages": messages, "tools": [tool]}).json()
        said = body["choices"][0]["message"]
        messages.append({key: said.get(key) for key in ("role", "content", "tool_calls") if said.get(key)})
        for call in said.get("tool_calls") or ():
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": "20 degrees"})


def streamed_loop(post: Callable[[str, JSON], Any]) -> None:
    """What came in pieces is put together again, and its JSON written anew."""
    tool = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
    messages: list[JSON] = [{"role": "user", "content": "weather?"}]
    for _ in range(3):
        body = {"model": "auto", "messages": messages, "tools": [tool], "stream": True}
        lines = post("/v1/chat/completions", body).body.decode().splitlines()
        chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
        text = "".join(delta.get("content") or "" for delta in deltas)
        calls = [call for delta in deltas for call in delta.get("tool_calls") or ()]
        message: JSON = {"role": "assistant", "content": text.strip()}
        if calls:
            written = json.dumps(
                json.loads("".join(call["function"].get("arguments") or "" for call in calls))
            )
            function = {"name": "weather", "arguments": written}
            message["tool_calls"] = [{"id": calls[0]["id"], "type": "function", "function": function}]
        messages.append(message)
        if calls:
            messages.append({"role": "tool", "tool_call_id": calls[0]["id"], "content": "20 degrees"})


def anthropic_loop(post: Callable[[str, JSON], Any]) -> None:
    messages: list[JSON] = [{"role": "user", "content": "weather?"}]
    tools = [{"name": "weather", "input_schema": SCHEMA}]
    for _ in range(3):
        body = {"model": "auto", "max_tokens": 99, "messages": messages, "tools": tools}
        content = post("/v1/messages", body).json()["content"]
        messages.append({"role": "assistant", "content": content})
        results = [
            {"type": "tool_result", "tool_use_id": block["id"], "content": "20 degrees"}
            for block in content
            if block["type"] == "tool_use"
        ]
        messages += [{"role": "user", "content": results}] if results else []


def ollama_loop(post: Callable[[str, JSON], Any]) -> None:
    """Without ids."""
    tool = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
    messages: list[JSON] = [{"role": "user", "content": "weather?"}]
    for _ in range(3):
        body = {"model": "auto", "messages": messages, "tools": [tool], "stream": False}
        said = post("/api/chat", body).json()["message"]
        calls = [{"function": call["function"]} for call in said.get("tool_calls") or ()]
        messages.append({"role": "assistant", "content": said["content"], "tool_calls": calls})
        messages += [{"role": "tool", "content": "20 degrees", "tool_name": "weather"} for _ in calls]


def responses_tools() -> list[JSON]:
    return [{"type": "function", "name": "weather", "parameters": SCHEMA}]


def outputs(body: JSON) -> list[JSON]:
    calls = [item for item in body["output"] if item["type"] == "function_call"]
    return [
        {"type": "function_call_output", "call_id": call["call_id"], "output": "20 degrees"} for call in calls
    ]


def responses_loop(post: Callable[[str, JSON], Any]) -> None:
    """The client keeps the history."""
    items: list[JSON] = [{"role": "user", "content": "weather?"}]
    for _ in range(3):
        body = {"model": "auto", "input": items, "tools": responses_tools(), "store": False}
        answer = post("/v1/responses", body).json()
        items += [*answer["output"], *outputs(answer)]


def previous_loop(post: Callable[[str, JSON], Any]) -> None:
    """The server keeps it."""
    body: JSON = {"model": "auto", "input": "weather?", "tools": responses_tools()}
    for _ in range(3):
        answer = post("/v1/responses", body).json()
        body = {**body, "input": outputs(answer), "previous_response_id": answer["id"]}


LOOPS = (
    openai_loop,
    streamed_loop,
    anthropic_loop,
    ollama_loop,
    responses_loop,
    previous_loop,
)


def test_a_loop_of_tools_is_torn_in_no_protocol(side: Callable[..., Side]) -> None:
    """Two at once, of which one begins easy and one hard; then the score says the opposite in each turn."""
    for loop in LOOPS:
        for first, tier in ((0.1, "weak"), (0.9, "strong")):
            here = side()
            seen: list[tuple[str, str]] = []

            def post(path: str, body: JSON, here: Side = here, first: float = first) -> Any:
                model, reason, reply = here.post(path, body, 1 - first if seen else first)  # noqa: B023
                seen.append((model, reason))  # noqa: B023
                return reply

            loop(post)
            assert seen == [(tier, "score"), (tier, "session"), (tier, "session")], loop.__name__


def test_responses_with_the_same_first_turn(side: Callable[..., Side]) -> None:
    here = side(**PRICES)
    for engine in (here.weak, here.strong):
        engine.queue(*[["said by " + engine.model_id, Finished("stop", LONG)]] * 3)
    first = [here.post("/v1/responses", {"model": "auto", "input": "hi"}, score) for score in (0.1, 0.9)]
    for model, _, reply in first:
        body = {"model": "auto", "input": "go on", "previous_response_id": reply.json()["id"]}
        # Twice the odds are not reached in either direction.
        score = 0.6 if model == "weak" else 0.4
        assert here.post("/v1/responses", body, score)[:2] == (model, "session")


def test_a_name_tells_conversations_apart(side: Callable[..., Side]) -> None:
    here = side(**PRICES)
    for engine in (here.weak, here.strong):
        engine.queue(*[["hello", Finished("stop", LONG)]] * 4)
    one, other = (("x-edge-router-session", name) for name in ("one", "other"))
    path, body = "/v1/chat/completions", {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
    assert here.post(path, body, 0.1, one)[:2] == ("weak", "score")
    assert here.post(path, body, 0.9, other)[:2] == ("strong", "score")
    said = [{"role": "assistant", "content": "hello"}, {"role": "user", "content": "go on"}]
    body = {"model": "auto", "messages": [*body["messages"], *said]}  # type: ignore[misc]
    assert here.post(path, body, 0.6, one)[:2] == ("weak", "session")
    assert here.post(path, body, 0.4, other)[:2] == ("strong", "session")
    assert here.post(path, body, 0.6)[:2] == ("strong", "score")  # of whom nothing is known


# ---- several endpoints, and one edge-router in front of another --------------------------------------------


def chat(controller: Controller, messages: list[JSON], text: str, **fields: Any) -> Any:
    messages.append({"role": "user", "content": text})
    reply = controller.chat.completions.create(messages=messages, **fields)
    messages.append({"role": "assistant", "content": reply.text})
    return reply


def test_a_conversation_keeps_its_endpoint_while_that_is_healthy(serve: Any, paths: Paths) -> None:
    """Weighted, so that without it each turn might go to any. Both are edge-routers, of which one ends."""
    servers = {name: serve() for name in ("a", "b")}
    settings: dict[str, object] = {"strong.max_retries": 0, "strong.strategy": "weighted"}
    for name, server in servers.items():
        settings |= {f"endpoints.{name}.base_url": f"{server.url}/v1", f"endpoints.{name}.models": ["big"]}
    config = Config().replace(**settings)
    with Controller(config, weak=ScriptedEngine(), router=ScriptedRouter(0.9)) as controller:
        talks: list[tuple[str, list[JSON]]] = []
        for number in range(8):
            talk: list[JSON] = []
            first = chat(controller, talk, f"hi {number}").decision.endpoint
            talks.append((first, talk))
            assert [chat(controller, talk, "go on").decision.endpoint for _ in range(3)] == [first] * 3
        home, talk = talks[-1]
        other = "b" if home == "a" else "a"
        servers[home].stop()
        assert [chat(controller, talk, "go on").decision.endpoint for _ in range(4)] == [other] * 4
        states = {each.name: each.state for each in controller.endpoints}
        assert states[other] == "ready"
        assert {chat(controller, talk, "and").decision.endpoint for _, talk in talks} == {other}
    kept = Ledger(paths.ledger).recent(4)
    assert {(each.decision.endpoint, each.error) for each in kept} == {(other, None)}


def test_the_same_for_streams_that_arrive(strong_server: Any) -> None:
    settings: dict[str, object] = {"strong.strategy": "weighted"}
    for name in ("a", "b"):
        settings |= {f"endpoints.{name}.base_url": strong_server.url("ok")}
        settings |= {f"endpoints.{name}.models": [f"model-{name}"]}
    controller = Controller(Config().replace(**settings), weak=ScriptedEngine(), router=ScriptedRouter(0.9))

    async def main() -> None:
        async with AsyncController(controller) as client:
            for _ in range(4):
                talk: list[JSON] = []
                asked: set[str | None] = set()
                for _ in range(6):
                    talk.append({"role": "user", "content": "go on"})
                    stream = await client.chat.completions.create(messages=talk, stream=True)
                    said = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
                    talk.append({"role": "assistant", "content": "".join(said)})
                    asked.add(stream.decision.endpoint)
                assert len(asked) == 1, asked

    asyncio.run(main())


def test_two_edge_routers_one_in_front_of_the_other(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one in front has the one behind as its strong model, which has two models itself: a loop of tools is
    torn by neither."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    behind = serve(
        weak=ScriptedEngine(default=calling, model_id="small"),
        strong=ScriptedEngine(default=calling, model_id="big"),
    )
    config = Config().replace(**{"strong.base_url": f"{behind.url}/v1", "strong.model": "auto"})
    score = 0.9
    router = ScriptedRouter(lambda text: score)
    front = Controller(config, weak=ScriptedEngine(default=calling, model_id="front"), router=router)
    tool = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
    for first, words, answered in (
        (0.9, "hard", "big"),
        (0.9, "weather?", "small"),
        (0.1, "weather?", "front"),
    ):
        messages: list[JSON] = [{"role": "user", "content": words}]
        for turn in range(3):
            score = 1 - first if turn else first
            reply = front.chat.completions.create(messages=messages, tools=[tool])
            asked = {"big": behind.strong, "small": behind.weak}.get(answered)
            assert asked is None or len(asked.calls[-1].messages) == len(messages), (answered, turn)
            assert reply.decision.model == ("weak" if answered == "front" else "strong")
            assert str(reply.decision.reason) == ("session" if turn else "score")
            said = reply.choices[0].message
            calls = [call.model_dump() for call in said.tool_calls or ()]
            messages.append(
                {"role": "assistant", "content": said.content, **({"tool_calls": calls} if calls else {})}
            )
            messages += [
                {"role": "tool", "tool_call_id": each["id"], "content": "20 degrees"} for each in calls
            ]
    front.close()
    assert (len(behind.strong.calls), len(behind.weak.calls)) == (3, 3)
