"""OpenAI's /v1/models, the names that may be asked for with what is known of the model behind each, and
/v1/embeddings: texts in, vectors out, as numbers or in base64."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime

from edge_router.chat.model import ModelInfo
from edge_router.chat.request import Need
from edge_router.parsing.fields import Fields, plain_object
from edge_router.surfaces.base import Body, SurfaceHost, SurfaceQuery
from edge_router.surfaces.vectors import embed, texts

_FORMATS = ("float", "base64")  # the latter: float32, little-endian


def _listed(body: Mapping[str, object], host: SurfaceHost) -> Body:
    """In OpenAI's form, and beside it in that of TypeSafe's clients."""
    infos = host.models()
    models = [_briefly(info) for info in infos if info.dimension is None]
    return {"object": "list", "data": [_described(info) for info in infos], "models": models}


def _briefly(info: ModelInfo) -> Body:
    since = datetime.fromtimestamp(info.created or 0, UTC)
    where = "On this machine." if info.local else "On another machine."
    what = where if info.own else "Another word for a model, or a choice among several."
    return {"name": info.name, "description": what, "release_date": f"{since:%Y-%m-%d}"}


def _one(body: Mapping[str, object], host: SurfaceHost) -> Body:
    return _described(host.model(str(body.get("model"))))


def _described(info: ModelInfo) -> Body:
    """OpenAI's four fields, and in the words of vLLM and others what assistants choose by."""
    body: Body = {
        "id": info.name,
        "object": "model",
        "created": info.created or 0,
        "owned_by": "edge_router",
        "max_model_len": info.context_window,
        "context_length": info.context_window,
        "capabilities": {
            "chat": info.dimension is None,
            "embeddings": info.dimension is not None,
            "tools": Need.TOOLS in info.serves,
            "vision": Need.IMAGES in info.serves,
            "json": Need.JSON in info.serves,
            "reasoning": bool(info.reasons),
            "questions": Need.QUESTIONS in info.serves,
        },
        "local": info.local,
    }
    return {name: value for name, value in body.items() if value is not None}


def _vectors(body: Mapping[str, object], host: SurfaceHost) -> Body:
    """Raises `InvalidRequest` that names the field, and what the host does."""
    fields = Fields(plain_object(body))
    model, form = fields.string("model", default=""), fields.string("encoding_format", default="float")
    if not model:
        raise fields.refuse("model", "must be the name of a model that makes vectors; GET /v1/models has it")
    if form not in _FORMATS:
        raise fields.refuse("encoding_format", f"must be {' or '.join(_FORMATS)}")
    given = texts(fields, "input")
    if not given:
        raise fields.refuse("input", "must hold at least one text")
    found = embed(host, given, model, fields.integer("dimensions", low=1, high=2**31 - 1))
    vectors: list[object] = (
        found.vectors.tolist()
        if form == "float"
        else [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in found.vectors]
    )
    data = [
        {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


QUERIES = (
    SurfaceQuery("GET", "/v1/models", _listed),
    SurfaceQuery("GET", "/v1/models/{model:path}", _one),
    SurfaceQuery("POST", "/v1/embeddings", _vectors),
)
