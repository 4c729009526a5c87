"""RouteLLM's controller, over ours: the same arguments, names and methods."""

from __future__ import annotations

import logging
import os
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_router.api.async_client import AsyncController
from edge_router.api.client import Controller as OurController
from edge_router.catalog import find_model
from edge_router.config.settings import Config
from edge_router.engines.remote.engine import OpenAIEngine
from edge_router.engines.remote.keys import Key
from edge_router.errors import EdgeRouterError, InvalidInput, InvalidRequest, UnknownName
from edge_router.records import dataclass
from edge_router.routellm.model_names import settings
from edge_router.types import Decision

if TYPE_CHECKING:
    from typing import Self

    from edge_router.routing.routers.base import Router

RoutingError = InvalidInput  # what is raised for a router or a threshold that is none
_UNUSED = "RouteLLM's checkpoints are not used: the routers here bring their own (%s)"


@dataclass(frozen=True, slots=True)
class ModelPair:
    """As they were named."""

    strong: str
    weak: str


class Controller:
    """`config` is of RouteLLM's checkpoints, of which none is needed; nor is a `progress_bar`. `api_base` is
    for both models, `api_key` the strong one's. `controller` replaces what the names stand for.

    `model_counts[router][model]` counts the answers by the model that gave them. Raises `RoutingError`.
    """

    def __init__(
        self,
        routers: Sequence[str],
        strong_model: str,
        weak_model: str,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        api_base: str | None = None,
        api_key: str | None = None,
        progress_bar: bool = False,
        *,
        controller: OurController | None = None,
    ) -> None:
        if not routers:
            raise InvalidRequest("routers", "must name one router at least")
        if config:
            logging.getLogger(__name__).warning(_UNUSED, ", ".join(config))
        self.model_pair = ModelPair(strong_model, weak_model)
        self.api_base, self.api_key = api_base, api_key
        self.model_counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._counting = threading.Lock()
        self.controller = controller or self._made(routers[0])
        self.routers: dict[str, Router] = {name: self.controller.router(name) for name in routers}
        self._async = AsyncController(self.controller)
        self.chat = _Chat(_Completions(self))

    def _made(self, router: str) -> OurController:
        pair, key = self.model_pair, self.api_key
        named = settings(pair.strong, pair.weak, self.api_base, environ=os.environ, is_known=_is_known)
        config = Config.load().replace(**{**named, "router.name": router})
        if key is None:
            return OurController(config)
        held = Key(key, "api_key")
        strong = OpenAIEngine(config.strong, offline=config.offline, keys=lambda _: held)
        return OurController(config, strong=strong)

    def completion(self, *, router: str | None = None, threshold: float | None = None, **fields: Any) -> Any:
        """An answer, or with `stream=True` its chunks, in OpenAI's form, by model="router-mf-0.116" or by
        `router` and `threshold`."""
        fields["model"] = self._target(fields.get("model"), router, threshold)
        made = self.controller.chat.completions.create(**fields)
        self._count(made.decision)
        return made

    async def acompletion(
        self, *, router: str | None = None, threshold: float | None = None, **fields: Any
    ) -> Any:
        """`completion` for asyncio."""
        fields["model"] = self._target(fields.get("model"), router, threshold)
        made = await self._async.chat.completions.create(**fields)
        self._count(made.decision)
        return made

    def route(self, prompt: str, router: str, threshold: float) -> str:
        """The name of the model that `prompt` would go to, as it was given; nothing is asked."""
        model = self._target(None, router, threshold)
        return self._named(self.controller.route(prompt, model=model))

    def batch_calculate_win_rate(self, prompts: Any, router: str) -> Any:
        """The strong model's estimated win rate on each prompt: a Series for a pandas Series, else a list."""
        self._target(None, router, 0.0)
        rates = self.routers[router].score_texts([str(prompt) for prompt in prompts])
        return type(prompts)(rates, index=prompts.index) if hasattr(prompts, "iloc") else rates

    def close(self) -> None:
        self.controller.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _target(self, model: object, router: str | None, threshold: float | None) -> str:
        """The model's name in a request. Raises `RoutingError`."""
        if model is not None:
            parts = str(model).split("-", 2)
            if len(parts) != 3 or parts[0] != "router":
                raise InvalidRequest("model", f"{str(model)[:80]!r} is not router-[router]-[threshold]")
            router = parts[1]
            try:
                threshold = float(parts[2])
            except ValueError:
                raise InvalidRequest("model", f"the threshold {parts[2][:80]!r} is no number") from None
        if router is None or threshold is None:
            raise InvalidRequest(
                "router", "say which router and which threshold, or a model such as router-mf-0.5"
            )
        if router not in self.routers:
            raise UnknownName("router", router, tuple(self.routers))
        if not 0 <= threshold <= 1:
            raise InvalidRequest("threshold", f"must be between 0 and 1, not {threshold}")
        return f"router-{router}-{threshold!r}"

    def _named(self, decision: Decision) -> str:
        return self.model_pair.strong if decision.model == "strong" else self.model_pair.weak

    def _count(self, decision: Decision) -> None:
        with self._counting:
            self.model_counts[decision.router or ""][self._named(decision)] += 1


@dataclass(frozen=True, slots=True)
class _Completions:
    _controller: Controller

    def create(self, **fields: Any) -> Any:
        return self._controller.completion(**fields)

    async def acreate(self, **fields: Any) -> Any:
        return await self._controller.acompletion(**fields)


@dataclass(frozen=True, slots=True)
class _Chat:
    completions: _Completions


def _is_known(name: str) -> bool:
    """Whether a weak model of that name can be compiled here."""
    try:
        find_model(name)
    except EdgeRouterError:
        return Path(name).exists()
    return True
