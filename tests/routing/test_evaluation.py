from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edge_router.errors import InvalidData
from edge_router.routing.evaluation import evaluate, measure, measure_random
from edge_router.routing.labels.rows import Labelled


def routellm(scores: np.ndarray, weak: np.ndarray, strong: np.ndarray) -> tuple[float, list[float]]:
    """APGR and CPT20/50/80 as routellm/evals computes them, step by step; scores must differ."""
    edges = np.quantile(scores, np.linspace(0, 1, 11))
    shares, qualities = [], []
    for i, edge in enumerate(edges):
        chosen = scores >= edge if i != len(edges) - 1 else scores > edge
        shares.append(chosen.mean() * 100)
        qualities.append(np.where(chosen, strong, weak).mean() * 100)
    order = np.argsort(shares)
    c, r = np.array(shares)[order], np.array(qualities)[order]
    low, high = weak.mean() * 100, strong.mean() * 100
    auc = np.trapezoid(r, c / 100)
    floor, ceiling = np.trapezoid(np.full(11, low), c / 100), np.trapezoid(np.full(11, high), c / 100)
    cpt = [float(np.interp(p * (high - low) + low, r, c)) / 100 for p in (0.2, 0.5, 0.8)]
    return float((auc - floor) / (ceiling - floor)), cpt


