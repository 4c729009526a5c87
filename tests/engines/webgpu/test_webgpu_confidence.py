"""What a GPU's answers show of their certainty: the same as a processor's."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from edge_router.chat.events import HiddenState
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, SamplingParams, SignalRequest
from edge_router.engines.base import answered
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.load import open_model
from edge_router.webgpu_program import Windows


def test_the_state_and_the_log_probabilities_are_the_references(adapter: Adapter, tiny_model: Any) -> None:
    engine = open_model(
        tiny_model.directory,
        tiny_model.file,
        adapter,
        windows=Windows(context=320, chunk=16),
        model_id="tiny",
    )
    watch = SignalRequest(tokens=2, state=(7, 0, 31))
    request = ChatRequest(
        (Message("user", "Who are you, and since when?"),),
        sampling=SamplingParams(temperature=0),
        max_tokens=6,
        logprobs=True,
        signals=watch,
    )
    first, *rest = answered(engine, request, threading.Event())
    assert isinstance(first, HiddenState)
    assert engine._template is not None
    prompt = engine._tokenizer.encode(engine._template.render(request.messages))
    size = engine.vocab_size
    engine.close()
    row = tiny_model.logits(prompt)[-1, :size]
    assert np.allclose(first.values, row[list(watch.state)], atol=0.02 * row.std() + 1e-2)
    said = [entry.logprob for entry in collect(rest).logprobs]
    assert len(said) == 2
    assert abs(said[0] + np.log(np.exp(row - row.max()).sum())) < 0.05  # it takes the likeliest
