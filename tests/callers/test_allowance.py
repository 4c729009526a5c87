"""How much one caller may ask."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge_router.callers.allowance import Allowance, Left, Standing
from edge_router.config.callers import CallerConfig
from edge_router.errors import CallerLimited


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_requests_in_any_minute() -> None:
    clock = Clock()
    allowance = Allowance(CallerConfig("a", requests_per_minute=2), clock)
    assert allowance.standing == Standing(requests=Left(2, 2, 0.0))
    allowance.end(allowance.begin(5), 5)
    clock.now += 20
    allowance.end(allowance.begin(5), 5)
    with pytest.raises(CallerLimited) as caught:
        allowance.begin(5)
    assert (caught.value.what, caught.value.limit, caught.value.retry_after) == ("requests a minute", 2, 40.0)
    assert allowance.standing == Standing(requests=Left(2, 0, 60.0))
    clock.now += 40
    allowance.check(5)
    allowance.begin(5)
    with pytest.raises(CallerLimited):
        allowance.check(5)


def test_tokens_are_counted_as_they_were_once_they_are_known() -> None:
    clock = Clock()
    allowance = Allowance(CallerConfig("a", tokens_per_minute=100), clock)
    first = allowance.begin(30)
    assert allowance.standing == Standing(tokens=Left(100, 70, 60.0))
    allowance.end(first, 95)
    with pytest.raises(CallerLimited, match="100 tokens a minute"):
        allowance.begin(10)
    clock.now += 60
    beyond = allowance.begin(5000)  # alone it may pass: it could never begin
    allowance.end(beyond, None)
    with pytest.raises(CallerLimited):
        allowance.begin(1)


def test_answers_at_once_and_never_one_more_whoever_asks_at_the_same_time() -> None:
    allowance = Allowance(CallerConfig("a", concurrency=3, requests_per_minute=5))
    begun, go = list[object](), threading.Barrier(16)

    def ask(number: int) -> None:
        go.wait()
        try:
            begun.append(allowance.begin(1))
        except CallerLimited as error:
            assert (error.what, error.retry_after) == ("answers at once", 1.0)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, range(16)))
    assert len(begun) == 3
    for usage in begun:
        allowance.end(usage, 1)  # type: ignore[arg-type]
    for _ in range(2):
        allowance.end(allowance.begin(1), 1)
    with pytest.raises(CallerLimited, match="requests a minute"):
        allowance.begin(1)
    assert allowance.standing.requests is not None and allowance.standing.requests.left == 0


def test_no_limit() -> None:
    allowance = Allowance(CallerConfig("a"))
    for _ in range(100):
        allowance.begin(10**6)
    assert allowance.standing == Standing()
