"""An event loop in a thread of its own, for streams that must end while they wait for the network.

A blocked read on a socket can't be interrupted from another thread on every platform; a task can. One
thread serves any number of streams, whether they are read by threads or by another event loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing, suppress
from typing import Any, Generic, TypeAlias, TypeVar, cast

from edge_router.engines.base import Arriving
from edge_router.errors import Cancelled
from edge_router.types import Cancel

T = TypeVar("T")
Running: TypeAlias = tuple[concurrent.futures.Future[None], asyncio.AbstractEventLoop]

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

    def iterate(self, source: Callable[[], AsyncGenerator[T]], cancel: Cancel) -> Arriving[T]:
        """What `source()` yields, run in the loop; its errors are raised where it is read.

        Reading raises `Cancelled` when `cancel` is set or the loop is closed. The source is cancelled with
        it, and also when the stream is closed early. `source` itself is called by whoever asks first.
        """
        return _Stream(self.run, source, cancel)

    def run(self, work: Coroutine[object, object, None]) -> Running:
        """`work` as a task of the loop, and the loop. Raises `Cancelled` once it is closed."""
        with self._lock:
            if self._closed:
                work.close()
                raise Cancelled
            loop = self._started()
            return asyncio.run_coroutine_threadsafe(work, loop), loop

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


class _Inbox(Generic[T]):
    """What has come for one reader. The loop writes it, and does not hold the reader."""

    def __init__(self) -> None:
        self.items: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
        self.ended = False  # an `_End` is the last of the items, or will be in a moment
        self._lock = threading.Lock()  # over the next one
        self._tell: Callable[[], None] | None = None
        self._room = asyncio.Event()
        self._paused = False

    @property
    def here(self) -> bool:
        return self.items.qsize() > self.ended

    def when_here(self, tell: Callable[[], None]) -> None:
        with self._lock:
            self._tell = tell
        if self.ended or self.here:
            self._told()

    async def fill(self, source: AsyncGenerator[T]) -> None:
        async with aclosing(source) as running:
            async for item in running:
                self.items.put(item)
                if self._tell is not None:
                    self._told()
                if self.items.qsize() < _AHEAD:
                    continue
                self._room.clear()
                self._paused = True
                if self.items.qsize() >= _AHEAD:  # nothing is read from the network until there is room again
                    await self._room.wait()

    def make_room(self, loop: asyncio.AbstractEventLoop) -> None:
        """An item was taken."""
        if self._paused and self.items.qsize() <= _AHEAD * 3 // 4:
            self._paused = False
            with suppress(RuntimeError):  # the loop is closed: the end is among the items
                loop.call_soon_threadsafe(self._room.set)

    def end(self) -> None:
        self.ended = True
        self.items.put(_End())
        self._told()

    def _told(self) -> None:
        with self._lock:
            tell, self._tell = self._tell, None
        if tell is not None:
            tell()


class _Stream(Arriving[T]):
    """The reader's end of a source that runs in a loop elsewhere. `run` starts it there."""

    def __init__(
        self,
        run: Callable[[Coroutine[object, object, None]], Running],
        source: Callable[[], AsyncGenerator[T]],
        cancel: Cancel,
    ) -> None:
        self._run, self._source, self._cancel = run, source, cancel
        self._inbox = _Inbox[T]()
        self._running: Running | None = None
        self._error: Exception | None = None  # that kept it from running
        self._read_up = False

    @property
    def here(self) -> bool:
        return self._inbox.here

    @property
    def over(self) -> bool:
        return self._read_up or (self._inbox.ended and not self._inbox.here)

    def when_here(self, tell: Callable[[], None]) -> None:
        self._begin()
        self._inbox.when_here(tell)

    def turned(self, turn: Callable[[T], Iterable[T]]) -> Arriving[T]:
        source = self._source

        async def made() -> AsyncGenerator[T]:
            async with aclosing(source()) as items:
                async for item in items:
                    for each in turn(item):
                        yield each

        return _Stream(self._run, made, self._cancel)

    def send(self, value: None) -> T:
        if self._read_up:
            raise StopIteration
        self._begin()
        try:
            item = self._awaited()
            if isinstance(item, _End):
                self._raise_error()
                self._read_up = True
                raise StopIteration
        except BaseException:
            self.close()
            raise
        if self._running is not None:
            self._inbox.make_room(self._running[1])
        return item

    def throw(self, *error: Any) -> T:
        self.close()
        return super().throw(*error)

    def close(self) -> None:
        self._read_up = True
        if self._running is not None:
            self._running[0].cancel()

    def __del__(self) -> None:
        if not self._read_up:
            self.close()

    def _begin(self) -> None:
        if self._running is not None or self._inbox.ended:
            return
        try:
            self._running = self._run(self._inbox.fill(self._source()))
        except Exception as error:  # noqa: BLE001 - raised where it is read
            self._error = error
            self._inbox.end()
        else:
            inbox = self._inbox
            self._running[0].add_done_callback(lambda _: inbox.end())

    def _awaited(self) -> T | _End:
        while True:
            if self._cancel.is_set():
                raise Cancelled
            try:
                return self._inbox.items.get(timeout=_WAKE_S)
            except queue.Empty:
                continue

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
        assert self._running is not None
        try:
            self._running[0].result()
        except (concurrent.futures.CancelledError, asyncio.CancelledError):
            raise Cancelled from None
