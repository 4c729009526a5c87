"""A mistake in a protocol, ours or a package's, asks nobody else, is told, logged once per cause and counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from edge_router.chat.events import Event
from edge_router.chat.message import Message
from edge_router.chat.reply import Reply
from edge_router.chat.request import ChatRequest
from edge_router.server.protocols import Protocols
from edge_router.surfaces.base import Body, Call, Errand, Failure, Head, SurfaceQuery

ASKED = {"say": "a hard question about my diary"}


class Shaky:
    """Makes a mistake in one of its methods."""

    name, paths, media_type = "shaky", ("/shake",), "text/plain"

    def __init__(self, where: str) -> None:
        self.where = where
        self.queries = (SurfaceQuery("POST", "/shake/it", lambda body, host: self._came("query", {})),)

    def _came(self, where: str, value: Any) -> Any:
        if where == self.where:
            raise KeyError("my diary")
        return value

    def parse(self, path: str, body: Mapping[str, object]) -> Call | Errand:
        request = ChatRequest(self._came("parse", (Message("user", str(body["say"])),)))
        if body.get("errand"):
            return Errand(lambda host: self._came("errand", {}))
        return Call(request, bool(body.get("stream")), afterwards=lambda host: self._came("afterwards", None))

    def encoder(self, call: Call, head: Head) -> Shaky:
        return self._came("encoder", self)

    def feed(self, event: Event) -> bytes:
        return self._came("feed", b".")

    def end(self) -> bytes:
        return self._came("end", b"!")

    def fail(self, failure: Failure) -> bytes:
        return b"?" + str(failure.code).encode()

    def whole(self, call: Call, head: Head, reply: Reply) -> Body:
        return self._came("whole", {"said": reply.text})

    def error(self, failure: Failure) -> Body:
        return {"oh": failure.code}

    def comment(self, text: str) -> bytes:
        return b""


# Where it is made, what is asked, how often the strong model is, and what the client sees of it.
CASES: tuple[tuple[str, str, dict[str, Any], int, tuple[int, bytes]], ...] = (
    ("parse", "/shake", {}, 0, (500, b'{"oh":"internal_error"}')),
    ("parse", "/shake", {"stream": True}, 0, (500, b'{"oh":"internal_error"}')),
    ("errand", "/shake", {"errand": True}, 0, (500, b'{"oh":"internal_error"}')),
    ("query", "/shake/it", {}, 0, (500, b'{"oh":"internal_error"}')),
    ("whole", "/shake", {}, 1, (500, b'{"oh":"internal_error"}')),
    ("feed", "/shake", {"stream": True}, 1, (500, b'{"oh":"internal_error"}')),
    ("end", "/shake", {"stream": True}, 1, (200, b".........?internal_error")),
    ("afterwards", "/shake", {}, 1, (200, b'{"said":"You said: a hard question about my diary"}')),
    ("afterwards", "/shake", {"stream": True}, 1, (200, b".........!")),
)


def test_a_mistake_of_a_protocol_is_told_logged_once_and_counted(
    setup: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    for where, path, fields, asked, seen in CASES:
        caplog.clear()
        one = setup(protocols=Protocols([Shaky(where)]))
        controller = one.controller()
        one.controller = lambda controller=controller: controller
        app = one.app()
        for _ in range(2):
            reply = one.call(body={**ASKED, **fields}, path=path, app=app)
            assert (reply.status, reply.body) == seen, (where, fields, reply.body)
        assert (len(one.weak.calls), len(one.strong.calls)) == (0, 2 * asked), (where, fields)
        logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert len(logged) == 1 and "Traceback" in logged[0].getMessage(), (where, fields, logged)
        counted = [line for line in controller.metrics.render().splitlines() if "defects_total{" in line]
        assert len(counted) == 1 and counted[0].endswith(" 2"), (where, fields, counted)
        assert 'error="KeyError"' in counted[0] and "protocol" in counted[0], (where, fields, counted)
