"""What stands on the wire: requests in every form that clients send, and replies byte for byte."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from edge_router.server.http.connection import HEAD_BYTES, Connection
from edge_router.server.http.exchange import CONTINUE, head_of
from edge_router.server.http.limits import ServerLimits


class Wire:
    """What a connection writes to, without a socket."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.write = self.sent.append

    def get_extra_info(self, name: str) -> None: ...

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.sent[-1:] == [b"closed"]

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        if not self.is_closing():
            self.sent.append(b"closed")

    def write_eof(self) -> None: ...


def test_a_head_leaves_with_the_first_words_and_the_end_with_the_last() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"last"})

    async def main() -> list[bytes]:
        config = uvicorn.Config(app, lifespan="off", log_config=None)
        wire, one = (
            Wire(),
            Connection(ServerLimits(), config=config, server_state=ServerState(), app_state={}),
        )
        one.connection_made(wire)  # type: ignore[arg-type]
        one.data_received(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while not wire.is_closing():
            await asyncio.sleep(0.001)
        one.connection_lost(None)
        return wire.sent

    first, last, *rest = asyncio.run(asyncio.wait_for(main(), 20))
    assert first.startswith(b"HTTP/1.1 200") and first.endswith(b"first\r\n")
    assert last.startswith(b"4\r\nlast\r\n0\r\n") and set(rest) == {b"closed"}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """The path and the body; of /early without having read it, of /short less than was promised."""
    body, more = b"", scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    headers = [(b"content-length", b"9")] if scope["path"] == "/short" else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": scope["path"].encode() + b" " + body})


async def answered(sent: bytes, *, step: int, wire: Wire | None = None) -> bytes:
    config = uvicorn.Config(echo, lifespan="off", log_config=None)
    limits = ServerLimits(head_s=0.05)  # who waits for more is ended
    wire = wire or Wire()
    one = Connection(limits, config=config, server_state=ServerState(), app_state={})
    one.connection_made(wire)  # type: ignore[arg-type]
    for start in range(0, len(sent), step):
        if wire.is_closing():
            break
        one.data_received(sent[start : start + step])
        await asyncio.sleep(0)
    while not wire.is_closing():
        await asyncio.sleep(0.001)
    one.connection_lost(None)
    return b"".join(wire.sent).removesuffix(b"closed")


def post(path: str, *headers: str, body: str = "") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *headers, "", body]).encode()


