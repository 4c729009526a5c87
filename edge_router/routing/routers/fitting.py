"""The threshold that fits a weak model: a tiny one is left few of the queries, a strong one most.

A card says how strong a model is: the share of ordinary prompts (`thresholds.typical`) that it is left to
answer where a strong model could be asked instead. A router's card knows how its scores lie over these
prompts, so the threshold is the score that this share lies below.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from edge_router.catalog import ModelCard, find_model
from edge_router.config.settings import Config
from edge_router.engines.choice import SERVED
from edge_router.errors import EdgeRouterError
from edge_router.records import dataclass
from edge_router.routing.routers.base import Router
from edge_router.routing.thresholds.typical import TYPICAL
from edge_router.vram import ModelShape

QUANTILES = 21  # of the scores, from the lowest to the highest

# How often a model's answer was as good as a strong one's, over the training pool: .62 with 4 billion
# parameters, .75 with 8, and below that as the line goes on; the least is for models that were not in it.
_SIZE = re.compile(r"(?<![a-zA-Z0-9.])(\d{1,4}(?:\.\d{1,2})?)([bBmM])(?![a-zA-Z0-9])")
_AT_4B, _PER_DOUBLING, _LEAST, _MOST = 0.62, 0.13, 0.25, 0.9


@runtime_checkable
class KnowsTypical(Protocol):
    """A router that knows its scores of typical prompts."""

    @property
    def typical_scores(self) -> Sequence[float]:
        """Quantiles at even steps, the lowest first; empty where they were not measured."""
        ...


@dataclass(frozen=True, slots=True)
class Sent:
    """Of `n` typical prompts of one kind, how many a threshold sends to the strong model."""

    kind: str
    n: int
    strong: int


def default_threshold(router: Router, config: Config) -> float:
    """Where the user set none: what fits the configured weak model, or the router's own.

    The latter where there is no strong model to send anything to, and where one of both says too little.
    """
    scores = router.typical_scores if isinstance(router, KnowsTypical) else ()
    strength = strength_of_configured(config) if scores else None
    return router.default_threshold if strength is None else quantile(scores, strength)


def strength_of_configured(config: Config) -> float | None:
    """None for a model that cannot be found: whoever loads it says why.

    Of a server's only the name is known, which mostly holds its size: qwen3:4b.
    """
    if config.weak.engine == SERVED:
        told = _SIZE.search(config.weak.model)
        return _by_size(float(told[1]) * (1e9 if told[2] in "bB" else 1e6)) if told else None
    try:
        return strength_of(find_model(config.weak.model))
    except EdgeRouterError:
        return None


def strength_of(card: ModelCard) -> float | None:
    """As its card says, else by its size; None where neither is known before it is fetched."""
    if card.strength is not None:
        return card.strength
    try:
        parameters = ModelShape.of(card.config, card.name).parameters
    except EdgeRouterError:
        return None
    return _by_size(parameters)


def _by_size(parameters: float) -> float:
    found = _AT_4B + _PER_DOUBLING * math.log2(max(parameters, 1.0) / 4e9)
    return round(min(max(found, _LEAST), _MOST), 2)


def quantile(scores: Sequence[float], share: float) -> float:
    """The score that `share` of them lies below; `scores` are quantiles at even steps."""
    place = share * (len(scores) - 1)
    below = min(int(place), len(scores) - 2)
    return scores[below] + (place - below) * (scores[below + 1] - scores[below])


def measured(router: Router) -> tuple[float, ...]:
    """What `KnowsTypical.typical_scores` says of `router`."""
    scores = sorted(score for texts in TYPICAL.values() for score in router.score_texts(texts))
    return tuple(round(quantile(scores, step / (QUANTILES - 1)), 6) for step in range(QUANTILES))


def typical_traffic(router: Router, threshold: float) -> list[Sent]:
    """What `threshold` does to typical prompts, kind by kind."""
    return [
        Sent(kind, len(texts), sum(score >= threshold for score in router.score_texts(texts)))
        for kind, texts in TYPICAL.items()
    ]
