"""A month's money for the strong model."""

from __future__ import annotations

import math
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from edge_router.chat.events import Event, Finished, TextDelta, Usage
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.config.settings import Config
from edge_router.errors import (
    BudgetSpent,
    DiskFull,
    StrongError,
    StrongFailed,
    StrongGarbled,
    StrongInterrupted,
    StrongRateLimited,
    StrongTimeout,
    StrongUnauthorized,
    StrongUnreachable,
)
from edge_router.routing.thresholds.payments import DAY, MONTH, day_end, day_of
from edge_router.routing.thresholds.prices import Prices
from edge_router.routing.thresholds.spending import DAY_S, ENOUGH, Spending, month_end, month_of
from edge_router.system.paths import Paths

COIN = Usage(1, 0)  # costs 1
QUESTION = ChatRequest((Message("user", "Why?"),))
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
                money.settle(None, COIN)
                sent += 1
        found.append(sent)
    return found


def test_the_money_lasts_the_month(paths: Paths) -> None:
    clock = Clock()
    money = spending(paths.spending, 300.0, clock)
    days = month(money, clock, 60)
    assert sum(days) <= 300 and sum(days) > 270  # of 900 that the threshold alone would send
    assert sum(days[20:]) > 60  # and not all of it in the first days


def test_where_it_is_enough_nothing_moves(paths: Paths) -> None:
    clock = Clock()
    money = spending(paths.spending, 5000.0, clock)
    for _ in range(200):
        clock.now += 3600
        money.observe(0.9)
        money.settle(None, COIN)
        assert money.threshold(0.3) == 0.3


def test_it_is_never_below_the_threshold_that_was_set(paths: Paths) -> None:
    clock = Clock()
    money = spending(paths.spending, 3.0, clock)
    for index in range(100):
        money.observe(index / 100)
    money.settle(None, COIN)
    assert money.threshold(0.5) > 0.9 and money.threshold(0.999) == 0.999


def test_a_new_month_begins_with_nothing_spent(paths: Paths) -> None:
    clock = Clock()
    money = spending(paths.spending, 2.0, clock)
    money.settle(None, COIN)
    assert not money.exhausted
    money.settle(None, COIN)
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
    one.settle(None, COIN)
    assert one.spent == other.spent == spending(paths.spending).spent == 3


def test_threads_lose_no_coin(paths: Paths) -> None:
    both = [spending(paths.spending), spending(paths.spending)]

    def pay(money: Spending) -> None:
        for _ in range(10):
            money.settle(None, COIN)

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
    money.settle(None, COIN)
    money.save()
    assert spending(paths.spending, 1.5).threshold(0.1) == pytest.approx(0.8)
    assert spending(paths.spending, 1.5, router="static").threshold(0.1) == 0.1


# ---- files, disks and clocks -------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"month": "2026-1', b"SQLite format 3\0" + b"\7" * 5000])
def test_a_damaged_file_is_no_permission(paths: Paths, content: bytes) -> None:
    paths.spending.write_bytes(content)
    money = spending(paths.spending)
    if content:  # an empty file is one in which nothing was written yet
        assert money.exhausted and money.spent == math.inf and money.problem is not None
        with pytest.raises(BudgetSpent, match="cannot be told"):
            money.begin(QUESTION)
    else:
        money.settle(None, COIN)
        assert money.spent == 1 and spending(paths.spending).spent == 1


@pytest.mark.parametrize("lost", ["removed", "emptied", "replaced"])
def test_a_file_that_is_lost_takes_no_payment_of_this_process_back(paths: Paths, lost: str) -> None:
    money = spending(paths.spending, 2.0)
    money.settle(None, COIN)
    money.settle(None, COIN)
    for file in paths.spending.parent.glob("spending.sqlite3*"):
        file.unlink()
    if lost == "emptied":
        paths.spending.touch()
    elif lost == "replaced":
        spending(paths.spending).settle(None, Usage(0, 0))
    assert money.exhausted
    with pytest.raises(BudgetSpent):
        money.begin(QUESTION)


