"""Requests under way: each ends when it is answered, when its client leaves or when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive

STOPPING = "The server is shutting down. Start it again with `edge-router serve`."


class Running:
    """Used on the event loop only."""

    def __init__(self) -> None:
        self._ends: list[Callable[[], None]] = []
        self.stopping = False

    def stop(self) -> None:
        """End everything now, each in its own proper way."""
        self.stopping = True
        for end in tuple(self._ends):
            end()

    @contextmanager
    def ended_by(self, end: Callable[[], None]) -> Iterator[None]:
        """`end` is called when the server stops in the midst of the block, or has been told to before."""
        self._ends.append(end)
        if self.stopping:
            end()
        try:
            yield
        finally:
            self._ends.remove(end)

    @asynccontextmanager
    async def attended(self, receive: Receive, end: Callable[[], None]) -> AsyncIterator[Attention]:
        """While a request is answered, its body read: `end` is called when the client leaves, when the server
        stops, and at last.
        """
        attention = Attention(self)
        watch = asyncio.ensure_future(_disconnected(receive))

        def left(watch: asyncio.Future[None]) -> None:
            attention.left = not watch.cancelled()
            end()

        watch.add_done_callback(left)
        try:
            with self.ended_by(end):
                yield attention
        finally:
            watch.cancel()
            end()


class Attention:
    """Whether anybody still waits for an answer."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self.left = False

    @property
    def over(self) -> bool:
        return self.left or self._running.stopping

    def check(self) -> None:
        """Raises `ClientDisconnect` where the client has left, `HTTPException` 503 where the server stops."""
        if self._running.stopping:
            raise HTTPException(503, STOPPING)
        if self.left:
            raise ClientDisconnect


async def _disconnected(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
