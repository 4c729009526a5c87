"""One answer, made in a thread of its own.

The main thread only waits, in short naps, so Ctrl-C is heard at once on every platform, whatever the engine
is blocked in; the engine is then asked to stop and never interrupted in the midst of its bookkeeping.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Protocol

from edge_router.chat.events import Event
from edge_router.chat.request import ChatRequest
from edge_router.control.answer import Answer
from edge_router.types import Cancel

_NAP_S = 0.1
PATIENCE_S = 2.0  # for an engine to notice that it should stop


class Starts(Protocol):
    def start(self, request: ChatRequest, cancel: Cancel | None = None) -> Answer: ...


class Turn:
    """`answer` waits for the first event, iteration gives all; both raise what the controller raises."""

    def __init__(self, controller: Starts, request: ChatRequest, cancel: Cancel | None = None) -> None:
        self._controller, self._request = controller, request
        self._cancel = cancel or threading.Event()
        self._came: queue.SimpleQueue[Answer | Event | Exception | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="edge_router-answer", daemon=True)
        self._thread.start()

    def answer(self) -> Answer:
        first = self._next()
        assert isinstance(first, Answer)
        return first

    def __iter__(self) -> Iterator[Event]:
        while (item := self._next()) is not None:
            assert not isinstance(item, Answer)
            yield item

    def stop(self) -> None:
        """Ask the engine to stop, and give it a moment. One that takes longer ends by itself, unheard."""
        self._cancel.set()
        self._thread.join(PATIENCE_S)

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def _next(self) -> Answer | Event | None:
        while True:
            try:
                item = self._came.get(timeout=_NAP_S)
            except queue.Empty:
                continue
            if isinstance(item, Exception):
                raise item
            return item

    def _run(self) -> None:
        try:
            answer = self._controller.start(self._request, self._cancel)
            self._came.put(answer)
            for event in answer:
                self._came.put(event)
            self._came.put(None)
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            self._came.put(error)
