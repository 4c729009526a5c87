"""Items made in threads and read on the event loop: bounded, so that a slow reader pauses their maker.

Where what makes them only waits for something, no thread waits with it, and they are made by their reader.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Generic, TypedDict, TypeVar

from edge_router.api.idle_threads import IdleThreads
from edge_router.control.steps import LIGHT, Pause
from edge_router.errors import Cancelled
from edge_router.types import Cancel

MOST = 32  # items that wait for their reader, where they are not weighed, or that it makes in one turn
# What a maker rests at most until its first item is taken. Python lets a thread go on for 5 ms before others
# have their turn, in which time a fast one makes all the others.
HEAD_START_S = 0.002
_LOOK_S = 0.2  # how often a paused maker looks whether anybody is left to read

T = TypeVar("T")


class StreamOptions(TypedDict, Generic[T], total=False):
    """How it is read: arguments of `ThreadStream`."""

    most: int
    weigh: Callable[[T], int]
    head_start_s: float


class ThreadStream(Generic[T]):
    """What `work` yields, made in a thread (of `threads`), for one reader on the loop that makes this.

    Once `most` of it (by `weigh`) waits to be read, the thread pauses until the reader has taken it. Where
    `work` yields a `Pause`, the thread is free until what it waits for is here; items behind a light one are
    made on the loop, when they are read. None adds nothing. `cancel` is what `work` looks at; when it is
    set, whoever sets it, what waits is dropped. `head_start_s`: so long the thread rests at most behind its
    first item, until that is taken.
    """

    def __init__(
        self,
        work: Callable[[], Iterator[T | Pause | None]],
        *,
        cancel: Cancel,
        most: int = MOST,
        weigh: Callable[[T], int] = lambda item: 1,
        head_start_s: float = 0.0,
        threads: IdleThreads | None = None,
    ) -> None:
        self._head_start_s = head_start_s
        self._loop, self._context = asyncio.get_running_loop(), contextvars.copy_context()
        self._cancel, self._most, self._weigh = cancel, most, weigh
        self._threads = threads or IdleThreads()
        self._work: Callable[[], Iterator[T | Pause | None]] | None = work
        self._made: Iterator[T | Pause | None] = iter(())
        self._read_at_once = False  # since others last had their turn
        self._lock = threading.RLock()  # over all of the following
        self._room = threading.Condition(self._lock)
        self._items: deque[T] = deque()
        self._weight = 0
        self._over = False
        self._error: BaseException | None = None
        self._reader: asyncio.Future[None] | None = None
        self._parked: Pause | None = None  # nobody is at work; who takes this goes on with it
        self._threads.run(self._make)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._over and not self._items

    @property
    def ended_well(self) -> bool:
        """Whether nothing more will come, and no error ended it."""
        return self.ended and self._error is None

    async def ready(self, wait_s: float | None = None) -> bool:
        """Whether there is something to take: items, the end or an error. Waits for it, up to `wait_s`."""
        if self._read_at_once and self._is_here:
            await asyncio.sleep(0)  # whoever reads as fast as we write must not keep the loop for himself
        self._read_at_once = False
        until = None if wait_s is None else self._loop.time() + wait_s
        while True:
            with self._lock:
                self._hand_over()
                if self._is_here:
                    return True
                if until is not None and self._loop.time() >= until:
                    return False
                reader = self._reader = self._loop.create_future()
            timer = None if until is None else self._loop.call_at(until, _wake, reader)
            try:
                await reader
            finally:
                if timer is not None:
                    timer.cancel()

    @property
    def _is_here(self) -> bool:
        return bool(self._items) or self._over or self._can_draw

    @property
    def _can_draw(self) -> bool:
        """Whether the next item can be made here."""
        parked = self._parked
        return parked is not None and parked.light and (parked.source is None or parked.source.here)

    async def take(self, wait_s: float | None = None) -> list[T]:
        """All that is here; [] where nothing has come within `wait_s`, and once it has `ended`.

        Raises what `work` raised, behind the items before it, and `Cancelled` after `close`.
        """
        until = None if wait_s is None else self._loop.time() + wait_s
        while await self.ready(None if until is None else until - self._loop.time()):
            taken = self._taken() or self._drawn()
            if taken:
                self._read_at_once = True
                return taken
            if self._over:
                self.check()
                return []
        return []

    def _taken(self) -> list[T]:
        with self._lock:
            taken = list(self._items)
            self._items.clear()
            self._weight = 0
            self._room.notify()
        return taken

    def _drawn(self) -> list[T]:
        """What can be made here in one turn: others, who may be many, have theirs between."""
        with self._lock:
            if not self._can_draw:
                return []
            pause, self._parked = self._parked, None
        drawn: list[T] = []
        weight = 0
        try:
            while weight < self._most and len(drawn) < MOST and not self._cancel.is_set():
                item = self._context.run(next, self._made)
                if isinstance(item, Pause):
                    pause = item
                    if pause.source is not None and not pause.source.here:
                        break
                elif item is not None:
                    drawn.append(item)
                    weight += self._weigh(item)
                    pause = LIGHT
        except BaseException as error:  # noqa: BLE001 - it is raised again where the items are taken
            self._failed(error)
        else:
            assert pause is not None
            if not self._park(pause):
                self._go_on()
        return drawn

    def check(self) -> None:
        """Raises what `work` raised, where nothing else is here."""
        with self._lock:
            if self._error is not None and not self._items:
                raise self._error

    def close(self) -> None:
        """End it, from any thread: what waits is dropped, and a reader gets `Cancelled` at once."""
        self._cancel.set()
        self._finish(Cancelled(), drop=True)
        with self._lock:
            parked, self._parked = self._parked, None
        if parked is not None:
            self._go_on()

    def drop(self) -> None:
        """Nobody will read it. From any place in any thread, one that holds a lock of ours too."""
        self._cancel.set()
        if self._parked is not None:
            with suppress(RuntimeError):  # the interpreter ends
                threading.Thread(target=self.close, name="edge_router dropped", daemon=True).start()

    def _go_on(self) -> None:
        """By a thread."""
        try:
            self._threads.run(self._make)
        except RuntimeError as error:  # there is none
            self._failed(error)

    def _make(self) -> None:
        """In a thread, until nothing is left to make or a thread would only wait."""
        try:
            if self._work is not None:
                work, self._work = self._work, None
                self._made = work()
            while True:
                item = self._context.run(next, self._made)
                if isinstance(item, Pause):
                    if self._rests(item):
                        return
                elif item is not None:
                    self._put(item)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the items are taken
            self._failed(error)

    def _rests(self, pause: Pause) -> bool:
        """Whether the thread has nothing to do for now."""
        source = pause.source
        if source is None and not pause.light:
            self._threads.linger()
            return False
        if source is not None and not pause.light and (source.here or source.over):
            return False
        return self._park(pause)

    def _park(self, pause: Pause) -> bool:
        """Whether it waits now; what was cancelled ends in a thread instead."""
        with self._lock:
            self._parked = pause
            if self._cancel.is_set():  # looked at last: `drop` sets it and then looks who is parked
                self._parked = None
                return False
        if pause.source is None:
            self._arrived()
        else:
            pause.source.when_here(self._arrived)
        return True

    def _arrived(self) -> None:
        """What it waited for is here. From any thread.

        An end takes a thread at once, whether anybody reads or not, where there is room for its words.
        """
        with self._lock:
            parked = self._parked
            if parked is None:
                return
            ends = parked.source is not None and parked.source.over and self._weight < self._most
            waits = parked.light and not ends
            if waits:
                reader, self._reader = self._reader, None
            else:
                self._parked = None
        if waits:
            self._tell(reader)
        else:
            self._go_on()

    def _hand_over(self) -> None:
        """What is left takes a thread, once all before it was read; under the lock."""
        parked = self._parked
        if parked is None or self._items or not parked.light:
            return
        if parked.source is not None and parked.source.over:
            self._parked = None
            self._go_on()

    def _failed(self, error: BaseException) -> None:
        made, self._made = self._made, iter(())
        self._finish(None if isinstance(error, StopIteration) else error, drop=isinstance(error, Cancelled))
        if isinstance(made, Generator):
            self._context.run(made.close)

    def _put(self, item: T) -> None:
        weight = self._weigh(item)
        with self._lock:
            while self._weight >= self._most and not self._cancel.is_set():
                if self._loop.is_closed():
                    self._cancel.set()
                self._room.wait(_LOOK_S)
            if self._cancel.is_set():
                raise Cancelled
            self._items.append(item)
            self._weight += weight
            reader, self._reader = self._reader, None
        self._tell(reader)
        if self._head_start_s:
            head_start_s, self._head_start_s = self._head_start_s, 0.0
            with self._room:
                self._room.wait_for(lambda: not self._items, head_start_s)

    def _finish(self, error: BaseException | None, *, drop: bool = False) -> None:
        with self._lock:
            if not self._over or (drop and self._items):  # what is cut must not look complete
                self._over, self._error = True, error
            if drop:
                self._items.clear()
                self._room.notify()
            reader, self._reader = self._reader, None
        self._tell(reader)

    def _tell(self, reader: asyncio.Future[None] | None) -> None:
        """Not under the lock: the reader is awake before this returns, and would wait for it."""
        if reader is None:
            return
        try:
            self._loop.call_soon_threadsafe(_wake, reader)
        except RuntimeError:  # the loop is closed: nobody reads any more
            self._cancel.set()


def _wake(reader: asyncio.Future[None]) -> None:
    if not reader.done():
        reader.set_result(None)
