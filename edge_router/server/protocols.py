"""The protocols that one server speaks: which of them a request belongs to, and errors in its words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import takewhile

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from edge_router import plugins
from edge_router.errors import DuplicateName
from edge_router.server.reply import json_reply
from edge_router.surfaces import surfaces
from edge_router.surfaces.base import Failure, Restating, Surface, SurfaceQuery
from edge_router.surfaces.openai.surface import OpenAIChat

REQUEST_ID = "edge_router.request_id"  # of a scope: by which the log names what the client was answered
# Where OpenAI's, Anthropic's and TypeSafe's clients look for it.
ID_HEADERS = ("x-request-id", "request-id", "x-typesafe-request-id")


class Protocols:
    """Those of this package and of others. Raises `DuplicateName` for two that take chats at one path."""

    def __init__(
        self, spoken: Sequence[Surface], makers: Sequence[Callable[[], Surface]] | None = None
    ) -> None:
        """`makers` make the same anew; their classes, where None."""
        self._makers = tuple(map(type, spoken)) if makers is None else tuple(makers)
        self._default = OpenAIChat()  # where a path says nothing
        self.all = tuple(spoken)
        self.chats: dict[str, Surface] = {}
        self.queries: dict[str, list[SurfaceQuery]] = {}
        for surface in self.all:
            for path in surface.paths:
                if path in self.chats:
                    raise DuplicateName("path", path, (self.chats[path].name, surface.name))
                self.chats[path] = surface
            for query in surface.queries:
                self.queries.setdefault(query.path, []).append(query)

    @classmethod
    def installed(cls) -> Protocols:
        """Raises `PluginFailed`, `DuplicateName`."""
        registry = plugins.extend(surfaces(), plugins.SURFACES)
        makers = [registry.get(name) for name in registry]
        return cls([make() for make in makers], makers)

    def anew(self) -> Protocols:
        """The same, with nothing kept in them."""
        return Protocols([make() for make in self._makers], self._makers)

    def failed(self, scope: Scope, failure: Failure) -> Response:
        ids = {name: scope[REQUEST_ID] for name in ID_HEADERS if REQUEST_ID in scope}
        failure = replace(failure, headers={**failure.headers, **ids})
        surface = self.of(scope)
        status = surface.status(failure) if isinstance(surface, Restating) else failure.status
        return json_reply(surface.error(failure), status, failure.headers)

    def of(self, scope: Scope) -> Surface:
        """The one whose paths have most in common with that of a request, from the start."""
        path, headers = scope["path"], Headers(scope=scope)

        def common(surface: Surface) -> tuple[int, bool]:
            named = any(query.header in headers for query in surface.queries if query.header)
            asked = [query.path for query in surface.queries if named or not query.header]
            return max(_common(path, known) for known in (*surface.paths, *asked)), named

        return max((self._default, *self.all), key=common)


def _common(path: str, known: str) -> int:
    """Segments at the start of both; one in braces is any."""
    pairs = zip(path.strip("/").split("/"), known.strip("/").split("/"), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1] or pair[1].startswith("{"), pairs))
