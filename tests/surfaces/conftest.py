"""A host that knows the models that it is given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edge_router.chat.model import ModelInfo
from edge_router.chat.request import ChatRequest
from edge_router.errors import UnknownModel
from edge_router.routing.routers.embedding import EmbeddedTexts


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

    def embed(self, texts: tuple[str, ...], model: str, *, truncate: bool = True) -> EmbeddedTexts:
        self.asked.append(("embed", model, truncate))
        known = tuple(info.name for info in self._models if info.dimension)
        if model not in known:
            raise UnknownModel(model, known)
        return EmbeddedTexts(
            np.array([[len(text), 0, 0.5] for text in texts], np.float32), sum(map(len, texts))
        )

    def load(self, model: str) -> None:
        self.asked.append(("load", model))

    def unload(self, model: str) -> None:
        self.asked.append(("unload", model))


HostOf = Callable[..., ScriptedHost]


@pytest.fixture
def host_of() -> HostOf:
    """`host_of(ModelInfo("weak"), ...)`"""
    return lambda *models: ScriptedHost(models)
