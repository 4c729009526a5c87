"""One server, all protocols: each answers at its own paths, in its own form, also where something fails."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from edge_router.chat.events import Event, Finished, TextDelta
from edge_router.chat.message import Message
from edge_router.chat.reply import Reply
from edge_router.chat.request import ChatRequest
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import DuplicateName, GenerationFailed
from edge_router.server.protocols import Protocols
from edge_router.surfaces.base import Body, Call, Failure, Head, SurfaceHost, SurfaceQuery

HI = [{"role": "user", "content": "hi"}]
# Of each: its path, a body, and where the answer's text stands in a whole reply.
CHATS: tuple[tuple[str, dict[str, Any], Callable[[Any], Any]], ...] = (
    ("/v1/chat/completions", {"messages": HI}, lambda body: body["choices"][0]["message"]["content"]),
    ("/v1/completions", {"prompt": "hi"}, lambda body: body["choices"][0]["text"]),
    ("/v1/responses", {"input": "hi"}, lambda body: body["output"][0]["content"][0]["text"]),
    ("/v1/messages", {"messages": HI, "max_tokens": 9}, lambda body: body["content"][0]["text"]),
    ("/api/chat", {"messages": HI, "stream": False}, lambda body: body["message"]["content"]),
    ("/api/generate", {"prompt": "hi", "stream": False}, lambda body: body["response"]),
)
# Of each form of errors: a path, and what a body in that form holds.
FORMS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("/v1/chat/completions", lambda body: body["error"]["message"]),
    ("/v1/responses", lambda body: body["error"]["message"]),
    ("/v1/messages", lambda body: body["type"] == "error" and body["error"]["message"]),
    ("/api/chat", lambda body: body["error"]),
)
VERSION = ("anthropic-version", "2023-06-01")


def test_each_protocol_is_answered_in_its_own_form(setup: Callable[..., Any]) -> None:
    for path, body, text in CHATS:
        reply = setup().call(body={**body, "model": "weak"}, path=path)
        assert reply.status == 200, (path, reply.body)
        assert text(reply.json()) == "You said: hi", path
        assert reply.header("x-edge-router-model") == "weak", path


def test_each_protocol_streams_text_as_it_comes(setup: Callable[..., Any]) -> None:
    for path, body, _ in CHATS:
        reply = setup().call(body={**body, "model": "weak", "stream": True}, path=path)
        kind = "application/x-ndjson" if path.startswith("/api") else "text/event-stream; charset=utf-8"
        assert (reply.status, reply.header("content-type")) == (200, kind), path
        assert b"You" in reply.body and b" said:" in reply.body and b" hi" in reply.body, path


def test_an_answer_that_breaks_off_looks_whole_in_none(setup: Callable[..., Any]) -> None:
    ends = (b"[DONE]", b"response.completed", b"message_stop", b'"done":true')
    for path, body, _ in CHATS:
        one = setup()
        one.weak.queue(["half ", GenerationFailed("small", "NaN")])
        reply = one.call(body={**body, "model": "weak", "stream": True}, path=path)
        assert b"half" in reply.body and b"NaN" in reply.body, path
        assert not any(end in reply.body for end in ends), path


def test_errors_are_in_the_form_of_the_path(setup: Callable[..., Any]) -> None:
    for path, message in FORMS:
        for reply, status, words in (
            (setup().call(body={"messages": 7, "input": 7, "max_tokens": 1}, path=path), 400, ""),
            (setup().call("PUT", path), 405, "PUT is not answered here"),
            (setup().call(body={}, path=f"{path}/nothing/here"), 404, "There is no"),
            (setup(api_key="k").call(body={}, path=path), 401, "The API key is missing"),
            (setup().call(body={}, path=path, headers=[("host", "evil.example")]), 403, "evil.example"),
        ):
            assert reply.status == status, (path, status, reply.body)
            assert words in message(reply.json()), (path, status)


def test_who_asks_at_a_wrong_path_is_told_the_right_one(setup: Callable[..., Any]) -> None:
    for path, words in (
        ("/v1/v1/messages", "but /v1/messages: leave /v1 out of the client's base address."),
        ("/v1/api/chat", "but /api/chat: leave /v1 out"),
        ("/api/create", "POST /api/chat and /api/generate are."),
        ("/v1/messages/batches", "/v1/messages"),
        ("/messages", "base_url ends in /v1"),
    ):
        reply = setup().call(body={}, path=path)
        assert reply.status == 404 and words in reply.body.decode(), (path, reply.body)


def test_each_request_has_an_id_that_the_log_has_too(
    setup: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    seen = set()
    for path, _ in FORMS:
        for method, key in (("POST", None), ("PUT", None), ("POST", "k")):
            with caplog.at_level(logging.INFO, logger="edge_router.server"):
                reply = setup(api_key=key).call(method, path, {} if method == "POST" else None)
            number = reply.header("request-id")
            assert number == reply.header("x-request-id") and number in caplog.text, (path, method)
            assert path != "/v1/messages" or reply.json()["request_id"] == number
            seen.add(number)
    assert len(seen) == 3 * len(FORMS)


def test_models_are_listed_in_the_form_of_who_asks(setup: Callable[..., Any]) -> None:
    def get(path: str, *headers: tuple[str, str]) -> Any:
        return setup().call("GET", path, headers=[("host", "localhost"), *headers]).json()

    weak = get("/v1/models/weak")
    assert weak["object"] == "model" and weak["local"] and not weak["capabilities"]["tools"]
    assert {"auto", "weak", "strong", "small"} <= {each["id"] for each in get("/v1/models")["data"]}
    assert get("/v1/models", VERSION)["data"][0]["type"] == "model"
    assert {"auto", "weak"} <= {each["name"] for each in get("/api/tags")["models"]}
    vectors = [each["id"] for each in get("/v1/models")["data"] if each["capabilities"]["embeddings"]]
    assert vectors == [each.name for each in setup().controller().models() if each.dimension is not None]


def test_a_context_window_is_told_where_it_is_known(setup: Callable[..., Any]) -> None:
    small = ScriptedEngine(model_id="small", context_window_size=100)
    listed = {each.name: each for each in setup(weak=small).controller().models()}
    assert listed["weak"].context_window == listed["small"].context_window == 100
    assert listed["auto"].context_window is None  # what is longer goes to the strong model


class Shouting:
    """A protocol of another package."""

    name, paths, media_type = "shouting", ("/shout",), "text/plain"
    queries = (SurfaceQuery("GET", "/shout/names", lambda body, host: {"names": len(host.models())}),)

    def parse(self, path: str, body: Mapping[str, object]) -> Call:
        said = (Message("user", str(body["say"])),)
        return Call(ChatRequest(said, target="weak"), bool(body.get("stream")), afterwards=self.after)

    def __init__(self) -> None:
        self.done = 0

    def after(self, host: SurfaceHost) -> None:
        self.done += 1

    def encoder(self, call: Call, head: Head) -> Shouting:
        return self

    def feed(self, event: Event) -> bytes:
        return event.text.upper().encode() if isinstance(event, TextDelta) else b""

    def end(self) -> bytes:
        return b"!"

    def fail(self, failure: Failure) -> bytes:
        return b"?"

    def whole(self, call: Call, head: Head, reply: Reply) -> Body:
        return {"shouted": reply.text.upper()}

    def error(self, failure: Failure) -> Body:
        return {"oh": failure.message}

    def comment(self, text: str) -> bytes:
        return b""


def test_a_protocol_of_another_package_plugs_in(setup: Callable[..., Any]) -> None:
    own = Shouting()
    one = setup(protocols=Protocols([own]))
    assert one.call(body={"say": "hi"}, path="/shout").json() == {"shouted": "YOU SAID: HI"}
    assert one.call(body={"say": "hi", "stream": True}, path="/shout").body == b"YOU SAID: HI!"
    assert own.done == 2
    assert one.call("GET", "/shout/names").json()["names"] > 3
    assert set(one.call("PUT", "/shout").json()) == {"oh"}
    one.weak.queue([TextDelta("half"), GenerationFailed("small", "NaN")])
    assert one.call(body={"say": "hi", "stream": True}, path="/shout").body == b"HALF?"
    with pytest.raises(DuplicateName):
        Protocols([own, Shouting()])


@pytest.mark.integration  # loads a router
def test_vectors_come_over_both_protocols_that_have_them(setup: Callable[..., Any]) -> None:
    one = setup()
    openai = one.call(body={"model": "static", "input": "hi"}, path="/v1/embeddings").json()
    ollama = one.call(body={"model": "static", "input": "hi"}, path="/api/embed").json()
    assert openai["data"][0]["embedding"] == pytest.approx(ollama["embeddings"][0])


def test_an_answer_that_was_made_can_be_rated_by_each_protocols_id(setup: Callable[..., Any]) -> None:
    one = setup(ledger=True)
    app = one.app()
    for path, body, _ in CHATS[:4]:
        number = one.call(body={**body, "model": "weak"}, path=path, app=app).json()["id"]
        rated = one.call(body={"id": number, "rating": "up"}, path="/v1/ratings", app=app)
        assert (rated.status, rated.json().get("rating")) == (200, "up"), (path, rated.body)


def test_a_whole_answer_ends_with_what_is_to_be_done_afterwards(setup: Callable[..., Any]) -> None:
    own = Shouting()
    one = setup(protocols=Protocols([own]))
    one.weak.queue([Finished("stop")])
    assert json.loads(one.call(body={"say": "hi"}, path="/shout").body) == {"shouted": ""}
    assert own.done == 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_never_began_is_followed_by_it_too(setup: Callable[..., Any], stream: bool) -> None:
    own = Shouting()
    one = setup(protocols=Protocols([own]))
    one.weak.queue(GenerationFailed("small", "NaN"))
    assert one.call(body={"say": "hi", "stream": stream}, path="/shout").status == 500
    assert own.done == 1
