"""Fitting the head, without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.compile.training.factors import Scaling, centred, fit_factors
from edge_router.compile.training.pool import LabelPool, read_pool
from edge_router.compile.training.scale import fit_scale, tiers, win_rates


@pytest.fixture
def pool(pool_file: Path) -> LabelPool:
    return read_pool(pool_file)


def hardness(pool: LabelPool) -> np.ndarray:
    return np.array(["hard" in prompt for prompt in pool.prompts], np.float64)


def embeddings(pool: LabelPool, hidden: int = 8) -> np.ndarray:
    """Noise in every direction but the first, which says whether the prompt is hard."""
    found = np.random.default_rng(0).normal(0, 0.1, (len(pool), hidden))
    found[:, 0] = hardness(pool) - 0.5
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_the_average_model_fails_on_what_is_hard(pool: LabelPool) -> None:
    x = embeddings(pool)
    factors = fit_factors(pool, x, np.zeros((len(pool), 1)), rank=4, ridge=10, own_ridge=100)
    vector, surface = factors.average()
    raw = x @ factors.projection @ vector
    assert np.corrcoef(raw, hardness(pool))[0, 1] < -0.9
    assert np.abs(surface).max() < 1e-9
    # The good model hardly minds what is hard, the fair one does.
    logits = (x @ factors.projection @ factors.vectors.T).T
    slopes = {m: np.polyfit(hardness(pool), y, 1)[0] for m, y in zip(factors.models, logits, strict=True)}
    assert slopes["first/fair"] < slopes["first/good"] - 0.1


def test_surface_features_are_learnt_too(pool: LabelPool) -> None:
    features = (hardness(pool) * 2 - 1)[:, None]
    factors = fit_factors(pool, np.full((len(pool), 4), 0.5), features, rank=2, ridge=10, own_ridge=100)
    assert factors.average()[1][0] < -0.1


def test_more_ridge_means_smaller_weights(pool: LabelPool) -> None:
    x, none = embeddings(pool), np.zeros((len(pool), 1))
    fits = [fit_factors(pool, x, none, rank=4, ridge=r, own_ridge=r) for r in (1, 100, 10000)]
    sizes = [np.linalg.norm(fit.projection @ fit.average()[0]) for fit in fits]
    assert sizes[0] > sizes[1] > sizes[2]


def test_the_rank_bounds_the_factors(pool: LabelPool) -> None:
    factors = fit_factors(pool, embeddings(pool), np.zeros((len(pool), 1)), rank=2, ridge=1, own_ridge=1)
    assert factors.projection.shape == (8, 2)
    assert factors.vectors.shape == (6, 2)


def test_centring_leaves_no_mean_in_any_subset(pool: LabelPool) -> None:
    found = centred(pool.labels, pool.subsets)
    for subset in np.unique(pool.subsets):
        block = found[pool.subsets == subset]
        known = np.isfinite(block).any(0)
        assert np.nanmean(block[:, known], axis=0) == pytest.approx(0, abs=1e-6)
    assert (np.isnan(found) == np.isnan(pool.labels)).all()


def test_standardised_features_are_clipped() -> None:
    scaling = Scaling.of(np.array([[0.0], [2.0]]))
    assert scaling.apply(np.array([[1.0], [1e9]])).tolist() == [[0.0], [3.0]]


def test_tiers_and_win_rates(pool: LabelPool) -> None:
    rows = np.flatnonzero(pool.sources == "first")
    weak, strong = tiers(pool, rows)
    assert [pool.models[i] for i in strong] == ["first/good"]
    assert "first/good" not in [pool.models[i] for i in weak]
    rates = win_rates(pool)
    assert rates[hardness(pool) == 1].mean() > rates[hardness(pool) == 0].mean() + 0.2
    assert 0 <= rates.min() <= rates.max() <= 1


def test_the_scale_recovers_a_known_one() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=20000)
    rates = (rng.random(20000) < 1 / (1 + np.exp(-(1.5 * raw - 0.7)))).astype(float)
    scale = fit_scale(raw, rates, np.zeros(20000))
    assert (scale.slope, scale.intercept) == (pytest.approx(1.5, abs=0.08), pytest.approx(-0.7, abs=0.06))


def test_sources_weigh_the_same_however_many_rows_they_have() -> None:
    raw = np.zeros(1100)
    rates = np.concatenate([np.zeros(1000), np.ones(100)])
    scale = fit_scale(raw, rates, np.array(["a"] * 1000 + ["b"] * 100))
    assert scale.apply(np.zeros(1))[0] == pytest.approx(0.5, abs=0.01)


@given(st.integers(0, 1000))
def test_scaling_never_turns_the_order_round(seed: int) -> None:
    """Even where the raw number says the opposite on the validation rows."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=50)
    rates = np.clip(0.5 - raw * rng.normal(1, 1) + rng.normal(0, 0.3, 50), 0, 1)
    rates[rng.random(50) < 0.1] = np.nan
    found = fit_scale(raw, rates, rng.integers(0, 2, 50)).apply(np.array([-1.0, 0.0, 1.0]))
    assert 0 < found[0] < found[1] < found[2] < 1
