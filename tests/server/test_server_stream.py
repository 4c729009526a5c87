"""Streams that do not end by themselves: broken, left, stopped."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from edge_router.callers.keys import KeyRing
from edge_router.chat.events import ForeignDelta
from edge_router.chat.request import ChatRequest
from edge_router.defects import Defects
from edge_router.engines.scripted import Reply
from edge_router.errors import GenerationFailed, StrongInterrupted
from edge_router.server.http.limits import ServerLimits
from edge_router.server.protocols import Protocols
from edge_router.server.running import RunningAnswers
from edge_router.server.security import SecurityMiddleware
from edge_router.surfaces.base import Call, Head
from edge_router.surfaces.responses.surface import OpenAIResponses

HI: Any = [{"role": "user", "content": "hi"}]


def generating() -> bool:
    """Whether any answer is still being made; waits for the last one, but not for ever."""
    end = time.monotonic() + 20
    while any(thread.name == "edge_router answer" for thread in threading.enumerate()):
        if time.monotonic() > end:
            return True
        time.sleep(0.002)
    return False


class Endless:
    """Says words for ever."""

    def __init__(self, *, silent: bool = False) -> None:
        self.said, self.silent = 0, silent
        self.asked = threading.Event()

    def __call__(self, request: ChatRequest) -> Reply:
        self.asked.set()
        return self.words()  # type: ignore[return-value]

    def words(self) -> Iterator[str | float]:
        if self.silent:
            yield 3600.0
        while True:
            self.said += 1
            yield "word "
            yield 0.005


def test_an_error_in_mid_stream_is_the_clients_exception(served: Any) -> None:
    served.weak.queue(["half ", GenerationFailed("small", "NaN")])
    seen = []
    with pytest.raises(openai.APIError, match="failed while generating: NaN") as caught:
        for chunk in served.client().chat.completions.create(model="auto", messages=HI, stream=True):
            seen.append(chunk.choices[0].delta.content)
    assert seen == ["", "half "]
    assert caught.value.code == "generation_failed"


@pytest.mark.parametrize("error", [StrongInterrupted("http://x", "cut"), RuntimeError("private detail")])
def test_a_broken_stream_has_no_done(setup: Callable[..., Any], error: Exception) -> None:
    one = setup()
    one.strong.queue(["half", error])
    reply = one.call(body={"model": "strong", "messages": HI, "stream": True})
    events = [event.removeprefix(b"data: ") for event in reply.body.split(b"\n\n") if event]
    assert reply.status == 200 and b"[DONE]" not in reply.body
    assert set(json.loads(events[-1])) == {"error"}
    assert set(json.loads(events[-1])["error"]) == {"message", "type", "param", "code"}


def test_a_mistake_of_ours_in_mid_stream_shows_nothing_of_itself(setup: Callable[..., Any]) -> None:
    one = setup()
    one.weak.queue(["half", ForeignDelta({"secret": object()}), "more"])
    reply = one.call(body={"model": "weak", "messages": HI, "stream": True})
    last = json.loads(reply.body.strip().rpartition(b"data: ")[2])
    assert last["error"]["code"] == "internal_error" and b"secret" not in reply.body


def test_a_whole_reply_is_an_error_or_nothing(served: Any) -> None:
    served.weak.queue(["half ", GenerationFailed("small", "NaN")])
    with pytest.raises(openai.InternalServerError) as caught:
        served.client().chat.completions.create(model="weak", messages=HI)
    assert caught.value.code == "generation_failed"


def test_leaving_a_stream_ends_the_generation(served: Any) -> None:
    words = Endless()
    served.weak.queue(words)
    with served.client().chat.completions.create(model="weak", messages=HI, stream=True) as stream:
        for number, _ in enumerate(stream):
            if number == 3:
                break
    assert not generating()
    assert served.client().models.list().data


@pytest.mark.parametrize("stream", [True, False])
def test_leaving_before_the_first_word_ends_the_generation(serve: Callable[..., Any], stream: bool) -> None:
    served, words = serve(limits=ServerLimits(hold_s=3600.0)), Endless(silent=True)
    served.weak.queue(words)

    async def main() -> None:
        async with served.async_client() as client:
            asking = client.chat.completions.create(model="weak", messages=HI, stream=stream)
            task = asyncio.create_task(asking)
            while not words.asked.is_set():
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert not generating()
    assert words.said == 0


def test_leaving_a_whole_reply_ends_the_generation(served: Any) -> None:
    words = Endless()
    served.weak.queue(words)

    async def main() -> None:
        async with served.async_client() as client:
            task = asyncio.create_task(client.chat.completions.create(model="weak", messages=HI))
            while words.said < 3:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert not generating()


@pytest.mark.parametrize("messages", [1, 2, 4])
def test_leaving_at_any_moment_leaves_nothing_running(setup: Callable[..., Any], messages: int) -> None:
    """The app itself, with a connection that breaks at its n-th message, however the server tells."""
    words, one = Endless(), setup()
    one.weak.queue(words)
    app = one.app()
    body = json.dumps({"model": "weak", "messages": HI, "stream": True}).encode()

    async def main(version: str) -> None:
        received = iter([{"type": "http.request", "body": body}])
        gone = asyncio.Event()
        sent = 0

        async def receive() -> dict[str, Any]:
            for message in received:
                return message
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            nonlocal sent
            sent += 1
            if sent >= messages:
                gone.set()
                if version == "2.4":
                    raise OSError("broken pipe")

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "asgi": {"spec_version": version}, "method": "POST", "headers": headers}
        scope |= {"path": "/v1/chat/completions", "query_string": b"", "root_path": ""}
        await asyncio.wait_for(app(scope, receive, send), 20)
        assert not await asyncio.to_thread(generating)

    asyncio.run(main("2.3"))
    words = Endless()
    one.weak.queue(words)
    asyncio.run(main("2.4"))


def test_a_stop_ends_what_is_under_way(serve: Callable[..., Any]) -> None:
    streaming, whole, waiting = Endless(), Endless(), Endless(silent=True)
    served = serve()
    failures: list[BaseException | None] = [None, None]
    client = served.client(timeout=30)
    served.weak.queue(streaming)
    stream = client.chat.completions.create(model="weak", messages=HI, stream=True)
    next(iter(stream))

    def ask(index: int) -> None:
        try:
            client.chat.completions.create(model="weak", messages=HI)
        except openai.APIError as error:
            failures[index] = error

    threads = []
    for index, model in enumerate((whole, waiting)):
        served.weak.queue(model)
        threads.append(threading.Thread(target=ask, args=(index,)))
        threads[-1].start()
        assert model.asked.wait(20)
    served.stop()  # returns once the server has ended
    with pytest.raises(openai.APIError, match="shutting down") as caught:
        list(stream)
    assert caught.value.code == "shutting_down"
    for thread in threads:
        thread.join(20)
    for failure in failures:
        assert isinstance(failure, openai.InternalServerError) and failure.code == "shutting_down"
    assert not generating()
    assert served.weak.closed


@pytest.mark.parametrize("stream", [True, False])
def test_a_request_that_comes_while_the_server_stops(setup: Callable[..., Any], stream: bool) -> None:
    one = setup()
    app = one.app()
    app.state.running.stop()
    one.weak.queue(Endless())
    reply = one.call(body={"model": "weak", "messages": HI, "stream": stream}, app=app)
    assert reply.status == 503
    assert reply.error["code"] == "shutting_down"
    assert not generating()


def test_what_begins_while_the_server_stops_is_ended() -> None:
    running, ended = RunningAnswers(), list[int]()
    with running.ended_by(lambda: ended.append(1)):
        running.stop()
        with running.ended_by(lambda: ended.append(2)):
            assert ended == [1, 2]
    running.stop()
    assert ended == [1, 2]


def test_half_a_reply_never_looks_whole() -> None:
    """Whatever breaks once a reply has begun reaches the server, which then cuts the connection."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("in the middle")

    told: list[str] = []

    async def send(message: Any) -> None:
        told.append(message["type"])

    async def receive() -> Any:
        return {"type": "http.request"}

    met: list[tuple[str, str]] = []
    guard = SecurityMiddleware(
        broken,
        hosts=frozenset({"localhost"}),
        origins=(),
        keys=KeyRing(),
        protocols=Protocols.installed(),
        defects=Defects(count=lambda component, kind: met.append((component, kind))),
    )
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"localhost")]}
    with pytest.raises(RuntimeError):
        asyncio.run(guard(scope, receive, send))
    assert told == ["http.response.start"]
    assert met == [("server", "RuntimeError")]


def test_what_a_broken_answer_gathered_is_given_back_at_once(setup: Callable[..., Any]) -> None:
    """It may be tens of megabytes in a handful of objects, which no collector hurries for."""
    made: list[weakref.ref[Any]] = []

    class Watched(OpenAIResponses):
        def encoder(self, call: Call, head: Head) -> Any:
            encoder = super().encoder(call, head)
            made.append(weakref.ref(encoder))
            return encoder

    one = setup(protocols=Protocols([Watched()]))
    one.weak.queue(["half ", StrongInterrupted("http://127.0.0.1/v1", "cut")])
    gc.collect()
    gc.disable()
    try:
        body = {"input": "hi", "model": "weak", "stream": True}
        assert b"response.failed" in one.call(path="/v1/responses", body=body).body
        deadline = time.monotonic() + 10
        while made[0]() is not None and time.monotonic() < deadline:  # its thread ends a moment later
            time.sleep(0.01)
        assert made[0]() is None
    finally:
        gc.enable()
