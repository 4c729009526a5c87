"""A host that knows the models that it is given, and a surface on a socket with scripted answers."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from edge_router.chat.events import Event
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest
from edge_router.errors import EdgeRouterError, UnknownModel
from edge_router.routers.embedding import Embeddings
from edge_router.server.errors import failure
from edge_router.surfaces.base import Errand, Failure, Head, ModelInfo, Surface
from edge_router.surfaces.wire import dumps
from edge_router.types import Decision, Reason


class ScriptedHost:
    """Its vectors hold a text's length; a model of no dimension makes none."""

    def __init__(self, models: tuple[ModelInfo, ...] = ()) -> None:
        self._models = models
        self.asked: list[tuple[object, ...]] = []

    def models(self) -> tuple[ModelInfo, ...]:
        return self._models

    def model(self, name: str) -> ModelInfo:
        return next(info for info in self._models if info.name == name)

    def count_tokens(self, request: ChatRequest) -> int:
        return len(request.messages)

    def embed(self, texts: tuple[str, ...], model: str, *, truncate: bool = True) -> Embeddings:
        self.asked.append(("embed", model, truncate))
        known = tuple(info.name for info in self._models if info.dimension)
        if model not in known:
            raise UnknownModel(model, known)
        return Embeddings(np.array([[len(text), 0, 0.5] for text in texts], np.float32), sum(map(len, texts)))

    def load(self, model: str) -> None:
        self.asked.append(("load", model))

    def unload(self, model: str) -> None:
        self.asked.append(("unload", model))


@dataclass
class Service:
    """What answers: scripted events, one list after the other, where an error breaks an answer off. It
    remembers requests and headers."""

    surface: Surface
    host: ScriptedHost
    answers: list[Sequence[Event | EdgeRouterError]] = field(default_factory=list)
    requests: list[ChatRequest] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    url: str = ""
    id: str = "1"  # of the next answer

    def reply(
        self, method: str, path: str, headers: Mapping[str, str], body: dict[str, Any]
    ) -> tuple[int, str, bytes]:
        self.headers.append(headers)
        try:
            for query in self.surface.queries:
                fits = re.fullmatch(_pattern(query.path), path)
                if query.method == method and fits and (not query.header or query.header in headers):
                    answer = query.answer({**body, **fits.groupdict()}, self.host)
                    return 200, "application/json", dumps(answer)
            return self._chat(path, body)
        except EdgeRouterError as error:
            told = _failure(error)
            return told.status, "application/json", dumps(self.surface.error(told))

    def _chat(self, path: str, body: dict[str, Any]) -> tuple[int, str, bytes]:
        call = self.surface.parse(path, body)
        if isinstance(call, Errand):
            return 200, "application/json", dumps(call.run(self.host))
        self.requests.append(call.request)
        head = Head(self.id, 0, "small", Decision("weak", Reason.SCORE))
        script = self.answers.pop(0)
        events = [event for event in script if not isinstance(event, EdgeRouterError)]
        if call.afterwards is not None:
            call.afterwards(self.host)
        if not call.stream:
            return 200, "application/json", dumps(self.surface.whole(call, head, collect(events)))
        encoder = self.surface.encoder(call, head)
        data = self.surface.comment("waiting for the model")
        for event in script:
            if isinstance(event, EdgeRouterError):
                return 200, self.surface.media_type, data + encoder.fail(_failure(event))
            data += encoder.feed(event) + self.surface.comment("still at it")
        return 200, self.surface.media_type, data + encoder.end()


def _pattern(path: str) -> str:
    """A regular expression for a path in starlette's form."""
    return re.sub(r"{(\w+)(:path)?}", lambda found: f"(?P<{found[1]}>{'.+' if found[2] else '[^/]+'})", path)


def _failure(error: EdgeRouterError) -> Failure:
    told = failure(error)
    return Failure(told.status, told.message, told.type, told.code, told.param, told.headers)


HostOf = Callable[..., ScriptedHost]
Serve = Callable[..., Service]


@pytest.fixture
def host_of() -> HostOf:
    """`host_of(ModelInfo("weak"), ...)`"""
    return lambda *models: ScriptedHost(models)


@pytest.fixture
def serve_surface() -> Iterator[Serve]:
    """`serve_surface(Ollama(), ModelInfo("weak"), ...)` gives a service that listens at its `url`."""
    with ExitStack() as stack:

        def serve(surface: Surface, *models: ModelInfo) -> Service:
            service = Service(surface, ScriptedHost(models))
            service.url = stack.enter_context(_listening(service))
            return service

        yield serve


@contextmanager
def _listening(service: Service) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            return None

        def do_GET(self) -> None:
            data = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            path = unquote(self.path.partition("?")[0])
            body = json.loads(data) if data else {}
            status, kind, reply = service.reply(self.command, path, headers, body)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        do_POST = do_DELETE = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
