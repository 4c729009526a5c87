"""What another threshold would have done."""

from __future__ import annotations

import pytest

from edge_router.chat.events import Usage
from edge_router.config.sections import StrongConfig
from edge_router.ledger import Record
from edge_router.routing.thresholds.prices import Prices
from edge_router.routing.thresholds.replay import Spared, replay, spared
from edge_router.types import Decision, Hold, Reason, Tier

COUNTED = Usage(100, 10)
PRICES = Prices(price_in=10.0, price_out=30.0)


def record(score: float, tier: Tier, reason: Reason = Reason.SCORE, usage: Usage | None = COUNTED) -> Record:
    return Record(Decision(tier, reason, score, 0.5, "mf"), tier, usage)


TRAFFIC = (
    record(0.1, "weak"),
    record(0.4, "weak", usage=Usage(1000, 0)),
    record(0.45, "weak", usage=None),
    record(0.6, "strong"),
    record(0.9, "strong"),
    record(0.95, "weak", Reason.PRIVATE),
    record(0.2, "strong", Reason.NEEDS_TOOLS),
)


def test_only_what_the_score_decided_moves() -> None:
    found = replay(TRAFFIC, 0.4)
    assert [r.decision.score for r in found.to_strong] == [0.4, 0.45] and found.to_weak == ()
    assert (found.n, found.before.strong, found.after.strong, found.kept) == (7, 3, 5, 2)
    higher = replay(TRAFFIC, 0.7)
    assert [r.decision.score for r in higher.to_weak] == [0.6] and higher.to_strong == ()
    assert higher.after.strong == 2
    assert found.before.cost is None and found.to_dict()["before"] == {
        "strong": 3,
        "strong_share": 0.4286,
        "cost": None,
    }


def test_money() -> None:
    found = replay(TRAFFIC, 0.4, PRICES)
    one = 100 * 10e-6 + 10 * 30e-6
    assert found.before.cost == pytest.approx(3 * one)
    assert found.after.cost == pytest.approx(3 * one + 1000 * 10e-6)
    assert found.unpriced == 1  # the one that would move without anybody having counted its tokens


def test_at_its_own_threshold_nothing_moves() -> None:
    found = replay(TRAFFIC, 0.5, PRICES)
    assert (found.to_strong, found.to_weak, found.before) == ((), (), found.after)


def test_nothing_at_all() -> None:
    assert replay((), 0.5, PRICES).to_dict()["before"] == {"strong": 0, "strong_share": None, "cost": 0}


def test_prices_are_those_configured() -> None:
    assert Prices.of(StrongConfig()) is None
    assert Prices.of(StrongConfig(price_out=8.0)) == Prices(0.0, 8.0)
    assert Prices(2.0, 8.0).cost(Usage(500_000, 250_000)) == 3.0


def held(tier: Tier, score: float, held: Hold | None, tokens: int, reason: Reason = Reason.SESSION) -> Record:
    return Record(Decision(tier, reason, score, 0.5, "mf", held=held, held_tokens=tokens), tier, COUNTED)


def test_what_sessions_have_spared() -> None:
    records = [
        held("weak", 0.6, "prompt", 3000),
        held("weak", 0.9, "tool_call", 500),
        held("strong", 0.1, "prompt", 700),
        held("strong", 0.9, "tool_call", 0),  # where the score would have sent it, too
        *TRAFFIC,
    ]
    assert spared(records) == Spared(3, 4200, None)
    assert spared(records, PRICES) == Spared(
        3, 4200, pytest.approx(3500 * 10e-6)
    )  # which the weak one had read
    assert replay(records, 0.4, PRICES).to_dict()["sessions"] == {
        "switches": 3,
        "tokens": 4200,
        "cost": 0.035,
    }
    assert replay(TRAFFIC, 0.4).to_dict()["sessions"] == {"switches": 0, "tokens": 0, "cost": None}
    assert replay(records, 0.4).kept == 6  # no threshold moves them
