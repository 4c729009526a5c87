"""The official client against a server that listens: what it expects is what counts."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Callable
from typing import Any

import openai
import pytest

from edge_router.chat.events import Finished, TextDelta, TokenLogprob, ToolCallArguments, ToolCallStart, Usage
from edge_router.chat.request import Tool
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import (
    ContextOverflow,
    OutOfMemory,
    StrongNotConfigured,
    StrongRateLimited,
    StrongUnauthorized,
    StrongUnreachable,
)

HI: Any = [{"role": "user", "content": "hi"}]
HARD: Any = [{"role": "user", "content": "a hard one"}]


def test_chat(served: Any) -> None:
    served.weak.queue("Paris is it.")
    raw = served.client().chat.completions.with_raw_response.create(model="auto", messages=HI)
    reply = raw.parse()
    assert reply.choices[0].message.content == "Paris is it."
    assert reply.choices[0].finish_reason == "stop"
    assert reply.model == "small"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (1, 3, 4)
    assert {name: value for name, value in raw.headers.items() if name.startswith("x-edge-router-")} == {
        "x-edge-router-model": "weak",
        "x-edge-router-score": "0.125",
        "x-edge-router-threshold": "0.5",
        "x-edge-router-reason": "score",
    }
    assert set(json.loads(raw.text)) == {"id", "object", "created", "model", "choices", "usage"}


def test_a_hard_one_goes_to_the_strong_model(served: Any) -> None:
    raw = served.client().chat.completions.with_raw_response.create(model="auto", messages=HARD)
    assert raw.parse().model == "big"
    assert raw.headers["x-edge-router-model"] == "strong"
    assert raw.headers["x-edge-router-score"] == "0.875"


def test_a_named_model_has_no_score(served: Any) -> None:
    raw = served.client().chat.completions.with_raw_response.create(model="strong", messages=HI)
    assert raw.headers["x-edge-router-reason"] == "forced"
    assert "x-edge-router-score" not in raw.headers and "x-edge-router-threshold" not in raw.headers


def test_a_threshold_in_the_name(served: Any) -> None:
    raw = served.client().chat.completions.with_raw_response.create(model="router-word-0.1", messages=HI)
    assert (raw.headers["x-edge-router-model"], raw.headers["x-edge-router-threshold"]) == ("strong", "0.1")


def test_a_fallback_is_told(served: Any) -> None:
    served.strong.queue(StrongUnreachable("http://x", "refused"))
    raw = served.client().chat.completions.with_raw_response.create(model="auto", messages=HARD)
    assert raw.parse().model == "small"
    assert raw.headers["x-edge-router-fallback"] == "StrongUnreachable"
    assert raw.headers["x-edge-router-reason"] == "strong_unavailable"
    assert raw.headers["x-edge-router-would-escalate"] == "true"


def test_turns_left_out_are_told(serve: Any) -> None:
    served = serve(weak=ScriptedEngine(model_id="small", serves=(), context_window_size=2048))
    turns = [{"role": "user", "content": "w " * 3000}, {"role": "assistant", "content": "w"}, *HI]
    raw = served.client().chat.completions.with_raw_response.create(model="weak", messages=turns)
    assert raw.headers["x-edge-router-truncated"] == "2"
    raw = served.client().chat.completions.with_raw_response.create(model="weak", messages=HI)
    assert "x-edge-router-truncated" not in raw.headers


def test_streaming(served: Any) -> None:
    served.weak.queue("Paris is it.")
    raw = served.client().chat.completions.with_raw_response.create(model="auto", messages=HI, stream=True)
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert raw.headers["x-edge-router-model"] == "weak"
    chunks = list(raw.parse())
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Paris is it."
    assert [chunk.choices[0].finish_reason for chunk in chunks][-2:] == [None, "stop"]
    assert {chunk.usage for chunk in chunks} == {None}
    assert len({chunk.id for chunk in chunks}) == 1


def test_streaming_with_usage(served: Any) -> None:
    served.weak.queue("one two")
    chunks = list(
        served.client().chat.completions.create(
            model="auto", messages=HI, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 3
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_the_clients_own_stream_helper(served: Any) -> None:
    served.weak.queue("Paris is it.")
    with served.client().chat.completions.stream(model="auto", messages=HI) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == "Paris is it."


def test_text_completions(served: Any) -> None:
    served.weak.queue("one two three", "one two three")
    client = served.client()
    whole = client.completions.create(model="weak", prompt="count", max_tokens=2)
    assert (whole.object, whole.choices[0].text, whole.choices[0].finish_reason) == (
        "text_completion",
        "one two",
        "length",
    )
    options: Any = {"include_usage": True}
    chunks = list(
        client.completions.create(model="weak", prompt="count", stream=True, stream_options=options)
    )
    assert [choice.text for chunk in chunks for choice in chunk.choices] == ["one", " two", " three", ""]
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 3
    assert served.weak.calls[0].raw_prompt == "count"


def test_logprobs(served: Any) -> None:
    token = TokenLogprob(
        "Hi", -0.25, b"Hi", (TokenLogprob("Hi", -0.25, b"Hi"), TokenLogprob("Ho", float("-inf"), b"Ho"))
    )
    steps = [TextDelta("Hi", logprobs=(token,)), Finished("stop", usage=Usage(1, 1))]
    served.weak.queue(steps, steps, steps)
    client = served.client()
    asked: Any = {"model": "weak", "messages": HI, "logprobs": True, "top_logprobs": 2}
    told = client.chat.completions.create(**asked).choices[0].logprobs.content[0]
    assert (told.token, told.logprob, told.bytes) == ("Hi", -0.25, [72, 105])
    assert [(top.token, top.logprob) for top in told.top_logprobs] == [("Hi", -0.25), ("Ho", -9999.0)]
    chunks = list(client.chat.completions.create(**asked, stream=True))
    assert chunks[1].choices[0].logprobs.content[0].token == "Hi"
    text = client.completions.create(model="weak", prompt="x", logprobs=2)
    assert text.choices[0].logprobs.token_logprobs == [-0.25]


def test_tool_calls_come_through(served: Any) -> None:
    steps = [ToolCallStart(0, "c1", "f"), ToolCallArguments(0, "{}"), Finished("tool_calls")]
    served.strong.queue(steps, steps)
    tools: Any = [{"type": "function", "function": {"name": "f"}}]
    asked: Any = {"model": "auto", "messages": HI, "tools": tools}
    raw = served.client().chat.completions.with_raw_response.create(**asked)
    assert raw.headers["x-edge-router-reason"] == "needs_tools"
    assert raw.parse().choices[0].message.tool_calls[0].function.name == "f"
    assert served.strong.calls[0].tools == (Tool("f"),)
    chunks = list(served.client().chat.completions.create(**asked, stream=True))
    assert chunks[1].choices[0].delta.tool_calls[0].id == "c1"


PRIVATE_BY: list[dict[str, Any]] = [
    {"extra_body": {"private": True}},
    {"extra_body": {"private": "true"}},
    {"extra_body": {"private": 1}},
    {"extra_body": {"extra_body": {"private": True}}},
    {"extra_body": {"metadata": {"private": "true"}}},
    {"extra_headers": {"X-Edge-Router-Private": "true"}},
    {"extra_query": {"private": "true"}},
]


@pytest.mark.parametrize("how", PRIVATE_BY, ids=str)
def test_private_stays_here_however_a_client_says_it(served: Any, how: dict[str, Any]) -> None:
    client = served.client()
    client.chat.completions.create(model="router-word-0", messages=HARD, **how)
    list(client.chat.completions.create(model="router-word-0", messages=HARD, stream=True, **how))
    client.completions.create(model="router-word-0", prompt="a hard one", **how)
    assert [request.private for request in served.weak.calls] == [True] * 3
    assert served.strong.calls == []


@pytest.mark.parametrize(
    "how",
    [
        {"extra_body": {"privat": True}},
        {"extra_body": {"private": "maybe"}},
        {"extra_body": {"metadata": {"private": "maybe"}}},
        {"extra_headers": {"X-Edge-Router-Private": "maybe"}},
        {"extra_headers": {"X-Edge-Router-Private": ""}},
        {"extra_headers": {"X-Edge-Router-Privat": "true"}},
        {"extra_query": {"private": "maybe"}},
        {"extra_query": {"Private": "true"}},
        {"extra_body": {"api_key": "x"}},
    ],
    ids=str,
)
def test_what_may_have_meant_to_stay_here_goes_nowhere(served: Any, how: dict[str, Any]) -> None:
    client = served.client()
    for ask in (
        lambda: client.chat.completions.create(model="router-word-0", messages=HARD, **how),
        lambda: client.completions.create(model="router-word-0", prompt="a hard one", **how),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            ask()
        assert caught.value.param is not None
    assert served.weak.calls == served.strong.calls == []


def test_what_the_server_does_not_know_reaches_the_strong_model(served: Any) -> None:
    extra = {"top_a": 0.05, "chat_template_kwargs": {"enable_thinking": False}}
    served.client().chat.completions.create(model="strong", messages=HI, store=True, extra_body=extra)
    served.client().completions.create(model="strong", prompt="hi", extra_body=extra)
    assert [request.extra.fields for request in served.strong.calls] == [{**extra, "store": True}, extra]


def test_text_in_any_script(served: Any) -> None:
    text = "Grüße, 世界 👩‍🚀\u2028\x00"
    served.weak.queue([text, Finished("stop")], [text, Finished("stop")])
    client = served.client()
    messages: Any = [{"role": "user", "content": text}]
    assert client.chat.completions.create(model="weak", messages=messages).choices[0].message.content == text
    chunks = client.chat.completions.create(model="weak", messages=messages, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
    assert served.weak.calls[0].messages[0].text == text


def test_half_a_character_of_a_model_does_not_break_the_reply(served: Any) -> None:
    served.weak.queue(["\ud83d", Finished("stop")], ["\ud83d", Finished("stop")])
    client = served.client()
    assert client.chat.completions.create(model="weak", messages=HI).choices[0].finish_reason == "stop"
    assert len(list(client.chat.completions.create(model="weak", messages=HI, stream=True))) == 3


def test_models(serve: Callable[..., Any]) -> None:
    served = serve(strong=ScriptedEngine(model_id="org/big-1.5"))
    client = served.client()
    names = [model.id for model in client.models.list()]
    assert {"auto", "weak", "strong", "router-word", "small", "org/big-1.5"} <= set(names)
    assert len(set(names)) == len(names)
    for name in (*names, "router-word-0.25"):
        model = client.models.retrieve(name)
        assert (model.id, model.object) == (name, "model") and model.created > 0
    with pytest.raises(openai.NotFoundError, match="nearest: small") as caught:
        client.models.retrieve("smal")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError):
        client.models.retrieve("router-word-7")


def test_metrics(served: Any) -> None:
    served.client().chat.completions.create(model="auto", messages=HI)
    reply = raw_request(served, "GET /metrics HTTP/1.1", "Host: localhost", "Connection: close")
    assert b"content-type: text/plain; version=0.0.4" in reply
    assert b'edge_router_requests_total{tier="weak",reason="score"} 1\n' in reply
    assert b"nosniff" in reply


def error_of(kind: type[openai.APIStatusError], ask: Callable[[], Any]) -> openai.APIStatusError:
    with pytest.raises(kind) as caught:
        ask()
    assert caught.value.message
    return caught.value


def test_errors_as_the_clients_exceptions(served: Any) -> None:
    create = served.client().chat.completions.create
    error = error_of(openai.BadRequestError, lambda: create(model="weak", messages=HI, temperature=3))
    assert (error.param, error.code, error.type) == (
        "temperature",
        "invalid_request",
        "invalid_request_error",
    )
    assert error_of(openai.BadRequestError, lambda: create(model="weak", messages=[])).param == "messages"
    missing = error_of(openai.NotFoundError, lambda: create(model="gpt-9", messages=HI))
    assert (missing.param, missing.code) == ("model", "model_not_found")
    served.weak.queue(ContextOverflow(5000, 4096))
    over = error_of(openai.BadRequestError, lambda: create(model="weak", messages=HI))
    assert over.code == "context_length_exceeded" and "905 more" in str(over)
    served.strong.queue(StrongRateLimited("http://x", 7.0))
    limited = error_of(openai.RateLimitError, lambda: create(model="strong", messages=HI))
    assert limited.response.headers["retry-after"] == "7"
    for failure, status in (
        (StrongUnauthorized("http://x", 401, "OPENAI_API_KEY"), 502),
        (StrongUnreachable("http://x", "refused"), 502),
        (StrongNotConfigured(), 503),
    ):
        served.strong.queue(failure)
        broken = error_of(openai.InternalServerError, lambda: create(model="strong", messages=HI))
        assert broken.status_code == status
    served.weak.queue(OutOfMemory("tvm", "2 GB are missing"))
    assert error_of(openai.InternalServerError, lambda: create(model="weak", messages=HI)).status_code == 503


def test_an_error_before_the_first_word_of_a_stream_has_a_status(served: Any) -> None:
    served.strong.queue(StrongRateLimited("http://x", 7.0))
    error_of(
        openai.RateLimitError,
        lambda: served.client().chat.completions.create(model="strong", messages=HI, stream=True),
    )


def test_the_client_repeats_only_what_may_work(served: Any) -> None:
    client = served.client(max_retries=2)
    served.strong.queue(StrongUnreachable("http://x", "refused"), "here I am")
    assert (
        client.chat.completions.create(model="strong", messages=HI).choices[0].message.content == "here I am"
    )
    served.strong.queue(StrongNotConfigured())
    before = len(served.strong.calls)
    error_of(openai.InternalServerError, lambda: client.chat.completions.create(model="strong", messages=HI))
    assert len(served.strong.calls) == before + 1


def test_a_key(serve: Callable[..., Any]) -> None:
    served = serve(api_key="right")
    assert served.client(api_key="right").models.list().data
    for key in ("wrong", "righ", "rightt"):
        error = error_of(openai.AuthenticationError, lambda key=key: served.client(api_key=key).models.list())
        assert error.code == "invalid_api_key"


def test_many_at_once_while_one_streams(served: Any) -> None:
    gate = threading.Event()
    served.weak.queue(["first ", gate, "last"])
    client = served.client()
    stream = client.chat.completions.create(model="weak", messages=HI, stream=True)
    chunks = iter(stream)
    assert [next(chunks).choices[0].delta.content for _ in range(2)] == ["", "first "]

    async def others() -> list[str | None]:
        async with served.async_client() as many:
            replies = await asyncio.gather(
                *(
                    many.chat.completions.create(model="auto", messages=[{"role": "user", "content": str(n)}])
                    for n in range(20)
                )
            )
        return [reply.choices[0].message.content for reply in replies]

    assert asyncio.run(others()) == [f"You said: {n}" for n in range(20)]
    gate.set()
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["last", None]


def test_async_streams_side_by_side(served: Any) -> None:
    async def main() -> list[str]:
        async with served.async_client() as client:

            async def one(number: int) -> str:
                messages: Any = [{"role": "user", "content": f"number {number}"}]
                stream = await client.chat.completions.create(model="auto", messages=messages, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*map(one, range(10)))

    assert asyncio.run(main()) == [f"You said: number {n}" for n in range(10)]


def raw_request(served: Any, *lines: str) -> bytes:
    import socket

    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        data = b""
        while piece := connection.recv(65536):
            data += piece
    return data


def test_hosts_over_a_real_connection(served: Any) -> None:
    ok = raw_request(served, "GET /health HTTP/1.1", f"Host: [::1]:{served.port}", "Connection: close")
    assert ok.startswith(b"HTTP/1.1 200 ")
    for lines in (["Host: evil.example"], ["Host: localhost", "Origin: null"]):
        assert raw_request(served, "GET /health HTTP/1.1", *lines, "Connection: close").startswith(
            b"HTTP/1.1 403 "
        )
    for lines in ([], ["Host: localhost", "Host: localhost"], ["Host: local host"]):
        assert raw_request(served, "GET /health HTTP/1.1", *lines, "Connection: close").startswith(
            b"HTTP/1.1 400 "
        )
    assert raw_request(served, "GET /health HTTP/1.0").startswith(b"HTTP/1.1 400 ")
    absolute = raw_request(
        served, "GET http://evil.example/health HTTP/1.1", "Host: evil.example", "Connection: close"
    )
    assert absolute.startswith(b"HTTP/1.1 403 ")
    assert b"uvicorn" not in ok.lower()


def test_a_body_shorter_than_it_said(served: Any) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n{"
        )
    assert served.client().models.list().data  # and the server is well


def test_a_body_too_large_is_answered_over_a_real_connection(served: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    connection.request(
        "POST",
        "/v1/chat/completions",
        iter([b" " * 65536] * 520),
        {"Content-Type": "application/json"},
        encode_chunked=True,
    )
    reply = connection.getresponse()
    assert (reply.status, json.loads(reply.read())["error"]["code"]) == (413, "request_too_large")
    connection.close()
