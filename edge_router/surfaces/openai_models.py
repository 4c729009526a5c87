"""OpenAI's /v1/models: the names that may be asked for, with what is known of the model behind each."""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.chat.model import ModelInfo
from edge_router.chat.request import Need
from edge_router.surfaces.base import Body, Host, Query

PATH = "/v1/models"


def _listed(body: Mapping[str, object], host: Host) -> Body:
    return {"object": "list", "data": [_model(info) for info in host.models()]}


def _one(body: Mapping[str, object], host: Host) -> Body:
    return _model(host.model(str(body.get("model"))))


def _model(info: ModelInfo) -> Body:
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
        },
        "local": info.local,
    }
    return {name: value for name, value in body.items() if value is not None}


QUERIES = (Query("GET", PATH, _listed), Query("GET", PATH + "/{model:path}", _one))
