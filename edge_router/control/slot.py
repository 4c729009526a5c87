"""One thing that takes long to make, such as a loaded model: made once however many ask for it."""

from __future__ import annotations

import contextvars
import copy
import threading
import time
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

from edge_router.errors import Cancelled, Closed, EdgeRouterError, InternalError, LocalServerDown, OutOfMemory
from edge_router.types import Cancel

T = TypeVar("T")

_WAKE_S = 0.02  # how soon who waits sees a cancel
_ROOM = 32 << 20  # bytes of address space: a stack, and what a thread takes at once
_DOWN_S = 1.0  # in which a server that was not there is not asked for again


def remembered(longest_s: float) -> Callable[[EdgeRouterError], float]:
    """How long what could not be loaded is not tried again: `longest_s`, or until a server may be there."""

    def seconds(error: EdgeRouterError) -> float:
        return min(longest_s, _DOWN_S) if isinstance(error, LocalServerDown) else longest_s

    return seconds


class _Attempt(Generic[T]):
    """One run of `make`."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.value: T | None = None
        self.error: EdgeRouterError | None = None
        self.until = 0.0  # when the error is forgotten


class Slot(Generic[T]):
    """Safe to use from any number of threads. `name` is what an `InternalError` of `make` calls it.

    `make` runs in a thread of its own, so that who waits can leave while it goes on for the others. What it
    raises is told to all who ask within the seconds that `remember_s` gives for it. After `close` nothing is
    given any more; what is still being made then is closed, by `dispose`, once it is there.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], T],
        *,
        remember_s: Callable[[EdgeRouterError], float],
        dispose: Callable[[T], None] = lambda value: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._make, self._dispose = name, make, dispose
        self._remember_s, self._clock = remember_s, clock
        self._lock = threading.Lock()
        self._attempt: _Attempt[T] | None = None
        self._closed = False

    @property
    def value(self) -> T | None:
        """What has been made, without waiting for it."""
        attempt = self._attempt
        return None if attempt is None else attempt.value

    def put(self, value: T) -> None:
        """Instead of making one."""
        self._attempt = _Attempt()
        self._attempt.value = value
        self._attempt.done.set()

    def get(self, cancel: Cancel | None = None) -> T:
        """Raises what `make` raises, `Cancelled` as soon as `cancel` is set, `Closed`."""
        value = self.value
        if value is not None:  # most often, and each answer asks twice
            return value
        attempt = self._current()
        while not attempt.done.wait(_WAKE_S):
            if cancel is not None and cancel.is_set():
                raise Cancelled
            if self._closed:
                break
        if self._closed:
            raise Closed
        if attempt.error is not None:
            raise _again(attempt.error)
        assert attempt.value is not None
        return attempt.value

    def begin(self) -> None:
        """Have it made, without waiting for it. Raises `Closed`."""
        if self.value is None:
            self._current()

    def retry(self) -> None:
        """Forget a failure: whoever asks next tries again."""
        with self._lock:
            if self._attempt is not None and self._attempt.error is not None:
                self._attempt = None

    def close(self) -> None:
        """For good. Does not wait for what is being made. May be called twice."""
        with self._lock:
            attempt, self._closed = self._attempt, True
            self._attempt = None
        if attempt is not None and attempt.value is not None:
            self._dispose(attempt.value)

    def _current(self) -> _Attempt[T]:
        with self._lock:
            if self._closed:
                raise Closed
            attempt = self._attempt
            if attempt is not None and attempt.error is not None and self._clock() >= attempt.until:
                attempt = None
            if attempt is None:
                attempt = _Attempt()
                self._start(attempt)
                self._attempt = attempt
            return attempt

    def _start(self, attempt: _Attempt[T]) -> None:
        """`_run` waits for the lock before it tells anything."""
        from edge_router.device.process import can_reserve

        if not can_reserve(_ROOM):  # Python waits for ever for a thread that dies as it begins
            raise OutOfMemory(self._name, "no room for a thread that loads it", _ROOM)
        run = contextvars.copy_context().run
        name = f"edge_router {self._name}"
        try:
            threading.Thread(target=run, args=(self._run, attempt), name=name, daemon=True).start()
        except RuntimeError as error:  # the system gives no memory for its stack
            raise OutOfMemory(self._name, str(error)) from error

    def _run(self, attempt: _Attempt[T]) -> None:
        value: T | None = None
        error: EdgeRouterError | None = None
        try:
            value = self._make()
        except EdgeRouterError as failure:
            error = failure
        except BaseException as failure:  # noqa: BLE001 - told to those who wait, and noted by them
            error = InternalError.of(self._name, failure)
        if error is not None:
            _forget_locals(error)
        with self._lock:
            wanted = not self._closed
            if wanted:
                attempt.value, attempt.error = value, error
                attempt.until = self._clock() + (0.0 if error is None else self._remember_s(error))
            attempt.done.set()
        if value is not None and not wanted:
            self._dispose(value)


def _again(error: EdgeRouterError) -> EdgeRouterError:
    """One for each thread that raises it: raising changes an error."""
    twin = copy.copy(error)
    twin.__cause__ = error.__cause__
    return twin.with_traceback(error.__traceback__)


def _forget_locals(error: BaseException | None) -> None:
    """Frames of a load that failed hold what it had loaded so far."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
