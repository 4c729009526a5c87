"""Typed questions as a client is answered: in one body, which begins with blanks where it takes long."""

from __future__ import annotations

from dataclasses import replace

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from edge_router.api.async_client import AsyncController
from edge_router.errors import EdgeRouterError, InternalError, UnknownName
from edge_router.questions.result import Answers
from edge_router.server.doors import CallerAccess
from edge_router.server.errors import failure, refusal, unexpected
from edge_router.server.http.exchange import FILLER, BrokenOff
from edge_router.server.http.limits import ServerLimits
from edge_router.server.rates import rate_headers
from edge_router.server.reply import decision_headers, json_bytes
from edge_router.server.running import STOPPING, RunningAnswers
from edge_router.surfaces.base import Failure, Head, QuestionsCall, Surface
from edge_router.surfaces.wire import dumps


class AnsweredQuestions(Response):
    """The answers to `asking`.

    Where they take longer than clients should be left without a word, the headers go ahead and blanks follow,
    which change nothing before JSON. An error then has no status left to be told by: it is written, and the
    reply broken off, so that no client takes it for whole.

    TypeSafe's client for Node (0.6.0) gives a reply ten seconds in all, and where they end behind its headers
    the whole program ends; without them it asks again. So it is left waiting.
    """

    def __init__(
        self,
        controller: AsyncController,
        surface: Surface,
        asking: QuestionsCall,
        running: RunningAnswers,
        limits: ServerLimits,
        door: CallerAccess,
    ) -> None:
        super().__init__(media_type="application/json")
        del self.headers["content-length"]
        self._surface, self._running, self._limits, self._door = surface, running, limits, door
        self._defects = controller.controller.defects
        self._asking = _known(asking, controller)
        self._inquiring = controller.inquiry(self._asking.request)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._running.attended(receive, self._inquiring.cancel) as attention:
            try:
                quiet_s = None if _ends_with_a_late_reply(scope) else self._limits.quiet_s
                ready = await self._inquiring.ready(quiet_s)
                answers = await self._inquiring.answers() if ready else None
            finally:
                attention.check()  # it may have been cancelled for that
            if answers is not None:
                headers = decision_headers(answers) | rate_headers(self._door.standing, self._surface.name)
                await json_bytes(self._written(answers), headers=headers)(scope, receive, send)
            else:
                await self._slowly(scope, send)
            if attention.left:
                raise ClientDisconnect

    async def _slowly(self, scope: Scope, send: Send) -> None:
        blank = self._surface.comment("")
        scope.setdefault("state", {})[FILLER] = blank
        await _told(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            while True:
                await _told(send, {"type": "http.response.body", "body": blank, "more_body": True})
                if await self._inquiring.ready(self._limits.comment_s):
                    break
            last, whole = self._written(await self._inquiring.answers()), True
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - it is noted where nobody meant it, and told
            last, whole = dumps(self._surface.error(self._failed(error))), False
        await _told(send, {"type": "http.response.body", "body": last, "more_body": not whole})
        if not whole:
            raise BrokenOff

    def _written(self, answers: Answers) -> bytes:
        with self._defects.guard(f"protocol {self._surface.name}"):
            head = Head.begun(answers.model, answers.decision)
            self._door.ratings.ended(head.id, answers.record_id)
            return dumps(self._asking.write(head, answers))

    def _failed(self, error: Exception) -> Failure:
        if self._running.stopping:
            return refusal(503, STOPPING)
        if isinstance(error, EdgeRouterError):
            return failure(error)
        self._defects.note(InternalError.of("server", error))
        return unexpected()


def _ends_with_a_late_reply(scope: Scope) -> bool:
    runtime = Headers(scope=scope).get("x-typesafe-runtime", "python")
    return not runtime.lower().startswith("python")


def _known(asking: QuestionsCall, controller: AsyncController) -> QuestionsCall:
    """With the name of a model that is known here."""
    if asking.any_model:
        try:
            controller.controller.check_model(asking.request.target)
        except UnknownName:
            return replace(asking, request=replace(asking.request, target="auto"))
    return asking


async def _told(send: Send, message: Message) -> None:
    try:
        await send(message)
    except OSError as error:  # see `streaming`
        raise ClientDisconnect from error
