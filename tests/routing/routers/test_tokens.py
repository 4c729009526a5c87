from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edge_router.routing.routers.tokens import Cut, TextTokens


def tokens(folder: Path, cut: Cut) -> TextTokens:
    return TextTokens(Tokenizer.from_file(str(folder / "tokenizer.json")), cut)


def words(folder: Path, cut: Cut, text: str) -> list[str]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [tokenizer.id_to_token(i) for i in tokens(folder, cut).ids(text)]


def test_a_short_text_is_neither_cut_nor_padded(tiny_encoder: Path) -> None:
    cut = Cut(max_tokens=16, tail_tokens=4)
    assert words(tiny_encoder, cut, "what is easy ?") == ["[CLS]", "what", "is", "easy", "?", "[SEP]"]
    assert words(tiny_encoder, cut, "") == ["[CLS]", "[SEP]"]


@pytest.mark.parametrize("filler", [30, 5000])
def test_a_long_text_keeps_its_head_and_its_tail(tiny_encoder: Path, filler: int) -> None:
    text = f"head head {'a ' * filler} tail tail"
    shown = words(tiny_encoder, Cut(max_tokens=12, tail_tokens=5), text)
    assert len(shown) == 12
    assert shown[:3] == ["[CLS]", "head", "head"]
    assert shown[-3:] == ["tail", "tail", "[SEP]"]


@pytest.mark.parametrize("filler", [30, 5000])
def test_without_a_tail_only_the_head_is_kept(tiny_encoder: Path, filler: int) -> None:
    shown = words(tiny_encoder, Cut(max_tokens=6), f"head {'a ' * filler} tail")
    assert shown == ["[CLS]", "head", "a", "a", "a", "[SEP]"]


def test_options_are_left_out_where_asked(tiny_encoder: Path) -> None:
    text = "what is a ?\nA. b\nB. c"
    assert "b" in words(tiny_encoder, Cut(16), text)
    assert "b" not in words(tiny_encoder, Cut(16, without_options=True), text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(), max_size=200), st.integers(4, 20))
def test_any_text_fits(tiny_encoder: Path, text: str, most: int) -> None:
    ids = tokens(tiny_encoder, Cut(most, most // 3)).ids(text)
    assert 2 <= len(ids) <= most
    assert (ids[0], ids[-1]) == (2, 3)


def test_half_a_surrogate_pair_is_no_reason_to_fail(tiny_encoder: Path) -> None:
    assert tokens(tiny_encoder, Cut(8)).ids("what \ud83d is") is not None
