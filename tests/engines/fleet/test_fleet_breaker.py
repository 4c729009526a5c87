"""When an endpoint is left alone, and when it is tried again: one row for each course of events."""

from __future__ import annotations

from collections.abc import Iterable

from table import each

from edge_router.engines.fleet.breaker import Attempt, Breaker, Fault, fault_of
from edge_router.errors import (
    EdgeRouterError,
    EngineUnavailable,
    StrongEmpty,
    StrongFailed,
    StrongGarbled,
    StrongInterrupted,
    StrongQuotaExceeded,
    StrongRateLimited,
    StrongRedirected,
    StrongRefused,
    StrongTimeout,
    StrongUnauthorized,
    StrongUnreachable,
)

X = "http://127.0.0.1:1/v1"
# What happens, in order: f a failure, k one that no waiting mends, s a whole answer, b one that begins and
# breaks off, d one that ends with nothing learnt, < a question that leaves and is still out, > the oldest of
# these fails, number: seconds that pass. Then what it is, whether a question passes, and one before its time.
COURSES = (
    ("", "closed", True, False),
    ("ff", "closed", True, False),
    ("ffsff", "closed", True, False),
    ("fff", "open", False, True),
    ("ddddd", "closed", True, False),
    ("bbb", "open", False, True),
    ("fff 4.9", "open", False, True),
    ("fff 5", "half_open", True, True),
    ("fff 5 <", "half_open", False, False),
    ("fff 5 d", "half_open", True, True),
    ("fff 5 s", "closed", True, False),
    ("fff 5 s ff", "closed", True, False),
    ("fff 5 s fff", "open", False, True),
    ("fff 5 f", "open", False, False),
    ("fff 5 f 0.9", "open", False, False),
    ("fff 5 f 1", "open", False, True),
    ("fff 5 f 9.9", "open", False, True),
    ("fff 5 f 10", "half_open", True, True),
    ("fff 5 b", "open", False, False),
    ("fff 5 b 10 s", "closed", True, False),
    ("k", "open", False, False),
    ("k 59", "open", False, False),
    ("k 60", "half_open", True, False),
    ("k 60 k 119", "open", False, False),
    ("k 60 k 120", "half_open", True, False),
    # Late news of before it opened is none.
    ("<<<<<< >>> >>> 5", "half_open", True, True),
    ("<<<< >>> 5 s >", "closed", True, False),
    ("<<<< >>> 5 < >", "half_open", False, False),
    # The longest pause.
    ("fff 5 f 10 f 20 f 40 f 80 f 160 f 300 f 299", "open", False, True),
    ("fff 5 f 10 f 20 f 40 f 80 f 160 f 300 f 300", "half_open", True, True),
)


def words(course: str) -> Iterable[str]:
    for word in course.split():
        yield from [word] if word[0].isdigit() else word


@each("course, state, passes, early", COURSES)
def test_a_course_of_events(course: str, state: str, passes: bool, early: bool) -> None:
    now = [0.0]
    breaker, out = Breaker(lambda: now[0]), list[Attempt]()
    for word in words(course):
        if word[0].isdigit():
            now[0] += float(word)
        elif word == ">":
            breaker.failed(out.pop(0), Fault())
        else:
            assert breaker.passes, word
            attempt = breaker.begin()
            if word in "sb":
                breaker.answers(attempt)
            if word == "<":
                out.append(attempt)
            elif word == "s":
                breaker.succeeded(attempt)
            elif word in "fbk":
                breaker.failed(attempt, Fault(settled=word == "k"))
            if word != "<":
                breaker.dropped(attempt)
    assert (breaker.state, breaker.passes, breaker.tries_early) == (state, passes, early)


def test_an_answer_that_begins_lets_others_pass_at_once() -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for _ in range(3):
        breaker.failed(breaker.begin(), Fault())
    now[0] = 5.0
    trial = breaker.begin()
    assert not breaker.passes and breaker.trying
    breaker.answers(trial)
    assert breaker.passes and not breaker.trying
    breaker.failed(breaker.begin(), Fault())  # one more is enough
    assert breaker.state == "open" and breaker.ready_in == 10.0


def test_what_an_error_says_of_its_endpoint() -> None:
    for error, said in (
        (StrongUnauthorized(X, 401, None), Fault(settled=True)),
        (StrongUnauthorized(X, 403, "KEY"), Fault(settled=True)),
        (StrongQuotaExceeded(X, 429, "none left"), Fault(settled=True)),
        (StrongRedirected(X, 307, X), Fault(settled=True)),
        (EngineUnavailable("openai", "no key has that"), Fault(settled=True)),
        (StrongUnreachable(X, "refused"), Fault()),
        (StrongTimeout(X, 60.0), Fault(slow=True)),
        (StrongInterrupted(X, "cut"), Fault()),
        (StrongGarbled(X, "a web page"), Fault()),
        (StrongFailed(X, 500, "broke"), Fault()),
        (StrongFailed(X, 408, "slow"), Fault()),
        (StrongRateLimited(X, 1.0), None),
        (StrongFailed(X, 400, "too long"), None),
        (StrongFailed(X, 422, "no"), None),
        (StrongRefused(X, 400, "tools", "no"), None),
        (StrongEmpty(X), None),
        (EdgeRouterError("no"), None),
    ):
        assert fault_of(error) == said, error
