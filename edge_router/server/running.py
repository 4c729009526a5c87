"""Requests under way: each ends when it is answered, when its client leaves or when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from edge_router.aio import AsyncAnswer

T = TypeVar("T")
STOPPING = "The server is shutting down. Start it again with `edge-router serve`."


class Running:
    """Lives on one event loop."""

    def __init__(self) -> None:
        self._streams: set[AsyncAnswer] = set()
        self._stopping = asyncio.Event()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """End everything now, each in its own proper way."""
        self._stopping.set()
        for answer in tuple(self._streams):
            answer.cancel()

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
        task = asyncio.ensure_future(work)
        others = [asyncio.ensure_future(_gone(request)), asyncio.ensure_future(self._stopping.wait())]
        try:
            await asyncio.wait([task, *others], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            for pending in (task, *others):
                pending.cancel()
            await asyncio.gather(task, *others, return_exceptions=True)
        if self.stopping:
            raise HTTPException(503, STOPPING)
        raise ClientDisconnect


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
