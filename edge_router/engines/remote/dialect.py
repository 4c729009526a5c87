"""How one kind of endpoint is asked, and what it answers in terms of OpenAI's chunks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from edge_router.chat.request import ChatRequest
from edge_router.engines.remote.request import request_body
from edge_router.engines.remote.terms import Terms
from edge_router.records import dataclass


class Dialect(Protocol):
    """The rest is the same for all: connections, retries, deadlines, bounds, what is read of a chunk."""

    @property
    def by_line(self) -> bool:
        """Whether an answer is a JSON object in each line, rather than server-sent events."""
        ...

    def body(self, request: ChatRequest, model: str, terms: Terms) -> dict[str, object]:
        """The JSON of a streaming request, on the `terms` of the endpoint."""
        ...

    def path(self, body: Mapping[str, object]) -> str:
        """Where it is sent, below the endpoint's address."""
        ...

    def chunk(self, piece: Mapping[str, Any]) -> Mapping[str, Any]:
        """One object of the answer, as OpenAI's would be."""
        ...


@dataclass(frozen=True, slots=True)
class OpenAIDialect:
    """`newer`: see `request_body`."""

    newer: bool = False

    @property
    def by_line(self) -> bool:
        return False

    def body(self, request: ChatRequest, model: str, terms: Terms) -> dict[str, object]:
        return request_body(request, model, terms, newer=self.newer)

    def path(self, body: Mapping[str, object]) -> str:
        return "/completions" if "prompt" in body else "/chat/completions"

    def chunk(self, piece: Mapping[str, Any]) -> Mapping[str, Any]:
        return piece
