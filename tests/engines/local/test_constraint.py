"""Answers that may not say just anything: masks of one's own, and JSON by a schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge_router.engines.local import constraint
from edge_router.engines.local.engine import LocalEngine
from edge_router.errors import InvalidRequest
from edge_router.types import Cancel, ChatRequest, TokenMask, Vocabulary

Make = Callable[..., tuple[LocalEngine, Any]]
Ask = Callable[..., ChatRequest]


class OneOf:
    """A mask that lets one of some texts be said and nothing else: what a user of the hook would write."""

    def __init__(self, vocabulary: Vocabulary, texts: tuple[str, ...]) -> None:
        self._left = [text.encode() for text in texts]
        self._vocabulary = vocabulary

    def allowed(self) -> np.ndarray:
        found = np.zeros(self._vocabulary.size, np.bool_)
        for token in range(self._vocabulary.size):
            piece = self._vocabulary.token_bytes(token)
            found[token] = bool(piece) and any(left.startswith(piece) for left in self._left)
        found[list(self._vocabulary.end_tokens)] = b"" in self._left
        return found

    def accept(self, token: int) -> None:
        piece = self._vocabulary.token_bytes(token)
        self._left = [left[len(piece) :] for left in self._left if left.startswith(piece)]


def one_of(*texts: str) -> Callable[[Vocabulary], TokenMask]:
    return lambda vocabulary: OneOf(vocabulary, texts)


def answer(engine: LocalEngine, request: ChatRequest) -> tuple[str, str | None]:
    deltas = list(engine.stream(request, Cancel()))
    return "".join(delta.text for delta in deltas), deltas[-1].finish_reason


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_mask_of_ones_own(make_engine: Make, ask: Ask, temperature: float) -> None:
    engine, _ = make_engine(end=True)
    seen = set()
    for seed in range(6):
        request = ask("Is it?", temperature=temperature, seed=seed, mask=one_of("yes", "no", "no idea"))
        text, reason = answer(engine, request)
        assert reason == "stop"
        seen.add(text)
    assert seen <= {"yes", "no", "no idea"} and (len(seen) > 1) == (temperature > 0)


@pytest.mark.parametrize(
    ("form", "fits"),
    [
        ({"type": "json_object"}, lambda found: isinstance(found, dict)),
        (
            {
                "type": "json_schema",
                "json_schema": {
                    "name": "answer",
                    "schema": {
                        "type": "object",
                        "properties": {"sure": {"type": "boolean"}, "city": {"enum": ["Paris", "Rome"]}},
                        "required": ["sure", "city"],
                        "additionalProperties": False,
                    },
                },
            },
            lambda found: found["sure"] in (True, False) and found["city"] in ("Paris", "Rome"),
        ),
    ],
)
def test_json_whatever_the_model_would_say(
    make_engine: Make, ask: Ask, form: dict[str, Any], fits: Callable[[Any], bool]
) -> None:
    engine, _ = make_engine(end=True, context=2048)
    assert engine.handles_json
    whole = 0
    for seed in range(8):
        request = ask(
            "A city?", temperature=1.0, seed=seed, passthrough={"response_format": form}, max_tokens=600
        )
        text, reason = answer(engine, request)
        if reason == "stop":  # else this model, which talks at random, has not come to an end
            whole += 1
            assert fits(json.loads(text))
    assert whole


def test_a_schema_that_cannot_be_followed_is_refused(make_engine: Make, ask: Ask) -> None:
    engine, _ = make_engine(end=True)
    schema = {"type": "json_schema", "json_schema": {"schema": {"type": "no such type"}}}
    with pytest.raises(InvalidRequest, match=r"response_format.*cannot be followed"):
        answer(engine, ask("Hi", passthrough={"response_format": schema}))


def test_without_the_package_it_says_what_to_install(
    make_engine: Make, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constraint, "find_spec", lambda name: None)
    engine, _ = make_engine(end=True)
    assert not engine.handles_json
    with pytest.raises(InvalidRequest, match=r"pip install 'edge-router\[grammar\]'"):
        answer(engine, ask("Hi", passthrough={"response_format": {"type": "json_object"}}))


@pytest.mark.parametrize(
    ("passthrough", "schema"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, {"type": "object"}),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"a": 1}}}}, {"a": 1}),
        ({"response_format": {"type": "json_object"}, "tools": [{}]}, None),
    ],
)
def test_which_requests_are_for_json_alone(ask: Ask, passthrough: dict[str, Any], schema: object) -> None:
    assert ask("Hi", passthrough=passthrough).response_schema == schema
