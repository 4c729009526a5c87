"""Clients that are slow, leave, close one side, or never read; and what holds when there are many of them."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import itertools
import json
import select
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from arriving import ArrivingEngine
from uvicorn.server import ServerState

from edge_router.chat.request import ChatRequest
from edge_router.engines.scripted import Reply, ScriptedEngine
from edge_router.errors import GenerationFailed, StrongUnreachable
from edge_router.server.http.connection import Connection
from edge_router.server.http.limits import ServerLimits

HI: Any = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": "weak", "messages": HI}
LOCAL = ("host", "localhost")
KINDS = [ScriptedEngine, ArrivingEngine]  # one has a thread to itself, one has none


def answering() -> bool:
    return any(thread.name == "edge_router answer" for thread in threading.enumerate())


def head(length: int, *lines: str) -> bytes:
    told = ["POST /v1/chat/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    return "\r\n".join([*told, f"Content-Length: {length}", *lines, "", ""]).encode()


def request(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    return head(len(data)) + data


def connect(served: Any, *, receive: int | None = None) -> socket.socket:
    one = socket.socket()
    if receive is not None:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    one.settimeout(30)
    one.connect(("127.0.0.1", served.port))
    return one


def rest(one: socket.socket) -> bytes:
    data = b""
    try:
        while piece := one.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


class Flood:
    """Says long words for ever, as fast as they are taken."""

    def __init__(self, size: int = 20_000) -> None:
        self.said, self.word = 0, "x" * size
        self.ended = threading.Event()

    def __call__(self, request: ChatRequest) -> Reply:
        return self.words()  # type: ignore[return-value]

    def words(self) -> Iterator[str]:
        try:
            while True:
                self.said += 1
                yield self.word
        finally:
            self.ended.set()


def settled(read: Callable[[], int]) -> int:
    """What `read` gives once it stands still."""
    last = -1
    while (now := read()) != last:
        last = now
        time.sleep(0.3)
    return now


# ---- slow to ask -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /v1/chat",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Drip: ",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health HTTP/1.1\r\nHost",
    ],
)
def test_half_a_head_does_not_stay_open(serve: Callable[..., Any], sent: bytes) -> None:
    served = serve(limits=ServerLimits(head_s=0.2))
    with connect(served) as one:
        one.sendall(sent)
        told = rest(one)
    assert b" 408 " in told and b'"code":"request_timeout"' in told


def test_dripping_does_not_help(serve: Callable[..., Any]) -> None:
    served = serve(limits=ServerLimits(head_s=0.3))
    with connect(served) as one:
        one.sendall(b"GET /health HTTP/1.1\r\nX: ")
        with pytest.raises(OSError):
            for _ in range(400):
                one.sendall(b"y")
                time.sleep(0.05)


def test_a_silent_connection_is_closed(serve: Callable[..., Any]) -> None:
    with connect(serve(limits=ServerLimits(head_s=0.2))) as one:
        assert rest(one) == b""


@pytest.mark.parametrize("sent", [b"", b'{"model": "weak", '])
def test_half_a_body_does_not_stay_open(serve: Callable[..., Any], sent: bytes) -> None:
    served = serve(limits=ServerLimits(body_s=0.2, head_s=0.2))
    with connect(served) as one:
        one.sendall(head(1000) + sent)
        told = rest(one)
    assert b" 408 " in told and b"took more than 0.2 s" in told
    assert served.weak.calls == []


def test_a_body_of_nothing_is_read_at_once(serve: Callable[..., Any]) -> None:
    with connect(serve(limits=ServerLimits(body_s=3600))) as one:
        one.sendall(head(0, "Connection: close"))
        assert b"HTTP/1.1 400 " in rest(one)


def test_who_is_refused_in_the_midst_of_a_body_hears_why(served: Any) -> None:
    for last in ("Connection: close", "Connection: keep-alive"):
        with connect(served) as one:
            one.sendall(head(8 << 20, "Origin: https://evil.example", last))
            for _ in range(128):
                one.sendall(64 * 1024 * b" ")
            if last.endswith("close"):
                assert b"HTTP/1.1 403 " in rest(one)
            else:
                assert b"HTTP/1.1 403 " in one.recv(100)


def test_the_rest_of_a_refused_body_is_not_read_for_ever(serve: Callable[..., Any]) -> None:
    served = serve(limits=ServerLimits(head_s=0.3))
    with connect(served) as one:
        one.sendall(head(1000, "Origin: https://evil.example"))
        with pytest.raises(OSError):
            for _ in range(400):
                one.sendall(b" ")
                time.sleep(0.05)


def test_a_connection_is_kept_between_requests(serve: Callable[..., Any]) -> None:
    served = serve(limits=ServerLimits(head_s=0.2))
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    for _ in range(3):
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b'{"status":"ok"}'
        own = connection.sock
        time.sleep(0.3)
        assert connection.sock is own
    connection.close()


LONG = "x" * 20_000


@pytest.mark.parametrize(
    "sent",
    [
        f"GET /{LONG} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"GET /health?{LONG} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"GET /health HTTP/1.1\r\nHost: localhost\r\nX: {LONG}\r\n\r\n",
        f"GET /health HTTP/1.1\r\nHost: localhost\r\n{LONG}: x\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: localhost\r\n" + "X: y\r\n" * 3_500 + "\r\n",
        f"GET /health HTTP/1.1\r\nHost: localhost\r\nX: {LONG}",
        "\x16\x03\x01 a hello of TLS\r\n\r\n",
        "hello\r\n\r\n",
    ],
)
def test_a_head_that_is_none_or_endless_is_refused(served: Any, sent: str) -> None:
    """Also where it comes at once: each header costs everybody some microseconds."""
    with connect(served) as one:
        one.sendall(sent.encode("latin-1"))
        told = rest(one)
    assert told.startswith(b"HTTP/1.1 400 ") and b'"type":"invalid_request_error"' in told
    with connect(served) as one:
        one.sendall(f"GET /health HTTP/1.0\r\nHost: localhost\r\nX: {LONG[:15_000]}\r\n\r\n".encode())
        assert rest(one).startswith(b"HTTP/1.1 200 ")


# ---- bodies ------------------------------------------------------------------------------------------------


async def read_pieces(sent: bytes) -> list[int]:
    """The sizes in which a body comes to an app."""
    sizes: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            sizes.append(len(message["body"]))
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(app, lifespan="off", log_config=None)

    def connection() -> Connection:
        return Connection(ServerLimits(), config=config, server_state=ServerState(), app_state={})

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(sent)
    await reader.readline()
    writer.close()
    server.close()
    return sizes


CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("sent", "most"),
    [
        (CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n", 1_000),
        (CHUNKED + b"5;note=1\r\nhello\r\n" * 20_000 + b"0\r\n\r\n", 1_000),
        (CHUNKED + b"30D40\r\n" + b"x" * 200_000 + b"\r\n0\r\n\r\n", 4_000),
        (head(200_000) + b"x" * 200_000, 100_000),
    ],
)
def test_no_body_keeps_the_loop_to_itself(sent: bytes, most: int) -> None:
    """A body in tiny chunks is read a few hundred at a time, one of a known length at full speed."""
    sizes = asyncio.run(asyncio.wait_for(read_pieces(sent), 60))
    assert most / 20 < max(sizes) <= most and sum(sizes) in (100_000, 200_000)


def test_bodies_of_many_share_one_room(serve: Callable[..., Any]) -> None:
    served = serve(limits=ServerLimits(bodies_bytes=300_000, small_bytes=1000))
    with connect(served) as one, connect(served) as other:
        one.sendall(head(290_000) + b" " * 280_000)
        other.sendall(head(100_000) + b" " * 90_000)
        (refused, *_), _, _ = select.select([one, other], [], [], 20)  # whoever came second
        told = http.client.HTTPResponse(refused)
        told.begin()
        assert told.status == 503 and told.headers["retry-after"] == "1"
        told.close()
        small = served.client().chat.completions.create(model="weak", messages=HI)
        assert small.choices[0].message.content == "You said: hi"
    text = "long " * 40_000  # the room is given back
    for _ in range(3):
        eventually_answers(served, text)


def eventually_answers(served: Any, text: str) -> None:
    client = served.client(max_retries=20)
    messages: Any = [{"role": "user", "content": text}]
    assert client.chat.completions.create(model="weak", messages=messages, max_tokens=1).choices


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data)[2:-4]),
    ],
)
@pytest.mark.parametrize("size", [1, 100_000])
def test_packed_bodies(
    setup: Callable[..., Any], encoding: str, pack: Callable[[bytes], bytes], size: int
) -> None:
    one, text = setup(), "ab" * size
    body = pack(json.dumps(CHAT | {"messages": [{"role": "user", "content": text}]}).encode())
    reply = one.call(body=body, headers=[LOCAL, ("content-encoding", encoding)])
    assert reply.status == 200
    assert one.weak.calls[0].messages[0].text == text


WHOLE = gzip.compress(json.dumps(CHAT).encode(), mtime=0)


@pytest.mark.parametrize(
    "body", [b"", b"{}", WHOLE[:-1], WHOLE[:20], WHOLE + WHOLE, WHOLE + b"x", b"\x1f\x8b" + b"\0" * 50]
)
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_packed_bodies_that_are_broken(setup: Callable[..., Any], encoding: str, body: bytes) -> None:
    one = setup()
    reply = one.call(body=body, headers=[LOCAL, ("content-encoding", encoding)])
    assert reply.status == 400 and reply.error["message"]
    assert one.weak.calls == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_unpacks_to_too_much(setup: Callable[..., Any], encoding: str) -> None:
    one = setup(limits=ServerLimits(body_bytes=1_000_000))
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    reply = one.call(body=pack(b" " * 50_000_000), headers=[LOCAL, ("content-encoding", encoding)])
    assert reply.status == 413


def test_nothing_said_about_the_type_is_json_too(setup: Callable[..., Any]) -> None:
    assert setup().call(body=CHAT, headers=[LOCAL], json_type=False).status == 200


# ---- half closed, left, never read -------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("waits", [0.0, 1.0])
def test_a_client_that_closes_its_side_is_answered(
    serve: Callable[..., Any], stream: bool, waits: float
) -> None:
    served = serve(limits=ServerLimits(hold_s=0.1))
    served.weak.queue([waits, "Paris ", 0.3, "is it."])
    with connect(served) as one:
        one.sendall(request(CHAT | {"stream": stream}))
        one.shutdown(socket.SHUT_WR)
        told = rest(one)
    assert b"Paris " in told and b"is it." in told and b"HTTP/1.1 200 OK" in told
    assert told.rstrip().endswith(b"0" if stream else b"}")


def test_whoever_closes_its_side_is_answered_all_that_was_asked(served: Any) -> None:
    with connect(served) as one:
        one.sendall(3 * request(CHAT) + head(9) + b"half")
        one.shutdown(socket.SHUT_WR)
        assert rest(one).count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("reply", [[3600.0, "late"], ["soon ", 3600.0, "late"]])
def test_a_client_that_leaves_ends_the_model(
    serve: Callable[..., Any], stream: bool, reply: list[str | float], kind: type[ScriptedEngine]
) -> None:
    served = serve(limits=ServerLimits(hold_s=0.05), weak=kind())
    served.weak.queue(reply)
    with connect(served) as one:
        one.sendall(request(CHAT | {"stream": stream}))
        while not served.weak.calls:
            time.sleep(0.01)
        if stream:
            one.recv(1)
        one.sendall(head(0))  # asks for more, and leaves
    begin = time.monotonic()
    while answering() or getattr(served.weak, "under_way", 0):
        assert time.monotonic() - begin < 20
        time.sleep(0.002)
    assert time.monotonic() - begin < 10  # a fraction of a second where the machine is not busy


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_never_reads_pauses_the_model_and_is_left_in_the_end(
    serve: Callable[..., Any], kind: type[ScriptedEngine]
) -> None:
    flood = Flood()
    served = serve(limits=ServerLimits(write_s=2.0), weak=kind())
    served.weak.queue(flood)
    with connect(served, receive=4096) as one:
        one.sendall(request(CHAT | {"stream": True}))
        said = settled(lambda: flood.said)
        assert 0 < said * len(flood.word) < 20_000_000  # what the system's buffers take, and ours
        assert served.client().chat.completions.create(model="weak", messages=HI).choices
        assert flood.ended.wait(20)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_who_goes_on_makes_the_model_go_on(
    serve: Callable[..., Any], kind: type[ScriptedEngine]
) -> None:
    flood = Flood()
    served = serve(weak=kind())
    served.weak.queue(flood)
    with connect(served, receive=4096) as one:
        one.sendall(request(CHAT | {"stream": True}))
        said = settled(lambda: flood.said)
        for _ in range(3):
            while flood.said <= said:
                assert one.recv(65536)
            said = settled(lambda: flood.said)
    assert flood.ended.wait(20)


def test_a_stop_does_not_wait_for_anybody(serve: Callable[..., Any]) -> None:
    """Never-readers, half requests, half bodies, silent and idle ones, and an answer that never comes."""
    served = serve()
    served.weak.queue(Flood(), Flood(), [3600.0], [3600.0])
    with connect(served, receive=4096) as never, connect(served) as reads, connect(served) as silent:
        with connect(served) as whole, connect(served) as half, connect(served) as body, connect(served):
            never.sendall(request(CHAT | {"stream": True}))
            reads.sendall(request(CHAT | {"stream": True}))
            while len(served.weak.calls) < 2:
                time.sleep(0.01)
            silent.sendall(request(CHAT | {"stream": True}))
            whole.sendall(request(CHAT))
            half.sendall(b"POST /v1/chat")
            body.sendall(head(1000) + b"{")
            while len(served.weak.calls) < 4:
                time.sleep(0.01)
            stopped = threading.Event()
            threading.Thread(target=lambda: (served.stop(), stopped.set())).start()
            assert rest(reads).rstrip().endswith(b'"code":"shutting_down"}}\n\n\r\n0')
            assert b"shutting_down" in rest(silent)
            for one in (whole, body):
                assert b" 503 " in rest(one)
            assert stopped.wait(20)


def test_one_fast_stream_leaves_the_server_to_others(served: Any) -> None:
    flood = Flood(5)
    served.weak.queue(flood)
    with connect(served) as one:
        one.sendall(request(CHAT | {"stream": True}))
        reading = threading.Thread(target=rest, args=(one,))
        reading.start()
        for _ in range(5):
            said = flood.said
            assert served.client().models.list().data
            while flood.said == said:
                time.sleep(0.01)
        served.stop()
        reading.join(20)
    assert flood.ended.wait(20)


# ---- silence before the first token ------------------------------------------------------------------------


def lines(one: socket.socket) -> Iterator[str]:
    return (line.decode().rstrip("\r\n") for line in one.makefile("rb"))


def test_headers_and_comments_come_before_the_first_token(serve: Callable[..., Any]) -> None:
    served, gate = serve(limits=ServerLimits(hold_s=0.05, comment_s=0.1)), threading.Event()
    served.strong.queue(StrongUnreachable("http://x", "refused"))
    served.weak.queue([gate, "Paris."])
    with connect(served) as one:
        one.sendall(
            request({"model": "auto", "messages": [{"role": "user", "content": "hard"}], "stream": True})
        )
        told = lines(one)
        assert next(told) == "HTTP/1.1 200 OK"
        headers = list(itertools.takewhile(bool, told))
        assert not any(line.startswith("x-edge-router") for line in headers)
        waiting = [next(line for line in told if line.startswith(":")) for _ in range(3)]
        assert set(waiting) == {": waiting for the model"}
        gate.set()
        comments = list(itertools.takewhile(lambda line: not line.startswith("data:"), told))
    decision = [line for line in comments if line.startswith(": x-edge-router-")]
    assert decision == [
        ": x-edge-router-model: weak",
        ": x-edge-router-score: 0.875",
        ": x-edge-router-threshold: 0.5",
        ": x-edge-router-reason: strong_unavailable",
        ": x-edge-router-would-escalate: true",
        ": x-edge-router-fallback: StrongUnreachable",
    ]


def test_the_official_client_reads_over_comments(serve: Callable[..., Any]) -> None:
    served = serve(limits=ServerLimits(hold_s=0.02, comment_s=0.05))
    served.weak.queue([0.4, "Paris ", 0.4, "is it."], [0.4, "Paris ", 0.4, "is it."])
    client = served.client()
    raw = client.chat.completions.with_raw_response.create(model="weak", messages=HI, stream=True)
    assert "x-edge-router-model" not in raw.headers
    assert "".join(chunk.choices[0].delta.content or "" for chunk in raw.parse()) == "Paris is it."
    with client.chat.completions.stream(model="weak", messages=HI) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == "Paris is it."


def test_an_error_after_the_headers_is_an_event(serve: Callable[..., Any]) -> None:
    import openai

    served = serve(limits=ServerLimits(hold_s=0.02, comment_s=0.05))
    served.weak.queue([0.3, GenerationFailed("small", "NaN")])
    with pytest.raises(openai.APIError, match="NaN") as caught:
        list(served.client().chat.completions.create(model="weak", messages=HI, stream=True))
    assert caught.value.code == "generation_failed"


def test_a_whole_reply_keeps_its_status_however_late(serve: Callable[..., Any]) -> None:
    import openai

    served = serve(limits=ServerLimits(hold_s=0.02, comment_s=0.05))
    served.weak.queue([0.3, GenerationFailed("small", "NaN")])
    with pytest.raises(openai.InternalServerError):
        served.client().chat.completions.create(model="weak", messages=HI)


class Line(ScriptedEngine):
    """Says how many are before each answer: one less each time that it is asked."""

    def __init__(self) -> None:
        super().__init__(model_id="small", serves=())
        self.places = iter([2, 1, 0, None])

    def ahead(self, cancel: threading.Event) -> int | None:
        return next(self.places, None)


def test_the_place_in_the_line_is_told(serve: Callable[..., Any]) -> None:
    served, gate = serve(weak=Line(), limits=ServerLimits(hold_s=0.05, comment_s=0.1)), threading.Event()
    served.weak.queue([gate, "Paris."])
    with connect(served) as one:
        one.sendall(request(CHAT | {"stream": True}))
        waiting = list(itertools.islice(filter(lambda line: line.startswith(":"), lines(one)), 3))
        gate.set()
    assert waiting == [
        ": waiting: 2 answers are before this one",
        ": waiting: 1 answer is before this one",
        ": waiting for the model",
    ]
