"""One client's connection: its requests as h11 reads them, deadlines, and an ear for clients that left, or
only half.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast
from urllib.parse import unquote

import h11
from starlette.types import Scope
from uvicorn import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import ServerState

from edge_router.server.errors import refusal
from edge_router.server.http.exchange import BODY, Exchange, head_of
from edge_router.server.http.limits import ServerLimits
from edge_router.surfaces.openai.encode import error_body
from edge_router.surfaces.wire import dumps

HEAD_BYTES = 16 * 1024  # of a request's line and headers
_PROBES_S = (0.0, 0.2, 0.4, 0.8)  # between signs of life to a client that has closed its side
# Read at once, before others have their turn. Of a body whose length is known each byte costs next to
# nothing; of headers and of a body in chunks a few thousand bytes can be as many things to look at.
_COUNTED, _OTHER = 64 * 1024, 2 * 1024


class Connection(asyncio.BufferedProtocol):
    """Ends a connection whose client is too slow to ask, or does not read what it asked for.

    A client that closes its side after a whole request may have left or may still read: only writing tells,
    so it is written to, what changes nothing (`FILLER`, or an interim response), until it is answered.

    h11 reads heads, and bodies in chunks. A body of a known length is so many bytes, and replies are written
    by an `Exchange`: h11 would take longer for those than all else takes here.
    """

    def __init__(
        self,
        limits: ServerLimits,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._limits, self._app, self._app_state = limits, config.loaded_app, app_state
        self._keep_s, self._server = config.timeout_keep_alive, server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._reader = h11.Connection(h11.SERVER, HEAD_BYTES)
        self._spare: h11.Connection | None = None  # made while nobody waits
        self._exchange: Exchange | None = None
        self._asking: asyncio.TimerHandle | None = None
        self._keeping: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._probing: asyncio.TimerHandle | None = None
        self._half_closed = self._deaf = False
        self._left = 0  # bytes of a body whose length is known
        self._room = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._flow = FlowControl(self.transport)
        self._here, self._there = get_local_addr(self.transport), get_remote_addr(self.transport)
        self._server.connections.add(self)  # type: ignore[arg-type]  # uvicorn names its own
        self.transport.set_write_buffer_limits(0)  # paused means: there is something that is not taken
        self._watch_asking()

    def get_buffer(self, sizehint: int) -> bytearray:
        self._room = bytearray(max(_OTHER, min(self._left, _COUNTED)))
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        data, self._room = bytes(memoryview(self._room)[:nbytes]), bytearray()
        self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unkeep()
        self._take(data)
        self._read()
        self._watch_asking()

    def eof_received(self) -> bool:
        self._read()  # what the last reply has made room for a moment ago
        exchange = self._exchange
        self._half_closed = not (exchange is None or exchange.complete or exchange.more_body)
        if self._half_closed:
            self._probe(0)
        return self._half_closed

    def pause_writing(self) -> None:
        self._flow.pause_writing()
        self._watch_writing(self._limits.write_s)

    def resume_writing(self) -> None:
        self._flow.resume_writing()
        self._unwatch_writing()

    def shutdown(self) -> None:
        """The server stops: what is being answered ends, and is the last."""
        if self._exchange is None or self._answered or self._deaf:
            self.transport.close()
        else:
            self._exchange.keep_alive = False
        if self._flow.write_paused:
            self._watch_writing(self._limits.grace_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._exchange is not None:
            self._exchange.disconnect()
        self._flow.resume_writing()
        self._unwatch_writing()
        self._unkeep()
        for timer in (self._asking, self._probing):
            if timer is not None:
                timer.cancel()

    @property
    def _answered(self) -> bool:
        return self._exchange is None or self._exchange.complete

    def _read(self) -> None:
        """What has come, to the end of the request that is to be answered first."""
        while not (self._deaf or self.transport.is_closing()):
            exchange = self._exchange
            if not (exchange is None or exchange.complete or exchange.more_body):
                if len(self._reader.trailing_data[0]) > HEAD_BYTES:  # less, and one hears the client leave
                    self._flow.pause_reading()
                return
            try:
                event = self._reader.next_event()
            except h11.RemoteProtocolError:
                self._malformed()
                return
            if isinstance(event, h11.Request):
                self._begin(event)
            elif isinstance(event, h11.Data) and exchange is not None:
                exchange.feed(event.data)
            elif isinstance(event, h11.EndOfMessage) and exchange is not None:
                self._another()
                exchange.fed()
            else:
                return

    def _another(self) -> None:
        """A reader for what is not the last one's."""
        rest, _ = self._reader.trailing_data
        self._reader, self._spare = self._spare or h11.Connection(h11.SERVER, HEAD_BYTES), None
        self._take(rest)

    def _take(self, data: bytes) -> None:
        """Gives the body what is its own and the reader the rest, but for empty lines before a request."""
        data = self._counted(data)
        if self._reader.their_state is h11.IDLE and not self._reader.trailing_data[0]:
            data = data.lstrip(b"\r\n")
        if data:
            self._reader.receive_data(data)

    def _counted(self, data: bytes) -> bytes:
        """Feeds a body of a known length; what of `data` is behind it."""
        if not self._left or self._exchange is None:
            return data
        body, rest = data[: self._left], data[self._left :]
        self._left -= len(body)
        if body:
            self._exchange.feed(body)
        if not self._left:
            self._exchange.fed()
        return rest

    def _begin(self, request: h11.Request) -> None:
        headers = [(name.lower(), value) for name, value in request.headers.raw_items()]
        said = dict(headers)
        path, _, query = request.target.partition(b"?")
        version = request.http_version.decode("ascii")
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "server": self._here,
            "client": self._there,
            "scheme": "http",
            "method": request.method.decode("ascii"),
            "root_path": "",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "headers": headers,
            "state": self._app_state.copy(),
        }
        closes = any(name == b"connection" and b"close" in _tokens(value) for name, value in headers)
        two_lengths = {b"transfer-encoding", b"content-length"} <= said.keys()  # a proxy may go by the other
        self._exchange = exchange = Exchange(
            scope,
            self.transport,
            self._flow,
            keep_alive=version == "1.1" and not (closes or two_lengths),
            expects_continue=self._reader.they_are_waiting_for_100_continue,
            headers=self._server.default_headers,
            ended=self._replied,
        )
        scope["extensions"] = {BODY: exchange.whole}
        task = self._loop.create_task(exchange.run(self._app))
        task.add_done_callback(self._server.tasks.discard)
        self._server.tasks.add(task)
        if b"transfer-encoding" not in said:
            self._left = int(said.get(b"content-length", 0))
            self._another()
            if not self._left:
                exchange.fed()

    def _replied(self) -> None:
        self._server.total_requests += 1
        if self.transport.is_closing() or self._exchange is None:
            return
        if not self._exchange.keep_alive:  # and its body is not whole
            self._hang_up()
            return
        if self._half_closed and not self._reader.trailing_data[0]:
            self.transport.close()
            return
        self._unkeep()
        self._keeping = self._loop.call_later(self._keep_s, self.transport.close)
        self._flow.resume_reading()
        self._spare = self._spare or h11.Connection(h11.SERVER, HEAD_BYTES)
        if self._exchange.more_body:
            self._watch_asking()  # the rest of a body, which nobody reads
        elif self._reader.trailing_data[0]:
            self._loop.call_soon(self._read_next)

    def _read_next(self) -> None:
        if not self._half_closed:
            self._read()
        elif not self.eof_received():
            self.transport.close()
        self._watch_asking()

    def _hang_up(self) -> None:
        """Closing on a client that still sends would reset it, and take from it what it was answered."""
        self._deaf = True
        try:
            self.transport.write_eof()
        except OSError:  # it has gone, and nobody was told of that yet
            self.transport.close()
            return
        self._flow.resume_reading()
        self._unkeep()
        self._keeping = self._loop.call_later(self._limits.head_s, self.transport.close)

    def _unkeep(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None

    def _watch_asking(self) -> None:
        if not self._answered:
            if self._asking is not None:
                self._asking.cancel()
                self._asking = None
        elif self._asking is None:
            self._asking = self._loop.call_later(self._limits.head_s, self._give_up)

    def _give_up(self) -> None:
        """Nothing more came of a request that has begun, or of a body that nobody reads."""
        self._asking = None
        if self.transport.is_closing():
            return
        if self._reader.their_state is h11.IDLE and self._reader.trailing_data[0]:
            self._refuse(408, "The request's headers took too long. Send them at once.")
        self.transport.close()

    def _malformed(self) -> None:
        """A body that is malformed may have its answer already, or half of it."""
        exchange = self._exchange
        if exchange is not None:
            exchange.disconnect()
            if exchange.started and exchange.more_body:
                self.transport.close()
                return
        self._refuse(400, "This is no well-formed HTTP request with less than 16 KiB of headers.")
        self._hang_up()

    def _refuse(self, status: int, message: str) -> None:
        body = dumps(error_body(refusal(status, message)))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        self.transport.write(head_of(status, headers) + body)

    def _probe(self, number: int) -> None:
        if self._exchange is None or self._answered or self.transport.is_closing():
            return
        self._exchange.fill()
        wait_s = _PROBES_S[number + 1] if number + 1 < len(_PROBES_S) else self._limits.comment_s
        self._probing = self._loop.call_later(wait_s, self._probe, number + 1)

    def _watch_writing(self, wait_s: float) -> None:
        self._unwatch_writing()
        waits = self.transport.get_write_buffer_size()
        self._stuck = self._loop.call_later(wait_s, self._look_at_writing, wait_s, waits)

    def _look_at_writing(self, wait_s: float, waited: int) -> None:
        if self.transport.get_write_buffer_size() < waited:
            self._watch_writing(wait_s)
        else:
            self.transport.abort()

    def _unwatch_writing(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip() for token in value.lower().split(b",")]
