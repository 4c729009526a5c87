"""What an engine shows of its certainty to whoever asks, and to nobody else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge_router.chat.events import Event, HiddenState
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, SignalRequest
from edge_router.engines.base import answered
from edge_router.engines.local.engine import LocalEngine

Ask = Callable[..., ChatRequest]
Make = Callable[..., tuple[LocalEngine, Any]]


def deltas(engine: LocalEngine, request: ChatRequest) -> list[Event]:
    return list(answered(engine, request, threading.Event()))


def test_the_logits_behind_the_prompt_come_before_the_text(make_engine: Make, ask: Ask) -> None:
    engine, runner = make_engine(chunk=16)
    request = ask("A prompt of more than one chunk, whatever it says.", max_tokens=5)
    plain = deltas(engine, request)
    first, *rest = deltas(
        engine, ask(request.messages[0].text, max_tokens=5, signals=SignalRequest(state=(3, 0, 200)))
    )
    prompt = next(tokens for name, tokens in reversed(runner.calls) if name == "prefill")
    assert prompt and isinstance(first, HiddenState) and rest[:-1] == plain[:-1]
    whole = max(runner.sequences.values(), key=len)[: engine.prepare(request).count]
    assert first.values == tuple(runner.logits(whole)[[3, 0, 200]].tolist())


@pytest.mark.parametrize("alone", [True, False])
def test_log_probabilities_stop_where_nobody_else_wants_them(
    make_engine: Make, ask: Ask, alone: bool
) -> None:
    engine, _ = make_engine()
    request = ask("Hi", max_tokens=12, logprobs=True, signals=SignalRequest(tokens=3, alone=alone))
    found = collect(deltas(engine, request)).logprobs
    assert len(found) == (3 if alone else 12)


def test_nothing_is_shown_unasked(make_engine: Make, ask: Ask) -> None:
    engine, _ = make_engine()
    said = deltas(engine, ask("Hi", max_tokens=5))
    assert not collect(said).logprobs and not any(isinstance(event, HiddenState) for event in said)


def test_whoever_has_seen_enough_may_leave(make_engine: Make, ask: Ask) -> None:
    """And what the prompt's keys and values have cost is there for the next one."""
    engine, _ = make_engine()
    text = "A question that is long enough for whole pages of the KV cache to be kept."
    stream = answered(engine, ask(text, max_tokens=100, signals=SignalRequest(state=(1,))), threading.Event())
    assert isinstance(next(iter(stream)), HiddenState)
    stream.close()  # type: ignore[attr-defined]
    usage = collect(deltas(engine, ask(text, max_tokens=2))).usage
    assert usage is not None and usage.cached_tokens >= usage.prompt_tokens - 16


def test_the_vocabulary_is_what_has_a_text(make_engine: Make) -> None:
    engine, runner = make_engine(padding=20)
    assert engine.vocab_size == runner.vocab_size - 20
    assert np.asarray(engine.vocab_size).dtype.kind == "i"
