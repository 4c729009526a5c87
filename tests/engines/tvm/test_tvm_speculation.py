"""Guesses on the demo model: the same text to the last letter, in fewer steps where an answer copies."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest

from edge_router.chat.events import Event, Finished, TextDelta
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, JsonOutput, SamplingParams
from edge_router.engines.base import answered
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.tvm.engine import TvmRunner, open_model

COPIED = (
    "Repeat this text word for word: The Amazon covers much of northwestern Brazil and extends into Colombia "
    "and Peru. It is the world's largest tropical rainforest, famed for its biodiversity, and is crossed by "
    "thousands of rivers, including the powerful Amazon."
)
SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "maxLength": 120},
        "country": {"type": "string", "maxLength": 20},
    },
    "required": ["text", "country"],
}


@pytest.fixture(scope="module")
def engines(built_model: Any) -> Iterator[tuple[LocalEngine, LocalEngine]]:
    made = [
        open_model(
            built_model.model_dir, built_model.library, model_id="demo", threads=1, max_sequences=3,
            context_window_size=1024, speculation=speculation,
        )
        for speculation in (False, True)
    ]  # fmt: skip
    yield made[0], made[1]
    for engine in made:
        engine.close()


def told(engine: LocalEngine, request: ChatRequest) -> list[Any]:
    """What is said, with log probabilities, and how it ends; without times."""

    def kept(event: Event) -> Any:
        if isinstance(event, Finished):
            usage = event.usage
            return event.reason, event.stop_sequence, usage and (usage.prompt_tokens, usage.completion_tokens)
        return (event.text, event.logprobs) if isinstance(event, TextDelta) else event

    return [kept(event) for event in answered(engine, request, threading.Event())]


def asking(text: str = COPIED, **options: Any) -> ChatRequest:
    names = set(SamplingParams.__dataclass_fields__)
    sampling = {name: options.pop(name) for name in list(options) if name in names}
    limit = options.pop("max_tokens", 60)
    params = SamplingParams(**{"temperature": 0.0, **sampling})
    return ChatRequest((Message("user", text),), max_tokens=limit, sampling=params, **options)


CASES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "drawn": {"temperature": 0.7, "top_p": 0.9, "seed": 11},
    "with penalties": {"temperature": 0.5, "repetition_penalty": 1.1, "seed": 12},
    "with log probabilities": {"logprobs": True, "top_logprobs": 3, "max_tokens": 40},
    "stopped": {"stop": ("northwestern Brazil and",)},
    "held to a form": {"output": JsonOutput(SCHEMA), "max_tokens": 90},
    "nothing to copy": {"text": "Tell me a joke about bread.", "max_tokens": 40},
}


def test_the_text_is_the_same(engines: tuple[LocalEngine, LocalEngine]) -> None:
    for name, options in CASES.items():
        without, with_guesses = (told(engine, asking(**options)) for engine in engines)
        assert without == with_guesses, name


def test_the_text_is_the_same_beside_others(engines: tuple[LocalEngine, LocalEngine]) -> None:
    requests = [asking(**options) for options in list(CASES.values())[:3]]
    alone = [told(engines[0], request) for request in requests]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(partial(told, engines[1]), requests)) == alone


def test_tokens_together_are_computed_as_one_by_one(built_model: Any) -> None:
    """To the last bit, whatever was guessed wrongly before."""
    rng = np.random.default_rng(4)
    prompt, tokens = rng.integers(100, 40000, 50).tolist(), rng.integers(100, 40000, 40).tolist()
    runner = TvmRunner(built_model.model_dir, built_model.library, context_window_size=512, max_sequences=2)
    assert runner.ahead == 8
    try:
        for sequence in range(3):
            runner.add_sequence(sequence)
            runner.prefill(sequence, prompt)
        alone = [runner.decode([0], [token])[0].copy() for token in tokens]
        done = 0
        while done < len(tokens) - 8:
            right = int(rng.integers(1, 5))
            wrong = [7] * int(rng.integers(0, 3))
            more = tokens[done : done + right]
            found = runner.verify([2, 1], [tokens[done : done + 1], [*more, *wrong]])
            assert np.array_equal(found[0], alone[done])
            for row, wanted in zip(found[1:], alone[done : done + right], strict=False):
                assert np.array_equal(row, wanted), done
            runner.pop_tokens(1, len(wrong))
            if right > 1:
                runner.decode([2], [more[1]])
                for token in more[2:]:
                    runner.decode([2], [token])
            done += right
    finally:
        runner.close()
