"""A model whose memory is given back while nobody asks, or when others need it, and that comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest
from edge_router.engines.base import answered
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.local.sampler import SamplingDefaults
from edge_router.engines.local.scheduling.jobs import UnloadPolicy
from edge_router.errors import EngineError, EngineUnavailable, InternalError, OutOfMemory
from edge_router.prompts.template import ChatTemplate
from edge_router.prompts.tokenizer import TextTokenizer


def run(engine: LocalEngine, request: ChatRequest) -> tuple[str, str | None]:
    deltas = list(answered(engine, request, threading.Event()))
    return collect(deltas).text, collect(deltas).finish_reason


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


class House:
    """Makes a runner each time one is loaded; `contexts` and `failures` are for the loads to come."""

    def __init__(self, runner: Any, tokenizer: TextTokenizer, speaks: list[int]) -> None:
        self._runner, self._tokenizer, self._speaks = runner, tokenizer, speaks
        self.made: list[Any] = []
        self.contexts: list[int] = []
        self.failures: list[Exception] = []
        self.threads: set[int] = set()
        self.pressed = False
        self.sequences = 1

    def load(self) -> Any:
        self.threads.add(threading.get_ident())
        if self.failures:
            raise self.failures.pop(0)
        context = self.contexts.pop(0) if self.contexts else 256
        vocabulary = self._tokenizer.vocab_size
        self.made.append(
            self._runner(vocabulary, context=context, sequences=self.sequences, speaks=self._speaks)
        )
        return self.made[-1]

    def engine(self, idle_s: float | None = None, pressed: Callable[[], bool] | None = None) -> LocalEngine:
        return LocalEngine(
            self.load,
            name="fake",
            model_id="small",
            tokenizer=self._tokenizer,
            template=ChatTemplate("{% for m in messages %}{{ m['content'] }}{% endfor %}", model="small"),
            end_tokens=(),
            defaults=SamplingDefaults(temperature=0.0),
            rest=UnloadPolicy(idle_s, lambda: self.pressed, 60.0)
            if pressed is None
            else UnloadPolicy(idle_s, pressed, 0.0),
        )


@pytest.fixture
def house(fake_runner: Any, tokenizer: TextTokenizer) -> House:
    return House(fake_runner, tokenizer, tokenizer.encode("xyz"))


def test_an_idle_model_gives_its_memory_back_and_returns_in_the_same_thread(house: House, ask: Any) -> None:
    engine = house.engine(idle_s=0.05)
    first = run(engine, ask("hello", max_tokens=5))
    wait_until(lambda: not engine.loaded)
    assert house.made[0].closed and engine.capabilities.context_window == 256
    assert run(engine, ask("hello", max_tokens=5)) == first
    assert len(house.made) == 2 and len(house.threads) == 1
    wait_until(lambda: not engine.loaded)
    engine.close()
    assert len(house.made) == 2 and all(runner.closed for runner in house.made)


def test_without_a_limit_it_stays(house: House, ask: Any) -> None:
    engine = house.engine()
    run(engine, ask("hello", max_tokens=5))
    time.sleep(0.1)
    assert engine.loaded and len(house.made) == 1
    engine.close()


def test_memory_that_is_asked_for_is_given_back_once_nobody_waits(house: House, ask: Any) -> None:
    engine = house.engine()
    answer = answered(engine, ask("hello", max_tokens=5), threading.Event())
    begun = [next(answer)]
    engine.unload()
    engine.unload()  # and once more, which changes nothing
    whole = collect([*begun, *answer])
    wait_until(lambda: not engine.loaded)
    engine.unload()  # there is none any more
    assert (whole.text, whole.finish_reason) == run(engine, ask("hello", max_tokens=5))
    assert engine.loaded and len(house.made) == 2 and house.made[0].closed
    engine.close()
    engine.unload()


def test_memory_that_was_given_back_is_there_again_once_it_is_asked_for(house: House, ask: Any) -> None:
    engine = house.engine()
    for times in (2, 3):
        engine.unload()
        wait_until(lambda: not engine.loaded)
        house.failures = [OutOfMemory("fake", "full")]
        with pytest.raises(OutOfMemory):
            engine.load()
        engine.load()
        engine.load()  # it is there
        assert engine.loaded and len(house.made) == times
    assert run(engine, ask("hello", max_tokens=5))[0] and len(house.made) == 3
    answer = answered(engine, ask("hello", max_tokens=50), threading.Event())
    next(answer)
    engine.load()  # nor does it wait for who is answered
    assert collect(answer).text
    engine.close()
    with pytest.raises(EngineUnavailable):
        engine.load()


def test_a_model_that_others_have_crowded_out_comes_back_smaller(house: House, ask: Any) -> None:
    engine = house.engine()
    run(engine, ask("hello", max_tokens=5))
    house.pressed, house.contexts = True, [64]
    text, reason = run(engine, ask("w" * 40))
    assert (len(house.made), house.made[0].closed, engine.capabilities.context_window) == (2, True, 64)
    assert reason == "length" and len(text) == 64 - 40
    engine.close()


def test_a_prompt_that_no_longer_fits_after_that_is_told_so(house: House, ask: Any) -> None:
    engine = house.engine()
    house.pressed, house.contexts = True, [32]
    with pytest.raises(OutOfMemory, match="context of 32 tokens"):
        run(engine, ask("w" * 40))
    house.pressed = False
    assert run(engine, ask("w" * 20))[1] == "length"
    engine.close()


@pytest.mark.parametrize("error", [OutOfMemory("fake", "full", 9, 5), ValueError("broken")])
def test_a_model_that_can_not_come_back_fails_the_asker_and_is_tried_again(
    house: House, ask: Any, error: Exception
) -> None:
    engine = house.engine()
    house.pressed, house.failures = True, [error]
    with pytest.raises(EngineError) as caught:
        run(engine, ask("hello", max_tokens=5))
    if isinstance(error, OutOfMemory):
        assert caught.value is error
    else:
        assert isinstance(caught.value, InternalError) and caught.value.__cause__ is error
    assert not engine.loaded
    house.pressed = False
    assert run(engine, ask("hello", max_tokens=5))[0]
    engine.close()


def test_it_can_be_closed_while_its_memory_is_given_back(house: House, ask: Any) -> None:
    engine = house.engine(idle_s=0.01)
    wait_until(lambda: not engine.loaded)
    engine.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        run(engine, ask("hello"))


class Pressing:
    """Others take memory once the model has said `after` tokens; they take no more when it was loaded again."""

    def __init__(self, house: House, after: int, failure: Exception | None = None) -> None:
        self._house, self._after, self._failure = house, after, failure

    def __call__(self) -> bool:
        pressed = len(self._house.made) == 1 and self._house.made[0].count("decode") >= self._after
        if pressed and self._failure is not None:
            self._house.failures, self._failure = [self._failure], None
        return pressed


def test_an_answer_that_is_crowded_out_goes_on_in_a_smaller_context(house: House, ask: Any) -> None:
    undisturbed = run(house.engine(), ask("hello", max_tokens=40))
    house.made.clear()
    house.contexts = [256, 96]
    engine = house.engine(pressed=Pressing(house, after=10))
    assert run(engine, ask("hello", max_tokens=40)) == undisturbed
    assert (len(house.made), house.made[0].closed, engine.capabilities.context_window) == (2, True, 96)
    engine.close()


def test_its_length_is_cut_to_what_is_left(house: House, ask: Any) -> None:
    house.contexts = [256, 64]
    engine = house.engine(pressed=Pressing(house, after=10))
    text, reason = run(engine, ask("w" * 20, max_tokens=200))
    assert reason == "length" and len(text) == 64 - 20
    engine.close()


def test_answers_of_several_that_are_crowded_out_keep_their_order_and_their_text(
    house: House, ask: Any
) -> None:
    alone = [run(house.engine(), ask(word, max_tokens=30)) for word in ("one", "two")]
    house.made.clear()
    house.sequences = 2
    engine = house.engine(pressed=Pressing(house, after=12))
    found: dict[int, tuple[str, str | None]] = {}
    askers = [
        threading.Thread(
            target=lambda n=n, word=word: found.update({n: run(engine, ask(word, max_tokens=30))})
        )
        for n, word in enumerate(("one", "two"))
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(20)
    assert [found[0], found[1]] == alone and len(house.made) == 2
    engine.close()


@pytest.mark.parametrize("failure", [None, OutOfMemory("fake", "no room at all", 9, 5)])
def test_an_answer_without_room_to_go_on_ends_with_an_error(
    house: House, ask: Any, failure: OutOfMemory | None
) -> None:
    """The context has become shorter than what was said already; or nothing fits at all."""
    house.contexts = [256, 16]
    engine = house.engine(pressed=Pressing(house, 20, failure))
    stream = answered(engine, ask("hello", max_tokens=40), threading.Event())
    assert next(stream).text
    with pytest.raises(OutOfMemory, match="no room at all" if failure else "16 tokens only"):
        list(stream)
    assert run(engine, ask("hi", max_tokens=5))[0], "and the engine still works"
    engine.close()
