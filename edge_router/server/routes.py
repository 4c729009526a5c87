"""What the server answers. Each handler parses, calls the controller and gives its reply OpenAI's form."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge_router.aio import AsyncController
from edge_router.answer import Answer
from edge_router.completions import ChatCompletion, ChatCompletionChunk
from edge_router.errors import Cancelled
from edge_router.server.body import read
from edge_router.server.limits import Limits
from edge_router.server.ratings import Ratings, parse_thumb
from edge_router.server.reply import decision_headers, json_bytes, json_reply
from edge_router.server.running import Running
from edge_router.server.sse import EventStream, events
from edge_router.surface import whole
from edge_router.surfaces.base import Call
from edge_router.surfaces.openai_parsing import INCLUDE_USAGE, marked, parse_chat, parse_completion
from edge_router.surfaces.wire import dumps

Body = dict[str, object]
PROMETHEUS = "text/plain; version=0.0.4"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One of OpenAI's two forms of asking and answering."""

    parse: Callable[[Mapping[str, object]], Call]
    whole: Callable[[ChatCompletion], Body]
    piece: Callable[[ChatCompletionChunk, bool], Body | None]


def _text_piece(chunk: ChatCompletionChunk, include_usage: bool) -> Body | None:
    """/v1/completions has no roles, so no chunk that brings only one."""
    if chunk.choices and chunk.choices[0].delta.role is not None and not chunk.choices[0].delta.content:
        return None
    return chunk.to_text_dict(include_usage=include_usage)


CHAT = Dialect(
    parse_chat,
    ChatCompletion.to_dict,
    lambda chunk, include_usage: chunk.to_dict(include_usage=include_usage),
)
TEXT = Dialect(parse_completion, ChatCompletion.to_text_dict, _text_piece)


class Api:
    """The handlers, over one controller."""

    def __init__(self, controller: AsyncController, running: Running, limits: Limits) -> None:
        self._controller, self._running, self._limits = controller, running, limits
        self._ratings = Ratings(controller.controller)
        self._created = int(time.time())

    def routes(self) -> list[Route]:
        return [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.text, methods=["POST"]),
            Route("/v1/ratings", self.rate, methods=["POST"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/models/{model:path}", self.model, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
        ]

    async def chat(self, request: Request) -> Response:
        return await self._answer(request, CHAT)

    async def text(self, request: Request) -> Response:
        return await self._answer(request, TEXT)

    async def rate(self, request: Request) -> Response:
        thumb = await read(request, parse_thumb, self._running)
        return json_reply(await run_in_threadpool(self._ratings.rate, thumb))

    async def models(self, request: Request) -> Response:
        names = dict.fromkeys(self._controller.controller.model_names())  # the two models may share a name
        return json_reply({"object": "list", "data": [self._model(name) for name in names]})

    async def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        self._controller.controller.check_model(name)
        return json_reply(self._model(name))

    async def health(self, request: Request) -> Response:
        return json_reply({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        return Response(self._controller.controller.metrics.render(), media_type=PROMETHEUS)

    async def _answer(self, request: Request, dialect: Dialect) -> Response:
        call = await read(request, dialect.parse, self._running)
        call = marked(call, request.headers.items(), request.query_params.multi_items())
        return self._stream(call, dialect) if call.stream else await self._whole(request, call, dialect)

    def _stream(self, call: Call, dialect: Dialect) -> Response:
        usage, ended = bool(call.options[INCLUDE_USAGE]), self._ratings.ended

        def pieces(answer: Answer) -> Iterator[bytes]:
            return events(answer, lambda chunk: dialect.piece(chunk, usage), include_usage=usage, ended=ended)

        answer = self._controller.answer(call.request, pieces, most=self._limits.unread_bytes, weigh=len)
        ahead = partial(self._controller.controller.ahead, answer.cancel_event)
        return EventStream(answer, self._running, self._limits, ahead)

    async def _whole(self, request: Request, call: Call, dialect: Dialect) -> Response:
        def reply(answer: Answer) -> Iterator[tuple[bytes, dict[str, str]]]:
            completion = whole(answer)
            self._ratings.ended(completion.id, answer.record_id)
            yield dumps(dialect.whole(completion)), decision_headers(answer)

        answer = self._controller.answer(call.request, reply)
        async with self._running.attended(request.receive, answer.cancel) as attention:
            try:
                ((body, headers),) = await answer.take()
            except Cancelled:
                attention.check()
                raise
        return json_bytes(body, headers=headers)

    def _model(self, name: str) -> Body:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "edge_router"}
