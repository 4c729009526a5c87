"""What the protocols that ask for vectors have in common: which texts, and of how many numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_router.errors import InvalidRequest
from edge_router.parsing.fields import Fields
from edge_router.surfaces.base import SurfaceHost

if TYPE_CHECKING:
    from edge_router.routing.routers.embedding import EmbeddedTexts

MAX_TEXTS = 2048  # as OpenAI takes


def texts(fields: Fields, name: str) -> tuple[str, ...]:
    """One text or a list of them. Raises `InvalidRequest`."""
    value = fields.get(name)
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list):
        raise fields.refuse(name, "must be a text or a list of texts")
    if any(isinstance(item, int | list) for item in items):
        reason = "holds token ids, which every model has its own of; send the texts"
        raise fields.refuse(name, f"{reason} (langchain: check_embedding_ctx_length=False)")
    if len(items) > MAX_TEXTS:
        raise fields.refuse(name, f"holds {len(items)} texts, at most {MAX_TEXTS} are taken at once")
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise InvalidRequest(f"{name}[{index}]", "must be a text")
    return tuple(items)


def embed(
    host: SurfaceHost, given: tuple[str, ...], model: str, dimensions: int | None, *, truncate: bool = True
) -> EmbeddedTexts:
    """Raises what the host does, and `InvalidRequest` for vectors of a length that the model's are not."""
    found = host.embed(given, model, truncate=truncate)
    own = found.vectors.shape[1]
    if dimensions not in (None, own):
        reason = f"must be {own}: the vectors of {model} mean nothing when they are cut"
        raise InvalidRequest("dimensions", reason)
    return found
