"""An event loop in a thread of its own, for streams that must end while they wait for the network.

A blocked read on a socket can't be interrupted from another thread on every platform; a task can. One
thread serves any number of streams.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import TypeVar, cast

from edge_router.errors import Cancelled
from edge_router.types import Cancel

T = TypeVar("T")

_WAKE_S = 0.02  # how soon a cancel is seen while nothing arrives
_AHEAD = 256  # pieces that may wait for a slow consumer before reading pauses
_CLOSE_S = 5.0


class _End:
    """After the last item."""


class BackgroundLoop:
    """Starts its thread with the first stream. `close` ends every stream; none can be started after it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None  # None until the first stream
        self._thread: threading.Thread
        self._stop: asyncio.Event
        self._last: Callable[[], Awaitable[None]] | None = None

    @property
    def closed(self) -> bool:
        return self._closed

    def iterate(self, source: Callable[[], AsyncGenerator[T]], cancel: Cancel) -> Iterator[T]:
        """What `source()` yields, run in the loop; its errors are raised here.

        Raises `Cancelled` when `cancel` is set or the loop is closed. The source is cancelled with it, and
        also when the iterator is closed early.
        """
        items: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
        room = asyncio.Event()
        paused = False

        async def pump() -> None:
            nonlocal paused
            async with aclosing(source()) as running:
                async for item in running:
                    items.put(item)
                    if items.qsize() < _AHEAD:
                        continue
                    room.clear()
                    paused = True
                    if items.qsize() >= _AHEAD:  # nothing is read from the network until there is room again
                        await room.wait()

        with self._lock:
            if self._closed:
                raise Cancelled
            loop = self._started()
            task = asyncio.run_coroutine_threadsafe(pump(), loop)
        task.add_done_callback(lambda _: items.put(_End()))
        try:
            while True:
                if cancel.is_set():
                    raise Cancelled
                try:
                    item = items.get(timeout=_WAKE_S)
                except queue.Empty:
                    continue
                if isinstance(item, _End):
                    break
                if paused and items.qsize() <= _AHEAD * 3 // 4:
                    paused = False
                    loop.call_soon_threadsafe(room.set)
                yield item
            try:
                task.result()
            except (concurrent.futures.CancelledError, asyncio.CancelledError):
                raise Cancelled from None
        finally:
            task.cancel()

    def close(self, last: Callable[[], Awaitable[None]] | None = None) -> None:
        """Cancel what runs, await `last()` in the loop, end the thread. May be called twice."""
        with self._lock:
            if self._closed or self._loop is None:
                self._closed = True
                return
            self._closed, self._last = True, last
        self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            ready = threading.Event()
            self._thread = threading.Thread(
                target=lambda: asyncio.run(self._serve(ready)), name=self._name, daemon=True
            )
            self._thread.start()
            ready.wait()
        return cast(asyncio.AbstractEventLoop, self._loop)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await self._stop.wait()
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._last is not None:
            await self._last()
