"""How much an endpoint may be asked, by a clock of the tests' own."""

from __future__ import annotations

import math

from edge_router.engines.fleet.limits import EndpointLimits, RetryBudget, Window


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_no_minute_holds_more_than_the_limit() -> None:
    clock = Clock()
    window, left = Window(10, clock), list[float]()
    while clock.now < 600:
        wait = window.ready_in(1)
        if wait:
            assert window.ready_in(1) == wait
            clock.now += wait
            assert window.ready_in(1) == 0
        window.take(1)
        left.append(clock.now)
        clock.now += 0.7
    for first in left:
        assert sum(first <= when < first + 60 for when in left) <= 10, first
    assert len(left) >= 95  # and hardly less than that


def test_what_has_no_limit_never_waits() -> None:
    clock = Clock()
    limits = EndpointLimits(clock)
    for _ in range(1000):
        limits.begin(10**9)
    assert limits.ready_in(10**9) == 0 and limits.in_flight == 1000


def test_tokens_count_as_they_turned_out() -> None:
    clock = Clock()
    limits = EndpointLimits(clock, tokens_per_minute=100)
    first = limits.begin(80)
    assert limits.ready_in(20) == 0 and limits.ready_in(21) == 60
    limits.end(first, 10)
    assert limits.ready_in(90) == 0 and limits.ready_in(91) == 60
    clock.now = 30
    limits.end(limits.begin(50), None)  # nobody knows: it stays as it was estimated
    assert limits.ready_in(41) == 30 and limits.ready_in(51) == 60
    clock.now = 60
    assert limits.ready_in(50) == 0


def test_a_prompt_beyond_the_limit_goes_alone() -> None:
    clock = Clock()
    limits = EndpointLimits(clock, tokens_per_minute=100)
    assert limits.ready_in(5000) == 0
    limits.begin(5000)
    assert limits.ready_in(1) == 60
    clock.now = 60
    assert limits.ready_in(5000) == 0


def test_at_once() -> None:
    limits = EndpointLimits(Clock(), concurrency=2)
    first = limits.begin(1)
    assert limits.ready_in(1) == 0
    limits.begin(1)
    assert limits.ready_in(1) == math.inf
    limits.end(first, 1)
    assert limits.ready_in(1) == 0 and limits.in_flight == 1


def test_cooling_lasts_as_long_as_was_asked_for() -> None:
    clock = Clock()
    limits = EndpointLimits(clock)
    for asked, waits in ((7.0, 7.0), (3.0, 7.0), (20.0, 20.0), (1e9, 3600.0)):
        limits.cool(asked)
        assert limits.ready_in(1) == limits.cooling_s == waits, asked
    clock.now = 3600
    assert limits.ready_in(1) == 0


def test_cooling_grows_where_nobody_says_how_long() -> None:
    clock, waits = Clock(), list[float]()
    limits = EndpointLimits(clock)
    for _ in range(9):
        for _ in range(3):  # asked at once, and refused at once
            limits.cool(None)
        waits.append(limits.cooling_s)
        clock.now += limits.cooling_s
    assert waits == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    limits.answered()
    limits.cool(None)
    assert limits.cooling_s == 1


def test_second_tries_are_a_share_of_all_questions() -> None:
    budget = RetryBudget()
    assert sum(budget.take() for _ in range(100)) == 10
    for _ in range(100):
        budget.asked()
    assert sum(budget.take() for _ in range(100)) == 10  # no more are saved up
    granted = 0
    for _ in range(1000):
        budget.asked()
        granted += budget.take()
    assert 199 <= granted <= 201
