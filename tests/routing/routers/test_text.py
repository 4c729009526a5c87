from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.chat.message import Message
from edge_router.routing.routers import text as texts


def user(text: str) -> Message:
    return Message("user", text)


def test_one_turn_is_its_own_text() -> None:
    assert texts.conversation_text([user("Why is the sky blue?")]) == "Why is the sky blue?"


def test_a_follow_up_brings_what_it_follows() -> None:
    turns = [
        user("Prove Fermat's little theorem."),
        Message("assistant", "By induction ..."),
        user("and why?"),
    ]
    assert texts.conversation_text(turns) == "Prove Fermat's little theorem.\nBy induction ...\nand why?"


def test_earlier_turns_are_shortened_and_the_last_is_not() -> None:
    long = "x" * 5000
    shown = texts.conversation_text([user(long), Message("assistant", long), user(long)])
    assert shown.endswith("\n" + long)
    assert len(shown) < len(long) + 400


def test_system_prompts_do_not_move_the_score() -> None:
    system = Message("system", "You are a pirate.")
    assert texts.conversation_text([system, user("hi")]) == texts.conversation_text([user("hi")])


def test_an_answer_after_the_last_user_turn_is_not_what_is_asked() -> None:
    assert texts.conversation_text([user("hi"), Message("assistant", "Hel")]) == "hi"


def test_without_a_user_turn_everything_counts() -> None:
    assert texts.conversation_text([Message("system", "a"), Message("assistant", "b")]) == "a\nb"
    assert texts.conversation_text([]) == ""


def test_many_earlier_turns_cost_no_more_than_a_few() -> None:
    turns = [user(f"turn {i}") for i in range(500)]
    assert texts.conversation_text(turns).split("\n") == [f"turn {i}" for i in range(493, 500)]


@given(st.text(max_size=300), st.integers(1, 100))
def test_shortening_keeps_head_and_tail(text: str, length: int) -> None:
    short = texts.shorten(text, length)
    assert len(short) <= length
    assert short == text or short[: length // 2] == text[: length // 2]
    if length >= 3 and len(text) > length:
        assert short[-(length // 3) :] == text[-(length // 3) :]


@pytest.mark.parametrize(
    ("text", "stem"),
    [
        ("Which is a metal?\nA. iron\nB. wood\nAnswer:", "Which is a metal?"),
        ("Which is a metal?\n(A) iron\n(B) wood", "Which is a metal?"),
        ("Which is a metal?\n A) iron and\nmore of it\n B) wood\n C) air", "Which is a metal?"),
        ("What is 2 + 2?\nAnswer:", "What is 2 + 2?"),
        ("Plan A. is good.\nPlan C is not.", "Plan A. is good.\nPlan C is not."),
        ("A. iron\nB. wood", "A. iron\nB. wood"),
        ("Answer:", "Answer:"),
        ("", ""),
    ],
)
def test_options_are_no_part_of_the_stem(text: str, stem: str) -> None:
    assert texts.stem(text) == stem


@given(st.text(max_size=400))
def test_the_stem_is_the_texts_beginning(text: str) -> None:
    assert text.startswith(texts.stem(text))


@given(st.text(max_size=400))
def test_features_are_finite_whatever_the_text(text: str) -> None:
    found = texts.surface(text)
    assert len(found) == len(texts.SURFACE_NAMES)
    assert all(math.isfinite(value) and value >= 0 for value in found)


def feature(text: str, name: str) -> float:
    return texts.surface(text, [name])[0]


@pytest.mark.parametrize(
    ("name", "less", "more"),
    [
        ("log_stem_length", "short", "a good deal longer"),
        ("log_options_length", "q?", "q?\nA. one\nB. two"),
        ("numbers", "1 and 2", "1, 2 and 3"),
        ("digit_share", "seven", "7"),
        ("code_marks", "a plain text", "```\ndef f():\n    return 1\n```"),
        ("maths_marks", "a plain text", "x^2 = 4"),
        ("lines", "one", "one\ntwo"),
        ("questions", "Say it.", "Why?"),
        ("asks_reasons", "Name it.", "Explain it."),
        ("word_length", "a b c", "antidisestablishmentarianism"),
        ("capital_share", "abc", "ABC"),
        ("other_script_share", "abc", "你好"),
    ],
)
def test_each_feature_rises_with_what_it_is_named_after(name: str, less: str, more: str) -> None:
    assert feature(more, name) > feature(less, name)


def test_every_feature_is_tested_above_and_an_unknown_one_is_refused() -> None:
    with pytest.raises(KeyError):
        texts.surface("a", ["no_such"])


def test_the_length_is_the_whole_texts_even_of_a_book() -> None:
    book = "word " * 40_000
    assert feature(book, "log_stem_length") == pytest.approx(math.log1p(len(book)), abs=1e-3)


@pytest.mark.parametrize("unit", [" ", "\n", "A. x\n", "(", "1,", "answer ", "\\", "中文", "\ud800"])
def test_no_text_makes_the_patterns_work_for_long(unit: str) -> None:
    """The work is counted, not timed: a quadratic pattern would look at 10^10 positions here and never return."""
    assert len(texts.surface(unit * 100_000)) == len(texts.SURFACE_NAMES)
