"""The head: matrix factorisation over the query's embedding and one vector per model of the pool.

A ridge regression in two levels, in closed form. The first level is what makes a query hard for every model;
the second, held closer to zero, what makes it harder for one model than for the others. Targets and inputs
are centred within each subset of the pool, because scorers differ between subsets and because which subset
a query comes from must not be what is learnt: the user's traffic is none of them.
"""

from __future__ import annotations

import numpy as np

from edge_router.compile.router.head import LIMIT
from edge_router.compile.training.pool import LabelPool
from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class Scaling:
    """Mean and standard deviation of the surface features, float32 [features]."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, surface: np.ndarray) -> Scaling:
        return cls(surface.mean(axis=0).astype(np.float32), (surface.std(axis=0) + 1e-3).astype(np.float32))

    def apply(self, surface: np.ndarray) -> np.ndarray:
        return np.asarray(np.clip((surface - self.mean) / self.scale, -LIMIT, LIMIT))


@dataclass(frozen=True, slots=True)
class Factors:
    """`projection` [hidden, rank]; `vectors` [models, rank]; `surface` [models, features]."""

    models: tuple[str, ...]
    projection: np.ndarray
    vectors: np.ndarray
    surface: np.ndarray

    def average(self) -> tuple[np.ndarray, np.ndarray]:
        """The vector and the surface weights of the average model."""
        return self.vectors.mean(axis=0), self.surface.mean(axis=0)


def fit_factors(
    pool: LabelPool, embeddings: np.ndarray, surface: np.ndarray, *, rank: int, ridge: float, own_ridge: float
) -> Factors:
    """`embeddings` float [prompts, hidden] of length 1, `surface` float [prompts, features], standardised.

    `ridge` and `own_ridge` count as that many prompts: of all models together, and of one model's own part.
    """
    hidden = embeddings.shape[1]
    # An embedding's number is about 1/sqrt(hidden): put both kinds of input on one scale before the ridge.
    inputs = np.hstack([embeddings * np.sqrt(hidden), surface]).astype(np.float64)
    inputs = centred(inputs, pool.subsets)
    targets = centred(pool.labels.astype(np.float64), pool.subsets)
    answered = np.isfinite(targets)
    mean = np.where(answered, targets, 0).sum(axis=1) / np.maximum(answered.sum(axis=1), 1)
    common = _solve(inputs, mean, ridge)
    rest = targets - (inputs @ common)[:, None]
    own = np.stack([_solve(inputs[a], rest[a, m], own_ridge) for m, a in enumerate(answered.T)])
    weights = common[None, :] + own
    left, values, right = np.linalg.svd(weights[:, :hidden], full_matrices=False)
    rank = min(rank, len(values))
    return Factors(
        models=pool.models,
        projection=(right[:rank].T * np.sqrt(hidden)).astype(np.float32),
        vectors=(left[:, :rank] * values[:rank]).astype(np.float32),
        surface=weights[:, hidden:].astype(np.float32),
    )


def centred(values: np.ndarray, subsets: np.ndarray) -> np.ndarray:
    """Less the mean of its subset, by column; NaN stays NaN and counts for nothing."""
    result = np.array(values, dtype=np.float64)
    for subset in np.unique(subsets):
        rows = np.flatnonzero(subsets == subset)
        block = result[rows]
        known = np.isfinite(block)
        mean = np.where(known, block, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        result[rows] = block - mean
    return result


def _solve(inputs: np.ndarray, target: np.ndarray, ridge: float) -> np.ndarray:
    gram = inputs.T @ inputs
    gram[np.diag_indices_from(gram)] += ridge
    return np.asarray(np.linalg.solve(gram, inputs.T @ target))
