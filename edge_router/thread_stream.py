"""Items made in a thread and read on the event loop: bounded, so that a slow reader pauses their maker."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Generic, TypeVar

from edge_router.errors import Cancelled
from edge_router.types import Cancel

MOST = 32  # items that wait for their reader, where they are not weighed
_LOOK_S = 0.2  # how often a paused maker looks whether anybody is left to read
_BUSY, _IDLE = "edge_router answer", "edge_router idle"  # names of threads, for who looks at a process

T = TypeVar("T")


class IdleThreads:
    """Threads that wait a while for more work once theirs is done: one that is there begins at once."""

    def __init__(self, keep_s: float = 0.0) -> None:
        self._keep_s, self._lock = keep_s, threading.Lock()
        self._idle: list[queue.SimpleQueue[Callable[[], None]]] = []

    @property
    def idle(self) -> int:
        """How many wait."""
        return len(self._idle)

    def run(self, work: Callable[[], None]) -> None:
        """In a thread that does nothing else meanwhile."""
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is not None:
            inbox.put(work)
            return
        inbox = queue.SimpleQueue()
        inbox.put(work)  # not as the thread's argument, which it would keep as long as it lives
        threading.Thread(target=self._serve, args=(inbox,), name=_BUSY, daemon=True).start()

    def _serve(self, inbox: queue.SimpleQueue[Callable[[], None]]) -> None:
        work: Callable[[], None] | None = inbox.get()
        while work is not None:
            work()
            work = None  # what is done must not be kept by who waits
            work = self._more(inbox)

    def _more(self, inbox: queue.SimpleQueue[Callable[[], None]]) -> Callable[[], None] | None:
        if not self._keep_s:
            return None
        threading.current_thread().name = _IDLE
        work = self._wait(inbox)
        threading.current_thread().name = _BUSY
        return work

    def _wait(self, inbox: queue.SimpleQueue[Callable[[], None]]) -> Callable[[], None] | None:
        with self._lock:
            self._idle.append(inbox)
        try:
            return inbox.get(timeout=self._keep_s)
        except queue.Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    return None
            return inbox.get()  # it was chosen just now


class ThreadStream(Generic[T]):
    """What `work` yields, in a thread to itself (of `threads`), for one reader on the loop that makes this.

    Once `most` of it (by `weigh`) waits to be read, the thread pauses until the reader has taken it. `cancel`
    is what `work` looks at; when it is set, whoever sets it, what waits is dropped.
    """

    def __init__(
        self,
        work: Callable[[], Iterator[T]],
        *,
        cancel: Cancel,
        most: int = MOST,
        weigh: Callable[[T], int] = lambda item: 1,
        threads: IdleThreads | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._cancel, self._most, self._weigh = cancel, most, weigh
        self._room = threading.Condition()  # over all of the following
        self._items: deque[T] = deque()
        self._weight = 0
        self._over = False
        self._error: BaseException | None = None
        self._reader: asyncio.Future[None] | None = None
        (threads or IdleThreads()).run(partial(contextvars.copy_context().run, self._make, work))

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._over and not self._items

    @property
    def ended_well(self) -> bool:
        return self.ended and self._error is None

    async def ready(self, wait_s: float | None = None) -> bool:
        """Whether there is something to take: items, the end or an error. Waits for it, up to `wait_s`."""
        with self._room:
            here = bool(self._items) or self._over
            if not here:
                reader = self._reader = self._loop.create_future()
        if here:
            await asyncio.sleep(0)  # whoever reads as fast as we write must not keep the loop for himself
            return True
        timer = None if wait_s is None else self._loop.call_later(wait_s, _wake, reader)
        try:
            await reader
        finally:
            if timer is not None:
                timer.cancel()
        return bool(self._items) or self._over

    async def take(self, wait_s: float | None = None) -> list[T]:
        """All that is here; [] where nothing has come within `wait_s`, and once it has `ended`.

        Raises what `work` raised, behind the items before it, and `Cancelled` after `close`.
        """
        await self.ready(wait_s)
        with self._room:
            taken = list(self._items)
            self._items.clear()
            self._weight = 0
            self._room.notify()
        if not taken:
            self.check()
        return taken

    def check(self) -> None:
        """Raises what `work` raised, where nothing else is here."""
        with self._room:
            if self._error is not None and not self._items:
                raise self._error

    def close(self) -> None:
        """End it, from any thread: what waits is dropped, and a reader gets `Cancelled` at once."""
        self._cancel.set()
        self._finish(Cancelled(), drop=True)

    def _make(self, work: Callable[[], Iterator[T]]) -> None:
        made: Iterator[T] | None = None
        try:
            made = work()
            for item in made:
                self._put(item)
            self._finish(None)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the items are taken
            self._finish(error, drop=isinstance(error, Cancelled))
        finally:
            if isinstance(made, Generator):
                made.close()

    def _put(self, item: T) -> None:
        with self._room:
            while self._weight >= self._most and not self._cancel.is_set():
                if self._loop.is_closed():
                    self._cancel.set()
                self._room.wait(_LOOK_S)
            if self._cancel.is_set():
                raise Cancelled
            self._items.append(item)
            self._weight += self._weigh(item)
            self._tell()

    def _finish(self, error: BaseException | None, *, drop: bool = False) -> None:
        with self._room:
            if not self._over or (drop and self._items):  # what is cut must not look complete
                self._over, self._error = True, error
            if drop:
                self._items.clear()
                self._room.notify()
            self._tell()

    def _tell(self) -> None:
        reader, self._reader = self._reader, None
        if reader is None:
            return
        try:
            self._loop.call_soon_threadsafe(_wake, reader)
        except RuntimeError:  # the loop is closed: nobody reads any more
            self._cancel.set()


def _wake(reader: asyncio.Future[None]) -> None:
    if not reader.done():
        reader.set_result(None)
