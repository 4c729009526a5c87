"""Guesses that are checked several at once: never another answer than without them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from edge_router.chat.events import Event, Finished, TextDelta
from edge_router.chat.request import ChatRequest
from edge_router.engines.base import answered
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.local.scheduling.speculation import Guesses, Lookup, Speculation, StepTimes

Ask = Callable[..., ChatRequest]
Make = Callable[..., tuple[LocalEngine, Any]]

SAID = "the cat sat on the mat and the cat sat on the mat"
SCHEMA = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}}
CASES: dict[str, dict[str, Any]] = {
    "greedy": {"max_tokens": 60},
    "drawn": {"max_tokens": 60, "temperature": 0.4, "seed": 3},
    "drawn hotter": {"max_tokens": 60, "temperature": 0.9, "top_p": 0.9, "top_k": 20, "seed": 4},
    "with penalties": {"max_tokens": 60, "repetition_penalty": 1.3, "presence_penalty": 0.4, "temperature": 0.6,
                       "seed": 5},
    "with log probabilities": {"max_tokens": 40, "logprobs": True, "top_logprobs": 2},
    "with a bias": {"max_tokens": 40, "logit_bias": {65: 3.0}, "temperature": 0.5, "seed": 6},
    "one token": {"max_tokens": 1},
    "two tokens": {"max_tokens": 2},
}  # fmt: skip


def events(engine: LocalEngine, request: ChatRequest) -> list[Event]:
    return list(answered(engine, request, threading.Event()))


def told(found: Sequence[Event]) -> tuple[Any, ...]:
    """What is said, token by token, and how it ended."""
    texts = tuple((event.text, event.logprobs) for event in found if isinstance(event, TextDelta))
    ends = tuple(
        (event.reason, event.stop_sequence, event.usage) for event in found if isinstance(event, Finished)
    )
    return texts, ends


def test_the_same_is_said_with_guesses(make_engine: Make, verifying_runner: Any, ask: Ask) -> None:
    guessed = 0
    for name, params in CASES.items():
        for end in (False, True):
            found = {}
            for ahead in (1, 3, 8):
                engine, runner = make_engine(kind=verifying_runner, ahead=ahead, end=end)
                found[ahead] = told(events(engine, ask(SAID, **params)))
                assert ahead > 1 or not runner.count("verify")
                guessed += runner.count("verify")
            assert found[1] == found[3] == found[8], (name, end)
    assert guessed > 20


def test_an_answer_ends_within_its_guesses(make_engine: Make, verifying_runner: Any, ask: Ask) -> None:
    """By a stop string, its limit or the context; the next turn goes on with what is known of it."""
    engine, runner = make_engine(kind=verifying_runner, ahead=1)
    (whole, _) = told(events(engine, ask(SAID, max_tokens=90)))
    text = "".join(piece for piece, _ in whole)
    for length in range(20, len(text) - 3, 13):
        stop = text[length : length + 3]
        for params in ({"stop": (stop,), "max_tokens": 90}, {"max_tokens": 10 + length // 5}):
            found = []
            for ahead in (1, 8):
                engine, runner = make_engine(kind=verifying_runner, ahead=ahead, context=160)
                first = told(events(engine, ask(SAID, **params)))
                again = told(events(engine, ask(SAID + "!", **params)))
                lengths = sorted(len(tokens) for tokens in runner.sequences.values())
                found.append((first, again, lengths))  # nothing but what was said is kept
            assert found[0] == found[1], params


def test_several_answers_at_once(make_engine: Make, verifying_runner: Any, ask: Ask) -> None:
    asked = [ask(f"{SAID} {number}", **params) for number, params in enumerate(list(CASES.values())[:4])]
    engine, _ = make_engine(kind=verifying_runner, ahead=1)
    alone = [told(events(engine, request))[0] for request in asked]
    for pages in (None, 24):  # and where they have to make room for one another
        engine, runner = make_engine(kind=verifying_runner, sequences=4, pages=pages)
        with ThreadPoolExecutor(4) as pool:
            together = [told(found)[0] for found in pool.map(partial(events, engine), asked)]
        assert together == alone
        assert pages or runner.count("verify")


def test_what_breaks_while_guesses_are_checked_is_computed_again(
    make_engine: Make, verifying_runner: Any, ask: Ask
) -> None:
    engine, runner = make_engine(kind=verifying_runner, sequences=2)
    wanted = told(events(engine, ask(SAID, max_tokens=40)))[0]
    runner.fail["pop_tokens"] = 1
    errors = 0
    for _ in range(3):
        try:
            assert told(events(engine, ask(SAID, max_tokens=40)))[0] == wanted
        except Exception:  # noqa: BLE001  whose answer it was
            errors += 1
    assert errors <= 1


# ---- what is guessed ---------------------------------------------------------------------------------------


def test_what_followed_the_last_tokens_is_guessed() -> None:
    for tokens, count, wanted in (
        ([], 3, (0, [])),
        ([1], 3, (0, [])),
        ([1, 2, 3], 3, (0, [])),
        ([1, 2, 3, 1, 2], 1, (2, [3])),
        ([1, 2, 3, 4, 9, 1, 2, 3], 2, (3, [4, 9])),
        ([1, 2, 7, 5, 1, 2, 8, 1, 2], 2, (2, [8, 1])),  # the latest of equals
        ([4, 1, 2, 7, 5, 1, 2, 8, 4, 1, 2], 2, (3, [7, 5])),  # the longest of all
        ([6, 6, 6], 4, (2, [6, 6, 6, 6])),  # behind the end it goes on so
        ([1, 2, 1, 2], 5, (2, [1, 2, 1, 2, 1])),
    ):
        assert Lookup(tokens).guess(count) == wanted, tokens
    grown = [1, 2, 3]
    lookup = Lookup(grown)
    lookup.guess(2)
    grown += [1, 2]
    assert lookup.guess(2) == (2, [3, 1])


def test_guesses_that_fail_stop_and_come_back_when_they_hold() -> None:
    tokens = [1, 2, 3, 4] * 3
    guesses, speculation = Guesses(tokens), Speculation(8)
    speculation.times.took(1, 0.01)
    assert len(speculation.guesses([guesses], [50])[0]) > 1
    for number in range(12):  # it says something else each time
        tokens += [100 + number, 1, 2, 3, 4]
        guesses.next(7)
    assert speculation.guesses([guesses], [50]) == [[]]
    for _ in range(12):
        tokens += [guesses.next(7)[1][0]]
    assert speculation.guesses([guesses], [50])[0]
    assert speculation.guesses([guesses], [2])[0] == guesses.next(2)[1]
    assert speculation.guesses([guesses], [0]) == [[]]


def test_what_takes_as_long_as_its_tokens_is_not_tried() -> None:
    speculation = Speculation(8)
    for tokens in range(1, 9):
        speculation.times.took(tokens, 0.01 * tokens)
    guesses = Guesses([1, 2, 3, 4] * 5)
    tried = []
    for _ in range(300):
        (found,) = speculation.guesses([guesses], [50])
        tried.append(bool(found))
        speculation.times.took(1 + len(found), 0.01 * (1 + len(found)))
    assert 1 <= sum(tried) <= 8, "now and then, for the machine may have been busy"
    assert not any(tried[:100])


def test_times_between_those_that_are_known() -> None:
    times = StepTimes()
    assert times.all(2)[1] < times.all(2)[2]
    for seconds in (0.01, 0.011, 0.5, 0.012):  # something else was busy once
        times.took(1, seconds)
    times.took(4, 0.02)
    found = times.all(8)
    assert found[1] == 0.011 and found[4] == 0.02
    assert found[1] < found[2] < found[3] < found[4] < found[5] < found[8] < 0.05


def test_several_answers_share_what_is_read_at_once() -> None:
    speculation = Speculation(8)
    sure, unsure = Guesses([1, 2, 3, 4] * 5), Guesses([1, 2, 3, 4, 5, 6, 9, 2, 3])
    unsure.next(3)
    found = speculation.guesses([sure, unsure, Guesses([1, 2])], [50, 50, 50])
    assert len(found[0]) > len(found[1]) and not found[2]
    assert sum(map(len, found)) <= 5
