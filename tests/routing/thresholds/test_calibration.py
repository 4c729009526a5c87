from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_router.errors import InvalidInput
from edge_router.routing.thresholds.calibration import choose_threshold, prompts_needed, wilson

shares = st.floats(0, 1)
scores = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@given(scores, shares)
@example([0.0, 5e-324], 0.5)  # no number lies between these
@example([0.5, 0.5000000000000001], 0.5)
def test_no_other_threshold_comes_nearer(values: list[float], wanted: float) -> None:
    found = choose_threshold(values, wanted)
    reached = np.mean(np.array(values) >= found.threshold)
    assert 0 <= found.threshold <= 1
    assert found.share == pytest.approx(reached)
    # At 1.0 a score of 1.0 still counts: no threshold in 0..1 sends nothing then.
    candidates = [np.mean(np.array(values) >= t) for t in {*values, 1.0}]
    if found.share != 0:
        assert abs(reached - wanted) <= min(abs(c - wanted) for c in candidates) + 1e-9


@given(scores, shares, shares)
def test_a_larger_share_never_raises_the_threshold(values: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert choose_threshold(values, high).threshold <= choose_threshold(values, low).threshold


def test_the_threshold_lies_between_scores() -> None:
    found = choose_threshold([0.1, 0.2, 0.3, 0.4], 0.5)
    assert found.threshold == pytest.approx(0.25)
    assert found.share == 0.5


@pytest.mark.parametrize(("wanted", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_the_extremes_send_nothing_and_everything(wanted: float, share: float) -> None:
    assert choose_threshold([0.2, 0.4, 0.9], wanted).share == share


def test_ties_are_said() -> None:
    found = choose_threshold([0.5] * 1000, 0.3)
    assert found.share in (0.0, 1.0)
    assert "tied" in found.warnings[0]


def test_few_prompts_are_said_and_many_are_not() -> None:
    rng = np.random.default_rng(0)
    few, many = choose_threshold(rng.random(50), 0.3), choose_threshold(rng.random(5000), 0.3)
    assert "50 prompts are few" in few.warnings[0]
    assert not many.warnings
    assert few.low < 0.3 < few.high


def test_the_interval_covers_what_new_traffic_does() -> None:
    """Drawn again and again, the true share of the chosen threshold lies inside about 95 times in 100."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        found = choose_threshold(rng.random(300), 0.3)
        inside += found.low <= 1 - found.threshold <= found.high
    assert 0.92 <= inside / 400 <= 0.98


@pytest.mark.parametrize(("share", "needed"), [(0.1, 865), (0.2, 1537), (0.5, 2401)])
def test_how_many_prompts_two_points_need(share: float, needed: int) -> None:
    assert prompts_needed(share, 0.02) == needed


def test_wilson_agrees_with_a_worked_example() -> None:
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([float("nan")], 0.5), ([0.5], 1.5), ([0.5], -0.1)])
def test_what_cannot_be_calibrated_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(InvalidInput):
        choose_threshold(values, share)


def test_as_json() -> None:
    found = choose_threshold([0.1, 0.9], 0.5).to_dict()
    assert found["strong_share"] == 0.5
    assert found["n"] == 2
    assert set(found) == {"threshold", "strong_share", "share", "low", "high", "n", "warnings"}
