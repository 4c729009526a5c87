from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.engines.local.reading.answer import AnswerDecoder, AnswerPiece
from edge_router.engines.local.sampler import SampledToken
from edge_router.engines.stops import StopStrings
from edge_router.prompts.tokenizer import TextTokenizer


def cut_in_pieces(text: str, places: Sequence[int]) -> list[str]:
    borders = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(borders)]


def first_stop(text: str, stops: Sequence[str]) -> str:
    """By definition: read on until some stop string is complete, drop the longest that is."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


@given(
    text=st.text("abn\n", max_size=30),
    stops=st.lists(st.text("abn\n", min_size=0, max_size=4), max_size=4),
    places=st.lists(st.integers(0, 1000), max_size=12),
)
def test_a_stop_string_is_found_across_pieces_and_no_part_of_it_is_shown(
    text: str, stops: list[str], places: list[int]
) -> None:
    scanner = StopStrings(stops)
    wanted = first_stop(text, stops)
    shown, stopped = "", False
    for piece in cut_in_pieces(text, places):
        more, stopped = scanner.push(piece)
        shown += more
        assert wanted.startswith(shown)
        if stopped:
            break
    if not stopped:
        shown += scanner.rest()
    assert shown == wanted
    assert stopped == any(stop and stop in text for stop in stops)
    assert (
        (scanner.found in stops and text.startswith(shown + scanner.found)) if stopped else not scanner.found
    )
    assert scanner.rest() == ""


def test_only_what_might_become_a_stop_string_is_held_back() -> None:
    scanner = StopStrings(["###", "\n\nUser"])
    assert scanner.push("One #") == ("One ", False)
    assert scanner.push("1\n") == ("#1", False)
    assert scanner.push("\nUse") == ("", False)
    assert scanner.push("d.") == ("\n\nUsed.", False)


def letters(tokenizer: TextTokenizer, data: bytes) -> list[int]:
    """A token for each byte."""
    by_bytes = {tokenizer.token_bytes(token): token for token in range(tokenizer.vocab_size)}
    return [by_bytes[bytes([byte])] for byte in data]


def run(answer: AnswerDecoder, tokens: Sequence[int], **more: object) -> list[AnswerPiece]:
    pieces = []
    for token in tokens:
        pieces.append(answer.push(SampledToken(token, **more)))  # type: ignore[arg-type]
        if pieces[-1].finish_reason:
            break
    return pieces


@given(text=st.text(max_size=20).filter(lambda text: "\ufffd" not in text))
def test_characters_come_whole_however_their_bytes_are_cut(tokenizer: TextTokenizer, text: str) -> None:
    tokens = letters(tokenizer, text.encode())
    answer = AnswerDecoder(tokenizer, end_tokens=(), max_tokens=1000)
    pieces = run(answer, tokens)
    assert "".join(piece.text for piece in pieces) == text
    for length in range(1, len(tokens) + 1):  # whatever the last token is, no half character is shown
        cut = run(AnswerDecoder(tokenizer, end_tokens=(), max_tokens=length), tokens)
        shown = "".join(piece.text for piece in cut)
        assert text.startswith(shown)
        assert cut[-1].finish_reason == "length"


def test_bytes_that_are_no_text_are_replaced_and_do_not_stop_the_rest(tokenizer: TextTokenizer) -> None:
    answer = AnswerDecoder(tokenizer, end_tokens=(), max_tokens=1000)
    pieces = run(answer, letters(tokenizer, b"a\xff\xf0\x9fb\xc3\xa9"))
    assert "".join(piece.text for piece in pieces) == "a\ufffd\ufffdb\u00e9"


def test_the_end_token_ends_and_is_no_part_of_the_answer(tokenizer: TextTokenizer) -> None:
    end = tokenizer.token("<|im_end|>")
    assert end is not None
    answer = AnswerDecoder(tokenizer, end_tokens={end}, max_tokens=10, stops=["b!"])
    pieces = run(answer, [*letters(tokenizer, b"ab"), end, *letters(tokenizer, b"c")])
    assert [piece.text for piece in pieces] == ["a", "", "b"]  # "b" might have begun "b!"
    assert [piece.finish_reason for piece in pieces] == [None, None, "stop"]
    assert answer.tokens == 2


def test_the_limit_counts_tokens_and_shows_what_was_held_back(tokenizer: TextTokenizer) -> None:
    answer = AnswerDecoder(tokenizer, end_tokens=(), max_tokens=3, stops=["cd"])
    pieces = run(answer, letters(tokenizer, b"abcdef"))
    assert "".join(piece.text for piece in pieces) == "abc"
    assert pieces[-1].finish_reason == "length"


@pytest.mark.parametrize(("at_start", "wanted"), [(True, "Hab"), (False, " Hab")])
def test_the_space_before_a_text_is_dropped_where_the_text_begins(
    tokenizer_file: object, at_start: bool, wanted: str
) -> None:
    tokenizer = TextTokenizer(tokenizer_file("byte-fallback"))  # type: ignore[operator]
    answer = AnswerDecoder(tokenizer, end_tokens=(), max_tokens=100, at_start=at_start)
    text = "".join(piece.text for piece in run(answer, tokenizer.encode("Hab ab  H")))
    assert text == wanted + " ab  H"


def test_logprobs_come_with_the_text_of_their_token(tokenizer: TextTokenizer) -> None:
    tokens = letters(tokenizer, "xé##".encode())
    answer = AnswerDecoder(tokenizer, end_tokens=(), max_tokens=100, stops=["##"])
    pieces = run(answer, tokens, logprob=-0.5, top=((tokens[0], -0.5), (tokens[3], -2.0)))
    assert [piece.text for piece in pieces] == ["x", "", "é", "", ""]
    entries = [entry for piece in pieces for entry in piece.logprobs]
    assert [entry.token_bytes for entry in entries] == [b"x", b"\xc3", b"\xa9"]  # nothing of the stop string
    assert entries[0].token == "x" and entries[0].logprob == -0.5
    assert entries[1].token == "\ufffd"
    assert [(top.token, top.logprob) for top in entries[0].top] == [("x", -0.5), ("#", -2.0)]


def test_an_answer_that_ends_within_a_character_has_all_its_logprobs(tokenizer: TextTokenizer) -> None:
    tokens = letters(tokenizer, "xé".encode())
    answer = AnswerDecoder(tokenizer, end_tokens=(), max_tokens=2)
    pieces = run(answer, tokens, logprob=-1.0)
    assert [piece.text for piece in pieces] == ["x", ""]
    assert sum(len(piece.logprobs) for piece in pieces) == 2


def test_logprobs_wait_with_a_text_that_may_be_a_stop_string(tokenizer: TextTokenizer) -> None:
    answer = AnswerDecoder(tokenizer, end_tokens=(), max_tokens=100, stops=["##"])
    pieces = run(answer, letters(tokenizer, b"#a"), logprob=-1.0)
    assert [len(piece.logprobs) for piece in pieces] == [0, 2]
    assert pieces[-1].text == "#a"
