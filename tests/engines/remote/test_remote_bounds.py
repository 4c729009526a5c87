"""How much of an answer is taken."""

import pytest

from edge_router.chat.events import (
    ForeignDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
)
from edge_router.engines.remote.bounds import LARGEST_SILENCE, SizeMeter, TooLong

MOST_TOKENS = 131_072  # what the largest models write in one answer
USUAL = 300  # bytes of a chunk


@pytest.mark.parametrize(
    "delta",
    [
        TextDelta(" word"),
        TextDelta("字"),
        ReasoningDelta(" word"),
        RefusalDelta(" no"),
    ],
    ids=["text", "wide text", "thoughts", "refusal"],
)
def test_the_longest_answers_of_today_fit(delta):
    meter = SizeMeter(MOST_TOKENS)
    for _ in range(MOST_TOKENS):
        meter.read(USUAL)
        meter.take([delta], USUAL)
    assert not meter.past_max_tokens


@pytest.mark.parametrize(
    "delta",
    [
        TextDelta(" word"),
        TextDelta("😀"),
        TextDelta("x" * 100_000),
        ReasoningDelta("x", "reasoning"),
        RefusalDelta("no"),
        ToolCallStart(0, "c1", "look"),
        ToolCallArguments(0, '{"a": '),
        TextDelta("a", logprobs=(TokenLogprob("a", -1.0, b"a"),)),
        ReasoningDelta("", "", {"reasoning_details": [{"text": "x"}]}),
        ForeignDelta({"audio": [{"text": "x"}]}),
    ],
    ids=lambda delta: str(delta)[:40],
)
def test_none_goes_on_for_ever(delta):
    meter = SizeMeter(None)
    with pytest.raises(TooLong, match="32 MiB"):
        for _ in range(1_000_000):
            meter.take([delta], USUAL)


def test_bytes_without_a_token_are_counted_from_the_last_one():
    meter = SizeMeter(None)
    for _ in range(3):
        meter.read(LARGEST_SILENCE)
        meter.take([TextDelta("x")], 10)
    meter.read(LARGEST_SILENCE)
    meter.take([ForeignDelta({"id": 1})], 10, token=False)
    with pytest.raises(TooLong, match="4 MiB without a token"):
        meter.read(1)


@pytest.mark.parametrize("max_tokens", [1, 10, 1000])
def test_past_the_limit_by_pieces_or_by_letters(max_tokens):
    pieces, letters = SizeMeter(max_tokens), SizeMeter(max_tokens)
    for _ in range(max_tokens + 10):
        pieces.take([TextDelta("word")], USUAL)
    letters.take([TextDelta("x" * 8 * max_tokens)], USUAL)
    assert not pieces.past_max_tokens and not letters.past_max_tokens
    for _ in range(2 * max_tokens + 100):
        pieces.take([TextDelta("words")], USUAL)
    letters.take([TextDelta("x" * (30 * max_tokens + 5000))], USUAL)
    assert pieces.past_max_tokens and letters.past_max_tokens


@pytest.mark.parametrize("max_tokens", [1, 1000])
def test_thoughts_past_the_limit_have_more_room_and_an_end(max_tokens):
    meter, thought = SizeMeter(max_tokens), ReasoningDelta("hm " * 100)
    for _ in range(800):
        meter.take([thought], USUAL)
    assert not meter.past_max_tokens
    for _ in range(max_tokens + 200):
        meter.take([thought], USUAL)
    assert meter.past_max_tokens


def test_pieces_that_do_not_show_yet_are_counted_too():
    meter = SizeMeter(None)
    with pytest.raises(TooLong, match="32 MiB"):
        for _ in range(1_000_000):
            meter.take([], USUAL)
