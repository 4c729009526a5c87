"""One request and its reply: what an app reads and writes, and the reply's bytes as HTTP/1.1 has them."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Protocol

from starlette.types import ASGIApp, Message, Scope

BODY = "edge_router.body"  # in scope["extensions"]: gives a body that has come already, see `Exchange.whole`
FILLER = "filler"  # in scope["state"]: bytes that change nothing, wherever in the reply's body they stand
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
Headers = Sequence[tuple[bytes, bytes]]
_HIGH_WATER = 64 * 1024  # of a body that nobody has read yet
_BODILESS = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
_LINES = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\0\r\n]*\r\n)*")
_STATUS = {status.value: f"HTTP/1.1 {status} {status.phrase}\r\n".encode() for status in HTTPStatus}
_log = logging.getLogger("edge_router.server")


class Flow(Protocol):
    """When to read on, and when to write."""

    write_paused: bool

    async def drain(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


def head_of(status: int, headers: Headers) -> bytes:
    """Of a reply, to the empty line. Raises ValueError for what would be more or less than its headers."""
    lines = b"".join([piece for name, value in headers for piece in (name, b": ", value, b"\r\n")])
    if lines.count(b"\n") != len(headers) or not _LINES.fullmatch(lines):
        raise ValueError(f"a header of the reply is malformed: {lines!r}")
    return b"%b%b\r\n" % (_STATUS.get(status) or b"HTTP/1.1 %d \r\n" % status, lines)


class BrokenOff(Exception):
    """Raised by an app that ends a reply in its midst on purpose, after all that it has to say."""


class Exchange:
    """`receive` and `send` of an ASGI app, which `run` runs. `ended` is called once the reply is whole.

    A head leaves with the first words behind it, or at the end of the loop's turn. `keep_alive`: whether
    another request may follow on the same connection; where none may, a whole reply to a whole request is
    the connection's end.
    """

    def __init__(
        self,
        scope: Scope,
        transport: asyncio.Transport,
        flow: Flow,
        *,
        keep_alive: bool,
        expects_continue: bool,
        headers: Headers,
        ended: Callable[[], None],
    ) -> None:
        self.scope, self.keep_alive = scope, keep_alive
        self.disconnected = False
        self.more_body = True  # of the request
        self.started = self.complete = False  # of the reply
        self._transport, self._flow, self._headers, self._ended = transport, flow, headers, ended
        self._expects_continue = expects_continue
        self._news = asyncio.Event()
        self._body = bytearray()
        self._head = b""  # not written yet
        self._chunked = self._bodiless = False
        self._left: int | None = None  # bytes that Content-Length still promises

    async def run(self, app: ASGIApp) -> None:
        """To its end, whatever happens."""
        try:
            await app(self.scope, self.receive, self.send)
            if not (self.complete or self.disconnected):
                raise RuntimeError("the app has ended before its reply")
        except BrokenOff:
            self._transport.close()
        except BaseException as error:  # noqa: BLE001 - logged; half a reply must not look like a whole one
            if not isinstance(error, asyncio.CancelledError):
                _log.error("a request ended badly", exc_info=error)
            if not (self.started or self.disconnected):
                self._transport.write(head_of(500, [(b"content-length", b"0"), (b"connection", b"close")]))
            self._transport.close()

    def feed(self, data: bytes) -> None:
        """More of the request's body, which nobody wants once there is a reply."""
        if self.complete:
            return
        self._body += data
        if len(self._body) > _HIGH_WATER:
            self._flow.pause_reading()
        self._news.set()

    def fed(self) -> None:
        """Its body is whole."""
        self.more_body = False
        self._news.set()

    def disconnect(self) -> None:
        """Nobody is there any more."""
        self.disconnected = not self.complete
        self._news.set()

    async def receive(self) -> Message:
        if self._expects_continue and self.more_body and not (self.started or self._transport.is_closing()):
            self._expects_continue = False
            self._transport.write(CONTINUE)
        if not (self.disconnected or self.complete):
            self._flow.resume_reading()
            await self._news.wait()
            self._news.clear()
        if self.disconnected or self.complete:
            return {"type": "http.disconnect"}
        body, self._body = bytes(self._body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    def whole(self) -> bytes | None:
        """The request's body, where all of it is here and nobody has received any: nobody needs to wait."""
        if self.more_body or self.disconnected or self.complete or not self._news.is_set():
            return None
        body, self._body = bytes(self._body), bytearray()
        self._news.clear()
        self._flow.resume_reading()
        return body

    async def send(self, message: Message) -> None:
        """Raises RuntimeError, ValueError for what is no reply."""
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if self.complete or kind != ("http.response.body" if self.started else "http.response.start"):
            raise RuntimeError(f"{kind} cannot come now")
        if not self.started:
            self._begin(message["status"], message.get("headers", ()))
        else:
            self._write(message.get("body", b""), more=message.get("more_body", False))

    def fill(self) -> None:
        """Write what changes nothing, which tells whether anybody is there; where nothing can, do nothing."""
        if self._flow.write_paused or self.complete:
            return
        filler = self.scope["state"].get(FILLER)
        if self.started and self._left is None and filler is not None:
            self._write(filler, more=True)
        elif not self.started and self.scope["http_version"] == "1.1":
            self._transport.write(CONTINUE)

    def _begin(self, status: int, headers: Headers) -> None:
        headers = [*self._headers, *headers]
        said = {name.lower(): value for name, value in headers}
        self._bodiless = self.scope["method"] == "HEAD" or status in _BODILESS
        if b"content-length" in said:
            self._left = int(said[b"content-length"])
        elif status not in _BODILESS:
            self._chunked = self.scope["http_version"] == "1.1"
            self.keep_alive = self.keep_alive and self._chunked  # without chunks, its end is the connection's
            if self._chunked:
                headers.append((b"transfer-encoding", b"chunked"))
        if b"close" in said.get(b"connection", b"").lower():
            self.keep_alive = False
        elif not self.keep_alive:
            headers.append((b"connection", b"close"))
        self._head = head_of(status, headers)
        self.started = True
        asyncio.get_running_loop().call_soon(self._write_head)

    def _write_head(self) -> None:
        head, self._head = self._head, b""
        if head:
            self._transport.write(head)

    def _write(self, data: bytes, *, more: bool) -> None:
        if self._bodiless:
            data = b""
        elif self._left is not None:
            self._left -= len(data)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the reply is not as long as its Content-Length says")
        elif self._chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._chunked and not (more or self._bodiless):
            data += b"0\r\n\r\n"
        head, self._head = self._head, b""
        if head or data:
            self._transport.write(head + data)
        if not more:
            self.complete = True
            self._news.set()
            if not (self.keep_alive or self.more_body):
                self._transport.close()
            self._ended()
