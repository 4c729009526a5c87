"""Ollama's API: /api/chat and /api/generate in lines of JSON, and its questions about models.

An empty conversation loads its model, or with `keep_alive` 0 unloads it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from edge_router.chat.reply import Reply
from edge_router.surfaces.base import Body, Call, Errand, Failure, Head, SurfaceHost
from edge_router.surfaces.ollama import encode
from edge_router.surfaces.ollama.parse import CHAT, GENERATE, NAME, parse
from edge_router.surfaces.ollama.queries import queries


class Ollama:
    """See `surfaces.base.Surface`. `clock`: seconds since 1970."""

    name = NAME
    paths = (CHAT, GENERATE)
    media_type = "application/x-ndjson"

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock, self.queries = clock, queries(clock)

    def parse(self, path: str, body: Mapping[str, object]) -> Call | Errand:
        """A `Call`, or where nothing is said an `Errand` that loads or unloads the model."""
        asked = parse(path, body)
        model, leaves = asked.model, asked.leaves
        if asked.request is None:
            return Errand(lambda host: self._loaded(host, path, model, unload=leaves))
        options = {"path": path, "began": self._clock()}
        afterwards = (lambda host: host.unload(model)) if leaves else None
        return Call(asked.request, asked.stream, options, afterwards)

    def encoder(self, call: Call, head: Head) -> encode.OllamaEncoder:
        return encode.OllamaEncoder(call, head, self._clock)

    def whole(self, call: Call, head: Head, reply: Reply) -> Body:
        return encode.whole(call, head, reply, self._clock())

    def error(self, failure: Failure) -> Body:
        return encode.error_body(failure)

    def comment(self, text: str) -> bytes:
        """Nothing: there is none that its clients skip."""
        return b""

    def _loaded(self, host: SurfaceHost, path: str, model: str, *, unload: bool) -> Body:
        (host.unload if unload else host.load)(model)
        body = {**encode.opening(model, self._clock()), **encode.said(path, {"content": ""})}
        return body | {"done": True, "done_reason": "unload" if unload else "load"}
