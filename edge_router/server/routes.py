"""What the server answers: chats and questions of every protocol, and what is about the server itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import cast

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edge_router.api.async_client import AsyncController
from edge_router.chat.reply import gathered
from edge_router.control.answer import Answer
from edge_router.engines.base import Restarts
from edge_router.errors import Cancelled
from edge_router.records import changed
from edge_router.response_cache.wish import stricter, wish_of
from edge_router.server.asking import AnsweredQuestions
from edge_router.server.doors import CallerAccess, Doors
from edge_router.server.http.body import read
from edge_router.server.http.limits import ServerLimits
from edge_router.server.protocols import Protocols
from edge_router.server.rates import rate_headers
from edge_router.server.ratings import parse_thumb
from edge_router.server.reply import decision_headers, json_bytes, json_reply
from edge_router.server.running import RunningAnswers
from edge_router.server.streaming import AnswerStream, afterwards
from edge_router.surfaces.base import Call, Chatting, Errand, Head, QuestionsCall
from edge_router.surfaces.openai.parse import marked
from edge_router.surfaces.openai.surface import OpenAIChat
from edge_router.surfaces.wire import dumps

SESSION = "x-edge-router-session"  # what a client calls the conversation
PROMETHEUS = "text/plain; version=0.0.4"
Handler = Callable[[Request], Awaitable[Response]]


class Api:
    """The handlers, over one controller."""

    def __init__(
        self,
        controller: AsyncController,
        running: RunningAnswers,
        limits: ServerLimits,
        protocols: Protocols,
        doors: Doors,
    ) -> None:
        self._controller, self._running, self._limits = controller, running, limits
        self._protocols, self._doors = protocols, doors
        self._defects = controller.controller.defects

    def routes(self) -> list[Route]:
        own: dict[str, dict[str, Handler]] = {
            "/v1/ratings": {"POST": self.rate},
            "/health": {"GET": self.health},
            "/metrics": {"GET": self.metrics},
        }
        # One route after another is looked at: chats come first, and of them what most clients speak.
        chats = sorted(self._protocols.chats, key=lambda path: path not in OpenAIChat.paths)
        handlers: dict[str, dict[str, Handler]] = {
            path: {**own.pop(path, {}), "POST": partial(self.chat, path)} for path in chats
        }
        handlers |= own
        for path, asked in self._protocols.queries.items():
            for method in dict.fromkeys(query.method for query in asked):
                handlers.setdefault(path, {})[method] = partial(self.query, path, method)
        return [
            Route(path, _Endpoint(of_path), methods=list(of_path))
            for path, of_path in sorted(handlers.items(), key=lambda item: "{" in item[0])
        ]

    async def chat(self, path: str, request: Request) -> Response:
        door = self._doors.of(request.scope)
        surface = door.protocols.chats[path]
        component = f"protocol {surface.name}"
        parse = self._defects.guarded(component, partial(surface.parse, request.scope["path"]))
        # `TakesFiles`, and `Chatting` below, without the 10 us that `isinstance` takes for a protocol
        files_beside: str | None = getattr(surface, "files_beside", None)
        call = await read(request, parse, self._running, files_beside=files_beside)
        if isinstance(call, Errand):
            run = self._defects.guarded(component, call.run)
            return json_reply(await run_in_threadpool(run, door.host))
        headers, items = request.headers, request.headers.items()
        query = request.query_params.multi_items() if request.scope["query_string"] else ()
        call = marked(call, items, query)
        told = changed(
            call.request,
            caller=door.caller,
            program=headers.get("user-agent"),
            session=headers.get(SESSION) or None,
            response_cache=stricter(call.request.response_cache, wish_of(items)),
        )
        call = changed(call, request=told)
        if isinstance(call, QuestionsCall):
            return AnsweredQuestions(self._controller, surface, call, self._running, self._limits, door)
        chatting = cast(Chatting, surface)  # who parses chats
        if call.stream:
            door.callers.check(told)  # while there still is a status to say no with
            return AnswerStream(self._controller, chatting, call, self._running, self._limits, door)
        return await self._whole(chatting, call, request, door)

    async def query(self, path: str, method: str, request: Request) -> Response:
        """Of those there the first whose header is there, or the one that asks for none."""
        door = self._doors.of(request.scope)
        meant = [query for query in door.protocols.queries[path] if query.method == method]
        chosen = [query for query in meant if query.header and query.header in request.headers]
        chosen += [query for query in meant if query.header is None]
        if not chosen:
            raise HTTPException(404)
        named = request.path_params
        if request.method == "POST":
            body = await read(request, lambda body: {**body, **named}, self._running)
        else:
            body = {**request.query_params, **named}
        answer = self._defects.guarded(f"protocol at {chosen[0].path}", chosen[0].answer)
        return json_reply(await run_in_threadpool(answer, body, door.host))

    async def rate(self, request: Request) -> Response:
        thumb = await read(request, parse_thumb, self._running)
        return json_reply(await run_in_threadpool(self._doors.of(request.scope).ratings.rate, thumb))

    async def health(self, request: Request) -> Response:
        """Anyone may ask, so nothing is said of why."""
        told: dict[str, object] = {"status": "ok"}
        restarts = self._controller.controller.weak_restarts
        if restarts is not None and restarts != Restarts("running"):
            told["status"] = "ok" if restarts.state == "running" else "degraded"
            told["weak_model"] = {"state": restarts.state, "restarts": restarts.count}
        if endpoints := self._controller.controller.endpoints:
            told["endpoints"] = {each.name: each.state for each in endpoints}
            if all(each.state == "failing" for each in endpoints):
                told["status"] = "degraded"
        return json_reply(told)

    async def metrics(self, request: Request) -> Response:
        if self._doors.of(request.scope).caller is not None:
            raise HTTPException(403, "The metrics tell of all callers. Ask with the server's own key.")
        return Response(self._controller.controller.metrics.render(), media_type=PROMETHEUS)

    async def _whole(self, surface: Chatting, call: Call, request: Request, door: CallerAccess) -> Response:
        component = f"protocol {surface.name}"

        def reply(answer: Answer) -> Iterator[tuple[bytes, dict[str, str]] | None]:
            with self._defects.guard(component):
                head, whole = Head.begun(answer.model, answer.decision), None
                for whole in gathered(answer):
                    if whole is None:
                        yield None
                assert whole is not None
                door.ratings.ended(head.id, answer.record_id)
                yield dumps(surface.whole(call, head, whole)), decision_headers(answer)

        answer = self._controller.answer(
            call.request, reply, afterwards=afterwards(surface, call, self._defects, door.host)
        )
        async with self._running.attended(request.receive, answer.cancel) as attention:
            try:
                ((body, headers),) = await answer.take()
                await answer.take()  # its end, and what is to be done then
            except Cancelled:
                attention.check()
                raise
        return json_bytes(body, headers={**headers, **rate_headers(door.standing, surface.name)})


class _Endpoint:
    """An app, since Starlette would wrap a function once more in what it does about errors."""

    def __init__(self, handlers: dict[str, Handler]) -> None:
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method == "HEAD" and method not in self._handlers:
            method = "GET"
        response = await self._handlers[method](Request(scope, receive, send))
        await response(scope, receive, send)
