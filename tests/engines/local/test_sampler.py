from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge_router.chat.request import SamplingParams
from edge_router.engines.local.sampler import Sampler, SamplingDefaults

Row = npt.NDArray[np.float32]
ROWS = arrays.arrays(np.float32, st.integers(1, 700), elements=st.floats(-12, 12, width=32))
GREEDY = SamplingParams(temperature=0)


def sampler(params: SamplingParams = GREEDY, size: int = 8, **more: Any) -> Sampler:
    return Sampler(
        params,
        more.pop("defaults", SamplingDefaults()),
        prompt=more.pop("prompt", ()),
        vocab_size=size,
        **more,
    )


def row(*values: float) -> Row:
    return np.asarray(values, np.float32)


def by_definition(
    logits: Row, temperature: float, top_k: int, top_p: float, min_p: float = 0.0
) -> npt.NDArray[np.float64]:
    """Each token's probability, in double precision, sorted as the definitions say."""
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    order = np.argsort(-weights, kind="stable")
    kept = order[: top_k or len(order)]
    share = weights[kept] / weights[kept].sum()
    before = np.concatenate([[0.0], share.cumsum()[:-1]])
    kept = kept[before < top_p] if top_p > 0 else kept[:1]
    kept = kept[weights[kept] >= min_p]
    probabilities = np.zeros(len(logits))
    probabilities[kept] = weights[kept] / weights[kept].sum()
    return probabilities


@given(
    logits=ROWS,
    uniform=st.floats(0, 1, exclude_max=True),
    temperature=st.floats(0.05, 3),
    top_p=st.floats(0, 1),
    top_k=st.integers(0, 40),
    min_p=st.just(0.0) | st.floats(0, 1),
)
def test_the_chosen_token_is_one_that_the_definitions_allow(
    logits: Row, uniform: float, temperature: float, top_p: float, top_k: int, min_p: float
) -> None:
    class Fixed:
        def random(self) -> float:
            return uniform

    params = SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p)
    drawing = sampler(params, len(logits))
    drawing._random = Fixed()  # type: ignore[assignment]
    token = drawing.choose(logits).token
    # Ties and rounding may move the border by a token: compare weights, not places.
    allowed = by_definition(logits, temperature, top_k, min(1.0, top_p + 1e-5), min_p - 1e-5)
    assert logits[token] >= logits[allowed > 0].min() - 1e-4


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1.0),
        SamplingParams(temperature=0.7, top_p=0.9),
        SamplingParams(temperature=1.3, top_k=7),
        SamplingParams(temperature=1.0, top_k=300, top_p=0.6),
        SamplingParams(temperature=1.0, min_p=0.2),
        SamplingParams(temperature=2.0, top_k=30, top_p=0.9, min_p=0.4),
    ],
)
def test_tokens_come_as_often_as_their_probability_says(params: SamplingParams) -> None:
    logits = (np.random.default_rng(5).standard_normal(600) * 3).astype(np.float32)
    bounds = params.top_k or 0, params.top_p or 1.0, params.min_p or 0.0
    wanted = by_definition(logits, params.temperature or 1.0, *bounds)
    drawing = Sampler(replace(params, seed=11), SamplingDefaults(), prompt=(), vocab_size=600)
    draws = 6000
    counts = np.bincount([drawing.choose(logits).token for _ in range(draws)], minlength=600)
    assert not counts[wanted == 0].any()
    often = wanted * draws >= 5
    error = (counts[often] - wanted[often] * draws) ** 2 / (wanted[often] * draws)
    assert error.sum() < often.sum() + 5 * math.sqrt(2 * often.sum())  # chi-squared, five sigma


def test_greedy_takes_the_likeliest_and_leaves_the_logits_alone() -> None:
    logits = row(0, 3, 2, 9, 9)
    before = logits.copy()
    assert sampler(size=3).choose(logits).token == 1  # what lies beyond the vocabulary is padding
    assert sampler(size=5).choose(logits).token == 3
    assert sampler(SamplingParams(temperature=1e-9), 5).choose(logits).token == 3
    assert sampler(SamplingParams(temperature=1.0, top_p=0.0), 4).choose(logits).token == 3
    changed = SamplingParams(temperature=0, presence_penalty=1, repetition_penalty=1.2, logit_bias={1: 5})
    sampler(changed, 5, prompt=[3]).choose(logits)
    assert np.array_equal(logits, before)


def test_a_seed_repeats_an_answer_and_no_seed_does_not() -> None:
    logits = np.zeros(500, np.float32)

    def draw(seed: int | None) -> list[int]:
        drawing = sampler(SamplingParams(temperature=1, seed=seed), 500)
        return [drawing.choose(logits).token for _ in range(20)]

    assert draw(3) == draw(3) != draw(4)
    assert draw(-1) == draw(2**64 - 1)
    assert draw(None) != draw(None)


