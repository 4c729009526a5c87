"""One client's connection: uvicorn's, with deadlines, and with an ear for clients that left, or only half."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge_router.server.errors import refusal
from edge_router.server.limits import Limits
from edge_router.surfaces.openai.encode import error_body
from edge_router.surfaces.wire import dumps

FILLER = "filler"  # in scope["state"]: bytes that change nothing, wherever in the reply's body they stand
HEAD_BYTES = 16 * 1024  # of a request's line and headers
_PROBES_S = (0.0, 0.2, 0.4, 0.8)  # between signs of life to a client that has closed its side
# Read at once, before others have their turn. Of a body whose length is known each byte costs next to
# nothing; of headers and of a body in chunks a few thousand bytes can be as many things to look at.
_COUNTED, _OTHER = 64 * 1024, 2 * 1024


class Together:
    """A transport whose writes of one turn of the loop leave as one: a head with the first words."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._written: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size() + sum(map(len, self._written))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        written, self._written = self._written, []
        if written:
            self._transport.write(b"".join(written))


class Connection(H11Protocol, asyncio.BufferedProtocol):
    """Ends a connection whose client is too slow to ask, or does not read what it asked for.

    A client that closes its side after a whole request may have left or may still read: only writing tells,
    so it is written to, what changes nothing (`FILLER`, or an interim response), until it is answered.
    """

    def __init__(self, limits: Limits, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._asking: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._probing: asyncio.TimerHandle | None = None
        self._half_closed = False
        self._unread = bytearray()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(cast(asyncio.Transport, Together(transport, self.loop)))
        transport.set_write_buffer_limits(0)  # paused means: there is something that the client does not take
        self._watch_asking()

    def get_buffer(self, sizehint: int) -> bytearray:
        in_body = self.conn.their_state is h11.SEND_BODY
        counted = in_body and any(name == b"content-length" for name, _ in self.headers)
        self._unread = bytearray(_COUNTED if counted else _OTHER)
        return self._unread

    def buffer_updated(self, nbytes: int) -> None:
        data, self._unread = self._unread, bytearray()
        self.data_received(bytes(data[:nbytes]))

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_asking()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "This is no well-formed HTTP request with less than 16 KiB of headers.")
        self.transport.close()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # uvicorn's closes, always
        if self._answered or self.cycle.more_body:
            return None
        self._half_closed = True
        self._probe(0)
        return True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._half_closed and self._answered:
            self.transport.close()
        elif self.conn.their_state is h11.SEND_BODY or self.conn.trailing_data[0]:
            self._watch_asking()  # half of the next request, or the rest of a body, which nobody reads

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing(self._limits.write_s)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unwatch_writing()

    def shutdown(self) -> None:
        super().shutdown()
        if self.flow.write_paused:
            self._watch_writing(self._limits.grace_s)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unwatch_writing()
        for timer in (self._asking, self._probing):
            if timer is not None:
                timer.cancel()

    @property
    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch_asking(self) -> None:
        if not self._answered:
            if self._asking is not None:
                self._asking.cancel()
                self._asking = None
        elif self._asking is None:
            self._asking = self.loop.call_later(self._limits.head_s, self._give_up)

    def _give_up(self) -> None:
        """Nothing more came of a request that has begun, or of a body that nobody reads."""
        self._asking = None
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(408, "The request's headers took too long. Send them at once.")
        self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        told = refusal(status, message)
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        for event in (
            h11.Response(status_code=status, headers=headers),
            h11.Data(data=dumps(error_body(told))),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")

    def _probe(self, number: int) -> None:
        if self._answered or self.transport.is_closing():
            return
        filler = self.scope["state"].get(FILLER)
        if self.cycle.response_started and filler is not None:
            self._write(h11.Data(data=filler))
        elif not self.cycle.response_started and self.scope["http_version"] == "1.1":
            self._write(h11.InformationalResponse(status_code=100, headers=[], reason="Continue"))
        wait_s = _PROBES_S[number + 1] if number + 1 < len(_PROBES_S) else self._limits.comment_s
        self._probing = self.loop.call_later(wait_s, self._probe, number + 1)

    def _write(self, event: h11.Event) -> None:
        if not self.flow.write_paused:
            self.transport.write(self.conn.send(event) or b"")

    def _watch_writing(self, wait_s: float) -> None:
        self._unwatch_writing()
        waits = self.transport.get_write_buffer_size()
        self._stuck = self.loop.call_later(wait_s, self._look_at_writing, wait_s, waits)

    def _look_at_writing(self, wait_s: float, waited: int) -> None:
        if self.transport.get_write_buffer_size() < waited:
            self._watch_writing(wait_s)
        else:
            self.transport.abort()

    def _unwatch_writing(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