def sample(seed: int, n: int, *, signal: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct scores that say something about where the strong model is better."""
    rng = np.random.default_rng(seed)
    scores = rng.permutation(n) / n
    weak = (rng.random(n) < 0.6).astype(float)
    strong = np.maximum(weak, (rng.random(n) < scores * signal).astype(float))
    return scores, weak, strong


# Where an edge falls on a score exactly, rounding decides in theirs whether that one prompt is counted: so only
# sizes where no edge does.
sizes = st.integers(20, 400).filter(lambda n: math.gcd(n - 1, 10) == 1)


@given(st.integers(0, 10_000), sizes)
def test_the_same_numbers_as_routellms_own_code(seed: int, n: int) -> None:
    scores, weak, strong = sample(seed, n)
    assume(strong.sum() > weak.sum())
    found = measure(scores, weak, strong, resamples=0)
    apgr, _ = routellm(scores, weak, strong)
    assert found.apgr == pytest.approx(apgr)


@given(st.integers(0, 10_000), sizes)
def test_cpt_is_routellms_where_the_curve_rises(seed: int, n: int) -> None:
    """Theirs interpolates over quality as if it always rose with the share; where it does, both agree."""
    scores, weak, strong = sample(seed, n)
    weak[:] = 0
    strong[np.argsort(scores)[:: max(n // 20, 1)]] = 1  # at least one gain in every bin
    found = measure(scores, weak, strong, resamples=0)
    assert all(a[2] < b[2] for a, b in zip(found.curve, found.curve[1:], strict=False))
    _, cpt = routellm(scores, weak, strong)
    assert [found.cpt20, found.cpt50, found.cpt80] == pytest.approx(cpt)


def test_a_worked_example() -> None:
    """Ten prompts; the strong model wins the two with the highest scores and the lowest one."""
    scores = np.arange(10) / 10
    weak, strong = np.zeros(10), np.zeros(10)
    strong[[9, 8, 0]] = 1
    found = measure(scores, weak, strong, resamples=0)
    # Edges at 0, .09, .18, ...: 10, 9, 8, ..., 1 prompts at or above, then none.
    assert [round(share, 6) for share, _, _ in found.curve] == [i / 10 for i in range(11)]
    assert [pgr for _, _, pgr in found.curve] == pytest.approx([0, 1 / 3, *[2 / 3] * 8, 1])
    assert found.apgr == pytest.approx(0.1 * (1 / 6 + 1 / 2 + 7 * 2 / 3 + 5 / 6))
    assert found.cpt20 == pytest.approx(0.06)
    assert found.cpt50 == pytest.approx(0.15)
    assert found.cpt80 == pytest.approx(0.94)
    assert (found.weak_quality, found.strong_quality, found.n) == (0, pytest.approx(0.3), 10)


@given(st.integers(0, 10_000), st.integers(20, 200))
def test_a_monotone_transformation_changes_nothing(seed: int, n: int) -> None:
    scores, weak, strong = sample(seed, n)
    one = measure(scores, weak, strong, resamples=0)
    assert one == measure(np.exp(3 * scores) - 5, weak, strong, resamples=0)


@given(st.integers(0, 10_000), st.integers(20, 200), st.integers(1, 8))
def test_the_oracle_is_never_beaten(seed: int, n: int, levels: int) -> None:
    scores, weak, strong = sample(seed, n)
    assume(strong.sum() > weak.sum())
    best = measure(strong - weak, weak, strong, resamples=0)
    other = measure(np.floor(scores * levels * 4), weak, strong, resamples=0)
    assume(best.apgr is not None and other.apgr is not None)
    assert best.apgr is not None
    assert other.apgr is not None
    assert best.apgr >= other.apgr - 1e-9


@given(st.integers(0, 10_000))
def test_the_order_of_the_rows_means_nothing_even_with_ties(seed: int) -> None:
    scores, weak, strong = sample(seed, 60)
    assume(strong.sum() > weak.sum())
    tied, order = np.round(scores, 1), np.random.default_rng(seed).permutation(60)
    one = measure(tied, weak, strong, resamples=0)
    other = measure(tied[order], weak[order], strong[order], resamples=0)
    assert one.apgr == pytest.approx(other.apgr)
    assert one.cpt50 == pytest.approx(other.cpt50)


def test_ties_are_cut_as_random_order_would_on_average() -> None:
    scores, weak, strong = sample(3, 200)
    tied = np.round(scores, 1)
    rng = np.random.default_rng(0)
    broken = [measure(tied + rng.random(200) * 1e-6, weak, strong, resamples=0).apgr for _ in range(500)]
    assert measure(tied, weak, strong, resamples=0).apgr == pytest.approx(np.mean(broken), abs=0.005)


def test_a_constant_router_has_no_apgr_and_says_so() -> None:
    _, weak, strong = sample(0, 50)
    found = measure(np.full(50, 0.3), weak, strong)
    assert found.apgr is None
    assert "one score" in found.note


def test_a_router_that_gives_no_number_has_no_apgr_and_says_so() -> None:
    scores, weak, strong = sample(0, 50)
    scores[[3, 7]] = np.nan, np.inf
    found = measure(scores, weak, strong)
    assert found.apgr is None
    assert "gives 2 prompts no number" in found.note


def test_equally_good_models_leave_pgr_undefined() -> None:
    found = measure(np.arange(4.0), np.array([0.0, 1, 0, 1]), np.array([1.0, 0, 1, 0]))
    assert found.apgr is None
    assert "equally good" in found.note


def test_a_strong_model_that_is_worse_is_said() -> None:
    found = measure(np.arange(20.0), np.ones(20), np.zeros(20), resamples=0)
    assert found.apgr == pytest.approx(0.5)
    assert "worse" in found.note


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_the_interval_holds_the_estimate_and_is_reproducible(seed: int) -> None:
    scores, weak, strong = sample(seed, 300)
    one, two = (measure(scores, weak, strong, resamples=200) for _ in range(2))
    assert one == two
    assert one.apgr is not None
    assert one.apgr_low is not None
    assert one.apgr_high is not None
    assert one.apgr_low < one.apgr_high
    assert one.apgr_low - 0.05 < one.apgr < one.apgr_high + 0.05


def test_the_interval_narrows_with_more_prompts() -> None:
    few, many = (measure(*sample(1, n), resamples=300) for n in (100, 2000))
    assert few.apgr_high is not None
    assert few.apgr_low is not None
    assert many.apgr_high is not None
    assert many.apgr_low is not None
    assert many.apgr_high - many.apgr_low < 0.5 * (few.apgr_high - few.apgr_low)


def test_random_recovers_half_within_its_own_interval() -> None:
    _, weak, strong = sample(2, 500)
    found = measure_random(weak, strong)
    assert found.apgr == pytest.approx(0.5, abs=0.05)
    assert found.apgr_low is not None
    assert found.apgr_low < 0.5
    assert measure_random(weak, weak).apgr is None


def labelled(n: int = 60) -> Labelled:
    scores, weak, strong = sample(5, n)
    benchmarks = tuple("ab"[i % 2] for i in range(n))
    return Labelled(tuple(f"{s:.4f}" for s in scores), weak, strong, {"benchmark": benchmarks}, name="file")


def test_groups_and_controls_stand_beside_every_router() -> None:
    found = evaluate(labelled(), {"mine": lambda texts: [float(t) for t in texts]}, resamples=50)
    assert list(found.groups) == ["a", "b"]
    for group in found.groups.values():
        assert set(group) == {"mine", "random", "oracle"}
        assert group["mine"].n == 30
    shown = json.loads(json.dumps(found.to_dict()))
    assert set(shown["a"]["mine"]) == {"n", "apgr", "apgr_low", "apgr_high", "cpt20", "cpt50", "cpt80"}


def test_notes_become_warnings_that_name_the_router() -> None:
    found = evaluate(labelled(), {"flat": lambda texts: [0.5] * len(texts)}, resamples=10)
    assert found.warnings[0].startswith("a, flat: the router gives every prompt one score")
    assert found.to_dict()["a"]["flat"]["apgr"] is None


def test_without_a_benchmark_column_the_file_is_one_group() -> None:
    data = labelled()
    found = evaluate(Labelled(data.prompts, data.weak, data.strong, name="mine"), {}, resamples=10)
    assert list(found.groups) == ["mine"]


def test_an_unknown_column_to_group_by_is_named() -> None:
    with pytest.raises(InvalidData, match=r"no column domain; columns: benchmark"):
        evaluate(labelled(), {}, by="domain")
