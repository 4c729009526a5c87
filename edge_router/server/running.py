"""Requests under way: each ends when it is answered, when its client leaves or when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from edge_router.aio import AsyncAnswer

T = TypeVar("T")
STOPPING = "The server is shutting down. Start it again with `edge-router serve`."


class Running:
    """Used on the event loop only."""

    def __init__(self) -> None:
        self._streams: set[AsyncAnswer] = set()
        self._waiting: set[asyncio.Future[None]] = set()
        self.stopping = False

    def stop(self) -> None:
        """End everything now, each in its own proper way."""
        self.stopping = True
        for answer in tuple(self._streams):
            answer.cancel()
        for stopped in self._waiting:
            if not stopped.done():
                stopped.set_result(None)

    @contextmanager
    def stream(self, answer: AsyncAnswer) -> Iterator[None]:
        """While an answer is being streamed: `stop` ends it, and so does leaving the block."""
        self._streams.add(answer)
        if self.stopping:
            answer.cancel()
        try:
            yield
        finally:
            self._streams.discard(answer)
            answer.cancel()

    async def attend(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` while nobody has given up. The body must have been read.

        Cancels it and raises `ClientDisconnect` when the client leaves, `HTTPException` 503 on `stop`.
        """
        task, gone = asyncio.ensure_future(work), asyncio.ensure_future(disconnected(request.receive))
        stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(stopped)
        if self.stopping:
            stopped.set_result(None)
        try:
            ends: list[asyncio.Future[Any]] = [task, gone, stopped]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if not self.stopping:
                gone.result()
                raise ClientDisconnect
            raise HTTPException(503, STOPPING)
        finally:
            self._waiting.discard(stopped)
            task.cancel()
            gone.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)


async def disconnected(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
