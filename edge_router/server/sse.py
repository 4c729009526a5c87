"""One answer as server-sent events, in the form that OpenAI's clients read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from edge_router.aio import AsyncAnswer
from edge_router.answer import Answer
from edge_router.completions import ChatCompletionChunk, ChunkMaker
from edge_router.errors import EdgeRouterError
from edge_router.server.connection import FILLER
from edge_router.server.errors import Failure, failure, refusal, unexpected
from edge_router.server.limits import Limits
from edge_router.server.reply import decision_headers
from edge_router.server.running import STOPPING, Running
from edge_router.surfaces.wire import dumps

Form = Callable[[ChatCompletionChunk], dict[str, object] | None]  # None: nothing to send
Ended = Callable[[str, int | None], None]  # the completion's id, and its row in the ledger
DONE = b"data: [DONE]\n\n"
log = logging.getLogger("edge_router.server")


def events(answer: Answer, form: Form, *, include_usage: bool, ended: Ended) -> Iterator[bytes]:
    """An answer's events, made in the answer's thread."""
    maker = ChunkMaker(answer.model)
    for each in answer:
        data = b"".join(event(body) for chunk in maker.chunks(each) if (body := form(chunk)) is not None)
        if data:
            yield data
    if include_usage:
        body = form(maker.usage_chunk())
        if body is not None:
            yield event(body)
    ended(maker.id, answer.record_id)
    yield DONE


class EventStream(Response):
    """Streams `answer`, whose items are events. However it ends, nothing goes on generating behind it.

    The headers wait a moment for the decision. Where the answer takes longer to begin, they go without it,
    comments tell that it is still waited for (and how many are `ahead` of it), and one with the decision
    follows. An error then, as in mid-stream, is an event with an `error` object, and no [DONE]: clients raise
    it.
    """

    def __init__(
        self,
        answer: AsyncAnswer[bytes],
        running: Running,
        limits: Limits,
        ahead: Callable[[], int | None] = lambda: None,
    ) -> None:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(headers=headers, media_type="text/event-stream")
        del self.headers["content-length"]
        self._answer, self._running, self._limits, self._ahead = answer, running, limits, ahead

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._running.attended(receive, self._answer.cancel) as attention:
            try:
                begun = await self._answer.begun(self._limits.hold_s)
            finally:
                attention.check()  # it may have been cancelled for that
            await self._start(scope, send, begun)
            last = await self._body(send, begun)
            await _send(send, last, more=False)
            if attention.left:
                raise ClientDisconnect

    async def _start(self, scope: Scope, send: Send, begun: bool) -> None:
        if begun:
            self.headers.update(decision_headers(self._answer))
        scope.setdefault("state", {})[FILLER] = comment()
        await _told(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})

    async def _body(self, send: Send, begun: bool) -> bytes:
        """The last event, after all others were sent."""
        try:
            if not begun:
                await self._wait(send)
            while True:
                pieces = await self._answer.take(self._limits.comment_s)
                if not pieces and self._answer.ended:
                    return b""
                await _send(send, b"".join(pieces) or comment("still at it"))
        except EdgeRouterError as error:
            return event(self._failure(error).body())
        except ClientDisconnect:
            raise
        except Exception:
            log.exception("streaming an answer failed")
            return event(unexpected().body())

    async def _wait(self, send: Send) -> None:
        while True:
            await _send(send, comment(self._waiting()))
            if await self._answer.begun(self._limits.comment_s):
                break
        await _send(send, decision_comment(decision_headers(self._answer)))

    def _waiting(self) -> str:
        ahead = self._ahead()
        if not ahead:
            return "waiting for the model"
        return f"waiting: {ahead} {'answer is' if ahead == 1 else 'answers are'} before this one"

    def _failure(self, error: EdgeRouterError) -> Failure:
        return refusal(503, STOPPING) if self._running.stopping else failure(error)


async def _send(send: Send, data: bytes, *, more: bool = True) -> None:
    await _told(send, {"type": "http.response.body", "body": data, "more_body": more})


async def _told(send: Send, message: Message) -> None:
    try:
        await send(message)
    except OSError as error:  # servers tell of a client that has left in two ways; this is the other one
        raise ClientDisconnect from error


def event(body: Mapping[str, object]) -> bytes:
    return b"data: " + dumps(body) + b"\n\n"


def comment(text: str = "") -> bytes:
    """What no client takes for a part of the answer. `text` is ours, in one line."""
    return b": " + text.encode("ascii") + b"\n\n"


def decision_comment(headers: Mapping[str, str]) -> bytes:
    """What would have stood in the headers, spelled as there, a line each."""
    return b"".join(f": {name}: {value}\n".encode("ascii") for name, value in headers.items()) + b"\n"
