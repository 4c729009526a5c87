"""The one door through which a request leaves this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from edge_router.chat.events import Event
from edge_router.chat.request import ChatRequest, JsonOutput
from edge_router.control.egress import Egress
from edge_router.engines.base import Capabilities, EndpointState, Engine, Gathering, Prompt, turned
from edge_router.errors import StrongError
from edge_router.guard.restoring import Restorer
from edge_router.types import Cancel

T = TypeVar("T")


class GuardedEngine:
    """A strong model that gets what is released, and whose answers have again what was hidden from it."""

    def __init__(self, engine: Engine, egress: Egress) -> None:
        self._engine, self._egress = engine, egress

    @property
    def model_id(self) -> str:
        return self._engine.model_id

    @property
    def capabilities(self) -> Capabilities:
        return self._engine.capabilities

    @property
    def endpoints(self) -> tuple[EndpointState, ...]:
        """None where it has only one."""
        return self._engine.endpoints if isinstance(self._engine, Gathering) else ()

    def prepare(self, request: ChatRequest) -> Prompt:
        """Nothing yet: what leaves is looked through as it leaves."""
        return Prompt(request)

    def stream(self, prompt: Prompt, cancel: Cancel) -> Iterator[Event]:
        """Raises `Withheld`, and what the engine itself raises."""
        request, restorer = self._released(prompt.request)
        return turned(self._engine.stream(self._engine.prepare(request), cancel), restorer.feed)

    def through(self, request: ChatRequest, ask: Callable[[Engine, ChatRequest], Iterator[T]]) -> Iterator[T]:
        """What `ask` gets of the engine with what may leave of `request`. Nothing is put back into it.

        Raises `Withheld`, and what `ask` raises.
        """
        return ask(self._engine, self._released(request)[0])

    def _released(self, request: ChatRequest) -> tuple[ChatRequest, Restorer]:
        if request.private:
            raise StrongError(self.model_id, "the request is private and must not leave this machine")
        released, vault = self._egress.released(request)
        return released, Restorer(vault.values, json_text=isinstance(request.output, JsonOutput))

    def close(self) -> None:
        self._engine.close()
