"""Ollama's questions about its version, its models and vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial

from edge_router.chat.model import ModelInfo
from edge_router.chat.request import Need
from edge_router.errors import InvalidRequest, UnknownModel, clipped
from edge_router.parsing.fields import Fields, plain_object
from edge_router.surfaces.base import Body, SurfaceHost, SurfaceQuery
from edge_router.surfaces.limits import MAX_TOKENS
from edge_router.surfaces.ollama.encode import date, nanoseconds
from edge_router.surfaces.ollama.parse import read_name
from edge_router.surfaces.vectors import embed, texts
from edge_router.types import LATEST

# Clients ask for features by it: 0.13.3 for Responses, 0.14 for Messages. What 0.35 brought is not here.
VERSION = "0.14.0"
RUNNING = "Ollama is running"  # word for word what its clients look for at /, on its own port
_FOREVER = "9999-12-31T23:59:59Z"
_UNKNOWN = "unknown"  # an architecture
_CAPABILITIES = (
    (Need.TOOLS, "tools"),
    (Need.IMAGES, "vision"),
    (Need.AUDIO, "audio"),
    (Need.SUFFIX, "insert"),
)


def queries(clock: Callable[[], float]) -> tuple[SurfaceQuery, ...]:
    """`clock`: seconds since 1970."""
    return (
        SurfaceQuery("GET", "/api/version", lambda body, host: {"version": VERSION}),
        SurfaceQuery("GET", "/api/tags", _tags),
        SurfaceQuery("GET", "/api/ps", _ps),
        SurfaceQuery("POST", "/api/show", _show),
        SurfaceQuery("POST", "/api/pull", _pull),
        SurfaceQuery("POST", "/api/embed", partial(_embed, clock)),
        SurfaceQuery("POST", "/api/embeddings", _embeddings),
    )


def _known(fields: Fields, host: SurfaceHost) -> ModelInfo:
    """Raises `UnknownModel`."""
    name, models = read_name(fields), {info.name: info for info in host.models()}
    found = models.get(name) or models.get(name.removesuffix(LATEST))
    if found is None:
        raise UnknownModel(name, tuple(models))
    return found


def _tags(body: Mapping[str, object], host: SurfaceHost) -> Body:
    return {"models": [_listed(info) | {"modified_at": date(info.created or 0)} for info in host.models()]}


def _ps(body: Mapping[str, object], host: SurfaceHost) -> Body:
    """What is in memory, once each."""
    return {"models": [_running(info) for info in host.models() if info.local and info.loaded and info.own]}


def _running(info: ModelInfo) -> Body:
    taken = info.memory or info.size or 0
    return _listed(info) | {
        "size": taken,
        "size_vram": taken if info.on_gpu else 0,
        "expires_at": _FOREVER,
        "context_length": info.context_window or 0,
    }


def _show(body: Mapping[str, object], host: SurfaceHost) -> Body:
    info = _known(Fields(plain_object(body)), host)
    architecture = info.architecture or _UNKNOWN
    facts: Body = {"general.architecture": architecture, "general.basename": info.name}
    for name, value in (
        ("general.parameter_count", info.parameters),
        (f"{architecture}.context_length", info.context_window),
        (f"{architecture}.embedding_length", info.dimension or None),
    ):
        if value is not None:
            facts[name] = value
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(info),
        "model_info": facts,
        "capabilities": _capabilities(info),
        "modified_at": date(info.created or 0),
    }


def _pull(body: Mapping[str, object], host: SurfaceHost) -> Body:
    """What is here needs no fetching; the rest is fetched by whoever sits at this machine."""
    fields = Fields(plain_object(body))
    try:
        _known(fields, host)
    except UnknownModel as error:
        ways = "`edge-router models list` tells what there is, `edge-router models pull NAME` fetches one"
        told = f"{clipped(read_name(fields))!r} is not here; {ways}"
        raise InvalidRequest("model", told) from error
    return {"status": "success"}


def _embed(clock: Callable[[], float], body: Mapping[str, object], host: SurfaceHost) -> Body:
    fields, began = Fields(plain_object(body)), clock()
    model = _known(fields, host).name
    given = texts(fields, "input") if fields.get("input") else ()
    wanted = fields.integer("dimensions", low=1, high=MAX_TOKENS)
    if not given:
        host.load(model)
        return {"model": model, "embeddings": []}
    found = embed(host, given, model, wanted, truncate=fields.boolean("truncate", default=True))
    return {
        "model": model,
        "embeddings": found.vectors.tolist(),
        "total_duration": nanoseconds(clock() - began),
        "load_duration": 1,
        "prompt_eval_count": found.tokens,
    }


def _embeddings(body: Mapping[str, object], host: SurfaceHost) -> Body:
    fields = Fields(plain_object(body))
    model, prompt = _known(fields, host).name, fields.text("prompt") or ""
    if not prompt:
        host.load(model)
        return {"embedding": []}
    return {"embedding": host.embed((prompt,), model).vectors[0].tolist()}


def _listed(info: ModelInfo) -> Body:
    """Ollama's command line cuts the digest to twelve letters without asking how many there are."""
    digest = info.digest or hashlib.sha256(info.name.encode()).hexdigest()
    return {
        "name": info.name,
        "model": info.name,
        "size": info.size or 0,
        "digest": digest,
        "details": _details(info),
    }


def _details(info: ModelInfo) -> Body:
    family = info.architecture or _UNKNOWN
    return {
        "parent_model": "",
        "format": info.form or "",
        "family": family,
        "families": [family],
        "parameter_size": _short(info.parameters),
        "quantization_level": info.quantization or "",
    }


def _short(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.0f}M"


def _capabilities(info: ModelInfo) -> list[str]:
    if info.dimension is not None:
        return ["embedding"]
    able = [word for need, word in _CAPABILITIES if need in info.serves]
    return ["completion", *able, *(["thinking"] if info.reasons else [])]
