"""A controller as one caller of the server sees it: his models, within his limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_router.callers.allowed import AUTO, ROUTED, WEAK
from edge_router.callers.register import Callers
from edge_router.chat.model import ModelInfo
from edge_router.chat.request import ChatRequest
from edge_router.control.controller import CoreController
from edge_router.routing.thresholds.metering import BYTES_PER_TOKEN

if TYPE_CHECKING:
    from edge_router.routing.routers.embedding import EmbeddedTexts


class CallerView:
    """See `surfaces.base.Host`. Raises `ModelNotAllowed`, `CallerLimited` beside what the controller does."""

    def __init__(self, controller: CoreController, caller: str) -> None:
        self._controller, self._caller = controller, caller
        self._callers: Callers = controller.callers

    def models(self) -> tuple[ModelInfo, ...]:
        listed = self._controller.models()
        permitted = (info for info in listed if self._callers.permits(self._caller, info.name))
        if not self._callers.allowed(self._caller).stays:
            return tuple(permitted)
        weak = next(
            info for info in listed if info.name == WEAK
        )  # whose answers are all that `auto` can bring
        return tuple(
            replace(weak, name=info.name, own=info.own) if info.name.startswith((AUTO, ROUTED)) else info
            for info in permitted
        )

    def model(self, name: str) -> ModelInfo:
        self._callers.check_model(self._caller, name)
        return self._controller.model(name)

    def count_tokens(self, request: ChatRequest) -> int:
        self._callers.count(self._caller, 0)
        return self._controller.count_tokens(request)

    def embed(self, texts: Sequence[str], model: str, *, truncate: bool = True) -> EmbeddedTexts:
        self._callers.check_model(self._caller, model)
        size = sum(len(text.encode("utf-8", "replace")) for text in texts)
        self._callers.count(self._caller, size // BYTES_PER_TOKEN)
        return self._controller.embed(texts, model, truncate=truncate)

    def load(self, model: str) -> None:
        self._callers.check_model(self._caller, model)
        self._controller.load(model)

    def unload(self, model: str) -> None:
        """Nothing: others may be waiting for it, and its memory is for the owner to give back."""
        self._callers.check_model(self._caller, model)
