"""A runner that looks for the likeliest tokens itself: what is chosen is what would be from all logits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, SamplingParams, SignalRequest
from edge_router.engines.base import answered
from edge_router.engines.local.runner import TopK
from edge_router.engines.local.sampler import Sampler, SamplingDefaults

Row = npt.NDArray[np.float32]
CANDIDATES = 16
ROWS = arrays.arrays(np.float32, st.integers(1, 400), elements=st.floats(-12, 12, width=32))


def likeliest(row: Row, temperature: float | None, count: int = CANDIDATES) -> TopK:
    order = np.argsort(-row, kind="stable")[:count]
    scaled = (row.astype(np.float64) - row.max()) / (temperature or 1.0)
    return TopK(order, row[order], float(np.exp(scaled).sum()))


def sampler(size: int, **params: Any) -> Sampler:
    return Sampler(SamplingParams(**params), SamplingDefaults(), prompt=(), vocab_size=size)


@given(
    row=ROWS,
    temperature=st.just(0.0) | st.floats(0.05, 3),
    top_p=st.floats(0.05, 1),
    top_k=st.integers(0, CANDIDATES + 4),
    min_p=st.just(0.0) | st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_the_same_token_is_drawn(
    row: Row, temperature: float, top_p: float, top_k: int, min_p: float, seed: int
) -> None:
    params = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p, "seed": seed}
    one, other = sampler(len(row), **params), sampler(len(row), **params)
    assume(not one.needs_all(CANDIDATES, len(row)))
    found = one.choose_among(likeliest(row, one.temperature))
    wanted = other.choose(row)
    # Where these are too few, nothing was drawn yet: the whole row gives what it always would.
    assert (found or one.choose(row)) == wanted


def test_too_few_are_noticed() -> None:
    flat = np.zeros(100, np.float32)
    assert sampler(100, temperature=1.0, top_p=0.9).choose_among(likeliest(flat, 1.0)) is None
    steep = flat.copy()
    steep[3] = 20.0
    found = sampler(100, temperature=1.0, top_p=0.9).choose_among(likeliest(steep, 1.0))
    assert found is not None and found.token == 3
    for row, chosen in ((flat, None), (steep, 3)):  # what is less likely than min_p says is not there at all
        few = sampler(100, temperature=1.0, min_p=0.5).choose_among(likeliest(row, 1.0))
        assert (few.token if few else None) == chosen


@pytest.mark.parametrize(
    ("params", "more", "needs"),
    [
        ({"temperature": 0}, {}, False),
        ({"temperature": 0.7, "top_k": CANDIDATES}, {}, False),
        ({"temperature": 0.7, "top_k": CANDIDATES + 1}, {}, True),
        ({"temperature": 0.7, "top_p": 0.9}, {}, False),
        ({"temperature": 0.7, "min_p": 0.1}, {}, False),
        ({"temperature": 0.7, "min_p": 0.1, "top_k": CANDIDATES + 1}, {}, True),
        ({"temperature": 0.7}, {}, True),
        ({"temperature": 0, "logit_bias": {3: 1.0}}, {}, True),
        ({"temperature": 0, "repetition_penalty": 1.1}, {}, True),
        ({"temperature": 0, "presence_penalty": 0.5}, {}, True),
        ({"temperature": 0, "frequency_penalty": 0.5}, {}, True),
        ({"temperature": 0}, {"logprobs": 0}, True),
        ({"temperature": 0}, {"mask": object()}, True),
        ({"temperature": 0}, {"signals": SignalRequest(state=(1,))}, True),
    ],
)
def test_who_needs_all_logits(params: dict[str, Any], more: dict[str, Any], needs: bool) -> None:
    made = Sampler(SamplingParams(**params), SamplingDefaults(), prompt=(), vocab_size=50, **more)
    assert made.needs_all(CANDIDATES, 50) is needs


def test_a_table_larger_than_the_tokenizer_is_seen_whole() -> None:
    assert sampler(50, temperature=0).needs_all(CANDIDATES, 51)


def test_not_a_number_is_an_error() -> None:
    broken = TopK(np.array([4]), np.array([np.nan], np.float32), 1.0)
    with pytest.raises(ArithmeticError):
        sampler(50, temperature=0).choose_among(broken)


@pytest.fixture
def choosing(fake_runner: Any) -> Any:
    """The fake runner, as one that chooses itself."""

    class Choosing(fake_runner):  # type: ignore[misc]
        candidates = CANDIDATES

        def decode_likeliest(
            self, sequences: Sequence[int], tokens: Sequence[int], temperatures: Sequence[float | None]
        ) -> list[TopK]:
            self.last = np.array(self.decode(sequences, tokens))
            self.calls.append(("decode_likeliest", list(temperatures)))
            few = CANDIDATES if any(temperatures) else 1
            return [likeliest(row, t, few) for row, t in zip(self.last, temperatures, strict=True)]

        def last_logits(self) -> Row:
            self.calls.append(("last_logits", None))
            return self.last

    return Choosing


@pytest.mark.parametrize(
    ("options", "chooses", "falls_back"),
    [
        ({"temperature": 0}, True, False),
        ({"temperature": 1.0, "top_k": 5, "seed": 3}, True, False),
        ({"temperature": 0.1, "top_p": 0.5, "seed": 3}, True, False),
        ({"temperature": 0.1, "min_p": 0.5, "seed": 3}, True, False),
        ({"temperature": 9.0, "top_p": 0.99, "seed": 3}, True, True),  # the likeliest are never enough
        ({"temperature": 0, "repetition_penalty": 1.3}, False, False),
    ],
)
def test_answers_are_the_same(
    make_engine: Callable[..., Any],
    ask: Callable[..., ChatRequest],
    choosing: Any,
    options: dict[str, Any],
    chooses: bool,
    falls_back: bool,
) -> None:
    def said(**kind: Any) -> tuple[str, Any]:
        engine, runner = make_engine(padding=0, **kind)
        deltas = answered(engine, ask("Say something.", max_tokens=30, **options), threading.Event())
        return collect(deltas).text, runner

    text, runner = said(kind=choosing)
    assert text == said()[0]
    assert (runner.count("decode_likeliest") >= 29) is chooses
    assert (runner.count("last_logits") >= 29) is falls_back


def test_a_model_with_padding_is_seen_whole(
    make_engine: Callable[..., Any], ask: Callable[..., ChatRequest], choosing: Any
) -> None:
    engine, runner = make_engine(padding=20, kind=choosing)
    list(answered(engine, ask("Say something.", max_tokens=5, temperature=0), threading.Event()))
    assert runner.count("decode_likeliest") == 0
