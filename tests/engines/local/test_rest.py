"""A model whose memory is given back while nobody asks, or when others need it, and that comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.local.sampler import SamplingDefaults
from edge_router.engines.local.template import ChatTemplate
from edge_router.engines.local.tokenizer import TextTokenizer
from edge_router.engines.local.worker import Rest
from edge_router.errors import EngineError, EngineUnavailable, OutOfMemory
from edge_router.types import ChatRequest


def run(engine: LocalEngine, request: ChatRequest) -> tuple[str, str | None]:
    deltas = list(engine.stream(request, threading.Event()))
    return "".join(delta.text for delta in deltas), deltas[-1].finish_reason


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

    def load(self) -> Any:
        self.threads.add(threading.get_ident())
        if self.failures:
            raise self.failures.pop(0)
        context = self.contexts.pop(0) if self.contexts else 256
        vocabulary = self._tokenizer.vocab_size
        self.made.append(self._runner(vocabulary, context=context, speaks=self._speaks))
        return self.made[-1]

    def engine(self, idle_s: float | None = None) -> LocalEngine:
        return LocalEngine(
            self.load,
            name="fake",
            model_id="small",
            tokenizer=self._tokenizer,
            template=ChatTemplate("{% for m in messages %}{{ m['content'] }}{% endfor %}", model="small"),
            end_tokens=(),
            defaults=SamplingDefaults(temperature=0.0),
            rest=Rest(idle_s, lambda: self.pressed),
        )


@pytest.fixture
def house(fake_runner: Any, tokenizer: TextTokenizer) -> House:
    return House(fake_runner, tokenizer, tokenizer.encode("xyz"))


def test_an_idle_model_gives_its_memory_back_and_returns_in_the_same_thread(house: House, ask: Any) -> None:
    engine = house.engine(idle_s=0.05)
    first = run(engine, ask("hello", max_tokens=5))
    wait_until(lambda: not engine.loaded)
    assert house.made[0].closed and engine.context_window_size == 256
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


def test_a_model_that_others_have_crowded_out_comes_back_smaller(house: House, ask: Any) -> None:
    engine = house.engine()
    run(engine, ask("hello", max_tokens=5))
    house.pressed, house.contexts = True, [64]
    text, reason = run(engine, ask("w" * 40))
    assert (len(house.made), house.made[0].closed, engine.context_window_size) == (2, True, 64)
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
        assert isinstance(caught.value, EngineUnavailable) and caught.value.__cause__ is error
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


def test_a_running_answer_is_never_interrupted_by_pressure(house: House, ask: Any) -> None:
    engine = house.engine(idle_s=0.01)
    house.made[0].gate = threading.Event()
    stream = engine.stream(ask("hello", max_tokens=5), threading.Event())
    threading.Thread(target=lambda: (house.made[0].entered.wait(20), house.made[0].gate.set())).start()
    house.pressed = False
    texts = [next(stream).text]
    house.pressed = True
    texts += [delta.text for delta in stream]
    assert len(house.made) == 1 and "".join(texts)
    engine.close()
