"""Threads that wait a while for more work, for those whose work is mostly short."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

BUSY, IDLE = "edge_router answer", "edge_router idle"  # names of threads, for who looks at a process


class IdleThreads:
    """Threads that wait a while for more work once theirs is done: one that is there begins at once.

    No more than `most` are busy with what is short. More work waits for one of them, but not for long: what
    was thought to be short may wait for a file or for a model. Work that knows it will take long says so.
    """

    def __init__(self, keep_s: float = 0.0, *, most: int = 8, patience_s: float = 0.05) -> None:
        self._keep_s, self._most, self._patience_s = keep_s, most, patience_s
        self._lock = threading.Lock()  # over all of the following
        self._settled = threading.Condition(self._lock)
        self._idle: list[queue.SimpleQueue[Callable[[], None]]] = []
        self._waiting: deque[Callable[[], None]] = deque()
        self._short = 0  # threads that are busy with what did not say it would take long
        self._long: set[int] = set()  # the others
        self._helping = False  # whether a thread is about to take what waits too long

    @property
    def idle(self) -> int:
        """How many wait."""
        return len(self._idle)

    def run(self, work: Callable[[], None]) -> None:
        """In a thread that does nothing else meanwhile."""
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
            if inbox is None and self._short >= self._most:
                self._waiting.append(work)
                self._help()
                return
            self._short += 1
        if inbox is not None:
            inbox.put(work)
        else:
            self._start(work)

    def settle(self, wait_s: float, long_s: float = 0.0) -> bool:
        """Whether all work is done that does not take long, after waiting for it up to `wait_s`.

        Then for what said that it would, up to `long_s`: it may have been told to end.
        """
        with self._settled:
            done = self._settled.wait_for(lambda: not (self._short or self._waiting), wait_s)
            self._settled.wait_for(lambda: not self._long, long_s)
            return done

    def linger(self) -> None:
        """The work of this thread will take long: others need not wait for it."""
        with self._lock:
            thread = threading.get_ident()
            if thread in self._long:
                return
            self._long.add(thread)
            self._short -= 1
            work = self._next()
            self._settled.notify_all()
        if work is not None:
            self._start(work)

    def _next(self) -> Callable[[], None] | None:
        """What has waited longest, to be begun now; under the lock."""
        if not self._waiting:
            return None
        self._short += 1
        return self._waiting.popleft()

    def _start(self, work: Callable[[], None]) -> None:
        inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        inbox.put(work)  # not as the thread's argument, which it would keep as long as it lives
        try:
            threading.Thread(target=self._serve, args=(inbox,), name=BUSY, daemon=True).start()
        except RuntimeError:  # the system gives no memory for its stack
            with self._lock:
                self._short -= 1
            raise

    def _help(self) -> None:
        """One thread more for what still waits in a while; under the lock."""
        if not self._helping:
            with suppress(RuntimeError):  # there are no more: one of those that are here takes it
                threading.Thread(target=self._take_late, name=IDLE, daemon=True).start()
                self._helping = True

    def _take_late(self) -> None:
        time.sleep(self._patience_s)
        with self._lock:
            self._helping = False
            work = self._next()
            if self._waiting:
                self._help()
        if work is not None:
            inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
            inbox.put(work)
            work = None
            threading.current_thread().name = BUSY
            self._serve(inbox)

    def _serve(self, inbox: queue.SimpleQueue[Callable[[], None]]) -> None:
        work: Callable[[], None] | None = inbox.get()
        while work is not None:
            work()
            work = None  # what is done must not be kept by who waits
            work = self._more(inbox)

    def _more(self, inbox: queue.SimpleQueue[Callable[[], None]]) -> Callable[[], None] | None:
        with self._lock:
            thread = threading.get_ident()
            if thread in self._long:
                self._long.remove(thread)
            else:
                self._short -= 1
            work = self._next()
            self._settled.notify_all()
            if work is None and self._keep_s:
                self._idle.append(inbox)
        if work is not None or not self._keep_s:
            return work
        threading.current_thread().name = IDLE
        work = self._wait(inbox)
        threading.current_thread().name = BUSY
        return work

    def _wait(self, inbox: queue.SimpleQueue[Callable[[], None]]) -> Callable[[], None] | None:
        try:
            return inbox.get(timeout=self._keep_s)
        except queue.Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    return None
            return inbox.get()  # it was chosen just now
