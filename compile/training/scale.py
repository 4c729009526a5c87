"""From the head's raw number to the score, the strong model's estimated win rate, by logistic regression."""

from __future__ import annotations

import numpy as np

from edge_router.compile.training.pool import LabelPool
from edge_router.records import dataclass

_STEPS = 50
_FLATTEST = 1e-3  # the slope stays positive, so that scaling never turns the order round


@dataclass(frozen=True, slots=True)
class SigmoidScale:
    """score = sigmoid(slope * raw + intercept)."""

    slope: float
    intercept: float

    def apply(self, raw: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-(self.slope * raw + self.intercept))))


def win_rates(pool: LabelPool, *, ties: float = 0.0) -> np.ndarray:
    """Of every prompt: over all pairs of a weak and a strong model, how often the strong answer is better.

    `ties`: what a pair of equally good answers counts.

    Within each source, the best eighth of the models are the strong ones and those between the worst fifth
    and the upper third the weak ones. NaN where no pair answered. float64 [prompts].
    """
    rates = np.full(len(pool), np.nan)
    for source in np.unique(pool.sources):
        rows = np.flatnonzero(pool.sources == source)
        weak, strong = tiers(pool, rows)
        a, b = pool.labels[np.ix_(rows, weak)][:, :, None], pool.labels[np.ix_(rows, strong)][:, None, :]
        wins = np.where(np.isfinite(a) & np.isfinite(b), (b > a) + ties * (b == a), np.nan)
        flat = wins.reshape(len(rows), -1)
        known = np.isfinite(flat).sum(axis=1)
        rates[rows] = np.where(known > 0, np.nansum(flat, axis=1) / np.maximum(known, 1), np.nan)
    return rates


def tiers(pool: LabelPool, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the weak and of the strong models among those that answered `rows`."""
    labels = pool.labels[rows]
    counts = np.isfinite(labels).sum(axis=0)
    present = np.flatnonzero(counts)
    means = np.nansum(labels[:, present], axis=0) / counts[present]
    ordered = present[np.argsort(means, kind="stable")]
    n = len(ordered)
    weak = ordered[n // 5 : max(n * 2 // 3, n // 5 + 1)]
    return weak, ordered[n - max(1, n // 8) :]


def fit_scale(raw: np.ndarray, rates: np.ndarray, sources: np.ndarray) -> SigmoidScale:
    """Newton's method on the cross entropy; sources weigh the same. Rows without a rate are left out."""
    known = np.isfinite(rates)
    raw, rates, sources = raw[known].astype(np.float64), rates[known], sources[known]
    weights = np.zeros(len(raw))
    for source in np.unique(sources):
        weights[sources == source] = 1 / np.sum(sources == source)
    design = np.stack([raw, np.ones(len(raw))], axis=1)
    beta = np.zeros(2)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-design @ beta))
        gradient = design.T @ (weights * (rates - p)) - 1e-6 * beta
        curvature = (design * (weights * p * (1 - p))[:, None]).T @ design + 1e-6 * np.eye(2)
        beta += np.linalg.solve(curvature, gradient)
    if beta[0] >= _FLATTEST:
        return SigmoidScale(float(beta[0]), float(beta[1]))
    mean = min(max(float(np.average(rates, weights=weights)), 0.01), 0.99)
    offset = _FLATTEST * float(np.average(raw, weights=weights))
    return SigmoidScale(_FLATTEST, float(np.log(mean / (1 - mean))) - offset)
