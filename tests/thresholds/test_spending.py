"""A month's money for the strong model."""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path

import pytest

from edge_router.config import Config
from edge_router.paths import Paths
from edge_router.thresholds.prices import Prices
from edge_router.thresholds.spending import DAY_S, ENOUGH, Spending, month_end, month_of
from edge_router.types import Usage

COIN = Usage(1, 0)  # costs 1
PRICES = Prices(1e6, 0.0)
START = time.mktime((2026, 11, 1, 0, 0, 0, 0, 0, -1))


class Clock:
    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def spending(file: Path, budget: float = 10.0, clock: Clock | None = None, router: str = "mf") -> Spending:
    return Spending(budget, PRICES, router=router, file=file, clock=clock or Clock())


def month(money: Spending, clock: Clock, per_day: int, base: float = 0.5, seed: int = 0) -> list[int]:
    """Strong answers of each day of thirty; scores are spread evenly."""
    rng, found = random.Random(seed), []
    for _ in range(30):
        sent = 0
        for _ in range(per_day):
            clock.now += DAY_S / per_day * 0.999
            score = rng.random()
            strong = score >= money.threshold(base) and not money.exhausted
            money.observe(score)
            if strong:
                money.pay(COIN)
                sent += 1
        found.append(sent)
    return found


def test_the_money_lasts_the_month(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "edge_router.disk.os.fsync", lambda number: None
    )  # ten thousand would take their time
    clock = Clock()
    money = spending(paths.spending, 300.0, clock)
    days = month(money, clock, 60)
    assert sum(days) <= 300 and sum(days) > 270  # of 900 that the threshold alone would send
    assert sum(days[20:]) > 60  # and not all of it in the first days


def test_where_it_is_enough_nothing_moves(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_router.disk.os.fsync", lambda number: None)
    clock = Clock()
    money = spending(paths.spending, 5000.0, clock)
    for _ in range(200):
        clock.now += 3600
        money.observe(0.9)
        money.pay(COIN)
        assert money.threshold(0.3) == 0.3


def test_it_is_never_below_the_threshold_that_was_set(paths: Paths) -> None:
    clock = Clock()
    money = spending(paths.spending, 3.0, clock)
    for index in range(100):
        money.observe(index / 100)
    money.pay(COIN)
    assert money.threshold(0.5) > 0.9 and money.threshold(0.999) == 0.999


def test_a_new_month_begins_with_nothing_spent(paths: Paths) -> None:
    clock = Clock()
    money = spending(paths.spending, 2.0, clock)
    money.pay(COIN)
    assert not money.exhausted
    money.pay(COIN)
    assert money.exhausted and money.spent == 2
    clock.now = month_end(clock.now) + 1
    assert money.spent == 0 and not money.exhausted
    other = spending(paths.spending, 2.0, clock)
    assert other.spent == 0


def test_what_was_spent_is_known_to_the_next_run_and_to_others_at_once(paths: Paths) -> None:
    one, other = spending(paths.spending), spending(paths.spending)
    one.pay(COIN)
    assert other.spent == 1
    other.pay(COIN)
    one.pay(COIN)
    assert one.spent == other.spent == spending(paths.spending).spent == 3


def test_threads_lose_no_coin(paths: Paths) -> None:
    both = [spending(paths.spending), spending(paths.spending)]

    def pay(money: Spending) -> None:
        for _ in range(10):
            money.pay(COIN)

    threads = [threading.Thread(target=pay, args=(money,)) for money in both for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spending(paths.spending).spent == 40


def test_scores_are_kept_for_the_router_that_gave_them(paths: Paths) -> None:
    money = spending(paths.spending, 1.5)
    for _ in range(ENOUGH):
        money.observe(0.8)
    money.pay(COIN)
    money.save()
    assert spending(paths.spending, 1.5).threshold(0.1) == pytest.approx(0.8)
    assert spending(paths.spending, 1.5, router="static").threshold(0.1) == 0.1


@pytest.mark.parametrize("text", ["", "[1]", '{"month": 3, "spent": "much", "scores": 7}', '{"spent": NaN}'])
def test_a_damaged_file_counts_as_nothing_spent(paths: Paths, text: str) -> None:
    paths.spending.write_text(text, encoding="utf-8")
    money = spending(paths.spending)
    assert money.spent == 0
    money.pay(COIN)
    assert json.loads(paths.spending.read_text(encoding="utf-8"))["spent"] == 1


def test_a_place_that_cannot_be_written_still_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    money = spending(blocked / "spending.json", 2.0)
    money.pay(COIN)
    money.pay(COIN)
    assert money.exhausted and "may be forgotten" in caplog.text


def test_months() -> None:
    december = time.mktime((2026, 12, 31, 23, 0, 0, 0, 0, -1))
    assert month_of(december) == "2026-12" and month_of(month_end(december)) == "2027-01"
    assert month_of(month_end(START) - 1) == month_of(START) == "2026-11"


def test_it_is_configured(paths: Paths) -> None:
    config = Config().replace(**{"strong.monthly_budget": 20.0, "strong.price_in": 2.0})
    found = Spending.of(config, paths)
    assert found is not None and found.budget == 20
    assert Spending.of(Config(), paths) is None
