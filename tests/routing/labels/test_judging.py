"""Judging answers."""

from __future__ import annotations

import pytest

from edge_router.routing.labels.judging import choice, comparison, exact, verdict, weak_is_first


@pytest.mark.parametrize(
    ("reply", "known", "score"),
    [
        ("6 * 7 = 42", "42", 1),
        ("It is 42, not 41.", "42", 0),
        ("The total is $1,234.50", "1234.5", 1),
        ("-3", "-3.0", 1),
        ("no number", "7", 0),
        ("", "7", 0),
        ("Paris", "paris", 1),
        ("The answer is: Paris.", "Paris", 1),
        ("Let me think.\nAnswer: **New York**", "new york", 1),
        ("Paris or London", "Paris", 0),
        ("", "Paris", 0),
    ],
)
def test_exact(reply: str, known: str, score: float) -> None:
    assert exact(reply, known) == score


@pytest.mark.parametrize(
    ("reply", "known", "score"),
    [
        ("B", "B", 1),
        ("(b) because it is so", "B", 1),
        ("The answer is (C).", "C", 1),
        ("The answer is A? No: the answer is D.", "D", 1),
        ("A cat sat there. Answer: B", "B", 1),
        ("**C)** the third", "(C)", 1),
        ("B", "C", 0),
        ("Because of A", "A", 0),
        ("The answer is unknown", "U", 0),
        ("", "A", 0),
    ],
)
def test_choice(reply: str, known: str, score: float) -> None:
    assert choice(reply, known) == score


def test_the_better_answer_wins_wherever_it_stood() -> None:
    prompts = [f"question {n}" for n in range(20)]
    assert {weak_is_first(prompt) for prompt in prompts} == {True, False}
    for prompt in prompts:
        asked = comparison(prompt, "the weak one", "the strong one")
        first = asked.index("the weak one") < asked.index("the strong one")
        assert verdict("A" if first else "B", prompt) == (1, 0)
        assert verdict("Hmm.\nB" if first else "**A**", prompt) == (0, 1)
        assert verdict("TIE (equally good)", prompt) == verdict("Tie.", prompt) == (1, 1)
        assert verdict("The better answer is: B\n\nA is wrong about it.", prompt) == verdict("B", prompt)


@pytest.mark.parametrize(
    "reply", ["neither", "", "A good question.", "Both A and B are fine", "You said: A or B"]
)
def test_what_is_no_verdict(reply: str) -> None:
    assert verdict(reply, "x") is None
