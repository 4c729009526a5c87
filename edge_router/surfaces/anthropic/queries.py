"""The count of tokens, and models in Anthropic's form. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from edge_router.chat.model import ModelInfo
from edge_router.errors import UnknownModel
from edge_router.parsing.fields import Fields, plain_object
from edge_router.surfaces.anthropic.parse import read_request
from edge_router.surfaces.base import Body, SurfaceHost, SurfaceQuery

VERSION_HEADER = "anthropic-version"


def _count_tokens(body: Mapping[str, object], host: SurfaceHost) -> Body:
    return {"input_tokens": host.count_tokens(read_request(Fields(plain_object(body))))}


def _models(body: Mapping[str, object], host: SurfaceHost) -> Body:
    """All on one page."""
    data = [_described(model) for model in _chat_models(host)]
    ends = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"data": data, "has_more": False, "first_id": ends[0], "last_id": ends[1]}


def _model(body: Mapping[str, object], host: SurfaceHost) -> Body:
    name = str(body.get("model", ""))
    models = _chat_models(host)
    for model in models:
        if model.name == name:
            return _described(model)
    raise UnknownModel(name, [model.name for model in models])


def _chat_models(host: SurfaceHost) -> list[ModelInfo]:
    return [model for model in host.models() if model.dimension is None]


def _described(model: ModelInfo) -> Body:
    """Where it is not known since when a model is here, 1970 is Anthropic's own way of saying so."""
    since = datetime.fromtimestamp(model.created or 0, UTC)
    described: Body = {
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": since.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
    }
    if model.context_window is not None:
        described["max_input_tokens"] = model.context_window
    return described


QUERIES = (
    SurfaceQuery("POST", "/v1/messages/count_tokens", _count_tokens),
    SurfaceQuery("GET", "/v1/models", _models, VERSION_HEADER),
    SurfaceQuery("GET", "/v1/models/{model:path}", _model, VERSION_HEADER),
)