COUNTED, CHUNKS, LAST = "Content-Length: 2", "Transfer-Encoding: chunked", "Connection: close"
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA")  # as Java's client asks
NEXT = post("/next", LAST)
MALFORMED = (400,)
FORMS: list[tuple[str, bytes, tuple[bytes | int, ...]]] = [
    ("one", post("/a", COUNTED, LAST, body="hi"), (b"/a hi",)),
    ("two at once", post("/a", COUNTED, body="hi") + NEXT, (b"/a hi", b"/next ")),
    ("empty lines between two", post("/a", COUNTED, body="hi") + b"\r\n\n" + NEXT, (b"/a hi", b"/next ")),
    ("an empty line before and behind", b"\r\n" + post("/a", COUNTED, body="hi") + b"\r\n", (b"/a hi",)),
    ("three without bodies", post("/a") + post("/b") + NEXT, (b"/a ", b"/b ", b"/next ")),
    ("chunks", post("/a", CHUNKS, body="1\r\nh\r\n1;x=y\r\ni\r\n0\r\n\r\n") + NEXT, (b"/a hi", b"/next ")),
    ("trailers", post("/a", CHUNKS, body="2\r\nhi\r\n0\r\nX: y\r\n\r\n") + NEXT, (b"/a hi", b"/next ")),
    ("both lengths", post("/a", "Content-Length: 3", CHUNKS, body="2\r\nhi\r\n0\r\n\r\n") + NEXT, (b"/a hi",)),
    ("h2c", post("/a", *H2C, COUNTED, body="hi") + NEXT, (b"/a hi", b"/next ")),
    ("h2c in chunks", post("/a", *H2C, CHUNKS, body="2\r\nhi\r\n0\r\n\r\n") + NEXT, (b"/a hi", b"/next ")),
    ("answered before its body", post("/early", COUNTED, body="hi") + NEXT, (b"/early ", b"/next ")),
    ("answered before its chunks", post("/early", CHUNKS, body="2\r\nhi\r\n0\r\n\r\n") + NEXT,
     (b"/early ", b"/next ")),
    ("nothing behind the last", post("/a", LAST) + post("/b"), (b"/a ",)),
    ("1.0", b"POST /a HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", (b"/a hi",)),
    ("the same length twice", post("/a", COUNTED, COUNTED, LAST, body="hi"), (b"/a hi",)),
    ("two lengths", post("/a", COUNTED, "Content-Length: 3", body="hi!"), MALFORMED),
    ("a signed length", post("/a", "Content-Length: +2", body="hi"), MALFORMED),
    ("a length of many digits", post("/a", "Content-Length: " + "9" * 30), MALFORMED),
    ("another coding", post("/a", "Transfer-Encoding: gzip, chunked"), MALFORMED),
    ("a broken chunk", post("/a", CHUNKS, body="zz\r\n"), MALFORMED),
    ("a space before the colon", post("/a", "Content-Length : 2", body="hi"), MALFORMED),
    ("a zero byte", post("/a", "X: \0"), MALFORMED),
    ("no HTTP", b"\x16\x03\x01\x02\r\n\r\n", MALFORMED),
    ("good, then not", post("/a") + b"\x00garbage\r\n\r\n", (b"/a ", 400)),
    ("too much of a head", post("/a", "X: " + "x" * 2 * HEAD_BYTES), MALFORMED),
    ("too many headers", post("/a", *["X: y"] * (HEAD_BYTES // 3)), MALFORMED),
    ("half of a head", post("/a")[:-2], (408,)),
    ("half of a body", post("/early", "Content-Length: 9", body="hi"), (b"/early ",)),
    ("less than was promised", post("/short"), ()),
]  # fmt: skip


def test_each_form_of_request_is_read_whole_and_in_pieces() -> None:
    for name, sent, wanted in FORMS:
        for step in (2048, 1 if len(sent) < 1000 else 500):
            found = asyncio.run(asyncio.wait_for(answered(sent, step=step), 20))
            assert told(found) == list(wanted), (name, step, found)


def told(replies: bytes) -> list[bytes | int]:
    """Of each reply its body, or its status where that is no 200."""
    found: list[bytes | int] = []
    while replies:
        head, _, replies = replies.partition(b"\r\n\r\n")
        status, fields = int(head.split()[1]), head.lower()
        if b"transfer-encoding: chunked" in fields:
            body, _, replies = replies.partition(b"\r\n0\r\n\r\n")
            size, _, body = body.partition(b"\r\n")
            assert int(size, 16) == len(body)
        elif b"content-length: " in fields:
            length = int(fields.partition(b"content-length: ")[2].split(b"\r\n")[0])
            body, replies = replies[:length], replies[length:]
        else:
            body, replies = replies, b""
        if b"connection: close" in fields:
            assert not replies
        if len(body) or status != 200:
            found.append(body if status == 200 else status)
    return found


def test_who_waits_to_send_a_body_is_told_to() -> None:
    sent = post("/a", "Expect: 100-continue", COUNTED, LAST, body="hi")
    found = asyncio.run(asyncio.wait_for(answered(sent, step=len(sent) - 2), 20))
    assert found.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    found = asyncio.run(asyncio.wait_for(answered(sent, step=len(sent)), 20))
    assert found.startswith(b"HTTP/1.1 200 OK\r\n")  # it has sent it all


@pytest.mark.parametrize("method", ["HEAD /a HTTP/1.1", "HEAD /a HTTP/1.0"])
def test_a_reply_to_head_is_a_head(method: str) -> None:
    sent = f"{method}\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    found = asyncio.run(asyncio.wait_for(answered(sent, step=len(sent)), 20))
    assert found.startswith(b"HTTP/1.1 200 OK\r\n") and found.index(b"\r\n\r\n") == len(found) - 4


def test_no_header_holds_another() -> None:
    for name, value in ((b"x", b"a\r\nset-cookie: b"), (b"x: y\r\nz", b"a"), (b"x", b"a\nb"), (b"", b"a")):
        with pytest.raises(ValueError, match="malformed"):
            head_of(200, [(name, value)])
    assert head_of(299, [(b"x", b"a")]) == b"HTTP/1.1 299 \r\nx: a\r\n\r\n"


def test_who_has_gone_before_it_was_answered_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    class Gone(Wire):
        def write_eof(self) -> None:
            raise OSError("not connected")

    found = asyncio.run(asyncio.wait_for(answered(post("/early", COUNTED, LAST), step=999, wire=Gone()), 20))
    assert told(found) == [b"/early "] and not caplog.records


def test_a_side_that_closes_as_a_reply_ends_is_answered_what_it_asked_next() -> None:
    opened: list[Connection] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await echo(scope, receive, send)
        if scope["path"] == "/a":
            assert opened[0].eof_received()

    async def main() -> bytes:
        config, wire = uvicorn.Config(app, lifespan="off", log_config=None), Wire()
        opened.append(Connection(ServerLimits(), config=config, server_state=ServerState(), app_state={}))
        opened[0].connection_made(wire)  # type: ignore[arg-type]
        opened[0].data_received(post("/a") + post("/b"))
        while not wire.is_closing():
            await asyncio.sleep(0.001)
        opened[0].connection_lost(None)
        return b"".join(wire.sent).removesuffix(b"closed").replace(CONTINUE, b"")

    assert told(asyncio.run(asyncio.wait_for(main(), 20))) == [b"/a ", b"/b "]
