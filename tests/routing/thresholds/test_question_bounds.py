"""Bounds for typed questions: the promise is exact, holds over many draws, and says what it lacks."""

from __future__ import annotations

import json
import math
import random

import pytest
from table import each

from edge_router.errors import InvalidData
from edge_router.questions.bounds import NONE_STAYS, Bounds
from edge_router.questions.question import Choice, Scale, YesNo
from edge_router.routing.thresholds.question_bounds import (
    FILE,
    LabelledAnswer,
    MeasuredBounds,
    at_least,
    find,
    find_bound,
    keep,
    kind_of,
    read,
    upper_bound,
)
from edge_router.system.paths import Paths


@each(
    "wrong, n, expected",
    [
        (0, 59, 0.0495),  # Clopper-Pearson, one-sided, 95 %: tables have them
        (0, 58, 0.0503),
        (1, 10, 0.3942),
        (5, 100, 0.1023),
        (10, 10, 1.0),
    ],
)
def test_the_exact_bound(wrong: int, n: int, expected: float) -> None:
    assert upper_bound(wrong, n) == pytest.approx(expected, abs=1e-4)


def test_the_bound_is_the_binomials_own() -> None:
    for wrong, n in ((0, 5), (3, 40), (17, 300), (80, 4000)):
        share = upper_bound(wrong, n)
        below = math.fsum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(wrong + 1))
        assert below == pytest.approx(0.05, rel=1e-6), (wrong, n)


def labels(*pairs: tuple[int, float, float], seed: int = 1) -> list[LabelledAnswer]:
    """So many of a confidence, with a chance of being right."""
    draw = random.Random(seed)
    return [
        LabelledAnswer("choice", confidence, draw.random() < right)
        for count, confidence, right in pairs
        for _ in range(count)
    ]


def test_answers_stay_from_where_they_are_right_often_enough() -> None:
    seen = (
        [LabelledAnswer("choice", 0.9, True)] * 200
        + [LabelledAnswer("choice", 0.4, True)] * 10
        + [LabelledAnswer("choice", 0.4, False)] * 30
    )
    found = find_bound(seen, 0.05)
    assert found.bound == 0.41 and (found.kept, found.wrong) == (200, 0)
    assert found.upper is not None and found.upper < 0.05
    assert find_bound([LabelledAnswer("choice", 0.1, True)] * 100, 0.05).bound == 0.0


def test_it_says_how_many_labels_are_missing() -> None:
    assert at_least(0.05) == 59 and at_least(0.01) == 299
    few = find_bound([LabelledAnswer("choice", 0.9, True)] * 40, 0.05)
    assert few.bound is None and few.missing == 19
    unlucky = find_bound([LabelledAnswer("choice", 0.9, n != 0) for n in range(60)], 0.05)
    assert unlucky.bound == NONE_STAYS and 30 <= unlucky.missing <= 400
    # right where it is surest, of which there are too few for a promise yet
    seen = [LabelledAnswer("choice", 0.9, True)] * 40 + [
        LabelledAnswer("choice", 0.5, n % 2 == 0) for n in range(80)
    ]
    steep = find_bound(seen, 0.05)
    assert steep.bound == NONE_STAYS and steep.missing == 57
    assert find_bound([*seen, *[LabelledAnswer("choice", 0.9, True)] * 19], 0.05).bound == 0.51
    hopeless = find_bound([LabelledAnswer("choice", 0.9, n % 3 == 0) for n in range(600)], 0.05)
    assert hopeless.bound == NONE_STAYS and hopeless.missing == 0


def test_the_promise_is_kept_in_nineteen_of_twenty_draws() -> None:
    """Where the share of wrong answers falls with confidence, and bounds close to the right one are tempting."""

    def wrong_share(confidence: float) -> float:
        return 0.3 * (1 - confidence)

    broken, draws = 0, 200
    for seed in range(draws):
        draw = random.Random(seed)
        confidences = [draw.random() for _ in range(300)]
        seen = [LabelledAnswer("choice", c, draw.random() >= wrong_share(c)) for c in confidences]
        bound = find_bound(seen, 0.05).bound
        if bound is not None and bound <= 1:
            broken += 0.3 * (1 - bound) / 2 > 0.05  # the mean of a uniform rest
    assert broken / draws <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / draws)


def test_types_have_bounds_of_their_own_and_are_kept_with_the_weights() -> None:
    paths = Paths.default()
    seen = (
        [LabelledAnswer("choice", 0.9, True)] * 100
        + [LabelledAnswer("yes_no", 0.2, False)] * 100
        + [LabelledAnswer("scale", 0.5, True)] * 9
    )
    measured = MeasuredBounds.of("small", seen, 0.05)
    assert measured.bounds == Bounds(yes_no=NONE_STAYS, choice=0.0, scale=None)
    assert find(paths, "key") is None
    keep(MeasuredBounds.of("small", seen[:50], 0.05), paths, "key")
    file = keep(measured, paths, "key")
    assert find(paths, "key") == measured
    assert json.loads(json.dumps(measured.to_dict()))["types"]["scale"]["missing"] == 50
    assert measured.at("choice", 0.95) == (0, 0) and measured.at("yes_no", 0.1) == (100, 100)
    for text in ("{}", '{"format": 1, "model": "m", "max_error": 2, "seen": {}}', "no"):
        broken = file.parent.parent / FILE
        broken.write_text(text)
        with pytest.raises(InvalidData):
            read(broken)


def test_questions_have_kinds() -> None:
    assert [kind_of(question) for question in (YesNo(), Choice(), Scale())] == ["yes_no", "choice", "scale"]
