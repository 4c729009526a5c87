"""One answer as its protocol streams it: events to bytes where they are made, bytes to the client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from edge_router.api.async_client import AsyncAnswer, AsyncController
from edge_router.api.thread_stream import HEAD_START_S
from edge_router.control.answer import Answer
from edge_router.defects import Defects
from edge_router.errors import Cancelled, EdgeRouterError, InternalError
from edge_router.server.doors import CallerAccess
from edge_router.server.errors import failure, refusal, unexpected
from edge_router.server.http.exchange import FILLER
from edge_router.server.http.limits import ServerLimits
from edge_router.server.rates import rate_headers
from edge_router.server.reply import decision_headers
from edge_router.server.running import STOPPING, RunningAnswers
from edge_router.surfaces.base import Call, Chatting, Encoder, Failure, Head, SurfaceHost
from edge_router.types import Decision, Reason

Ended = Callable[[str, int | None], None]  # the answer's id, and its row in the ledger


def written(
    answer: Answer, surface: Chatting, call: Call, ended: Ended, defects: Defects, encoders: list[Encoder]
) -> Iterator[bytes | None]:
    """`answer` in its protocol's bytes, to its end or to the words that say why it breaks off.

    None where an event adds nothing. Raises what comes before any of it. `encoders` gets who writes.
    """
    component = f"protocol {surface.name}"
    head, begun = Head.begun(answer.model, answer.decision), False
    encoder = surface.encoder(call, head)
    encoders.append(encoder)
    try:
        with defects.guard(component):
            # A loop over it would end it before its last words.
            while (event := next(answer, None)) is not None:
                data = encoder.feed(event)
                begun = begun or bool(data)
                yield data or None
            ended(head.id, answer.record_id)
            yield encoder.end()
    except Cancelled:
        raise
    except EdgeRouterError as error:
        if not begun:
            raise
        told = failure(error)
        error.__traceback__ = None  # it holds this frame, and would keep what the encoder has gathered
        yield encoder.fail(told)
    finally:
        answer.close()


def afterwards(
    surface: Chatting, call: Call, defects: Defects, host: SurfaceHost
) -> Callable[[], None] | None:
    """What `call` has done once its answer has ended."""
    asked = call.afterwards
    if asked is None:
        return None

    def work() -> None:
        with defects.spare(f"protocol {surface.name}"):
            asked(host)

    return work


_HEADERS = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


class AnswerStream(Response):
    """Streams the answer to `call`. However it ends, nothing goes on generating behind it.

    The headers wait a moment for the decision. Where the answer takes longer to begin, they go without it,
    comments tell that it is still waited for (and how many are `ahead` of it), and one with the decision
    follows. An error then, as in mid-stream, is told in the protocol's own words for one, so that no client
    takes the answer for whole.
    """

    def __init__(
        self,
        controller: AsyncController,
        surface: Chatting,
        call: Call,
        running: RunningAnswers,
        limits: ServerLimits,
        door: CallerAccess,
    ) -> None:
        self.raw_headers = [*_HEADERS, (b"content-type", _content_type(surface.media_type))]
        self._surface, self._call, self._running, self._limits = surface, call, running, limits
        self._defects, self._encoders = controller.controller.defects, list[Encoder]()
        self._answer: AsyncAnswer[bytes] = controller.answer(
            call.request,
            partial(
                written,
                surface=surface,
                call=call,
                ended=door.ratings.ended,
                defects=self._defects,
                encoders=self._encoders,
            ),
            most=limits.unread_bytes,
            weigh=len,
            head_start_s=HEAD_START_S,
            afterwards=afterwards(surface, call, self._defects, door.host),
        )
        self._door, self._ahead = door, partial(controller.controller.ahead, self._answer.cancel_event)

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
            told = decision_headers(self._answer) | rate_headers(self._door.standing, self._surface.name)
            self.raw_headers += [(name.encode(), value.encode("latin-1")) for name, value in told.items()]
        filler = self._surface.comment("")
        if filler:
            scope.setdefault("state", {})[FILLER] = filler
        await _told(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})

    async def _body(self, send: Send, begun: bool) -> bytes:
        """The last words, after all others were sent."""
        try:
            if not begun:
                await self._wait(send)
            while True:
                pieces = await self._answer.take(self._limits.comment_s)
                if self._answer.ended_well:  # the last ones, in most answers all
                    return b"".join(pieces)
                data = b"".join(pieces) or self._surface.comment("still at it")
                if data:
                    await _send(send, data)
        except EdgeRouterError as error:
            return self._broken_off(refusal(503, STOPPING) if self._running.stopping else failure(error))
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - it is noted, and told in the protocol's words
            self._defects.note(InternalError.of("server", error))
            return self._broken_off(unexpected())

    async def _wait(self, send: Send) -> None:
        while True:
            await self._say(send, self._waiting())
            if await self._answer.begun(self._limits.comment_s):
                break
        for name, value in decision_headers(self._answer).items():
            await self._say(send, f"{name}: {value}")

    async def _say(self, send: Send, text: str) -> None:
        comment = self._surface.comment(text)
        if comment:
            await _send(send, comment)

    def _waiting(self) -> str:
        ahead = self._ahead()
        if not ahead:
            return "waiting for the model"
        return f"waiting: {ahead} {'answer is' if ahead == 1 else 'answers are'} before this one"

    def _broken_off(self, told: Failure) -> bytes:
        """Said by who began it, though a thread may write on with that, which nobody is sent any more."""
        decision = Decision("weak", Reason.FORCED)
        encoders = self._encoders or [
            self._surface.encoder(self._call, Head.begun(self._call.request.target, decision))
        ]
        return encoders[0].fail(told)


@cache
def _content_type(media_type: str) -> bytes:
    return (media_type + ("; charset=utf-8" if media_type.startswith("text/") else "")).encode("latin-1")


async def _send(send: Send, data: bytes, *, more: bool = True) -> None:
    await _told(send, {"type": "http.response.body", "body": data, "more_body": more})


async def _told(send: Send, message: Message) -> None:
    try:
        await send(message)
    except OSError as error:  # servers tell of a client that has left in two ways; this is the other one
        raise ClientDisconnect from error
