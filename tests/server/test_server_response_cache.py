"""Answers given again over every protocol, streamed and whole, and through two edge-routers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_router import AsyncController, Config, Controller, ScriptedEngine, ScriptedRouter
from edge_router.chat.events import Finished, ReasoningDelta, ToolCallArguments, ToolCallStart, Usage
from edge_router.config.sections import ServerConfig
from edge_router.server.app import create_app
from edge_router.system.paths import Paths

MESSAGES = [{"role": "user", "content": "hi"}]
WORDS = "It is a long answer, told in words that come one after the other."
ZERO = {"temperature": 0}
SURFACES: tuple[tuple[str, dict[str, object]], ...] = (
    ("/v1/chat/completions", {"messages": MESSAGES, **ZERO}),
    ("/v1/completions", {"prompt": "hi", "max_tokens": 99, **ZERO}),
    ("/v1/responses", {"input": "hi", **ZERO}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 99, **ZERO}),
    ("/api/chat", {"messages": MESSAGES, "options": ZERO}),
    ("/api/generate", {"prompt": "hi", "options": ZERO}),
)
Serve = Callable[..., tuple[Any, ScriptedEngine]]


@pytest.fixture
def served(setup: Any, paths: Paths) -> Iterator[Serve]:
    """served(reply, ..., **settings): call(path, body, headers) on an app, and its weak model."""
    made: list[Controller] = []

    def serve(*replies: object, mode: str = "memory", **settings: object) -> tuple[Any, ScriptedEngine]:
        small = ScriptedEngine(*replies, model_id="small", default="anew")  # type: ignore[arg-type]
        config = Config().replace(**{"response_cache.mode": mode, **settings})
        controller = Controller(config, weak=small, router=ScriptedRouter(0.1))
        made.append(controller)
        app, called = create_app(AsyncController(controller), ServerConfig(port=0), api_key=None), setup()

        def call(path: str, body: dict[str, object], **headers: str) -> Any:
            given = [("host", "localhost"), *((n.replace("_", "-"), v) for n, v in headers.items())]
            return called.call(path=path, body=body, app=app, headers=given)

        return call, small

    yield serve
    for each in made:
        each.close()


def text_of(path: str, reply: Any) -> str:
    """What a whole body says, or a stream."""
    raw = reply.body.decode()
    if "event-stream" in (reply.header("content-type") or ""):
        lines = [line.removeprefix("data: ") for line in raw.splitlines() if line.startswith("data: {")]
        return "".join(piece_of(path, json.loads(line)) for line in lines)
    if "ndjson" in (reply.header("content-type") or ""):
        return "".join(piece_of(path, json.loads(line)) for line in raw.splitlines())
    return whole_of(path, json.loads(raw))


def whole_of(path: str, body: Any) -> str:
    if path == "/v1/responses":
        return "".join(part["text"] for item in body["output"] for part in item.get("content", ()))
    if path == "/v1/messages":
        return "".join(block.get("text", "") for block in body["content"])
    return piece_of(path, body)


def piece_of(path: str, body: Any) -> str:
    if path == "/api/chat":
        return body["message"]["content"]
    if path == "/api/generate":
        return body["response"]
    if path == "/v1/responses":
        return body["delta"] if body["type"] == "response.output_text.delta" else ""
    if path == "/v1/messages":
        return body["delta"].get("text", "") if body["type"] == "content_block_delta" else ""
    choice = body["choices"][0]
    return choice.get("text") or (choice.get("delta") or choice.get("message") or {}).get("content") or ""


def test_every_protocol_streams_it_again(served: Serve) -> None:
    for path, body in SURFACES:
        call, small = served([f"{word} " for word in WORDS.split()])
        found = [call(path, {**body, "stream": stream}) for stream in (True, True, False)]
        said = " ".join(text_of(path, found[0]).split())
        assert said == WORDS, path
        assert [text_of(path, reply).strip() for reply in found] == [WORDS] * 3, path
        assert [reply.header("x-edge-router-reason") for reply in found] == ["score", "cached", "cached"], (
            path
        )
        assert found[0].header("x-edge-router-age") is None, path
        assert all(0 <= float(reply.header("x-edge-router-age")) < 60 for reply in found[1:]), path
        assert len(small.calls) == 1, path
        pieces = found[1].body.count(b"\n") if "/api" in path else found[1].body.count(b"data: ")
        assert pieces >= 4, path


def test_one_protocol_has_what_another_asked(served: Serve) -> None:
    """Whose fields mean the same."""
    call, small = served("one")
    for path, body in SURFACES:
        if path not in ("/v1/completions", "/v1/messages"):  # which say how long it may be
            assert text_of(path, call(path, {**body, "stream": False})) == "one", path
    assert len(small.calls) == 1


def test_thoughts_calls_and_usage_come_again(served: Serve) -> None:
    steps = [
        ReasoningDelta("Hm."),
        ToolCallStart(0, "c1", "look"),
        ToolCallArguments(0, '{"at": "sea"}'),
        Finished("tool_calls", Usage(11, 7, 3, 2)),
    ]
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    call, small = served(steps, **{"response_cache.tools": True})
    body = {"messages": MESSAGES, "tools": [tool], **ZERO}
    first, again = (call("/v1/chat/completions", body).json() for _ in range(2))
    assert first["choices"] == again["choices"] and first["id"] != again["id"]
    assert first["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"at": "sea"}'
    assert (again["usage"]["prompt_tokens"], again["usage"]["completion_tokens"]) == (11, 7)
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == 11
    assert len(small.calls) == 1


def test_a_stored_conversation_goes_on_from_what_was_kept(served: Serve) -> None:
    call, small = served("one", "two", "three")
    path = "/v1/responses"
    first, again = (call(path, {"input": "hi", **ZERO}).json() for _ in range(2))
    assert first["id"] != again["id"] and whole_of(path, again) == "one"
    for before, said in ((first["id"], "two"), (again["id"], "two")):
        body = {"input": "and?", "previous_response_id": before, **ZERO}
        assert whole_of(path, call(path, body).json()) == said
    assert len(small.calls) == 2
    assert whole_of(path, call(path, {"input": "new", "store": False, **ZERO}).json()) == "three"
    assert whole_of(path, call(path, {"input": "new", **ZERO}).json()) == "anew"  # it was not to be kept


def test_headers_say_what_is_wanted(served: Serve) -> None:
    call, _ = served("a", "b", "c", "d")
    body = {"messages": MESSAGES, **ZERO}

    def said(body: dict[str, object] = body, **headers: str) -> str:
        return text_of("/v1/chat/completions", call("/v1/chat/completions", body, **headers))

    assert (said(), said(), said(cache_control="no-cache"), said()) == ("a", "a", "b", "b")
    assert (said(cache_control="no-store"), said()) == ("c", "b")
    drawn = {"messages": MESSAGES}
    assert said(drawn, x_edge_router_cache="use") == said(drawn, x_edge_router_cache="use") == "d"
    assert said(drawn) == said(drawn) == "anew"
    refused = call("/v1/chat/completions", body, x_edge_router_cache="none")
    assert (refused.status, refused.error["param"]) == (400, "x-edge-router-cache")


def test_metrics_tell_hits_misses_and_bytes(served: Serve, setup: Any) -> None:
    call, _ = served("a")
    for _ in range(3):
        call("/v1/chat/completions", {"messages": MESSAGES, **ZERO})
    call("/v1/chat/completions", {"messages": MESSAGES})
    told = call.__closure__  # the app is in it
    assert told is not None
    app = next(cell.cell_contents for cell in told if hasattr(cell.cell_contents, "routes"))
    body = setup().call("GET", "/metrics", app=app).body.decode()
    for line in (
        'edge_router_response_cache_lookups_total{result="hit"} 2',
        'edge_router_response_cache_lookups_total{result="left_out"} 1',
        'edge_router_response_cache_lookups_total{result="miss"} 1',
        "edge_router_response_cache_answers{} 1",
    ):
        assert line in body, line
    assert float(body.split("edge_router_response_cache_bytes{} ")[1].split()[0]) > 100


@pytest.mark.integration
def test_two_edge_routers_one_in_front_of_the_other(serve: Any, paths: Paths, tmp_path: Path) -> None:
    """Each keeps its own: what the one in front has, the one behind is not asked."""
    behind = serve(weak=ScriptedEngine("one", "two", model_id="small"))

    def front(home: str, **settings: object) -> Controller:
        found = {"weak.engine": "remote", "weak.model": "weak", "weak.base_url": f"{behind.url}/v1"}
        config = Config().replace(**{**found, "response_cache.mode": "disk", **settings})
        return Controller(config, router=ScriptedRouter(0.1), paths=Paths.under(tmp_path / home))

    def asked(controller: Controller, **fields: object) -> tuple[str, str]:
        with controller.chat.completions.create(
            messages="hi", temperature=0, stream=True, **fields
        ) as stream:
            said = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            return said, stream.decision.reason

    one = front("a")
    assert [asked(one), asked(one)] == [("one", "score"), ("one", "cached")]
    assert asked(one, private=True) == ("one", "cached")
    assert asked(one, response_cache="no-cache") == ("two", "score")
    assert behind.weak.calls[-1].response_cache.read is False  # which goes on, and "no-store" with it
    one.close()
    again = front("a")
    assert asked(again) == ("two", "cached")  # whose model is known before it is asked
    again.close()
    assert len(behind.weak.calls) == 2


@pytest.mark.integration
@pytest.mark.parametrize("side", ["weak", "strong"])
def test_both_keep_answers_and_no_cache_passes_both(
    side: str, paths: Paths, tmp_path: Path, serve: Any
) -> None:
    inner = ScriptedEngine(*"abcdefg", model_id="small")
    kept = {"response_cache.mode": "memory"}
    url = serve(weak=inner, config=kept).url
    found: dict[str, object] = {"strong.model": "auto", "strong.base_url": f"{url}/v1"}
    engines = {"weak": ScriptedEngine(model_id="own")}
    if side == "weak":
        found = {"weak.engine": "remote", "weak.model": "auto", "weak.base_url": f"{url}/v1"}
        engines = {}
    router = ScriptedRouter(0.1 if side == "weak" else 0.9)
    config = Config().replace(**{**kept, **found})
    with Controller(config, router=router, paths=Paths.under(tmp_path / "front"), **engines) as front:

        def ask(**fields: object) -> str:
            create = front.chat.completions.create
            return str(create(messages="hi", temperature=0, **fields).text)  # type: ignore[call-overload]

        assert [ask(), ask(), ask(response_cache="no-cache"), ask()] == ["a", "a", "b", "b"]
        assert [ask(response_cache="no-store"), ask()] == ["c", "b"]
        assert len(inner.calls) == 3
