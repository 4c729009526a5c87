from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.chat.message import Message
from edge_router.routing.routers.controls import LengthRouter, RandomRouter


@pytest.mark.parametrize(("length", "score"), [(0, 0), (8, 0), (256, 0.5), (512, 0.6), (8192, 1), (10**5, 1)])
def test_length_on_its_documented_scale(length: int, score: float) -> None:
    assert LengthRouter().score_texts(["x" * length]) == [pytest.approx(score)]


@given(st.integers(0, 9000), st.integers(0, 9000))
def test_a_longer_text_never_scores_less(one: int, other: int) -> None:
    short, long = sorted((one, other))
    low, high = LengthRouter().score_texts(["x" * short, "x" * long])
    assert 0 <= low <= high <= 1


@given(st.text(st.characters()))
def test_random_is_a_function_of_the_text(text: str) -> None:
    first, second = RandomRouter().score_texts([text, text])
    assert first == second
    assert 0 <= first < 1
    assert RandomRouter().score([Message("user", text)]) == first


def test_random_is_spread_evenly_and_differs_by_seed() -> None:
    texts = [f"prompt {i}" for i in range(4000)]
    scores = np.array(RandomRouter().score_texts(texts))
    counts, _ = np.histogram(scores, bins=10, range=(0, 1))
    assert counts.min() > 320
    assert counts.max() < 480
    assert abs(np.corrcoef(scores, RandomRouter(seed=1).score_texts(texts))[0, 1]) < 0.06


def test_both_see_the_conversation() -> None:
    turns = [Message("user", "a" * 100), Message("user", "b")]
    assert LengthRouter().score(turns) > LengthRouter().score(turns[1:])
    assert RandomRouter().score(turns) != RandomRouter().score(turns[1:])
