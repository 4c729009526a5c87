"""What models and routers there are: the cards that ship, and cards made on the spot from files."""

from __future__ import annotations

from edge_router.catalog.cards import (
    HubSource,
    LocalSource,
    ModelCard,
    PypiSource,
    RouterCard,
    Source,
    parse_model_card,
    parse_router_card,
)
from edge_router.catalog.find import (
    address,
    complete_card,
    concerning,
    encoder_card,
    find_model,
    is_here,
    model_cards,
    parse_source,
    router_cards,
)

__all__ = [
    "HubSource",
    "LocalSource",
    "ModelCard",
    "PypiSource",
    "RouterCard",
    "Source",
    "address",
    "complete_card",
    "concerning",
    "encoder_card",
    "find_model",
    "is_here",
    "model_cards",
    "parse_model_card",
    "parse_router_card",
    "parse_source",
    "router_cards",
]
