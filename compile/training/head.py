"""Fit the head on embeddings, and turn the pool's factors into the numbers that stand in the graph."""

from __future__ import annotations

import numpy as np

from edge_router.compile.router.graph import FactorHead, Surface
from edge_router.compile.training.factors import Factors, Scaling, fit_factors
from edge_router.compile.training.pool import LabelPool
from edge_router.compile.training.scale import fit_scale, win_rates
from edge_router.compile.training.settings import HeadSettings
from edge_router.routing.routers import text as texts


def surface_of(pool: LabelPool, names: tuple[str, ...]) -> tuple[np.ndarray, Scaling]:
    """Standardised features float64 [prompts, features], and how they were standardised."""
    features = np.array([texts.surface(prompt, names) for prompt in pool.prompts], np.float64)
    scaling = Scaling.of(features)
    return scaling.apply(features), scaling


def fit(pool: LabelPool, embeddings: np.ndarray, features: np.ndarray, settings: HeadSettings) -> Factors:
    """On the rows that are not kept for validation."""
    rows = ~pool.validation
    return fit_factors(
        pool.take(rows),
        embeddings[rows],
        features[rows],
        rank=settings.rank,
        ridge=settings.ridge,
        own_ridge=settings.own_ridge,
    )


def scaled_head(
    factors: Factors,
    pool: LabelPool,
    embeddings: np.ndarray,
    features: np.ndarray,
    names: tuple[str, ...],
    scaling: Scaling,
) -> FactorHead:
    """The reference pair is the average model of the pool against one that answers everything.

    Its raw number becomes a win rate on the validation rows, which the factors have not seen.
    """
    weak, weights = factors.average()
    held = pool.validation
    raw = -(embeddings[held] @ factors.projection @ weak + features[held] @ weights)
    scale = fit_scale(raw, win_rates(pool.take(held)), pool.sources[held])
    return FactorHead(
        projection=factors.projection,
        weak_vector=weak,
        strong_vector=np.zeros_like(weak),
        surface=Surface(names, scaling.mean, scaling.scale, -weights) if names else None,
        slope=scale.slope,
        intercept=scale.intercept,
    )
