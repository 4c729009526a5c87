"""Thresholds of several models together: shares are met, and prices."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.config.tiers import TierConfig
from edge_router.errors import InvalidInput
from edge_router.ledger import Record
from edge_router.routing.thresholds.replay import tier_counts
from edge_router.routing.thresholds.tiers import choose_for_shares, shares_for_price, shares_of
from edge_router.types import Decision, Reason

_DRAW = random.Random(7)
SCORES = [_DRAW.random() for _ in range(1000)]


@settings(max_examples=20)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=5))
def test_each_gets_its_share(parts: list[int]) -> None:
    names = ["weak", *(f"model-{place}" for place in range(1, len(parts)))]
    shares = {name: part / sum(parts) for name, part in zip(names, parts, strict=True)}
    found = choose_for_shares(SCORES, shares)
    assert [tier.model for tier in found.tiers] == names
    assert all(below.at < above.at for below, above in zip(found.tiers, found.tiers[1:], strict=False))
    got = shares_of(found.tiers, SCORES)
    for each in found.shares:
        assert each.share == got[each.model] == pytest.approx(shares[each.model], abs=2e-3)
        assert each.low <= each.share <= each.high
    assert sum(got.values()) == pytest.approx(1)


def test_a_share_that_no_score_is_left_for() -> None:
    shares = {"weak": 0.5, "small": 0.25, "big": 0.25}
    found = choose_for_shares([0.1] * 50 + [0.9] * 50, shares)
    assert [tier.model for tier in found.tiers] == ["weak", "small"] and "big" in found.warnings[-1]
    none = choose_for_shares(SCORES, {"weak": 0.5, "small": 0.0, "big": 0.5})
    assert [tier.model for tier in none.tiers] == ["weak", "big"]
    for shares in (
        {"weak": 0.5, "big": 0.6},
        {"big": 1.0},
        {"small": 0.5, "big": 0.5},
        {"weak": -1, "big": 2},
    ):
        with pytest.raises(InvalidInput):
            choose_for_shares(SCORES, shares)


def test_a_price_is_met() -> None:
    costs = {"weak": 0.0, "small": 0.001, "big": 0.01}
    split = {"small": 0.3, "big": 0.1}
    for price in (0.0005, 0.001, 0.002):
        shares = shares_for_price(price, costs, split)
        assert shares["small"] == pytest.approx(3 * shares["big"])
        found = choose_for_shares(SCORES, shares, costs)
        assert found.cost == pytest.approx(price, rel=0.03)
    assert shares_for_price(1.0, costs, split)["weak"] == 0.0  # it pays for everything
    with pytest.raises(InvalidInput):
        shares_for_price(1.0, costs, {"small": 0.0})


def test_replay_counts_by_model() -> None:
    tiers = tuple(TierConfig(at, model) for at, model in ((0.0, "weak"), (0.3, "small"), (0.6, "big")))

    def record(model: str, score: float, tier: str | None, reason: Reason = Reason.SCORE) -> Record:
        return Record(Decision(model, reason, score, 0.3, "mf", tier_model=tier), "m")  # type: ignore[arg-type]

    records = (
        record("weak", 0.2, None),
        record("strong", 0.4, "small"),
        record("strong", 0.5, "big"),  # as the tiers were then
        record("strong", 0.9, None),  # before there were any
        record("weak", 0.9, None, Reason.PRIVATE),
    )
    assert tier_counts(records, tiers, 0.3) == {
        "weak": (2, 2),
        "small": (1, 2),
        "big": (1, 1),
        "strong": (1, 0),
    }
    assert tier_counts(records, tiers, 0.55)["weak"] == (2, 4)
    assert tier_counts(records, (), 0.3) == {}
