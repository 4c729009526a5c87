"""The engine as its users have it: conversations, many at once, limits. On a random model, which says noise."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from edge_router.chat.events import Finished
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.engines.base import answered
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.load import open_model
from edge_router.engines.webgpu.runner import WebGpuRunner
from edge_router.errors import Cancelled, ContextOverflow, GenerationFailed
from edge_router.questions.inquiry import Answered, Inquiry
from edge_router.questions.question import Choice, YesNo
from edge_router.webgpu_program import Windows

GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def engine(adapter: Adapter, tiny_model: Any) -> Iterator[LocalEngine]:
    made = open_model(
        tiny_model.directory,
        tiny_model.file,
        adapter,
        windows=Windows(context=320, chunk=64, sequences=3),
        model_id="tiny",
    )
    yield made
    made.close()


def asking(*texts: str, **options: Any) -> ChatRequest:
    turns = [Message("assistant" if index % 2 else "user", text) for index, text in enumerate(texts)]
    return ChatRequest(tuple(turns), sampling=options.pop("sampling", GREEDY), **options)


def answer(engine: LocalEngine, request: ChatRequest) -> tuple[str, Finished]:
    deltas = list(answered(engine, request, threading.Event()))
    last = deltas[-1]
    assert isinstance(last, Finished)
    return collect(deltas).text, last


def test_the_next_turn_computes_only_what_is_new_and_says_the_same(
    engine: LocalEngine, adapter: Adapter, tiny_model: Any
) -> None:
    text, first = answer(engine, asking("Who are you?", max_tokens=20))
    following = asking("Who are you?", text, "And who else?", max_tokens=12)
    again, second = answer(engine, following)
    assert first.usage is not None and second.usage is not None and second.timings is not None
    assert second.usage.cached_tokens >= first.usage.prompt_tokens
    assert second.timings.prefill_tokens == second.usage.prompt_tokens - second.usage.cached_tokens
    fresh = open_model(
        tiny_model.directory, tiny_model.file, adapter, windows=Windows(320, 64), model_id="fresh"
    )
    wanted, alone = answer(fresh, following)
    fresh.close()
    assert alone.usage is not None and alone.usage.cached_tokens == 0
    assert again == wanted


def test_answers_at_the_same_time_are_the_answers_one_after_the_other(engine: LocalEngine) -> None:
    requests = [asking(f"Name {number} animals.", max_tokens=16) for number in range(2, 8)]
    alone = [answer(engine, request)[0] for request in requests]
    with ThreadPoolExecutor(6) as pool:
        together = [text for text, _ in pool.map(lambda request: answer(engine, request), requests)]
    # Several rows add up in another order than one, so a tie may fall otherwise: not in most of six.
    assert sum(one == other for one, other in zip(alone, together, strict=True)) >= 4


def test_a_seed_repeats_an_answer(engine: LocalEngine) -> None:
    def draw(seed: int) -> str:
        warm = SamplingParams(temperature=1.2, top_p=0.95, seed=seed)
        return answer(engine, asking("Invent a word.", max_tokens=24, sampling=warm))[0]

    draw(5)  # from here on the same prefix is kept, so that the same shaders run
    assert draw(5) == draw(5) != draw(6)


def test_logprobs(engine: LocalEngine) -> None:
    request = asking("Hello", max_tokens=5, logprobs=True, top_logprobs=3)
    deltas = list(answered(engine, request, threading.Event()))
    chosen = collect(deltas).logprobs
    assert chosen
    for logprob in chosen:
        assert len(logprob.top) == 3
        assert logprob.logprob == max(other.logprob for other in logprob.top)


def test_a_cancelled_answer_ends(engine: LocalEngine) -> None:
    cancel = threading.Event()
    stream = answered(engine, asking("Tell me a long story.", max_tokens=200), cancel)
    next(stream)
    cancel.set()
    with pytest.raises(Cancelled):
        list(stream)
    assert answer(engine, asking("Say yes.", max_tokens=3))[1].reason


def test_the_context_is_a_limit(engine: LocalEngine) -> None:
    with pytest.raises(ContextOverflow) as caught:
        answer(engine, asking("word " * 200))
    assert caught.value.context_window_size == 320
    _, last = answer(engine, asking("x" * 200))
    assert last.reason in ("length", "stop")
    assert last.usage is not None and last.usage.total_tokens <= 320


def test_a_lost_device_costs_one_answer(
    adapter: Adapter, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners: list[WebGpuRunner] = []
    start = WebGpuRunner._start

    def remembered(runner: WebGpuRunner, *arguments: Any) -> None:
        start(runner, *arguments)
        runners.append(runner)

    monkeypatch.setattr(WebGpuRunner, "_start", remembered)
    engine = open_model(
        tiny_model.directory, tiny_model.file, adapter, windows=Windows(128, 32), model_id="tiny"
    )
    before, _ = answer(engine, asking("Hello", max_tokens=8))
    assert runners[0]._gpu is not None
    runners[0]._gpu._device.destroy()  # what a driver's reset leaves behind
    with pytest.raises(GenerationFailed):
        answer(engine, asking("Hello again", max_tokens=8))
    assert answer(engine, asking("Hello", max_tokens=8))[0] == before
    assert len(runners) == 2
    engine.close()


def test_typed_questions_have_the_same_answer_alone_together_and_from_what_was_kept(
    engine: LocalEngine, adapter: Adapter, tiny_model: Any
) -> None:
    state = "Peter ordered a red guitar on Monday. It will be sent to Lisbon."
    questions = (
        YesNo(None, "Is it red?"),
        Choice(None, "Where does it go?", ["Oslo", "Lisbon", "Lisbon or Rome"]),
        *(YesNo(None, f"Is it number {number}?") for number in range(6)),
    )
    together, again = decided(engine, state, questions), decided(engine, state, questions)
    windows = Windows(320, 64)
    with closing(
        open_model(tiny_model.directory, tiny_model.file, adapter, windows=windows, model_id="m")
    ) as other:
        alone = [decided(other, state, (question,))[0] for question in questions[:3]]
    for row in together:
        assert sum(row) == pytest.approx(1, abs=1e-12)
    assert again == [pytest.approx(row, abs=1e-5) for row in together]
    assert alone == [pytest.approx(row, abs=1e-5) for row in together[:3]]


def decided(engine: LocalEngine, state: str, questions: Sequence[YesNo | Choice]) -> list[tuple[float, ...]]:
    events = engine.decide(Inquiry(state, questions), threading.Event())
    found = {event.index: event.probabilities for event in events if isinstance(event, Answered)}
    return [found[index] for index in range(len(questions))]
