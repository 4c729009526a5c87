"""Decisions as they are made, as server-sent events: one stream for each page that is open, none without."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from edge_router.control.recording import Recorder
from edge_router.ledger import Record
from edge_router.server.http.exchange import FILLER
from edge_router.server.running import RunningAnswers
from edge_router.surfaces.wire import comment, dumps, event

MOST_UNREAD = 200  # decisions that wait for one page, which shows no more; the oldest go
EVERY_S = 0.25  # at most so often, for eyes can't follow more
COMMENT_S = 15.0  # between two signs of life where nothing is decided


class RecordFeed:
    """What has been decided and not been sent to one page yet. Made, and read, on the event loop."""

    def __init__(self) -> None:
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        self._unread = deque[Record](maxlen=MOST_UNREAD)
        self._told = False

    def put(self, record: Record) -> None:
        """From any thread; returns at once and raises nothing."""
        self._unread.append(record)
        if not self._told:
            self._told = True
            with suppress(RuntimeError):  # the loop has ended, and nobody reads any more
                self._loop.call_soon_threadsafe(self._news.set)

    def wake(self) -> None:
        self._news.set()

    async def take(self, wait_s: float) -> list[Record]:
        """All that there is; nothing where nothing came within `wait_s`, or somebody woke it."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), wait_s)
        self._news.clear()
        self._told = False  # before it is emptied: what comes from now on tells anew
        found = list[Record]()
        while self._unread:
            found.append(self._unread.popleft())
        return found


class LiveStream(Response):
    """An event `decision` for each record, until the page is closed or the server stops."""

    def __init__(
        self,
        recorder: Recorder,
        row: Callable[[Record], dict[str, object]],
        running: RunningAnswers,
        counted: Callable[[int], None],
    ) -> None:
        """`counted` gets 1 when it begins, -1 when it has ended."""
        self._recorder, self._row, self._running, self._counted = recorder, row, running, counted
        self.raw_headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})[FILLER] = comment()  # by which it is found out that a page has left
        feed = RecordFeed()
        stop = self._recorder.watch(feed.put)
        self._counted(1)
        try:
            async with self._running.attended(receive, feed.wake) as attention:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await _send(send, comment("listening"))
                while not attention.over:
                    records = await feed.take(COMMENT_S)
                    data = b"".join(event(dumps(self._row(each)), "decision") for each in records)
                    await _send(send, data or comment())
                    if records and not attention.over:
                        await asyncio.sleep(EVERY_S)
                if attention.left:
                    raise ClientDisconnect
                await _send(send, b"", more=False)
        finally:
            self._counted(-1)
            stop()


async def _send(send: Send, data: bytes, *, more: bool = True) -> None:
    try:
        await send({"type": "http.response.body", "body": data, "more_body": more})
    except OSError as error:
        raise ClientDisconnect from error
