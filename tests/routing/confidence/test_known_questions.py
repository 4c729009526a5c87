from __future__ import annotations

import re
from collections import Counter

import pytest

from edge_router.routing.confidence.known_questions import GRADES, KINDS, KnownQuestion, questions
from edge_router.routing.labels.judging import exact


def test_the_same_seed_gives_the_same_questions_and_more_begin_with_them() -> None:
    assert questions(100, seed=3) == questions(150, seed=3)[:100]
    assert questions(100, seed=3) != questions(100, seed=4)


def test_all_differ_and_every_kind_is_asked_at_every_grade() -> None:
    made = questions(660)
    assert len({question.text for question in made}) == len(made) == 660
    assert {(question.kind, question.grade) for question in made} == {
        (kind, grade) for kind in KINDS for grade in range(GRADES)
    }
    assert min(Counter(question.kind for question in made).values()) >= 30


def test_a_kind_that_runs_out_leaves_its_turn_to_the_next() -> None:
    assert len(questions(3000)) == 3000


@pytest.mark.parametrize("kind", KINDS)
def test_the_judge_takes_the_answers_and_nothing_else(kind: str) -> None:
    for question in (question for question in questions(330) if question.kind == kind):
        shown = question.messages
        assert [turn.role for turn in shown] == [*("user", "assistant") * 3, "user"]
        assert exact(question.answer, question.answer) == 1 and exact("no idea", question.answer) == 0
        assert exact(f"The answer is {question.answer}.", question.answer) == 1


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("sum", lambda a, b: a + b), ("difference", lambda a, b: a - b), ("product", lambda a, b: a * b)],
)
def test_the_sums_are_right(kind: str, wanted) -> None:  # type: ignore[no-untyped-def]
    for question in (question for question in questions(330) if question.kind == kind):
        left, right = map(int, re.findall(r"\d+", question.text))
        assert int(question.answer) == wanted(left, right) >= 0


def test_the_worked_examples_are_judged_right_too() -> None:
    """A model that imitates them must be able to be right."""
    by_text = {asked.text: asked for asked in questions(3000)}
    for question in questions(110):
        turns = question.messages[:-1]
        for asked, reply in zip(turns[::2], turns[1::2], strict=True):
            known = by_text.get(asked.text)
            if known is not None and known.kind == question.kind:
                assert exact(reply.text, known.answer) == 1, (asked.text, reply.text)


def test_a_question_is_what_it_says() -> None:
    question = KnownQuestion("What is 1 + 1?", "2", "sum", 0)
    assert question.messages[-1].text == "What is 1 + 1?"
