"""A process that is started again when it has ended: at once, then after ever longer pauses."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from typing import Literal

from edge_router.engines.base import Restarts
from edge_router.errors import (
    Cancelled,
    EdgeRouterError,
    EngineRestarting,
    EngineUnavailable,
    GenerationFailed,
    InternalError,
)
from edge_router.system.worker_process import Child, Line
from edge_router.types import Cancel

LONGEST_PAUSE_S = 60.0
_WAKE_S = 0.05  # how often who waits looks at its cancel
_logger = logging.getLogger(__name__)


class Restarting:
    """`start` makes the child, and ends when its cancel is set. `name` is the engine's, for errors and logs.

    A pause doubles with each end before which no answer came to its own. While the child is started again
    answers wait for it; in a pause they fail at once, so that another model may be asked. Safe to use from
    several threads.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[Cancel], Child],
        *,
        pause: Callable[[threading.Event, float], object] = threading.Event.wait,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises what `start` raises."""
        self._name, self._start, self._pause, self._clock = name, start, pause, clock
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._count, self._in_vain = 0, 0
        self._reason: str | None = None  # of the last end
        self._until: float | None = None  # of a pause
        self._child: Child | None = start(self._closed)
        self._keeper = threading.Thread(target=self._keep, name=f"{name}-keep", daemon=True)
        self._keeper.start()

    @property
    def restarts(self) -> Restarts:
        with self._lock:
            state: Literal["running", "starting", "pausing"] = "running"
            if self._child is None:
                state = "starting" if self._until is None else "pausing"
            return Restarts(state, self._count, self._reason)

    @property
    def heard(self) -> int:
        """Words from the process so far, whomever they were for."""
        child = self._child
        return 0 if child is None else child.heard

    def call(
        self, request: Mapping[str, object], cancel: Cancel, look: Callable[[int], None] = lambda heard: None
    ) -> Generator[Line, None, None]:
        """As `Child.call`. Raises `EngineRestarting` where there is no child, and will not be at once."""
        with closing(self._running(cancel).call(request, cancel, look)) as lines:
            for line in lines:
                if "end" in line:
                    self._in_vain = 0
                yield line

    def end(self, reason: str) -> None:
        """The child will not go on, and is to be replaced."""
        child = self._child
        if child is not None:
            child.kill(reason)

    def close(self) -> None:
        """May be called twice."""
        self._closed.set()
        with self._lock:
            child = self._child
        if child is not None:
            child.close()
        if self._keeper is not threading.current_thread():
            self._keeper.join()

    def _running(self, cancel: Cancel) -> Child:
        while not cancel.is_set():
            with self._lock:
                child, until, reason = self._child, self._until, self._reason
            if self._closed.is_set():
                raise GenerationFailed(self._name, "its process has ended: it was closed")
            if child is not None and child.running:
                return child
            if until is not None:
                left = max(0.0, until - self._clock())
                raise EngineRestarting(self._name, str(reason), left)
            self._closed.wait(_WAKE_S)
        raise Cancelled

    def _keep(self) -> None:
        """The keeper's thread: waits for an end, and starts again, until the whole is closed."""
        while not self._closed.is_set():
            child = self._child
            if child is not None:
                reason = child.wait()
                if self._closed.is_set():
                    return
                self._ended(reason)
                child.close()
            self._rest()
            if self._closed.is_set():
                return
            try:
                self._again(self._start(self._closed))
            except Exception as error:  # noqa: BLE001 - without a keeper all who ask would wait for ever
                if self._closed.is_set():
                    return
                self._ended(self._told(error))

    def _told(self, error: Exception) -> str:
        if isinstance(error, EngineUnavailable):
            return error.reason
        if isinstance(error, EdgeRouterError):
            return str(error)
        _logger.error("the engine %s cannot be started", self._name, exc_info=error)
        return str(InternalError.of(f"start of the engine {self._name}", error))

    def _ended(self, reason: str) -> None:
        _logger.warning("the engine %s: %s; it is started again", self._name, reason)
        with self._lock:
            self._child, self._reason = None, reason
            self._in_vain += 1

    def _rest(self) -> None:
        pause = 0.0 if self._in_vain < 2 else min(LONGEST_PAUSE_S, 2.0 ** (self._in_vain - 2))
        if not pause:
            return
        with self._lock:
            self._until = self._clock() + pause
        self._pause(self._closed, pause)
        with self._lock:
            self._until = None

    def _again(self, child: Child) -> None:
        _logger.warning("the engine %s runs again", self._name)
        with self._lock:
            self._child, self._count = child, self._count + 1
        if self._closed.is_set():  # meanwhile
            child.close()
