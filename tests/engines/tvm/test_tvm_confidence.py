"""What the compiled model shows of its certainty, held against the reference."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.api.client import Controller
from edge_router.chat.events import HiddenState
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, SamplingParams, SignalRequest
from edge_router.engines.base import answered
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.scripted import ScriptedEngine
from edge_router.engines.tvm.engine import open_model
from edge_router.routing.confidence.asking import anchors
from edge_router.routing.routers.scripted import ScriptedRouter

CLOSE = 0.3  # logits in float16 against float32; their standard deviation is about 7


@pytest.fixture(scope="module")
def engine(batch_model: Any) -> Iterator[LocalEngine]:
    made = open_model(
        batch_model.model_dir, batch_model.library, model_id="m", threads=1, context_window_size=512
    )
    yield made
    made.close()


def asking(text: str, **options: Any) -> ChatRequest:
    return ChatRequest((Message("user", text),), sampling=SamplingParams(temperature=0), **options)


def test_a_thousand_logits_are_the_whole_last_hidden_state(
    engine: LocalEngine, batch_model: Any, reference_llama: Callable[[Path], Any]
) -> None:
    """Solved for the hidden state they give all the others, which are a linear map of it and nothing else."""
    request = asking(
        "What is the capital of France?",
        max_tokens=1,
        signals=SignalRequest(state=anchors(engine.vocab_size)),
    )
    first = next(iter(answered(engine, request, threading.Event())))
    assert isinstance(first, HiddenState)
    model = reference_llama(batch_model.model_dir)
    head = model.matrix("model.embed_tokens")
    assert len(first.values) > head.shape[1]
    hidden, *_ = np.linalg.lstsq(
        head[list(request.signals.state)], np.array(first.values, np.float32), rcond=None
    )  # type: ignore[union-attr]
    assert engine._template is not None
    prompt = engine._tokenizer.encode(engine._template.render(request.messages))
    wanted = model.logits(prompt, len(prompt) - 1)[0]
    assert np.abs(head @ hidden - wanted)[: engine.vocab_size].max() < 2 * CLOSE


def test_log_probabilities_are_the_references(
    engine: LocalEngine, batch_model: Any, reference_llama: Callable[[Path], Any]
) -> None:
    request = asking("Name a colour.", max_tokens=4, logprobs=True, signals=SignalRequest(tokens=4))
    said = collect(answered(engine, request, threading.Event())).logprobs
    assert engine._template is not None
    prompt = engine._tokenizer.encode(engine._template.render(request.messages))
    tokens = [
        next(t for t in range(engine.vocab_size) if engine._tokenizer.token_bytes(t) == entry.token_bytes)
        for entry in said
    ]
    rows = reference_llama(batch_model.model_dir).logits([*prompt, *tokens[:-1]], len(prompt) - 1)
    rows = (
        rows
        - np.log(np.exp(rows - rows.max(1, keepdims=True)).sum(1, keepdims=True))
        - rows.max(1, keepdims=True)
    )
    wanted = rows[np.arange(len(tokens)), tokens]
    assert np.allclose([entry.logprob for entry in said], wanted, atol=2 * CLOSE)


@pytest.mark.parametrize(("bound", "model"), [(0.0, "m"), (1.0, "big")])
def test_a_real_answer_is_held_back_and_shown_whole_or_not_at_all(
    engine: LocalEngine, bound: float, model: str
) -> None:
    from edge_router.routing.confidence.gate import Gate, LogisticRegression

    watched = anchors(engine.vocab_size)
    head = LogisticRegression((0.0,) * len(watched), 0.0)
    gate = Gate(
        6, watched, head, LogisticRegression((1.0, 1.0), 2.0), LogisticRegression((1.0, 1.0, 1.0), 2.0)
    )
    plain = collect(answered(engine, asking("Say hello.", max_tokens=20), threading.Event())).text
    kept = _Kept(engine)
    with Controller(
        weak=kept,
        strong=ScriptedEngine("Strong words.", model_id="big"),
        router=ScriptedRouter(0.1),
        gate=gate,
        weak__min_confidence=bound,
    ) as controller:
        answer = controller.start(asking("Say hello.", max_tokens=20))
        text = collect(answer).text
    assert answer.model == model and text == {"m": plain, "big": "Strong words."}[model]
    assert answer.decision.confidence is not None and 0 < answer.decision.confidence < 1
    if model == "big":
        assert answer.spent is not None and answer.spent.completion_tokens == 6


class _Kept:
    """The engine, for a controller that must not close it."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        pass


def test_what_was_read_to_judge_a_question_is_not_read_again_to_answer_it(engine: LocalEngine) -> None:
    question = (
        "A farmer has seventeen sheep and all but nine of them run away one night. How many stay with her?"
    )
    with Controller(weak=_Kept(engine), strong=ScriptedEngine(model_id="big")) as controller:
        answer = controller.start(asking(question, target="router-causal_llm-1", max_tokens=2))
        list(answer)
    assert answer.model == "m" and answer.decision.score is not None and 0 < answer.decision.score < 1
    usage = answer.usage
    assert usage is not None and usage.prompt_tokens - usage.cached_tokens <= 4


def test_the_judgement_is_the_references(
    engine: LocalEngine, batch_model: Any, reference_llama: Callable[[Path], Any]
) -> None:
    request = asking("Is water wet? Reply with Yes or No only.")
    found = engine.score_choices(engine.prepare(request), ("Yes", "No"), threading.Event())
    assert engine._template is not None
    prompt = engine._tokenizer.encode(engine._template.render(request.messages))
    wanted = reference_llama(batch_model.model_dir).logits(prompt, len(prompt) - 1)[0]
    tokens = [engine._tokenizer.encode(reply)[-1] for reply in ("Yes", "No")]
    assert np.allclose(found, wanted[tokens], atol=CLOSE)