def test_what_could_not_be_written_counts_and_is_written_later(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    money, other = spending(paths.spending, 5.0), spending(paths.spending, 5.0)
    money.settle(None, COIN)
    with monkeypatch.context() as disk:
        disk.setattr("edge_router.ledger.database.BUSY_S", 0.05)
        holder = sqlite3.connect(paths.spending, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        money.close()
        money.settle(None, COIN)
        assert money.spent == 2 and "rests" in caplog.text
        holder.execute("ROLLBACK")
        holder.close()
    assert other.spent == 1
    money.save()
    assert other.spent == spending(paths.spending).spent == 2


@pytest.mark.skipif(os.name == "nt", reason="another way to take write access away there")
def test_a_home_that_cannot_be_written_is_no_permission(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    money = spending(blocked / "spending.sqlite3", 2.0)
    for _ in range(3):
        with pytest.raises(BudgetSpent, match="cannot be told"):
            money.begin(QUESTION)


def at(*day: int) -> float:
    return time.mktime((*day, 12, 0, 0, 0, 0, -1))


@pytest.mark.parametrize("wrong", [at(2020, 1, 1), at(2026, 10, 31), at(2026, 12, 1), at(2031, 5, 5)])
def test_a_clock_that_was_wrong_for_a_while_takes_nothing_back(paths: Paths, wrong: float) -> None:
    clock = Clock(at(2026, 11, 20))
    spending(paths.spending, clock=clock).settle(None, Usage(9, 0))
    clock.now = wrong
    spending(paths.spending, clock=clock).settle(None, COIN)
    clock.now = at(2026, 11, 21)
    assert spending(paths.spending, clock=clock).spent == 10
    clock.now = at(2026, 12, 2)  # the next month begins with nothing, or with what a wrong clock put there
    assert spending(paths.spending, clock=clock).spent <= 1


@pytest.mark.parametrize("back", [at(1970, 2, 1), at(2020, 1, 1), at(2026, 10, 31)])
def test_a_clock_that_goes_back_opens_no_second_budget(paths: Paths, back: float) -> None:
    clock = Clock(at(2026, 11, 20))
    spending(paths.spending, clock=clock).settle(None, Usage(9, 0))
    clock.now = back
    money = spending(paths.spending, clock=clock)
    for _ in range(3):
        assert money.spent >= 9
        money.settle(None, COIN)
        money.save()
    assert money.exhausted


def test_a_year_that_was_wrong_once_closes_no_month_for_ever(paths: Paths) -> None:
    clock = Clock(at(2026, 1, 10))
    spending(paths.spending, clock=clock).settle(None, COIN)
    clock.now = at(2030, 1, 1)
    spending(paths.spending, clock=clock).settle(None, Usage(50, 0))
    seen = []
    for month in range(2, 6):
        clock.now = at(2026, month, 1)
        money = spending(paths.spending, clock=clock)
        seen.append(money.spent)
        money.save()
    assert seen == [50, 0, 0, 0]


def test_routing_waits_for_no_file(paths: Paths) -> None:
    money = spending(paths.spending)
    money.settle(None, COIN)
    holder = sqlite3.connect(paths.spending, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    begin = time.perf_counter()
    for _ in range(5):
        money.observe(0.5)
        assert money.threshold(0.5) == 0.5 and not money.exhausted
    assert time.perf_counter() - begin < 2.0  # a write would wait that long
    holder.execute("ROLLBACK")
    holder.close()


# ---- one answer --------------------------------------------------------------------------------------------


def answer(*words: str, usage: Usage | None = None, failure: Exception | None = None) -> Iterator[Event]:
    for word in words:
        yield TextDelta(word)
    if failure is not None:
        raise failure
    yield Finished("stop", usage=usage)


def paid(paths: Paths, deltas: Iterator[Event], *, read: int = 99, usage: Usage | None = None) -> float:
    """What an answer cost of which `read` deltas were read; a token costs 1."""
    money = Spending(1e9, Prices(1e6, 1e6), router="mf", file=paths.spending)
    payment = money.begin(QUESTION)
    assert money.spent > 0  # it is put down before anything leaves
    stream = payment.metered(deltas)
    try:
        for _ in zip(range(read), stream, strict=False):
            pass
    except StrongError:
        pass
    finally:
        stream.close()  # type: ignore[attr-defined]
    payment.settle(usage)
    payment.settle(Usage(10**6, 10**6))  # once is enough
    return money.spent


def test_a_whole_answer_costs_what_its_endpoint_states(paths: Paths) -> None:
    assert paid(paths, answer("one ", "two ", "three"), usage=Usage(7, 3)) == 10


@pytest.mark.parametrize("read", [1, 2, 20])
def test_an_answer_that_is_left_costs_what_was_read(paths: Paths, read: int) -> None:
    words = ["something "] * 40
    assert paid(paths, answer(*words), read=read) >= read + 1


def test_an_answer_that_breaks_off_costs_what_came(paths: Paths) -> None:
    broken = answer(*["word "] * 10, failure=StrongInterrupted("x", "it broke off"))
    assert 11 <= paid(paths, broken) <= 60


@pytest.mark.parametrize(
    ("failure", "free"),
    [
        (StrongUnreachable("x", "nobody there"), True),
        (StrongUnauthorized("x", 401, None), True),
        (StrongRateLimited("x"), True),
        (StrongFailed("x", 500, "broken"), True),
        (StrongTimeout("x", 1.0), False),
        (StrongGarbled("x", "no JSON"), False),
    ],
)
def test_what_never_began_costs_its_question_or_nothing(
    paths: Paths, failure: StrongError, free: bool
) -> None:
    assert (paid(paths, answer(failure=failure)) == 0) is free


@pytest.mark.parametrize(
    "usage",
    [Usage(10**12, 10**12), Usage(10**12, 3), Usage(3, 10**12), Usage(-5, -5), Usage(0, 0, 0, 10**12)],
)
def test_an_absurd_usage_is_bounded_by_the_answers_own_size(paths: Paths, usage: Usage) -> None:
    assert 0 <= paid(paths, answer("a few words", usage=usage), usage=usage) < 1000


@pytest.mark.parametrize("usage", [Usage(0, 0), Usage(-1, -1), Usage(1, 0), Usage(0, 1), Usage(1, 1)])
def test_a_usage_of_next_to_nothing_makes_no_answer_free(paths: Paths, usage: Usage) -> None:
    words = ["something "] * 400
    assert paid(paths, answer(*words, usage=usage), read=999, usage=usage) > 100


def test_a_file_that_is_being_made_is_no_damaged_one(paths: Paths) -> None:
    def ask(one: Spending, go: threading.Barrier) -> None:
        go.wait()
        for _ in range(3):
            one.begin(QUESTION).settle(Usage(1, 1))
            assert one.spent < 1 and one.problem is None

    with ThreadPoolExecutor(8) as threads:
        for number in range(10):
            file, go = paths.spending.with_name(f"{number}.sqlite3"), threading.Barrier(8)
            money = [Spending(1.0, Prices(0.0, 1.0), router="mf", file=file) for _ in range(2)]
            asked = [threads.submit(ask, money[index % 2], go) for index in range(8)]
            for each in asked:
                each.result()
            for one in money:
                one.close()


def test_thoughts_that_are_counted_and_not_shown_are_paid(paths: Paths) -> None:
    usage = Usage(10, 5000, reasoning_tokens=4990)
    assert paid(paths, answer("yes", usage=usage), usage=usage) == 5010


def test_a_full_disk_is_told_as_one(paths: Paths) -> None:
    """And not as a damaged file, by which SQLite has ended the transaction itself."""
    money = spending(paths.spending, 1e9)
    money.settle(None, COIN)
    with money._payments._database.writing() as connection:
        connection.execute("PRAGMA max_page_count = 8")  # SQLite's own way to be told that there is no more
    with pytest.raises(BudgetSpent):
        for _ in range(10_000):
            money.begin(QUESTION)
    assert isinstance(money._problem, DiskFull)
    money.begin(QUESTION)  # the next one begins afresh


def test_beside_others_an_answer_must_fit_with_all_that_they_may_cost(paths: Paths) -> None:
    money = Spending(1.0, Prices(0.0, 100.0), router="mf", file=paths.spending)
    request = replace(QUESTION, max_tokens=4000)  # 0.4 at the most
    first, second = money.begin(request), money.begin(request)
    with pytest.raises(BudgetSpent):
        money.begin(request)
    first.settle(Usage(1, 10))
    third = money.begin(request)
    for payment in (second, third):
        payment.settle(Usage(1, 10))
    assert money.spent < 0.01


@pytest.mark.parametrize("threads", [1, 8])
def test_the_budget_is_passed_by_one_answer_at_most(paths: Paths, threads: int) -> None:
    cost, budget = 0.3, 2.0
    money = [Spending(budget, Prices(0.0, 100.0), router="mf", file=paths.spending) for _ in range(2)]
    request = replace(QUESTION, max_tokens=3000)

    def ask(one: Spending) -> None:
        for _ in range(20):
            try:
                payment = one.begin(request)
            except BudgetSpent:
                continue
            stream = payment.metered(answer("x" * 3000))
            for _ in stream:
                pass
            payment.settle(Usage(1, 3000))

    running = [threading.Thread(target=ask, args=(money[index % 2],)) for index in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert budget - cost <= money[0].spent <= budget + cost


def test_a_process_that_died_has_paid_what_its_answer_could_cost(paths: Paths) -> None:
    money = Spending(1.0, Prices(0.0, 100.0), router="mf", file=paths.spending)
    money.begin(replace(QUESTION, max_tokens=2000))
    assert Spending(1.0, Prices(0.0, 100.0), router="mf", file=paths.spending).spent == pytest.approx(0.2)


def test_months() -> None:
    december = time.mktime((2026, 12, 31, 23, 0, 0, 0, 0, -1))
    assert month_of(december) == "2026-12" and month_of(month_end(december)) == "2027-01"
    assert month_of(month_end(START) - 1) == month_of(START) == "2026-11"


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone of a process can be set on POSIX only")
def test_days_and_months_end_in_the_users_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        for zone, noon, ends in (
            ("UTC", 1_793_448_000, 12 * 3600),  # 2026-10-31 12:00
            ("Asia/Kolkata", 1_793_448_000, 6.5 * 3600),  # 17:30 there
            ("America/New_York", 1_793_505_600, 25 * 3600),  # 2026-11-01 00:00, a day of 25 hours
            ("Europe/Berlin", 1_792_879_200, 25 * 3600),  # 2026-10-25 00:00, another one
            ("Europe/Berlin", 1_774_738_800, 23 * 3600),  # 2026-03-29 00:00, a day of 23
        ):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert day_end(noon) - noon == ends, zone
            assert day_of(day_end(noon) - 1) == day_of(noon) < day_of(day_end(noon)), zone
            assert MONTH.name(MONTH.end(noon) - 1) == MONTH.name(noon) < MONTH.name(MONTH.end(noon)), zone
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_days_money_is_there_again_the_next_day_and_not_before(paths: Paths) -> None:
    clock = Clock(START + 3600)
    file = paths.callers / "anna" / "day.sqlite3"

    def today() -> Spending:
        return Spending(2.0, PRICES, router="mf", file=file, clock=clock, period=DAY)

    money = today()
    money.settle(None, COIN), money.settle(None, COIN)
    assert money.exhausted
    with pytest.raises(BudgetSpent, match="this day's money is spent, of a budget of 2"):
        money.begin(QUESTION)
    money.close()
    assert today().exhausted  # after a new start
    clock.now -= 7 * DAY_S
    assert today().spent == 2  # a clock that goes back gives nothing back
    clock.now = day_end(START + 3600) - 1
    assert today().exhausted
    clock.now += 1
    assert today().spent == 0 and not today().exhausted


def test_a_days_money_raises_the_threshold_towards_its_evening(paths: Paths) -> None:
    clock = Clock(START)
    money = Spending(10.0, PRICES, router="mf", file=paths.spending, clock=clock, period=DAY)
    for number in range(100):
        money.observe(number / 100)
    money.settle(None, COIN)
    assert money.threshold(0.5) > 0.85
    clock.now = day_end(START) - 60
    assert money.threshold(0.5) == 0.5  # what is left is enough for its last minute


def test_it_is_configured(paths: Paths) -> None:
    config = Config().replace(**{"strong.monthly_budget": 20.0, "strong.price_in": 2.0})
    found = Spending.of(config, paths)
    assert found is not None and found.budget == 20
    assert Spending.of(Config(), paths) is None
