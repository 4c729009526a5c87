"""Several requests, and what is kept between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_router.chat.events import Event, Usage
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest
from edge_router.engines.base import answered
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.local.scheduling.jobs import GenerationTask
from edge_router.engines.local.scheduling.sequences import CachedSequence, SequencePool
from edge_router.errors import Cancelled, InternalError, OutOfMemory
from edge_router.prompts.tokenizer import TextTokenizer

Ask = Callable[..., ChatRequest]
Make = Callable[..., tuple[LocalEngine, Any]]
OwnWords = Callable[[Any, ChatRequest, int], str]


def run(
    engine: LocalEngine, request: ChatRequest, cancel: threading.Event | None = None
) -> tuple[str, Usage]:
    deltas = list(answered(engine, request, cancel or threading.Event()))
    reply = collect(deltas)
    assert reply.usage is not None
    return reply.text, reply.usage


def at_once(engine: LocalEngine, requests: list[ChatRequest]) -> list[str]:
    with ThreadPoolExecutor(len(requests)) as pool:
        return [text for text, _ in pool.map(lambda request: run(engine, request), requests)]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture(params=["in turns", "overlapping"])
def runner_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ---- what is kept ------------------------------------------------------------------------------------------


def test_the_next_turn_computes_only_what_is_new(
    make_engine: Make, ask: Ask, own_words: OwnWords, tokenizer: TextTokenizer
) -> None:
    engine, runner = make_engine(speaks=tokenizer.encode("xyz"))
    text, usage = run(engine, ask("What is the capital of France?", max_tokens=8))
    second = ask("What is the capital of France?", text, "And the next?", max_tokens=8)
    before = len(runner.calls)
    more, again = run(engine, second)
    assert more == own_words(runner, second, 8)
    assert again.cached_tokens == usage.total_tokens - 1  # the last one was said and never read
    computed = [token for name, call in runner.calls[before:] if name == "prefill" for token in call[1]]
    assert len(computed) == again.prompt_tokens - again.cached_tokens
    assert len(runner.sequences) == 1  # it went on in place


def test_conversations_share_what_they_have_in_common(
    make_engine: Make, ask: Ask, own_words: OwnWords, tokenizer: TextTokenizer
) -> None:
    engine, runner = make_engine(context=512)
    common = "x" * 100
    run(engine, ask(common + "one", max_tokens=4))
    other = ask(common + "two", max_tokens=4)
    text, usage = run(engine, other)
    assert text == own_words(runner, other, 4)
    assert usage.cached_tokens == len(tokenizer.encode("<|im_start|>user\n" + common))
    assert runner.count("fork_sequence") == 1
    same, usage = run(engine, other)
    assert same == text
    assert usage.cached_tokens == usage.prompt_tokens - 1  # one token must be computed


def test_the_least_recently_used_conversation_goes_first(
    make_engine: Make, ask: Ask, own_words: OwnWords
) -> None:
    engine, runner = make_engine(context=128, pages=24)
    topics = {letter: ask(letter * 70, max_tokens=4) for letter in "abcd"}
    for letter in "abab":
        run(engine, topics[letter])
    for letter in "cd":
        text, _ = run(engine, topics[letter])
        assert text == own_words(runner, topics[letter], 4)
    assert run(engine, topics["d"])[1].cached_tokens > 60
    assert run(engine, topics["a"])[1].cached_tokens < 32  # only the beginning of the template
    assert runner.free_tokens >= 0


def test_only_so_many_conversations_are_kept(make_engine: Make, ask: Ask) -> None:
    engine, runner = make_engine(context=64, pages=1000)
    for number in range(30):
        run(engine, ask(f"{number} different", max_tokens=2))
    assert len(runner.sequences) == 16


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompts=st.lists(st.text("ab", min_size=1, max_size=40), min_size=1, max_size=10),
    pages=st.integers(6, 14),
    chunk=st.integers(1, 40),
)
def test_answers_do_not_depend_on_what_is_kept(
    make_engine: Make, ask: Ask, own_words: OwnWords, prompts: list[str], pages: int, chunk: int
) -> None:
    engine, runner = make_engine(context=96, pages=pages, chunk=chunk)
    for prompt in prompts:
        request = ask(prompt, max_tokens=5)
        assert run(engine, request)[0] == own_words(runner, request, 5)
    engine.close()


def test_what_another_needs_is_shared_and_not_taken(fake_runner: type[Any]) -> None:
    runner = fake_runner(context=256, pages=12)
    pool = SequencePool(runner, 8)

    def held(tokens: list[int]) -> CachedSequence:
        one = pool.begin(tokens)
        rest = tokens[len(one.tokens) :]
        runner._append(one.sequence, rest)
        one.tokens += rest
        return one

    first = held(list(range(40)))
    running = pool.begin([*range(40), 99])
    assert running is not first and len(running.tokens) == 39  # a fork at the end costs both a page
    pool.finish(first)
    assert pool.begin(list(range(40))) is not first  # all 40 are there, and one must be computed
    taken = pool.begin([*range(40), 41])
    assert taken is first and taken.tokens == list(range(40))
    assert pool.begin([0, 1, 2, 77]).tokens == []  # not worth the copy of a page
    held([*range(1000, 1000 + runner.free_tokens)])
    assert len(pool.begin([*range(40), 42]).tokens) == 32  # no page is left for a copy: share whole ones


# ---- many at once ------------------------------------------------------------------------------------------


def test_answers_are_computed_together_and_none_changes_another(
    make_engine: Make, ask: Ask, own_words: OwnWords
) -> None:
    engine, runner = make_engine(sequences=3, chunk=16)
    requests = [ask(f"Question {'very ' * number}{number}", max_tokens=12 + number) for number in range(7)]
    texts = at_once(engine, requests)
    assert texts == [own_words(runner, request, 12 + number) for number, request in enumerate(requests)]
    batches = [len(sequences) for name, sequences in runner.calls if name == "decode"]
    assert max(batches) > 1


def test_requests_come_in_the_order_of_their_arrival(
    make_engine: Make, ask: Ask, tokenizer: TextTokenizer
) -> None:
    engine, runner = make_engine()
    runner.gate = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(run, engine, ask("a", max_tokens=3))]
        assert runner.entered.wait(20)
        for number, letter in enumerate("bcd", 1):
            asked.append(pool.submit(run, engine, ask(letter, max_tokens=3)))
            wait_until(lambda wanted=number: engine._scheduler._inbox.qsize() == wanted)  # type: ignore[misc]
        runner.gate.set()
        for future in asked:
            future.result(20)
    prompts = [call[1] for name, call in runner.calls if name == "prefill"]
    start = len(tokenizer.encode("<|im_start|>user\n"))
    assert [tokenizer.token_bytes(prompt[start]) for prompt in prompts] == [b"a", b"b", b"c", b"d"]


def test_a_long_prompt_does_not_hold_up_an_answer(make_engine: Make, ask: Ask) -> None:
    engine, runner = make_engine(sequences=2, chunk=16, context=400)
    runner.gate = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        short = pool.submit(run, engine, ask("short", max_tokens=30))
        assert runner.entered.wait(20)
        long = pool.submit(run, engine, ask("l" * 200, max_tokens=3))
        wait_until(lambda: engine._scheduler._inbox.qsize() == 1)
        runner.gate.set()
        short.result(20)
        long.result(20)
    names = [name for name, _ in runner.calls if name in ("prefill", "decode")]
    after = names[names.index("decode") :]
    chunks = [index for index, name in enumerate(after) if name == "prefill"]
    assert len(chunks) > 10
    assert all(later - earlier == 2 for earlier, later in pairwise(chunks[:11]))


def test_long_prompts_take_turns(make_engine: Make, ask: Ask) -> None:
    engine, runner = make_engine(sequences=3, chunk=16, context=400)
    runner.gate = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(run, engine, ask("first", max_tokens=2))
        assert runner.entered.wait(20)
        others = [pool.submit(run, engine, ask(letter * 150, max_tokens=2)) for letter in "xy"]
        wait_until(lambda: engine._scheduler._inbox.qsize() == 2)
        runner.gate.set()
        for future in (first, *others):
            future.result(20)
    turns = [call[0] for name, call in runner.calls if name == "prefill"][1:]
    assert all(one != other for one, other in pairwise(turns[:9]))


def test_when_pages_run_out_the_last_to_come_waits_and_every_answer_is_right(
    make_engine: Make, ask: Ask, own_words: OwnWords
) -> None:
    engine, runner = make_engine(sequences=4, context=128, pages=14, chunk=16)
    runner.gate = threading.Event()
    requests = [ask(letter * 8, max_tokens=80) for letter in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(run, engine, requests[0])]
        assert runner.entered.wait(20)
        asked += [pool.submit(run, engine, request) for request in requests[1:]]
        wait_until(lambda: engine._scheduler._inbox.qsize() == 3)
        runner.gate.set()
        texts = [future.result(20)[0] for future in asked]
    assert texts == [own_words(runner, request, 80) for request in requests]
    batches = [len(sequences) for name, sequences in runner.calls if name == "decode"]
    assert max(batches) == 4  # all were at it, before some had to go
    assert runner.count("remove_sequence") > 0


def test_a_prompt_that_finds_no_pages_waits_for_them(
    make_engine: Make, ask: Ask, own_words: OwnWords
) -> None:
    engine, runner = make_engine(sequences=2, context=128, pages=8, chunk=16)
    runner.gate = threading.Event()
    requests = [ask(letter * 60, max_tokens=20) for letter in "ab"]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, engine, requests[0])
        assert runner.entered.wait(20)
        second = pool.submit(run, engine, requests[1])
        wait_until(lambda: engine._scheduler._inbox.qsize() == 1)
        runner.gate.set()
        texts = [first.result(20)[0], second.result(20)[0]]
    assert texts == [own_words(runner, request, 20) for request in requests]
    assert max(len(sequences) for name, sequences in runner.calls if name == "decode") == 1


def test_a_cache_that_is_smaller_than_one_context_fails_cleanly(
    make_engine: Make, ask: Ask, own_words: OwnWords
) -> None:
    engine, runner = make_engine(context=128, pages=4)
    with pytest.raises(InternalError):
        run(engine, ask("x" * 60, max_tokens=40))
    request = ask("y", max_tokens=3)
    assert run(engine, request)[0] == own_words(runner, request, 3)


# ---- cancelling --------------------------------------------------------------------------------------------


def begun(engine: LocalEngine, request: ChatRequest, cancel: threading.Event) -> Iterator[Event]:
    stream = answered(engine, request, cancel)
    next(stream)
    return stream


def test_a_cancelled_answer_ends_within_a_token(make_engine: Make, ask: Ask, own_words: OwnWords) -> None:
    engine, runner = make_engine(context=100_000)
    cancel = threading.Event()
    stream = begun(engine, ask("Talk"), cancel)
    cancel.set()
    with pytest.raises(Cancelled):
        list(stream)
    wait_until(lambda: engine._scheduler._inbox.empty())
    request = ask("Next", max_tokens=4)
    assert run(engine, request)[0] == own_words(runner, request, 4)
    calls = [sequences for name, sequences in runner.calls if name == "decode"]
    assert calls[-3:] != calls[:3]  # the last ones are the second answer's, not the first's


def test_leaving_the_stream_cancels_it(make_engine: Make, ask: Ask) -> None:
    engine, runner = make_engine(context=100_000)
    stream = begun(engine, ask("Talk"), threading.Event())
    stream.close()  # type: ignore[attr-defined]
    run(engine, ask("Next", max_tokens=4))  # comes to its turn
    done = runner.count("decode")
    time.sleep(0.05)
    assert runner.count("decode") == done


def test_one_who_waits_may_cancel_too(make_engine: Make, ask: Ask) -> None:
    engine, runner = make_engine(context=100_000)
    runner.gate = threading.Event()
    first, second = threading.Event(), threading.Event()
    stream = begun(engine, ask("Talk"), first)
    assert runner.entered.wait(20)
    second.set()
    with pytest.raises(Cancelled):
        list(answered(engine, ask("Wait"), second))
    first.set()
    runner.gate.set()
    with pytest.raises(Cancelled):
        list(stream)
    run(engine, ask("Next", max_tokens=2))
    assert runner.count("add_sequence") + runner.count("fork_sequence") <= 2


def test_what_was_computed_before_a_cancel_is_kept(make_engine: Make, ask: Ask) -> None:
    engine, _ = make_engine(context=100_000)
    stream = begun(engine, ask("A long question about one thing"), threading.Event())
    stream.close()  # type: ignore[attr-defined]
    _, usage = run(engine, ask("A long question about one thing", max_tokens=2))
    assert usage.cached_tokens > 16


# ---- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["prefill", "decode", "remove_sequence"])
def test_an_error_spares_the_answers_that_did_not_meet_it(
    make_engine: Make, ask: Ask, own_words: OwnWords, call: str
) -> None:
    engine, runner = make_engine(sequences=3, chunk=16, context=128, pages=20)
    runner.fail[call] = 2 if call == "remove_sequence" else 5
    requests = [ask(f"{letter * 30}", max_tokens=30) for letter in "abcdef"]
    failures = 0

    def talk(request: ChatRequest) -> None:
        nonlocal failures
        try:
            assert run(engine, request)[0] == own_words(runner, request, 30)
        except InternalError as error:
            assert str(error.__cause__) == f"{call} broke"
            failures += 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(talk, requests))
    assert call not in runner.fail
    assert failures <= 3
    assert (failures >= 1) or call == "remove_sequence"


def test_an_error_of_ours_stays_what_it_is(make_engine: Make, ask: Ask) -> None:
    engine, runner = make_engine()

    def full(*details: Any) -> Any:
        raise OutOfMemory("fake", "the device is full")

    runner.decode = full
    with pytest.raises(OutOfMemory, match="the device is full"):
        run(engine, ask("Hi"))


def test_who_waits_while_the_engine_closes_is_told(make_engine: Make, ask: Ask) -> None:
    engine, runner = make_engine(context=100_000)
    runner.gate = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(run, engine, ask("first"))]
        assert runner.entered.wait(20)
        asked += [pool.submit(run, engine, ask(str(number))) for number in range(2)]
        wait_until(lambda: engine._scheduler._inbox.qsize() == 2)
        closing = pool.submit(engine.close)
        wait_until(lambda: engine._scheduler._inbox.qsize() == 3)
        late = GenerationTask(tokens=[1], sampler=None, sink=Late(), cancelled=lambda: False)  # type: ignore[arg-type]
        engine._scheduler._inbox.put(late)
        runner.gate.set()
        closing.result(20)
        for future in asked:
            with pytest.raises(Cancelled):
                future.result(20)
    assert isinstance(late.sink.error, Cancelled)  # type: ignore[attr-defined]


# ---- computing while the last text is made -----------------------------------------------------------------


class Permits:
    """In place of a gate: lets a number of decodes through."""

    def __init__(self, count: int) -> None:
        self._left = threading.Semaphore(count)

    def wait(self, timeout: float) -> bool:
        return self._left.acquire(timeout=timeout)

    def grant(self, count: int) -> None:
        self._left.release(count)


@pytest.mark.parametrize("allowed", [0, 1, 5])
def test_no_text_waits_for_the_token_after_it(
    make_engine: Make, ask: Ask, tokenizer: TextTokenizer, allowed: int
) -> None:
    engine, runner = make_engine(speaks=tokenizer.encode("xyz"))
    runner.gate = Permits(allowed)
    stream = answered(engine, ask("hello", max_tokens=30), threading.Event())
    early = [next(stream).text for _ in range(allowed + 1)]  # the one after it is being computed
    assert all(early)
    runner.gate.grant(30)
    assert list(stream)[-1].reason == "length"


def test_an_answer_whose_length_ends_it_computes_nothing_more(
    make_engine: Make, ask: Ask, own_words: OwnWords
) -> None:
    engine, runner = make_engine()
    request = ask("hello", max_tokens=6)
    text, usage = run(engine, request)
    assert text == own_words(runner, request, 6)
    assert usage.completion_tokens == 6
    assert runner.count("decode") == 5


def test_an_end_token_computes_nothing_more(make_engine: Make, ask: Ask, tokenizer: TextTokenizer) -> None:
    engine, runner = make_engine(end=True, context=1024)
    _, usage = run(engine, ask("hello there"))
    assert runner.count("decode") == usage.completion_tokens


@pytest.mark.parametrize("stop", ["x", "y", "xy", "yx"])
def test_a_stop_string_ends_an_answer_with_the_same_text(
    make_engine: Make, ask: Ask, own_words: OwnWords, tokenizer: TextTokenizer, runner_kind: str, stop: str
) -> None:
    engine, runner = make_engine(speaks=tokenizer.encode("xyz"))
    request = ask("hello", max_tokens=40, stop=(stop,))
    text, usage = run(engine, request)
    assert text == own_words(runner, request, 40).partition(stop)[0]
    more = runner.count("decode") - (usage.completion_tokens - 1)
    assert more == (1 if runner_kind == "overlapping" and usage.completion_tokens > 1 else 0)
    follows = ask("hello", text, "and then?", max_tokens=8)
    assert run(engine, follows)[0] == own_words(runner, follows, 8)


class Late:
    """A sink that only hears how it ended."""

    error: Exception | None = None

    def push(self, choice: object, job: object) -> bool:
        raise AssertionError

    def fail(self, error: Exception) -> None:
        self.error = error
