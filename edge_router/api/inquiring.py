"""Typed questions for asyncio: answered in a thread that nobody has to hold for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator

from edge_router.api.idle_threads import IdleThreads
from edge_router.api.thread_stream import ThreadStream
from edge_router.chat.request import ChatRequest
from edge_router.control.steps import Pause
from edge_router.errors import Cancelled
from edge_router.questions.result import Answers
from edge_router.types import Cancel


class Inquiring:
    """Typed questions under way; nobody has to wait for them in a thread of his own."""

    def __init__(
        self,
        answering: Callable[[ChatRequest, Cancel], Generator[Pause, None, Answers]],
        request: ChatRequest,
        threads: IdleThreads,
    ) -> None:
        cancel = self.cancel_event = threading.Event()

        def work() -> Iterator[Answers | Pause | None]:
            yield (yield from answering(request, cancel))

        self._stream = ThreadStream(work, cancel=cancel, threads=threads)

    def __del__(self) -> None:
        if hasattr(self, "_stream"):
            self._stream.drop()

    async def ready(self, wait_s: float | None = None) -> bool:
        """Whether `answers` has no need to wait, after waiting up to `wait_s`."""
        return await self._stream.ready(wait_s)

    async def answers(self) -> Answers:
        """Once. Raises what kept all models from answering."""
        found = await self._stream.take()
        if not found:
            raise Cancelled
        return found[0]

    def cancel(self) -> None:
        """End it, from any thread."""
        self._stream.close()
