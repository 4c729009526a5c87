"""The formulas, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
from table import each

from edge_router.questions.answer import (
    ChoiceAnswer,
    ScaleAnswer,
    YesNoAnswer,
    answer_of,
    choice_confidence,
    normalized,
    scale_confidence,
)
from edge_router.questions.inquiry import Inquiry, state_text
from edge_router.questions.question import Choice, Level, Option, Scale, YesNo


@each(
    "probabilities, expected",
    [
        ((1.0,), 1.0),
        ((0.5, 0.5), 0.0),
        ((0.75, 0.25), 0.5),
        ((0.1, 0.8, 0.1), 0.7),
        ((1 / 49,) * 49, 0.0),  # rounds to below 0
        ((0.0, 1.0), 1.0),
    ],
)
def test_a_choice_is_as_sure_as_its_likeliest_is_above_chance(
    probabilities: tuple[float, ...], expected: float
) -> None:
    found = choice_confidence(probabilities)
    assert found == pytest.approx(expected)
    assert 0 <= found <= 1


@each(
    "probabilities, expected",
    [
        ((1.0,), 1.0),
        ((0.0, 1.0, 0.0), 1.0),
        ((1 / 3, 1 / 3, 1 / 3), 0.0),
        ((0.2, 0.6, 0.2), 1 - 0.4 / (2 / 3)),
        ((0.5, 0.0, 0.5), 0.0),  # the mode is the lowest: 1.0 from it, uniform (0 + 1 + 2) / 3
        ((0.45, 0.1, 0.0, 0.45), 1 - (0.1 + 1.35) / 1.5),
    ],
)
def test_a_scale_is_as_sure_as_its_levels_are_close(
    probabilities: tuple[float, ...], expected: float
) -> None:
    found = scale_confidence(probabilities)
    assert found == pytest.approx(expected)
    assert 0 <= found <= 1


def test_answers_say_what_the_probabilities_say() -> None:
    yes = answer_of(YesNo("urgent", "Is it?"), (0.3, 0.7))
    assert isinstance(yes, YesNoAnswer) and yes.yes and yes.probability == 0.7
    assert yes.confidence == pytest.approx(0.4)
    choice = answer_of(Choice(None, "", (Option("true"), Option(True))), (0.2, 0.8))
    assert isinstance(choice, ChoiceAnswer) and choice.choice is True
    assert choice.question.options[1].text == "true"
    scale = answer_of(Scale(None, "", (Level("low"), Level("mid"), Level("high"))), (0.1, 0.2, 0.7))
    assert isinstance(scale, ScaleAnswer) and scale.level == 2 and scale.score == pytest.approx(1.6)
    held = answer_of(YesNo(), (-1e-18, 1 + 1e-12))
    assert isinstance(held, YesNoAnswer) and held.probability == 1.0
    with pytest.raises(ValueError, match="3 probabilities for 2"):
        answer_of(YesNo(), (0.1, 0.2, 0.7))


def test_weights_become_probabilities() -> None:
    assert normalized((1, 3)) == (0.25, 0.75)
    assert normalized((0, 0, 0)) == (1 / 3,) * 3
    assert math.fsum(normalized([0.1] * 7)) == pytest.approx(1)


def test_a_state_is_text_in_one_form() -> None:
    assert Inquiry("Hi", [YesNo()]).state[0].text == "Hi"
    assert state_text("as it is") == "as it is"
    assert state_text({"b": [1, None, "ü"], "a": True}) == '{"b": [1, null, "ü"], "a": true}'
    with pytest.raises(ValueError, match="JSON"):
        state_text([math.nan])
