"""The names that may stand in a request's `model`, and what is known of the model behind each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace

from edge_router.catalog import find_model
from edge_router.chat.request import Need
from edge_router.config import Config
from edge_router.control.policy import ROUTER_PREFIX
from edge_router.control.pool import Pool
from edge_router.errors import EdgeRouterError
from edge_router.surfaces.base import ModelInfo

_REMOTE = frozenset(Need) - {Need.MASK}  # an endpoint says itself what it cannot


def chat_models(pool: Pool, config: Config, created: int) -> Iterator[ModelInfo]:
    """What is not loaded is told of as it is configured. A name is listed once."""
    names, weak = pool.names(), replace(_weak(pool, config), created=created)
    strong = ModelInfo("strong", serves=_REMOTE, created=created)
    routed = replace(weak, serves=_REMOTE, context_window=None) if pool.strong_configured else weak
    tiers = {
        **dict.fromkeys(names.strong, strong),
        **dict.fromkeys(names.weak, weak),
        "weak": weak,
        "strong": strong,
    }
    for name in dict.fromkeys(names.all()):
        routes = name == "auto" or name.startswith(ROUTER_PREFIX)
        yield replace(routed if routes else tiers[name], name=name)


def embedding_models(names: Iterable[str], created: int) -> Iterator[ModelInfo]:
    for name in names:
        yield ModelInfo(name, local=True, created=created, dimension=0)


def _weak(pool: Pool, config: Config) -> ModelInfo:
    engine, plan = pool.loaded_weak, pool.plan
    info = ModelInfo(
        "weak",
        context_window=config.weak.context_window_size
        if engine is None
        else engine.capabilities.context_window,
        serves=pool.weak_serves,
        local=True,
        loaded=pool.weak_loaded,
        reasons=None if engine is None else engine.capabilities.learned_thoughts,
        size=None if plan is None else plan.total,
    )
    if pool.weak_given:
        return info
    with suppress(EdgeRouterError):  # a directory of the user's, of which no card tells
        card = find_model(config.weak.model)
        quantization = config.weak.quantization or card.quantization
        info = replace(info, architecture=card.architecture, quantization=quantization)
    return info
