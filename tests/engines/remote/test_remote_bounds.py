"""How much of an answer is taken."""

import pytest

from edge_router.engines.remote.bounds import LARGEST_SILENCE, Meter, TooLong
from edge_router.types import Delta, TokenLogprob

MOST_TOKENS = 131_072  # what the largest models write in one answer
USUAL = 300  # bytes of a chunk


@pytest.mark.parametrize(
    "delta",
    [Delta(" word"), Delta("字"), Delta(thoughts={"reasoning_content": " word"}), Delta(refusal=" no")],
    ids=["text", "wide text", "thoughts", "refusal"],
)
def test_the_longest_answers_of_today_fit(delta):
    meter = Meter(MOST_TOKENS)
    for _ in range(MOST_TOKENS):
        meter.read(USUAL)
        meter.take(delta, USUAL)
    assert not meter.past_max_tokens


CALL = {"index": 0, "function": {"arguments": '{"a": '}}


@pytest.mark.parametrize(
    "delta",
    [
        Delta(" word"),
        Delta("😀"),
        Delta("x" * 100_000),
        Delta(thoughts={"reasoning": "x"}),
        Delta(refusal="no"),
        Delta(tool_calls=(CALL,)),
        Delta("a", logprobs=(TokenLogprob("a", -1.0, b"a"),)),
        Delta(extra={"reasoning_details": [{"text": "x"}]}),
    ],
    ids=lambda delta: str(delta)[:40],
)
def test_none_goes_on_for_ever(delta):
    meter = Meter(None)
    with pytest.raises(TooLong, match="32 MiB"):
        for _ in range(1_000_000):
            meter.take(delta, USUAL)


def test_bytes_without_a_token_are_counted_from_the_last_one():
    meter = Meter(None)
    for _ in range(3):
        meter.read(LARGEST_SILENCE)
        meter.take(Delta("x"), 10)
    meter.read(LARGEST_SILENCE)
    meter.take(Delta(extra={"id": 1}), 10, token=False)
    with pytest.raises(TooLong, match="4 MiB without a token"):
        meter.read(1)


@pytest.mark.parametrize("max_tokens", [1, 10, 1000])
def test_past_the_limit_by_pieces_or_by_letters(max_tokens):
    pieces, letters = Meter(max_tokens), Meter(max_tokens)
    for _ in range(max_tokens + 10):
        pieces.take(Delta("word"), USUAL)
    letters.take(Delta("x" * 8 * max_tokens), USUAL)
    assert not pieces.past_max_tokens and not letters.past_max_tokens
    for _ in range(2 * max_tokens + 100):
        pieces.take(Delta("words"), USUAL)
    letters.take(Delta("x" * (30 * max_tokens + 5000)), USUAL)
    assert pieces.past_max_tokens and letters.past_max_tokens


@pytest.mark.parametrize("max_tokens", [1, 1000])
def test_thoughts_past_the_limit_have_more_room_and_an_end(max_tokens):
    meter, thought = Meter(max_tokens), Delta(thoughts={"reasoning_content": "hm " * 100})
    for _ in range(800):
        meter.take(thought, USUAL)
    assert not meter.past_max_tokens
    for _ in range(max_tokens + 200):
        meter.take(thought, USUAL)
    assert meter.past_max_tokens