def test_what_a_request_leaves_open_comes_from_the_model() -> None:
    defaults = SamplingDefaults.from_config(
        {"temperature": 0, "top_p": 0.5, "top_k": 3, "repetition_penalty": 2, "min_p": 0.1, "version": "0"}
    )
    assert defaults == SamplingDefaults(0.0, 0.5, 3, 2.0, min_p=0.1)
    assert SamplingDefaults.from_config({"top_p": None, "temperature": "warm"}) == SamplingDefaults()
    logits = row(3, 2, 1)
    assert sampler(SamplingParams(), 3, defaults=defaults, prompt=[0]).choose(logits).token == 1
    asked = SamplingParams(repetition_penalty=1.0)
    assert sampler(asked, 3, defaults=defaults, prompt=[0]).choose(logits).token == 0


PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")


@pytest.mark.parametrize("name", PENALTIES)
def test_a_model_s_penalties_count_unless_the_likeliest_token_is_asked_for(name: str) -> None:
    defaults = SamplingDefaults.from_config({"temperature": 0, name: 1.9})

    def said(**asked: float) -> list[int]:
        saying = sampler(SamplingParams(**asked), 3, defaults=defaults)  # type: ignore[arg-type]
        return [saying.choose(row(3, 2, -9)).token for _ in range(3)]

    assert said() == [0, 1, 0]
    assert said(temperature=0) == said(temperature=1e-9) == [0, 0, 0]
    assert said(**{name: 1.0 if name == "repetition_penalty" else 0.0}) == [0, 0, 0]
    assert said(temperature=0, presence_penalty=1.9) == [0, 1, 0]  # asked for, so it counts


def test_repetition_penalty_divides_what_is_likely_and_multiplies_what_is_not() -> None:
    params = SamplingParams(temperature=0, repetition_penalty=2.0)
    assert sampler(params, 3, prompt=[0, 9]).choose(row(3, 2, 0)).token == 1
    assert sampler(params, 2, prompt=[0]).choose(row(-1, -1.5)).token == 1
    saying = sampler(params, 3)
    assert [saying.choose(row(3, 2.8, 1.6)).token for _ in range(3)] == [0, 1, 2]


def test_presence_counts_once_and_frequency_every_time_and_neither_counts_the_prompt() -> None:
    present = sampler(SamplingParams(temperature=0, presence_penalty=1.0), 2, prompt=[0])
    assert [present.choose(row(2.5, 1)).token for _ in range(3)] == [0, 0, 0]
    frequent = sampler(SamplingParams(temperature=0, frequency_penalty=1.0), 2, prompt=[0])
    assert [frequent.choose(row(2.5, 1)).token for _ in range(3)] == [0, 0, 1]
    encouraged = sampler(SamplingParams(temperature=0, presence_penalty=-2.0), 2)
    assert [encouraged.choose(values).token for values in (row(2, 1), row(1, 2))] == [0, 0]


def test_a_bias_is_added_and_one_for_no_token_is_ignored() -> None:
    params = SamplingParams(temperature=0, logit_bias={1: 100, 0: -100, 77: 5, -1: 9})
    assert sampler(params, 3).choose(row(9, 1, 8)).token == 1


class Only:
    def __init__(self, *tokens: int) -> None:
        self.tokens, self.accepted = tokens, list[int]()

    def allowed(self) -> npt.NDArray[np.bool_] | None:
        return None if not self.tokens else np.isin(np.arange(4), self.tokens)

    def accept(self, token: int) -> None:
        self.accepted.append(token)


def test_a_mask_allows_only_its_tokens_and_hears_what_was_chosen() -> None:
    mask = Only(0, 2)
    assert sampler(size=4, mask=mask).choose(row(1, 9, 3, 9)).token == 2
    warm = sampler(SamplingParams(temperature=2, seed=1), 4, mask=mask)
    assert {warm.choose(row(1, 9, 1, 9)).token for _ in range(40)} == {0, 2}
    assert len(mask.accepted) == 41
    assert sampler(size=4, mask=Only()).choose(row(1, 9, 3, 9)).token == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_an_error(temperature: float, bad: float) -> None:
    with pytest.raises(ArithmeticError):
        sampler(SamplingParams(temperature=temperature), 3).choose(row(1, bad, 2))


def test_a_mask_that_allows_nothing_is_an_error() -> None:
    with pytest.raises(ArithmeticError):
        sampler(size=4, mask=Only(9)).choose(row(1, 2, 3, 4))


@given(logits=ROWS, count=st.integers(0, 20))
def test_logprobs_are_the_models_own(logits: Row, count: int) -> None:
    biased = SamplingParams(temperature=0, logit_bias={0: 100.0})
    choice = sampler(biased, len(logits), logprobs=count).choose(logits)
    exact = logits.astype(np.float64)
    exact = exact - exact.max() - math.log(np.exp(exact - exact.max()).sum())
    assert choice.token == 0
    assert choice.logprob == pytest.approx(exact[0], abs=1e-4)
    assert len(choice.top) == min(count, len(logits))
    assert [value for _, value in choice.top] == pytest.approx(sorted(exact, reverse=True)[:count], abs=1e-4)
    assert all(value == pytest.approx(exact[token], abs=1e-4) for token, value in choice.top)
    assert sampler(size=len(logits)).choose(logits).logprob is None
