"""The names that may stand in a request's `model`, and what is known of the model behind each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace

from edge_router.architectures.quantization import quantization
from edge_router.catalog import find_model
from edge_router.chat.model import ModelInfo
from edge_router.chat.request import LOCAL_NEEDS, Need
from edge_router.config.settings import Config
from edge_router.control.policy import ROUTER_PREFIX
from edge_router.control.pool import Pool
from edge_router.engines.choice import DEVICES
from edge_router.errors import EdgeRouterError
from edge_router.vram import ModelShape, weight_bytes

_REMOTE = frozenset(Need) - LOCAL_NEEDS  # an endpoint says itself what it cannot
_PACKED, _GRAPH = "mlc", "onnx"  # forms of files: weights as MLC packs them, a router's encoder


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
        if name != "strong" or pool.strong_configured:
            own = name in (*names.weak, *names.strong)
            yield replace(routed if routes else tiers[name], name=name, own=own)


def embedding_models(names: Iterable[str], created: int) -> Iterator[ModelInfo]:
    for name in names:
        yield ModelInfo(name, local=True, form=_GRAPH, created=created, dimension=0)


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
        size=None if plan is None else plan.bytes("parameters"),
        memory=None if plan is None else plan.total,
        on_gpu=plan is not None and plan.on_gpu,
        quantization=None if plan is None else plan.settings.quantization,
        reasons=None if engine is None else engine.capabilities.learned_thoughts,
    )
    if pool.weak_given or config.weak.engine not in DEVICES:
        return info
    return _described(replace(info, form=_PACKED), config)


def _described(info: ModelInfo, config: Config) -> ModelInfo:
    """With what the model's card tells before it is loaded. Of a folder of the user's own there is none, and
    of what must be fetched first it has no numbers."""
    with suppress(EdgeRouterError):
        card = find_model(config.weak.model)
        form = info.quantization or config.weak.quantization or card.quantization
        reasons = card.thinking or None if info.reasons is None else info.reasons
        info = replace(info, architecture=card.architecture or None, quantization=form, reasons=reasons)
        shape = ModelShape.of(card.config, card.name)
        size = weight_bytes(shape, quantization(form)) if info.size is None else info.size
        info = replace(info, parameters=shape.parameters, size=size)
    return info
