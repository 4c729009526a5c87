"""One answer as server-sent events, in the form that OpenAI's clients read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from edge_router.aio import AsyncAnswer, AsyncChatStream
from edge_router.completions import ChatCompletionChunk
from edge_router.errors import EdgeRouterError
from edge_router.server.errors import failure, refusal, unexpected
from edge_router.server.reply import decision_headers, dumps
from edge_router.server.running import STOPPING, Running, disconnected

Form = Callable[[ChatCompletionChunk], dict[str, object] | None]  # None: nothing to send
Ended = Callable[[str, int | None], None]  # the completion's id, and its row in the ledger
DONE = b"data: [DONE]\n\n"
log = logging.getLogger("edge_router.server")


class EventStream(StreamingResponse):
    """Streams `answer`. However it ends, nothing goes on generating behind it.

    After an error in mid-stream comes an event with an `error` object, and no [DONE]: clients raise it.
    """

    def __init__(
        self, answer: AsyncAnswer, form: Form, running: Running, *, include_usage: bool, ended: Ended
    ) -> None:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no", **decision_headers(answer)}
        super().__init__(
            _events(answer, form, running, include_usage, ended),
            headers=headers,
            media_type="text/event-stream",
        )
        self._answer, self._running = answer, running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Servers tell of a client that has left in two ways; which one, they don't say reliably.
        with self._running.stream(self._answer):
            watch = asyncio.ensure_future(self._watch(receive))
            try:
                await self.stream_response(send)
            except OSError as error:
                raise ClientDisconnect from error
            finally:
                watch.cancel()

    async def _watch(self, receive: Receive) -> None:
        await disconnected(receive)
        self._answer.cancel()


async def _events(
    answer: AsyncAnswer, form: Form, running: Running, include_usage: bool, ended: Ended
) -> AsyncIterator[bytes]:
    completion = ""
    try:
        async for chunk in AsyncChatStream(answer, include_usage=include_usage):
            completion, body = chunk.id, form(chunk)
            if body is not None:
                yield event(body)
        ended(completion, answer.record_id)
        yield DONE
    except EdgeRouterError as error:
        told = refusal(503, STOPPING) if running.stopping else failure(error)
        yield event(told.body())
    except Exception:
        log.exception("streaming an answer failed")
        yield event(unexpected().body())


def event(body: dict[str, object]) -> bytes:
    return b"data: " + dumps(body) + b"\n\n"
