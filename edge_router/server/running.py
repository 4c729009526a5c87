"""Requests under way: each ends when it is answered, when its client leaves or when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive

STOPPING = "The server is shutting down. Start it again with `edge-router serve`."


class RunningAnswers:
    """Used on the event loop only."""

    def __init__(self) -> None:
        self._ends: list[Callable[[], None]] = []
        self.stopping = False

    def stop(self) -> None:
        """End everything now, each in its own proper way."""
        self.stopping = True
        for end in tuple(self._ends):
            end()

    def ended_by(self, end: Callable[[], None]) -> _Block:
        """`end` is called when the server stops in the midst of the block, or has been told to before."""
        return _Block(self, end)

    def attended(self, receive: Receive, end: Callable[[], None]) -> _Attended:
        """While a request is answered, its body read: `end` is called when the client leaves, when the server
        stops, and at last.
        """
        return _Attended(self, receive, end)

    def add(self, end: Callable[[], None]) -> None:
        self._ends.append(end)
        if self.stopping:
            end()

    def remove(self, end: Callable[[], None]) -> None:
        self._ends.remove(end)


class _Block:
    """Classes, since each answer has two such blocks, and generators would take three times as long."""

    def __init__(self, running: RunningAnswers, end: Callable[[], None]) -> None:
        self._running, self._end = running, end

    def __enter__(self) -> None:
        self._running.add(self._end)

    def __exit__(self, *exception: object) -> None:
        self._running.remove(self._end)


class _Attended:
    def __init__(self, running: RunningAnswers, receive: Receive, end: Callable[[], None]) -> None:
        self._running, self._receive, self._end = running, receive, end
        self._attention = ClientPresence(running)

    async def __aenter__(self) -> ClientPresence:
        self._watch = asyncio.ensure_future(_disconnected(self._receive))
        self._watch.add_done_callback(self._left)
        self._running.add(self._end)
        return self._attention

    async def __aexit__(self, *exception: object) -> None:
        self._running.remove(self._end)
        self._watch.cancel()
        self._end()

    def _left(self, watch: asyncio.Future[None]) -> None:
        self._attention.left = not watch.cancelled()
        self._end()


class ClientPresence:
    """Whether anybody still waits for an answer."""

    def __init__(self, running: RunningAnswers) -> None:
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
